"""Golden pictures: a tiny Stable Diffusion folder with random weights, and what diffusers makes of it.

    pip install torch==2.7.1 diffusers==0.42.1 transformers==5.23.0 safetensors numpy
    python scripts/golden/pipeline.py

Rewrites models/pipeline/testdata/tiny-sd/. See README.md beside this file.
"""

import json
import shutil

import torch
from diffusers import (
    AutoencoderKL,
    DDIMScheduler,
    DPMSolverMultistepScheduler,
    EulerDiscreteScheduler,
    StableDiffusionPipeline,
    UNet2DConditionModel,
)
from models import MODELS, publish_names, randomize
from safetensors.torch import save_file
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer
from transformers.convert_slow_tokenizer import bytes_to_unicode

FOLDER = MODELS / "pipeline" / "testdata" / "tiny-sd"
PROMPT, SEED, STEPS, GUIDANCE = "a drawing of a cat wearing a hat", 3, 10, 7.5
SIZES = ((64, 64), (64, 96))  # height, width
SAMPLERS = {"ddim": DDIMScheduler, "euler": EulerDiscreteScheduler, "dpmsolver++": DPMSolverMultistepScheduler}
WORDS = "a an of in on the and with drawing photo sketch person face cat hat crown beach wearing glasses red".split()
CONTEXT = 16


def byte_pairs():
    """A CLIP vocabulary whose merges spell WORDS from the left; like any BPE it cuts a few of them (dra wi n g)."""
    symbols = list(bytes_to_unicode().values())
    merges = []
    for word in WORDS:
        parts = list(word[:-1]) + [word[-1] + "</w>"]
        while len(parts) > 1:
            if (parts[0], parts[1]) not in merges:
                merges.append((parts[0], parts[1]))
            parts[:2] = [parts[0] + parts[1]]
    tokens = symbols + [s + "</w>" for s in symbols] + [a + b for a, b in merges]
    tokens += ["<|startoftext|>", "<|endoftext|>"]
    return {t: i for i, t in enumerate(tokens)}, merges


def components():
    vocab, merges = byte_pairs()
    tokenizer = CLIPTokenizer(vocab=vocab, merges=merges, model_max_length=CONTEXT)
    text = CLIPTextModel(
        CLIPTextConfig(
            vocab_size=len(vocab),
            hidden_size=16,
            intermediate_size=32,
            num_hidden_layers=2,
            num_attention_heads=2,
            max_position_embeddings=CONTEXT,
            projection_dim=16,
            bos_token_id=tokenizer.bos_token_id,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
        )
    )
    unet = UNet2DConditionModel(
        sample_size=8,
        down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
        block_out_channels=(8, 16),
        layers_per_block=1,
        norm_num_groups=4,
        attention_head_dim=2,
        cross_attention_dim=16,
    )
    vae = AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        block_out_channels=(8, 8, 8, 16),
        layers_per_block=1,
        latent_channels=4,
        norm_num_groups=4,
        sample_size=64,
        scaling_factor=6.0,  # random noise predictions leave latents of about this size
    )
    scheduler = DDIMScheduler(
        beta_start=0.00085,
        beta_end=0.012,
        beta_schedule="scaled_linear",
        steps_offset=1,
        set_alpha_to_one=False,
        clip_sample=False,
    )
    for seed, model in enumerate((text, unet, vae)):
        randomize(model, 1000 + seed)
    with torch.no_grad():
        unet.conv_out.weight.mul_(0.5)
        vae.decoder.conv_out.weight.mul_(0.5)
    return dict(tokenizer=tokenizer, text_encoder=text, unet=unet, vae=vae, scheduler=scheduler), vocab, merges


def save_folder():
    parts, vocab, merges = components()
    pipe = StableDiffusionPipeline(
        **parts, safety_checker=None, feature_extractor=None, requires_safety_checker=False
    )
    shutil.rmtree(FOLDER, ignore_errors=True)
    pipe.save_pretrained(FOLDER, safe_serialization=True)
    publish_names(parts["text_encoder"], FOLDER / "text_encoder" / "model.safetensors", "text_model.")
    tokenizer = FOLDER / "tokenizer"
    (tokenizer / "tokenizer.json").unlink()  # published Stable Diffusion folders hold the two files below
    (tokenizer / "vocab.json").write_text(json.dumps(vocab, ensure_ascii=False))
    (tokenizer / "merges.txt").write_text("#version: 0.2\n" + "".join(f"{a} {b}\n" for a, b in merges))
    return pipe


def picture(pipe, sampler, height, width):
    """Latents after every step [STEPS, C, h, w] and the picture [3, H, W] in 0…1."""
    pipe.scheduler = SAMPLERS[sampler].from_pretrained(FOLDER, subfolder="scheduler")
    steps = []

    def keep(pipe, i, t, kwargs):
        steps.append(kwargs["latents"][0].clone())
        return {}

    out = pipe(
        PROMPT,
        height=height,
        width=width,
        num_inference_steps=STEPS,
        guidance_scale=GUIDANCE,
        generator=torch.Generator().manual_seed(SEED),
        output_type="pt",
        callback_on_step_end=keep,
    )
    return torch.stack(steps), out.images[0]


def main():
    torch.set_num_threads(1)
    pipe = save_folder()
    pipe.set_progress_bar_config(disable=True)
    expected = {"input_ids": pipe.tokenizer(["", PROMPT], padding="max_length", return_tensors="pt").input_ids}
    with torch.no_grad():
        expected["encoder_hidden_states"] = pipe.text_encoder(expected["input_ids"]).last_hidden_state
    for height, width in SIZES:
        size = f"{height}x{width}"
        shape = (pipe.unet.config.in_channels, height // 8, width // 8)
        expected[f"noise_{size}"] = torch.randn((1, *shape), generator=torch.Generator().manual_seed(SEED))[0]
        for sampler in SAMPLERS:
            steps, image = picture(pipe, sampler, height, width)
            expected[f"steps_{sampler}_{size}"] = steps
            expected[f"latents_{sampler}_{size}"] = steps[-1].clone()
            expected[f"image_{sampler}_{size}"] = image
            inside = ((image > 0) & (image < 1)).float().mean().item()
            print(sampler, size, f"latents std {steps[-1].std():.2f}, picture std {image.std():.3f}, inside {inside:.2f}")
    request = json.dumps(dict(prompt=PROMPT, seed=SEED, steps=STEPS, guidance_scale=GUIDANCE))
    save_file(
        {k: v.contiguous() for k, v in expected.items()},
        FOLDER / "expected.safetensors",
        metadata={"request": request},  # one entry: safetensors writes several in no fixed order
    )
    for path in FOLDER.rglob("*.*"):
        path.chmod(0o644)


if __name__ == "__main__":
    main()
