"""Golden shortcuts: what diffusers' networks make of the tiny Stable Diffusion folder when steps are left out of guidance or of the UNet's depth, and
when its autoencoder works on tiles.

    pip install torch==2.7.1 diffusers==0.42.1 transformers==5.23.0 safetensors numpy
    python scripts/golden/shortcuts.py

Rewrites models/pipeline/testdata/tiny-sd/shortcuts.safetensors, of the folder that pipeline.py made. See README.md beside this file.
"""

import json

import torch
from diffusers import DDIMScheduler, DPMSolverMultistepScheduler, StableDiffusionPipeline
from pipeline import FOLDER, PROMPT
from safetensors.torch import save_file

SAMPLERS = {"ddim": DDIMScheduler, "dpmsolver++": DPMSolverMultistepScheduler}
REQUEST = dict(prompt=PROMPT, seed=5, steps=10, guidance_scale=7.5, width=64, height=64, scheduler="ddim")
CASES = {
    "interval": REQUEST | dict(guidance_start=0.2, guidance_end=0.7),
    "cached": REQUEST | dict(cache_interval=3),
    "both": REQUEST | dict(guidance_start=0.3, guidance_end=0.8, cache_interval=4, scheduler="dpmsolver++"),
}


class Denoiser:
    """The UNet, which DeepCache has only its last layer take, with the first skip branch, between two whole steps."""

    def __init__(self, unet):
        self.unet, self.deep, self.age = unet, None, 0
        unet.up_blocks[-1].resnets[-1].register_forward_pre_hook(self.remember)

    def remember(self, module, args):
        self.deep = args[0][:, : self.unet.config.block_out_channels[0]]

    def __call__(self, latents, t, states, interval):
        if self.deep is None or self.age >= interval or len(self.deep) < len(latents):
            self.age = 1
            return self.unet(latents, t, encoder_hidden_states=states).sample
        self.age += 1
        unet, block, deep = self.unet, self.unet.up_blocks[-1], self.deep[-len(latents) :]
        emb = unet.time_embedding(unet.time_proj(t.expand(len(latents))))
        h = torch.cat([deep, unet.conv_in(latents)], dim=1)
        kept = self.deep
        h = block.resnets[-1](h, emb)
        self.deep = kept
        h = block.attentions[-1](h, encoder_hidden_states=states).sample
        return unet.conv_out(unet.conv_act(unet.conv_norm_out(h)))


def draw(pipe, case):
    tokens = pipe.tokenizer(["", case["prompt"]], padding="max_length", return_tensors="pt").input_ids
    states = pipe.text_encoder(tokens).last_hidden_state
    scheduler = SAMPLERS[case["scheduler"]].from_pretrained(FOLDER, subfolder="scheduler")
    scheduler.set_timesteps(case["steps"])
    shape = (1, pipe.unet.config.in_channels, case["height"] // 8, case["width"] // 8)
    latents = torch.randn(shape, generator=torch.Generator().manual_seed(case["seed"])) * scheduler.init_noise_sigma
    denoiser = Denoiser(pipe.unet)
    first = int(case.get("guidance_start", 0) * case["steps"])
    last = int(case.get("guidance_end", 1) * case["steps"])
    for i, t in enumerate(scheduler.timesteps):
        rows = 2 if first <= i < last else 1
        inputs = scheduler.scale_model_input(latents, t).expand(rows, -1, -1, -1)
        noise = denoiser(inputs, t, states[-rows:], case.get("cache_interval", 1))
        if rows == 2:
            noise = noise[:1] + case["guidance_scale"] * (noise[1:] - noise[:1])
        latents = scheduler.step(noise, t, latents).prev_sample
    return latents[0]


def main():
    torch.set_num_threads(1)
    pipe = StableDiffusionPipeline.from_pretrained(FOLDER, safety_checker=None)
    expected = {}
    with torch.no_grad():
        for name, case in CASES.items():
            expected[f"latents_{name}"] = draw(StableDiffusionPipeline.from_pretrained(FOLDER, safety_checker=None), case)
            print(name, f"latents std {expected[f'latents_{name}'].std():.2f}")
        generator = torch.Generator().manual_seed(1)
        pipe.vae.enable_tiling()
        tiles = {"latents": torch.randn((1, 4, 10, 13), generator=generator), "pixel_values": torch.rand((1, 3, 80, 104), generator=generator) * 2 - 1}
        posterior = pipe.vae.encode(tiles["pixel_values"]).latent_dist
        tiles |= {"image": pipe.vae.decode(tiles["latents"]).sample, "latent_mean": posterior.mean, "latent_std": posterior.std}
    expected |= {f"tiled_{k}": v[0] for k, v in tiles.items()}
    expected = {k: v.contiguous() for k, v in expected.items()}
    save_file(expected, FOLDER / "shortcuts.safetensors", metadata={"requests": json.dumps(CASES)})


if __name__ == "__main__":
    main()
