"""Golden files for the networks: tiny random models run by diffusers and transformers.

    pip install torch==2.7.1 diffusers==0.42.1 transformers==5.23.0 safetensors numpy
    python scripts/golden/models.py [CASE...]

Rewrites models/{unet,clip,vae}/testdata/<case>/, all of them unless some are named. See README.md beside this file.
"""

import math
import pathlib
import shutil
import sys

import numpy as np
import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from safetensors.torch import save_file
from transformers import (
    CLIPTextConfig,
    CLIPTextModel,
    CLIPTextModelWithProjection,
    CLIPVisionConfig,
    CLIPVisionModelWithProjection,
)

MODELS = pathlib.Path(__file__).resolve().parents[2] / "models"

UNETS = {
    "sd1": dict(
        sample_size=8,
        in_channels=4,
        out_channels=4,
        down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
        block_out_channels=(8, 16),
        layers_per_block=2,
        norm_num_groups=8,
        attention_head_dim=4,
        cross_attention_dim=12,
    ),
    "three_levels": dict(
        sample_size=(8, 16),
        in_channels=8,
        out_channels=8,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
        block_out_channels=(8, 16, 24),
        layers_per_block=1,
        norm_num_groups=4,
        attention_head_dim=(1, 2, 3),
        cross_attention_dim=20,
    ),
    "linear_projection": dict(
        sample_size=8,
        in_channels=4,
        out_channels=4,
        down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
        block_out_channels=(8, 16),
        layers_per_block=1,
        norm_num_groups=4,
        attention_head_dim=(2, 4),
        cross_attention_dim=16,
        use_linear_projection=True,
    ),
}

# What tells the published families apart, at a width that keeps the files small; each is drawn twice.
TINY = dict(
    sample_size=8,
    down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"),
    up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
    block_out_channels=(4, 8),
    layers_per_block=1,
    norm_num_groups=2,
    attention_head_dim=2,
    cross_attention_dim=6,
)
FAMILIES = {
    "sd2": dict(attention_head_dim=(1, 4), use_linear_projection=True, upcast_attention=True),
    "sdxl": dict(
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
        block_out_channels=(4, 4, 8),
        attention_head_dim=(1, 2, 4),
        transformer_layers_per_block=(1, 1, 2),
        use_linear_projection=True,
        addition_embed_type="text_time",
        addition_time_embed_dim=4,
        projection_class_embeddings_input_dim=10 + 6 * 4,
    ),
    "inpaint": dict(in_channels=9, block_out_channels=(4, 4)),
    "lcm": dict(time_cond_proj_dim=6, block_out_channels=(4, 4)),
}
UNETS.update({f"{name}_{draw}": TINY | changes for name, changes in FAMILIES.items() for draw in "ab"})

# (batch, height, width, text length, timesteps)
UNET_INPUTS = {
    "sd1": (2, 8, 8, 7, (981.0, 41.0)),
    "three_levels": (3, 8, 16, 5, (0.0, 500.0, 999.0)),
    "linear_projection": (1, 12, 8, 9, (123.25,)),
    "a": (2, 8, 8, 5, (981.0, 41.0)),
    "b": (1, 4, 12, 7, (259.0,)),
}

# The pooled row: eos_token_id 2 means "the largest id" (old configs), any other "the first such id".
TEXTS = {
    "text_quick_gelu": dict(
        vocab_size=60,
        hidden_size=16,
        intermediate_size=40,
        num_hidden_layers=2,
        num_attention_heads=2,
        max_position_embeddings=12,
        hidden_act="quick_gelu",
        projection_dim=16,
        bos_token_id=0,
        eos_token_id=2,
        pad_token_id=1,
    ),
    "text_gelu": dict(
        vocab_size=48,
        hidden_size=24,
        intermediate_size=48,
        num_hidden_layers=4,
        num_attention_heads=6,
        max_position_embeddings=9,
        hidden_act="gelu",
        layer_norm_eps=1e-6,
        projection_dim=12,
        bos_token_id=46,
        eos_token_id=47,
        pad_token_id=0,
    ),
}
PROJECTED = dict(
    vocab_size=40,
    hidden_size=16,
    intermediate_size=32,
    num_hidden_layers=3,
    num_attention_heads=4,
    max_position_embeddings=9,
    hidden_act="gelu",
    projection_dim=12,
    bos_token_id=0,
    eos_token_id=2,
    pad_token_id=1,
)
TEXTS.update({f"text_projection_{draw}": PROJECTED for draw in "ab"})

VISIONS = {
    "vision_quick_gelu": dict(
        hidden_size=16,
        intermediate_size=32,
        projection_dim=12,
        num_hidden_layers=3,
        num_attention_heads=4,
        image_size=24,
        patch_size=8,
        hidden_act="quick_gelu",
    ),
    "vision_gelu": dict(
        hidden_size=24,
        intermediate_size=40,
        projection_dim=8,
        num_hidden_layers=2,
        num_attention_heads=3,
        image_size=32,
        patch_size=16,
        hidden_act="gelu",
        layer_norm_eps=1e-6,
    ),
}

VAES = {
    "two_levels": dict(
        down_block_types=("DownEncoderBlock2D",) * 2,
        up_block_types=("UpDecoderBlock2D",) * 2,
        block_out_channels=(8, 16),
        layers_per_block=1,
        latent_channels=4,
        norm_num_groups=4,
        sample_size=32,
        mid_block_add_attention=True,
    ),
    "three_levels_no_attention": dict(
        down_block_types=("DownEncoderBlock2D",) * 3,
        up_block_types=("UpDecoderBlock2D",) * 3,
        block_out_channels=(8, 8, 16),
        layers_per_block=2,
        latent_channels=8,
        norm_num_groups=8,
        sample_size=24,
        mid_block_add_attention=False,
    ),
}

# (batch, height, width) of the picture
VAE_INPUTS = {"two_levels": (2, 16, 24), "three_levels_no_attention": (3, 24, 16)}


def randomize(model, seed):
    """Draws every parameter so that activations stay of order one and no norm is trivial."""
    g = torch.Generator().manual_seed(seed)
    norms = (torch.nn.GroupNorm, torch.nn.LayerNorm)
    with torch.no_grad():
        for _, module in sorted(model.named_modules()):
            for name, p in sorted(module.named_parameters(recurse=False)):
                n = torch.randn(p.shape, generator=g)
                if isinstance(module, norms):
                    p.copy_(1 + 0.3 * n if name == "weight" else 0.2 * n)
                elif isinstance(module, (torch.nn.Linear, torch.nn.Conv2d)) and name == "weight":
                    p.copy_(n / math.sqrt(p[0].numel()))
                else:
                    p.copy_(n * (0.1 if name == "bias" else 0.5))
    return model.eval()


def randn(seed, *shape):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def save(package, case, model, io, prefix=""):
    """Writes config.json, the weights under their published names, and io.safetensors."""
    folder = MODELS / package / "testdata" / case
    shutil.rmtree(folder, ignore_errors=True)
    model.save_pretrained(folder, safe_serialization=True)
    if prefix:
        publish_names(model, folder / "model.safetensors", prefix)
    save_file({k: v.contiguous() for k, v in io.items()}, folder / "io.safetensors")
    for path in folder.iterdir():
        path.chmod(0o644)
    scale = {k: round(v.std().item(), 2) for k, v in io.items() if v.dim() > 1 and v.is_floating_point()}
    print(folder.relative_to(MODELS), f"{sum(p.stat().st_size for p in folder.iterdir()) // 1024} KiB", scale)


def publish_names(model, path, prefix):
    """transformers 5 drops the `text_model.` that every published CLIP text encoder carries."""
    published = (prefix, "text_projection.")
    state = {k if k.startswith(published) else prefix + k: v for k, v in model.state_dict().items()}
    state = {k: v.contiguous() for k, v in state.items() if not k.endswith("position_ids")}
    save_file(state, path, metadata={"format": "pt"})


def unet(case, seed):
    model = randomize(UNet2DConditionModel(**UNETS[case]), seed)
    cfg = model.config
    b, h, w, length, steps = UNET_INPUTS.get(case) or UNET_INPUTS[case[-1]]
    io = {
        "sample": randn(seed + 1, b, cfg.in_channels, h, w),
        "timestep": torch.tensor(steps),
        "encoder_hidden_states": randn(seed + 2, b, length, cfg.cross_attention_dim),
    }
    added = {}
    if cfg.addition_embed_type == "text_time":
        pooled = cfg.projection_class_embeddings_input_dim - 6 * cfg.addition_time_embed_dim
        sizes = torch.tensor([[1024, 768, 0, 16, 1024, 1024], [512, 512, 8, 0, 640, 384]])
        added = {"text_embeds": randn(seed + 3, b, pooled), "time_ids": sizes[:b].float()}
    condition = {}
    if cfg.time_cond_proj_dim:
        condition = {"timestep_cond": randn(seed + 4, b, cfg.time_cond_proj_dim)}
    out = model(io["sample"], io["timestep"], io["encoder_hidden_states"], added_cond_kwargs=added, **condition)
    io |= added | condition | {"noise_pred": out.sample}
    save("unet", case, model, io)


# Stable Diffusion 1.5 with one layer a block. Its 579 million weights are made of numbers that two lines make again anywhere.
WIDTH = dict(cross_attention_dim=768, attention_head_dim=8, layers_per_block=1)


def uniform(start, count):
    """count float32 from -1 to 1, hashed from start, start + 1, …"""
    x = np.arange(start, start + count, dtype=np.uint32)
    for shift, factor in ((16, 0x7FEB352D), (15, 0x846CA68B)):
        x = (x ^ (x >> np.uint32(shift))) * np.uint32(factor)
    x = (x ^ (x >> np.uint32(16))) >> np.uint32(8)
    return x.astype(np.float32) * np.float32(2**-23) - np.float32(1)


def width(case, seed):
    """Weight i, by name, begins at seed + 101 i; matrices share their numbers, shifted, so that a reader need not keep them apart."""
    model = UNet2DConditionModel(**WIDTH).eval()
    for i, (name, p) in enumerate(sorted(model.named_parameters())):
        u = uniform(seed + 101 * i, p.numel()).reshape(p.shape)
        if p.dim() > 1:
            u *= np.float32(math.sqrt(3 / p[0].numel()))
        else:
            u = u * np.float32(0.25) + np.float32(name.endswith("weight"))
        p.copy_(torch.from_numpy(u))
    io = {"sample": randn(seed + 1, 1, 4, 8, 8), "timestep": torch.tensor((321.0,)), "encoder_hidden_states": randn(seed + 2, 1, 3, 768)}
    io["noise_pred"] = model(io["sample"], io["timestep"], io["encoder_hidden_states"]).sample
    path = MODELS / "unet" / "width" / "testdata" / f"{case}.safetensors"
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file({k: v.contiguous() for k, v in io.items()}, path)
    path.chmod(0o644)
    print(path.relative_to(MODELS), io["noise_pred"].std().item())


def clip_text(case, seed):
    cfg = CLIPTextConfig(**TEXTS[case])
    projected = case.startswith("text_projection")
    model = randomize((CLIPTextModelWithProjection if projected else CLIPTextModel)(cfg), seed)
    transformer = model.text_model if projected else model
    length, top = cfg.max_position_embeddings, cfg.vocab_size - 1
    g = torch.Generator().manual_seed(seed + 1)
    ids = torch.randint(3, top - 1, (3, length), generator=g)
    ids[:, 0] = top - 1
    for row, end in enumerate((length - 1, 4, 2)):  # the end mark, then padding that repeats it or not
        ids[row, end:] = cfg.pad_token_id if row == 2 else top
        ids[row, end] = top
    out = transformer(ids, output_hidden_states=True)
    io = {
        "input_ids": ids,
        "last_hidden_state": out.last_hidden_state,
        "pooler_output": out.pooler_output,
        "penultimate": out.hidden_states[-2],
    }
    if projected:
        io["text_embeds"] = model(ids).text_embeds
        for skip in range(cfg.num_hidden_layers):
            state = out.hidden_states[-(skip + 1)]
            io[f"hidden_states.{skip}"] = state.clone()
            io[f"normed.{skip}"] = transformer.final_layer_norm(state)
        io["penultimate"] = io["penultimate"].clone()
    save("clip", case, model, io, prefix="text_model.")


def clip_vision(case, seed):
    cfg = CLIPVisionConfig(**VISIONS[case])
    model = randomize(CLIPVisionModelWithProjection(cfg), seed)
    pixels = randn(seed + 1, 3, 3, cfg.image_size, cfg.image_size)
    out = model(pixels, output_hidden_states=True)
    io = {"pixel_values": pixels, "last_hidden_state": out.last_hidden_state, "image_embeds": out.image_embeds}
    io["penultimate"] = out.hidden_states[-2].clone()
    save("clip", case, model, io)


def vae(case, seed):
    model = randomize(AutoencoderKL(**VAES[case]), seed)
    b, h, w = VAE_INPUTS[case]
    factor = 2 ** (len(model.config.block_out_channels) - 1)
    pixels = randn(seed + 1, b, 3, h, w).clamp(-1, 1)
    latents = randn(seed + 2, b, model.config.latent_channels, h // factor, w // factor)
    mean, logvar = model.encode(pixels).latent_dist.parameters.chunk(2, dim=1)
    io = {"pixel_values": pixels, "latent_mean": mean, "latent_logvar": logvar, "latents": latents}
    io["image"] = model.decode(latents).sample
    save("vae", case, model, io)


def main():
    torch.set_num_threads(1)
    cases = [(unet, UNETS), (width, ("width_a", "width_b")), (clip_text, TEXTS), (clip_vision, VISIONS), (vae, VAES)]
    with torch.no_grad():
        for make, table in cases:
            for i, case in enumerate(table):
                if case in sys.argv[1:] or not sys.argv[1:]:
                    make(case, 100 * (i + 1))


if __name__ == "__main__":
    main()
