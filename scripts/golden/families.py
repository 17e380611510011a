"""Golden pictures of Stable Diffusion's relatives: tiny folders with random weights, and what diffusers makes of them.

    pip install torch==2.7.1 diffusers==0.42.1 transformers==5.23.0 safetensors numpy
    python scripts/golden/families.py

Rewrites models/pipeline/testdata/tiny-{sd2,lcm,sdxl}_{a,b}/. See README.md beside this file.
"""

import shutil

import torch
from diffusers import (
    AutoencoderKL,
    DDIMScheduler,
    EulerDiscreteScheduler,
    LCMScheduler,
    StableDiffusionPipeline,
    StableDiffusionXLPipeline,
    UNet2DConditionModel,
)
from models import FAMILIES, TINY, publish_names, randomize
from pipeline import CONTEXT, FOLDER, GUIDANCE, PROMPT, STEPS, byte_pairs, draw_cases, publish_tokenizer
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection, CLIPTokenizer

NOISE = dict(beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear")
SCHEDULERS = {
    "sd2": lambda: DDIMScheduler(**NOISE, steps_offset=1, set_alpha_to_one=False, clip_sample=False, prediction_type="v_prediction"),
    "lcm": lambda: LCMScheduler(**NOISE, steps_offset=1, set_alpha_to_one=False, clip_sample=False),
    "sdxl": lambda: EulerDiscreteScheduler(**NOISE, steps_offset=1, timestep_spacing="leading"),
}
POOLED = 10
VOCAB, MERGES = byte_pairs()


def tokenizer(pad=None):
    return CLIPTokenizer(vocab=VOCAB, merges=MERGES, model_max_length=CONTEXT, **({"pad_token": pad} if pad else {}))


def text(kind, width, layers, act, **changes):
    ends = dict(bos_token_id=len(VOCAB) - 2, eos_token_id=len(VOCAB) - 1, pad_token_id=0)
    config = CLIPTextConfig(
        vocab_size=len(VOCAB),
        hidden_size=width,
        intermediate_size=2 * width,
        num_hidden_layers=layers,
        num_attention_heads=2,
        max_position_embeddings=CONTEXT,
        hidden_act=act,
        projection_dim=POOLED,
        **(ends | changes),
    )
    return kind(config)


def components(family, draw):
    parts = {
        "unet": UNet2DConditionModel(**(TINY | FAMILIES[family] | {"sample_size": 8, "cross_attention_dim": 10 if family == "sdxl" else 6})),
        "vae": AutoencoderKL(
            down_block_types=("DownEncoderBlock2D",) * 3,
            up_block_types=("UpDecoderBlock2D",) * 3,
            block_out_channels=(4, 4, 8),
            layers_per_block=1,
            norm_num_groups=2,
            sample_size=32,
            scaling_factor=6.0,  # random noise predictions leave latents of about this size
            **(dict(latents_mean=[0.3, -0.2, 0.1, 0.4], latents_std=[3.0, 6.0, 5.0, 8.0]) if (family, draw) == ("sdxl", "b") else {}),
        ),
        "scheduler": SCHEDULERS[family](),
        "tokenizer": tokenizer("!" if family == "sd2" else None),
        "text_encoder": text(CLIPTextModel, 6, 3 if family == "sdxl" else 2, "gelu" if family == "sd2" else "quick_gelu"),
    }
    if family == "sdxl":
        ends = dict(eos_token_id=2) if draw == "a" else {}  # 2 is what the published folders say
        parts["text_encoder_2"] = text(CLIPTextModelWithProjection, 4, 2, "gelu", **ends)
        parts["tokenizer_2"] = tokenizer("!")
    return parts


def save_folder(family, draw, seed):
    parts = components(family, draw)
    networks = {k: v for k, v in parts.items() if isinstance(v, torch.nn.Module)}
    for i, model in enumerate(networks.values()):
        randomize(model, seed + i)
    with torch.no_grad():
        parts["unet"].conv_out.weight.mul_(0.5)
        parts["vae"].decoder.conv_out.weight.mul_(0.5)
    for model in networks.values():
        model.half()  # as many published folders are; the pictures are drawn with the same numbers in float32
    if family == "sdxl":
        pipe = StableDiffusionXLPipeline(**parts, force_zeros_for_empty_prompt=draw == "a", add_watermarker=False)
    else:
        pipe = StableDiffusionPipeline(**parts, safety_checker=None, feature_extractor=None, requires_safety_checker=False)
    folder = FOLDER.parent / f"tiny-{family}_{draw}"
    shutil.rmtree(folder, ignore_errors=True)
    pipe.save_pretrained(folder, safe_serialization=True)
    for name in parts:
        if name.startswith("text_encoder"):
            publish_names(parts[name], folder / name / "model.safetensors", "text_model.")
        if name.startswith("tokenizer"):
            publish_tokenizer(folder / name, VOCAB, MERGES)
    for model in networks.values():
        model.float()
    return folder, pipe


def cases(family, seed):
    request = dict(prompt=PROMPT, seed=seed, steps=STEPS, guidance_scale=GUIDANCE, height=32, width=32)
    cases = {"plain": request, "wide": request | dict(width=48, seed=seed + 1)}
    if family == "lcm":
        return cases | {"weak": request | dict(guidance_scale=2.5)}
    cases["negative"] = request | dict(negative_prompt="a red crown")
    cases["empty"] = request | dict(negative_prompt="")
    cases["alone"] = request | dict(guidance_scale=1)
    cases["clip_skip"] = request | dict(clip_skip=1, negative_prompt="a hat")
    cases["rescale"] = request | dict(guidance_rescale=0.7)
    return cases


def main():
    torch.set_num_threads(1)
    for i, (family, draw) in enumerate((family, draw) for family in SCHEDULERS for draw in "ab"):
        folder, pipe = save_folder(family, draw, 2000 + 10 * i)
        with torch.no_grad():
            draw_cases(folder, pipe, cases(family, 5 + i), ("plain", "wide"))
        for path in folder.rglob("*.*"):
            path.chmod(0o644)


if __name__ == "__main__":
    main()
