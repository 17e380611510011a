"""Golden tunings: twenty steps of each method in PyTorch, on the tiny folder of pipeline.py with diffusers' and peft's own modules.

    pip install torch==2.7.1 diffusers==0.42.1 transformers==5.23.0 peft==0.21.2 safetensors numpy
    python scripts/golden/tune.py [METHOD ...]

Rewrites training/tune/testdata/. See README.md beside this file.
"""

import json
import math
import sys

import torch
import torch.nn.utils.parametrize
from diffusers import DDIMScheduler, UNet2DConditionModel
from models import MODELS
from peft import LoraConfig
from safetensors.torch import save_file
from transformers import CLIPTextModel, CLIPTokenizer

FOLDER = MODELS / "pipeline" / "testdata" / "tiny-sd"
DATA = MODELS.parent / "training" / "tune" / "testdata"
ATTENTION = ["to_q", "to_k", "to_v", "to_out.0"]
TEXT_ATTENTION = ["q_proj", "k_proj", "v_proj", "out_proj"]
STEPS, CLIP, GAMMA = 20, 1.0, 5.0
CAPTION = "a photo of {}"

CASES = {
    "lora": dict(cls="face", init="face", vectors=0, rank=3, alpha=2.0, lr=5e-3, word_lr=0.0, decay=0.01, pull=0.0, batch=2, accumulate=1, prediction="epsilon"),
    "lora-text-encoder": dict(cls="face", init="face", vectors=0, rank=2, alpha=2.0, lr=5e-3, word_lr=0.0, decay=0.01, pull=0.0, batch=2, accumulate=1, prediction="epsilon", text=True),
    "textual-inversion": dict(cls="face", init="cat", vectors=2, rank=0, alpha=0.0, lr=0.0, word_lr=2e-2, decay=0.0, pull=0.0, batch=3, accumulate=1, prediction="epsilon"),
    "extended": dict(cls="face", init="cat", vectors=2, rank=0, alpha=0.0, lr=0.0, word_lr=1e-2, decay=0.0, pull=0.0, batch=2, accumulate=1, prediction="epsilon", layers=4),
    "perfusion": dict(cls="face", init="cat", vectors=1, rank=0, alpha=0.0, lr=3e-2, word_lr=6e-3, decay=0.0, pull=0.0, batch=2, accumulate=2, prediction="epsilon", edit=True),
    "quick-relaxed": dict(cls="cat", init="cat", vectors=2, rank=6, alpha=6.0, lr=2e-3, word_lr=2e-3, decay=0.0, pull=10.0, batch=2, accumulate=2, prediction="v_prediction"),
    "custom-diffusion": dict(cls="face", init="cat", vectors=1, rank=0, alpha=0.0, lr=1e-3, word_lr=1e-2, decay=0.01, pull=0.0, batch=2, accumulate=1, prediction="epsilon", weights=[".attn2.to_k.weight", ".attn2.to_v.weight"], prior=2),
    "dreambooth": dict(cls="face", init="face", vectors=2, rank=0, alpha=0.0, lr=2e-4, word_lr=0.0, decay=0.01, pull=0.0, batch=2, accumulate=1, prediction="epsilon", weights=[""], prior=2),
    "dreambooth-text-encoder": dict(cls="face", init="face", vectors=2, rank=0, alpha=0.0, lr=2e-4, word_lr=0.0, decay=0.01, pull=0.0, batch=2, accumulate=1, prediction="epsilon", weights=[""], prior=2, text=True),
    "svdiff": dict(cls="face", init="face", vectors=2, rank=0, alpha=0.0, lr=1e-2, word_lr=0.0, decay=0.01, pull=0.0, batch=2, accumulate=1, prediction="epsilon", spectra=True, prior=2),
}
KEPT = ("mid_block.attentions", "conv_in", "attn2", "layers.0.self_attn", "final_layer_norm")  # of dreambooth's and svdiff's weights: the files stay small


def token_table(text):
    return next(m for name, m in text.named_modules() if name.endswith("token_embedding"))


class Word:
    """New rows of the token table, as diffusers' textual_inversion.py has them, all other rows frozen."""

    def __init__(self, case, text, tokenizer, generator):
        n, table = case["vectors"] * case.get("layers", 1), token_table(text)
        self.size = table.num_embeddings
        row = lambda noun: table.weight[tokenizer(noun, add_special_tokens=False).input_ids[0]].detach()
        self.noun = row(case["cls"]).repeat(n, 1)
        start = row(case["init"]).repeat(n, 1)
        if case["pull"] or case.get("layers"):
            start = start + 0.1 * torch.randn(start.shape, generator=generator) * start.std()
        if n == 2 and case.get("prior"):
            start[0] = torch.randn(start[0].shape, generator=generator)  # a rare word before its noun
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
        layers = [torch.where(ids >= self.size, ids + n * layer, ids) for layer in range(case.get("layers", 1))]
        return plain, layers, slots

    def shorten(self):
        with torch.no_grad():
            self.rows.mul_((self.longest / self.rows.norm(dim=1, keepdim=True)).clamp(max=1))


def filed(name):
    """A name of the text encoder as files spell it."""
    return name if name.startswith("text_model.") else "text_model." + name


def adapter(case, network, part, targets, generator):
    """peft's layers, by our names of their halves."""
    network.add_adapter(LoraConfig(r=case["rank"], lora_alpha=case["alpha"], target_modules=targets))
    halves = {}
    for name, p in network.named_parameters():
        if ".lora_" in name:
            path, half = name.split(".lora_")
            halves[f"{part}/{filed(path) if part == 'text_layers' else path}.{'down' if half[0] == 'A' else 'up'}"] = p
            with torch.no_grad():
                if half[0] == "A":
                    p.copy_((torch.rand(p.shape, generator=generator) * 2 - 1) / p.shape[1] ** 0.5)
                elif case["pull"]:
                    p.copy_(0.2 * torch.randn(p.shape, generator=generator))
    return halves


class Shift(torch.nn.Module):
    """A weight whose singular values shift (Han et al. 2023, equation 3)."""

    def __init__(self, weight):
        super().__init__()
        self.u, self.values, self.v = torch.linalg.svd(weight.detach().flatten(1), full_matrices=False)
        self.delta = torch.nn.Parameter(torch.zeros_like(self.values))

    def forward(self, weight):
        return ((self.u * torch.relu(self.values + self.delta)) @ self.v).view_as(weight)


def spectra(case, unet):
    """The shifts of all weights but the norms' and biases, by our names."""
    shifts = {}
    for name, module in list(unet.named_modules()) if case.get("spectra") else []:
        if getattr(module, "weight", None) is not None and module.weight.dim() > 1:
            shift = Shift(module.weight)
            torch.nn.utils.parametrize.register_parametrization(module, "weight", shift)
            shifts[f"shifts/{name}.weight"] = shift.delta
    return shifts


class PerLayer:
    """Lets every cross-attention read states of its own, in order of execution (P+)."""

    def __init__(self, unet):
        order = {"down": 0, "mid": 1, "up": 2}
        found = [(order[name.split("_")[0]], i, m) for i, (name, m) in enumerate(unet.named_modules()) if name.endswith(".attn2")]
        self.attentions = [m for _, _, m in sorted(found, key=lambda f: f[:2])]
        for i, attention in enumerate(self.attentions):
            attention.forward = self.wrap(attention.forward, i)

    def wrap(self, forward, i):
        return lambda x, encoder_hidden_states=None, **rest: forward(x, encoder_hidden_states=self.states[i], **rest)


class Perfusion:
    """Gated rank-one edits of cross-attention's keys and values, with the keys locked to the class noun (Tewel et al. 2023, equations 4 to 8)."""

    BIAS, TEMPERATURE, KEPT = 0.75, 0.1, 0.99

    def __init__(self, unet, width, own, noun, generator):
        a = torch.randn(3 * width, width, generator=generator)
        self.inverse = torch.linalg.inv(a.T @ a / len(a) + 0.1 * torch.eye(width))
        self.input, self.seen = own, []
        self.learned, self.locked = {}, {}
        for name, module in unet.named_modules():
            if name.endswith((".attn2.to_k", ".attn2.to_v")):
                output = torch.nn.Parameter(module.weight.detach() @ noun, requires_grad=name.endswith("to_v"))
                (self.learned if output.requires_grad else self.locked)[f"{'edits' if output.requires_grad else 'locks'}/{name}.output"] = output
                module.forward = self.wrap(module.weight, output)

    @property
    def probe(self):
        row = self.inverse @ self.input
        return row / (row @ self.input)

    def wrap(self, weight, output):
        def forward(x):
            likeness = (x @ self.probe)[..., None]
            return (x - likeness * self.input) @ weight.T + torch.sigmoid((likeness - self.BIAS) / self.TEMPERATURE) * output

        return forward

    def follow(self):
        self.input = self.KEPT * self.input + (1 - self.KEPT) * torch.cat(self.seen).mean(0)
        self.seen = []


def ours(name, value):
    return (value.T if name.endswith(".up") else value).detach().clone().contiguous()


def run(name, case):
    g = torch.Generator().manual_seed(len(name))
    unet = UNet2DConditionModel.from_pretrained(FOLDER / "unet").requires_grad_(False)
    text = CLIPTextModel.from_pretrained(FOLDER / "text_encoder").requires_grad_(False)
    tokenizer = CLIPTokenizer.from_pretrained(FOLDER / "tokenizer")
    zero = case["prediction"] == "v_prediction"
    schedule = DDIMScheduler.from_pretrained(FOLDER / "scheduler", prediction_type=case["prediction"], rescale_betas_zero_snr=zero)
    word, halves = Word(case, text, tokenizer, g), adapter(case, unet, "layers", ATTENTION, g) if case["rank"] else {}
    if case.get("text") and case["rank"]:
        halves |= adapter(case, text, "text_layers", TEXT_ATTENTION, g)
    plain, ids, slots = word.ids(case, tokenizer)
    layered = PerLayer(unet) if case.get("layers") else None
    assert not layered or len(layered.attentions) == case["layers"]
    klass = tokenizer(CAPTION.format(case["cls"]), padding="max_length", max_length=tokenizer.model_max_length, return_tensors="pt").input_ids

    prior = case.get("prior", 0)
    rows = case["batch"] * case["accumulate"] * (2 if prior else 1)
    latents, masks = torch.randn(3, 4, 8, 8, generator=g), torch.rand(3, 8, 8, generator=g) + 0.2
    masks /= masks.mean((1, 2), keepdim=True)
    noise = torch.randn(STEPS, rows, 4, 8, 8, generator=g)
    timesteps = torch.randint(0, 1000, (STEPS, rows), generator=g)
    timesteps[0, -1] = 999

    priors = torch.randn(prior, 4, 8, 8, generator=g)
    weights = {"unet/" + k: p.requires_grad_() for k, p in unet.named_parameters() if k.endswith(tuple(case.get("weights", ())))}
    if case.get("spectra"):  # norms shift themselves
        weights = {"unet/" + k: p.requires_grad_() for k, p in unet.named_parameters() if k.endswith(".weight") and p.dim() == 1}
    weights |= spectra(case, unet)
    if case.get("text") and case.get("weights"):  # all but the words
        weights |= {"text_encoder/" + filed(k): p.requires_grad_() for k, p in text.named_parameters() if "token_embedding" not in k}
    perfusion = None
    if case.get("edit"):
        at_word = slots[:, 0].argmax().item()
        state = lambda tokens: text(tokens).last_hidden_state[0, at_word].detach()
        perfusion = Perfusion(unet, word.rows.shape[1], state(ids[0]), state(klass), g)
        halves |= perfusion.learned
    numbers = halves | weights
    if case["word_lr"]:
        numbers["words/vectors"] = word.rows
    start = {k: p.detach().clone() for k, p in numbers.items()}
    total = sum(p.numel() for p in numbers.values())
    groups = [[p for k, p in numbers.items() if k.startswith(part)] for part in ("words", "layers", "text_layers", "shifts", "edits", "unet", "text_encoder")]
    rates = [case["word_lr"], case["lr"], case["lr"], case["lr"], case["lr"], case["lr"] * (1e-3 if case.get("spectra") else 1), case["lr"]]

    def adam(ps):  # words, biases and norms do not decay
        decays = lambda p: p.dim() > 1 and p is not word.rows
        parts = [{"params": [p for p in ps if decays(p)], "weight_decay": case["decay"]}, {"params": [p for p in ps if not decays(p)], "weight_decay": 0}]
        return torch.optim.AdamW(parts, lr=1, betas=(0.9, 0.999), eps=1e-8)

    optimizers = [adam(ps) if ps else None for ps in groups]

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
        states = [text(own.expand(len(t), -1)).last_hidden_state for own in ids]
        if layered:
            layered.states = states
        states = states[0]
        if perfusion:
            perfusion.seen.append(states[:, at_word].detach())
        miss = (unet(noisy, t, states).sample - target).square() * masks[pick][:, None]
        loss = (miss.mean((1, 2, 3)) * weight).mean()
        if prior:  # as in train_dreambooth.py: the loss of the class's pictures is added
            at = torch.arange(case["batch"], rows)
            own, e, t = priors[at % prior], noise[step, at], timesteps[step, at]
            states = text(klass.expand(len(t), -1)).last_hidden_state
            loss = loss + torch.nn.functional.mse_loss(unet(schedule.add_noise(own, e, t), t, states).sample, e)
        if case["pull"]:
            loss = loss + case["pull"] * sum((p - start[key]).square().sum() for key, p in numbers.items()) / total
        return loss / case["accumulate"]

    def vectors(value):
        return value - word.noun

    out, losses = {"latents": latents, "masks": masks, "noise": noise, "timesteps": timesteps.float(), "input_ids": plain[0].float()}, []
    if case["vectors"]:
        out["slots"], out["start:words/vectors"] = slots, (word.rows - word.noun).detach()
    if prior:
        out["priors"] = priors
    for key, p in start.items():
        if key not in weights and key != "words/vectors":
            out["start:" + key] = ours(key, p)
    if perfusion:
        out["inverse"] = perfusion.inverse
        out |= {"start:" + key: p.detach().clone() for key, p in perfusion.locked.items()}
        out["start:locks/input"], out["start:locks/probe"] = perfusion.input, perfusion.probe
    kept = [key for key in numbers if key not in weights or any(k in key for k in KEPT) and "k_proj.bias" not in key]  # that has no gradient but rounding
    for step in range(STEPS):
        unet.zero_grad(), text.zero_grad(), setattr(word.rows, "grad", None)
        for p in numbers.values():
            p.grad = None
        value = 0.0
        for k in range(case["accumulate"]):
            loss = loss_of(step, k)
            loss.backward()
            value += loss.item()
        losses.append(value)
        if step == 0:
            out |= {"grad:" + key: ours(key, numbers[key].grad) for key in kept}
        left = 0.1 + 0.9 * (1 + math.cos(math.pi * step / STEPS)) / 2
        for ps, rate, optimizer in zip(groups, rates, optimizers):
            if optimizer:
                torch.nn.utils.clip_grad_norm_(ps, CLIP)
                for group in optimizer.param_groups:
                    group["lr"] = rate * left
                optimizer.step()
        if name in ("textual-inversion", "extended"):
            word.shorten()
        if perfusion:
            perfusion.follow()
    for key in kept:
        out["end:" + key] = ours(key, vectors(numbers[key]) if key == "words/vectors" else numbers[key])
    if perfusion:
        out["end:locks/input"], out["end:locks/probe"] = perfusion.input, perfusion.probe
    out["loss"] = torch.tensor(losses, dtype=torch.float64)
    print(name, [round(v, 4) for v in losses], "longest", round(word.longest, 3), word.rows.norm(dim=1).tolist())
    DATA.mkdir(parents=True, exist_ok=True)
    save_file({k: v.contiguous() for k, v in out.items()}, DATA / f"{name}.safetensors", {"case": json.dumps({k: v for k, v in case.items() if k not in ("weights", "spectra")} | {"caption": CAPTION})})


if __name__ == "__main__":
    torch.set_num_threads(1)
    for name in sys.argv[1:] or CASES:
        run(name, CASES[name])
