"""The training steps of base and encoder, written in PyTorch with diffusers and transformers, to measure ours against (scripts/bench pytorch).

Prints lines as `go test -bench` does. Weights and data are random: a step takes as long whatever they are. The steps are eager ones, with
PyTorch's own attention and fused AdamW; bfloat16 is autocast over channels_last weights.
"""
import argparse
import contextlib
import json
import os
import pathlib
import statistics
import time

import torch
from diffusers import UNet2DConditionModel
from diffusers.models.resnet import ResnetBlock2D
from torch import nn
from torch.nn.functional import linear, silu
from transformers import CLIPTextConfig, CLIPTextModel

BATCH = 16  # as training/loop/looptest has it


TRAITS = 164  # values of a drawn person's traits


class Encoder(nn.Module):
    """encoder/network.go for one photo of each person; targets are the linear layers that offsets act on."""

    def __init__(self, cfg, targets):
        super().__init__()
        self.cfg, ch = cfg, cfg["block_out_channels"]
        w, hidden, patch = ch[-1], cfg["hidden_size"], cfg["patch_size"]
        self.trunk = nn.Sequential()
        for before, out in zip([3] + ch, ch):
            self.trunk.append(nn.Conv2d(3, out, patch, patch) if before == 3 else nn.Conv2d(before, out, 3, 2, 1))
            self.trunk.append(ResnetBlock2D(in_channels=out, temb_channels=None, groups=cfg["norm_num_groups"], eps=1e-5))
        places = (cfg["image_size"] // patch >> len(ch) - 1) ** 2
        self.norm, self.narrow = nn.LayerNorm(w), nn.Linear(w, cfg["place_channels"])
        self.proj, self.mapper = nn.Linear(places * cfg["place_channels"], hidden), nn.Linear(hidden, hidden)
        self.words = nn.Linear(hidden, cfg["num_vectors"] * cfg["cross_attention_dim"])
        self.coefficients = nn.Linear(hidden, len(targets) * cfg["num_coefficients"])
        self.traits = nn.Linear(hidden, TRAITS)
        rank, k = cfg["rank"], cfg["num_coefficients"]
        self.down = nn.ParameterList(torch.randn(rank, t.in_features) / t.in_features**0.5 for t in targets)
        self.up = nn.ParameterList(torch.randn(k, rank * t.out_features) / k**0.5 for t in targets)

    def forward(self, photos):
        h = photos
        for m in self.trunk:
            h = m(h, None) if isinstance(m, ResnetBlock2D) else m(h)
        seen = silu(self.proj(self.narrow(self.norm(h.flatten(2).transpose(1, 2))).flatten(1)))
        h = silu(self.mapper(seen))
        words = self.words(h).unflatten(1, (self.cfg["num_vectors"], -1))
        coefficients = self.coefficients(h)
        ups = [(c @ up).unflatten(1, (self.cfg["rank"], -1)) for c, up in zip(coefficients.chunk(len(self.up), 1), self.up)]
        return words, coefficients, ups, self.traits(seen)


def load(folder, channels_last):
    def config(name):
        return json.loads((folder / name / "config.json").read_text())

    unet = UNet2DConditionModel.from_config(config("unet")).train()
    text = CLIPTextModel(CLIPTextConfig(**config("text_encoder"))).train()
    if channels_last:
        unet = unet.to(memory_format=torch.channels_last)
    return unet, text, config("encoder")


def batch(unet, text):
    latents = (BATCH, unet.config.in_channels, unet.config.sample_size, unet.config.sample_size)
    ids = torch.randint(0, text.config.vocab_size, (BATCH, text.config.max_position_embeddings))
    return torch.randn(latents), torch.randn(latents), torch.randint(0, 1000, (BATCH,)).float(), torch.rand(BATCH), ids


def diffusion_loss(unet, text, data):
    sample, target, timestep, weight, ids = data
    pred = unet(sample, timestep, text(ids).last_hidden_state).sample
    return ((pred.float() - target).square().mean((1, 2, 3)) * weight).mean()


def base_step(folder, channels_last):
    unet, text, _ = load(folder, channels_last)
    data = batch(unet, text)
    return [*unet.parameters(), *text.parameters()], lambda: diffusion_loss(unet, text, data)


def encoder_step(folder, channels_last):
    unet, text, cfg = load(folder, channels_last)
    unet.requires_grad_(False), text.requires_grad_(False)
    targets = [m for name, m in unet.named_modules() if isinstance(m, nn.Linear) and name.endswith(tuple("." + t for t in cfg["target_modules"]))]
    encoder = Encoder(cfg, targets).train()
    if channels_last:
        encoder = encoder.to(memory_format=torch.channels_last)
    data, photos = batch(unet, text), torch.randn(BATCH, 3, cfg["image_size"], cfg["image_size"])
    slots = torch.zeros(BATCH, data[-1].shape[1], cfg["num_vectors"])
    slots[:, 5, 0] = slots[:, 6, 1] = 1
    keep, traits, weights, now = torch.ones(BATCH, 1, 1), torch.rand(BATCH, TRAITS), torch.rand(TRAITS), {}

    def offset(i):
        def hook(_, args, out):
            x = args[0] if args[0].dim() == 3 else args[0][:, None]
            return out + (linear(x, encoder.down[i]) @ (now["ups"][i] * keep)).view_as(out)

        return hook

    for i, t in enumerate(targets):
        t.register_forward_hook(offset(i))
    token = next(m for name, m in text.named_modules() if name.endswith("token_embedding"))
    token.register_forward_hook(lambda _, args, out: out + slots @ now["words"])

    def loss():
        now["words"], coefficients, now["ups"], read = encoder(photos)
        penalties = 1e-4 * now["words"].square().mean() + 1e-5 * coefficients.square().mean()
        return diffusion_loss(unet, text, data) + 0.05 * ((read - traits).square() * weights).mean() + penalties

    return list(encoder.parameters()), loss


def measure(make, folder, precision, steps):
    half = precision == "bfloat16"
    params, loss = make(folder, half)
    adam = torch.optim.AdamW(params, lr=1e-5, betas=(0.9, 0.99), weight_decay=0.01, fused=True)
    average = [p.detach().clone() for p in params]
    times = []
    for _ in range(2 + steps):
        start = time.perf_counter()
        adam.zero_grad()
        with torch.autocast("cpu", torch.bfloat16) if half else contextlib.nullcontext():
            value = loss()
        value.backward()
        nn.utils.clip_grad_norm_(params, 1)
        adam.step()
        torch._foreach_lerp_(average, [p.detach() for p in params], 0.001)
        times.append(time.perf_counter() - start)
    return statistics.median(times[2:])


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", type=pathlib.Path, help="model folder: only its configurations are read")
    parser.add_argument("--steps", type=int, default=10)
    args = parser.parse_args()
    torch.manual_seed(1)
    torch.set_num_threads(len(os.sched_getaffinity(0)))
    print("pkg: PyTorch")
    for name, make in (("base", base_step), ("encoder", encoder_step)):
        for precision in ("float32", "bfloat16"):
            seconds = measure(make, args.model, precision, args.steps)
            print(f"Benchmark{name}/{precision} {args.steps} {seconds * 1e3:.1f} ms {BATCH / seconds:.2f} samples/s", flush=True)


if __name__ == "__main__":
    main()
