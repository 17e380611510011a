"""Golden tunings: twenty steps of each method in PyTorch, on the tiny folder of pipeline.py with diffusers' and peft's own modules.

    pip install torch==2.7.1 diffusers==0.42.1 transformers==5.23.0 peft==0.21.2 safetensors numpy
    python scripts/golden/tune.py

Rewrites training/tune/testdata/. See README.md beside this file.
"""

import json
import math

import torch
from diffusers import DDIMScheduler, UNet2DConditionModel
from models import MODELS
from peft import LoraConfig
from safetensors.torch import save_file
from transformers import CLIPTextModel, CLIPTokenizer

FOLDER = MODELS / "pipeline" / "testdata" / "tiny-sd"
DATA = MODELS.parent / "training" / "tune" / "testdata"
ATTENTION = ["to_q", "to_k", "to_v", "to_out.0"]
STEPS, CLIP, GAMMA = 20, 1.0, 5.0
CAPTION = "a photo of {}"

CASES = {
    "lora": dict(cls="face", init="face", vectors=0, rank=3, alpha=2.0, lr=5e-3, word_lr=0.0, decay=0.01, pull=0.0, batch=2, accumulate=1, prediction="epsilon"),
    "textual-inversion": dict(cls="face", init="cat", vectors=2, rank=0, alpha=0.0, lr=0.0, word_lr=2e-2, decay=0.0, pull=0.0, batch=3, accumulate=1, prediction="epsilon"),
    "quick": dict(cls="cat", init="cat", vectors=2, rank=6, alpha=6.0, lr=2e-3, word_lr=2e-3, decay=0.0, pull=10.0, batch=2, accumulate=2, prediction="v_prediction"),
}


def token_table(text):
    return next(m for name, m in text.named_modules() if name.endswith("token_embedding"))


class Word:
    """New rows of the token table, as diffusers' textual_inversion.py has them, all other rows frozen."""

    def __init__(self, case, text, tokenizer, generator):
        n, table = case["vectors"], token_table(text)
        self.size = table.num_embeddings
        row = lambda noun: table.weight[tokenizer(noun, add_special_tokens=False).input_ids[0]].detach()
        self.noun = row(case["cls"]).repeat(n, 1)
        start = row(case["init"]).repeat(n, 1)
        if case["pull"]:
            start = start + 0.1 * torch.randn(start.shape, generator=generator) * start.std()
        self.rows = torch.nn.Parameter(start.clone())
        self.longest = table.weight.norm(dim=1).max().item()
        old = table.forward
        table.forward = lambda ids: torch.nn.functional.embedding(ids, torch.cat([table.weight, self.rows])) if n else old(ids)

    def ids(self, case, tokenizer):
        n = case["vectors"]
        text = CAPTION.format(" ".join([case["cls"]] * max(n, 1)))
        plain = tokenizer(text, padding="max_length", max_length=tokenizer.model_max_length, truncation=True, return_tensors="pt").input_ids
        ids, slots = plain.clone(), torch.zeros(plain.shape[1], n)
        first = 1 + len(tokenizer(CAPTION.format("").strip(), add_special_tokens=False).input_ids)
        for i in range(n):
            ids[0, first + i], slots[first + i, i] = self.size + i, 1
        return plain, ids, slots

    def shorten(self):
        with torch.no_grad():
            self.rows.mul_((self.longest / self.rows.norm(dim=1, keepdim=True)).clamp(max=1))


def adapter(case, unet, generator):
    """peft's layers, by our names of their halves."""
    if not case["rank"]:
        return {}
    unet.add_adapter(LoraConfig(r=case["rank"], lora_alpha=case["alpha"], target_modules=ATTENTION))
    halves = {}
    for name, p in unet.named_parameters():
        if ".lora_" in name:
            path, half = name.split(".lora_")
            halves[f"layers/{path}.{'down' if half[0] == 'A' else 'up'}"] = p
            with torch.no_grad():
                if half[0] == "A":
                    p.copy_((torch.rand(p.shape, generator=generator) * 2 - 1) / p.shape[1] ** 0.5)
                elif case["pull"]:
                    p.copy_(0.2 * torch.randn(p.shape, generator=generator))
    return halves


def ours(name, value):
    return (value.T if name.endswith(".up") else value).detach().clone().contiguous()


def run(name, case):
    g = torch.Generator().manual_seed(len(name))
    unet = UNet2DConditionModel.from_pretrained(FOLDER / "unet").requires_grad_(False)
    text = CLIPTextModel.from_pretrained(FOLDER / "text_encoder").requires_grad_(False)
    tokenizer = CLIPTokenizer.from_pretrained(FOLDER / "tokenizer")
    zero = case["prediction"] == "v_prediction"
    schedule = DDIMScheduler.from_pretrained(FOLDER / "scheduler", prediction_type=case["prediction"], rescale_betas_zero_snr=zero)
    word, halves = Word(case, text, tokenizer, g), adapter(case, unet, g)
    plain, ids, slots = word.ids(case, tokenizer)

    rows = case["batch"] * case["accumulate"]
    latents, masks = torch.randn(3, 4, 8, 8, generator=g), torch.rand(3, 8, 8, generator=g) + 0.2
    masks /= masks.mean((1, 2), keepdim=True)
    noise = torch.randn(STEPS, rows, 4, 8, 8, generator=g)
    timesteps = torch.randint(0, 1000, (STEPS, rows), generator=g)
    timesteps[0, -1] = 999

    numbers = dict(halves)
    if case["vectors"]:
        numbers["words/vectors"] = word.rows
    start = {k: p.detach().clone() for k, p in numbers.items()}
    total = sum(p.numel() for p in numbers.values())
    groups = [[p for k, p in numbers.items() if k.startswith(part)] for part in ("words", "layers")]
    rates = [case["word_lr"], case["lr"]]
    optimizers = [torch.optim.AdamW(ps, lr=1, betas=(0.9, 0.999), eps=1e-8, weight_decay=case["decay"]) if ps else None for ps in groups]

    def loss_of(step, k):
        at = slice(k * case["batch"], (k + 1) * case["batch"])
        pick = torch.arange(rows)[at] % len(latents)
        x, e, t = latents[pick], noise[step, at], timesteps[step, at]
        noisy = schedule.add_noise(x, e, t)
        target, weight = e, torch.ones(len(t))
        if zero:
            target = schedule.get_velocity(x, e, t)
            snr = schedule.alphas_cumprod[t] / (1 - schedule.alphas_cumprod[t])
            weight = (snr.clamp(max=GAMMA) + 1) / (snr + 1)
        states = text(ids.expand(len(t), -1)).last_hidden_state
        miss = (unet(noisy, t, states).sample - target).square() * masks[pick][:, None]
        loss = (miss.mean((1, 2, 3)) * weight).mean()
        if case["pull"]:
            loss = loss + case["pull"] * sum((p - start[key]).square().sum() for key, p in numbers.items()) / total
        return loss / case["accumulate"]

    def vectors(value):
        return value - word.noun

    out, losses = {"latents": latents, "masks": masks, "noise": noise, "timesteps": timesteps.float(), "input_ids": plain[0].float()}, []
    if case["vectors"]:
        out["slots"] = slots
    for key, p in start.items():
        out["start:" + key] = ours(key, vectors(p) if key == "words/vectors" else p)
    for step in range(STEPS):
        unet.zero_grad(), setattr(word.rows, "grad", None)
        value = 0.0
        for k in range(case["accumulate"]):
            loss = loss_of(step, k)
            loss.backward()
            value += loss.item()
        losses.append(value)
        if step == 0:
            out |= {"grad:" + key: ours(key, p.grad) for key, p in numbers.items()}
        left = 0.1 + 0.9 * (1 + math.cos(math.pi * step / STEPS)) / 2
        for ps, rate, optimizer in zip(groups, rates, optimizers):
            if optimizer:
                torch.nn.utils.clip_grad_norm_(ps, CLIP)
                optimizer.param_groups[0]["lr"] = rate * left
                optimizer.step()
        if name == "textual-inversion":
            word.shorten()
    for key, p in numbers.items():
        out["end:" + key] = ours(key, vectors(p) if key == "words/vectors" else p)
    out["loss"] = torch.tensor(losses, dtype=torch.float64)
    print(name, [round(v, 4) for v in losses], "longest", round(word.longest, 3), word.rows.norm(dim=1).tolist())
    DATA.mkdir(parents=True, exist_ok=True)
    save_file({k: v.contiguous() for k, v in out.items()}, DATA / f"{name}.safetensors", {"case": json.dumps(case | {"caption": CAPTION})})


if __name__ == "__main__":
    torch.set_num_threads(1)
    for name, case in CASES.items():
        run(name, case)
