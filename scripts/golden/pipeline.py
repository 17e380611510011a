"""Golden pictures: a tiny Stable Diffusion folder with random weights, and what diffusers makes of it.

    pip install torch==2.7.1 diffusers==0.42.1 transformers==5.23.0 safetensors numpy
    python scripts/golden/pipeline.py

Rewrites models/pipeline/testdata/tiny-sd/; families.py makes those of its relatives. See README.md beside this file.
"""

import json
import shutil

import torch
from diffusers import (
    AutoencoderKL,
    DDIMScheduler,
    DPMSolverMultistepScheduler,
    EulerAncestralDiscreteScheduler,
    EulerDiscreteScheduler,
    HeunDiscreteScheduler,
    StableDiffusionPipeline,
    UNet2DConditionModel,
    UniPCMultistepScheduler,
)
from models import MODELS, publish_names, randomize
from safetensors.torch import save_file
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer
from transformers.convert_slow_tokenizer import bytes_to_unicode

FOLDER = MODELS / "pipeline" / "testdata" / "tiny-sd"
PROMPT, SEED, STEPS, GUIDANCE = "a drawing of a cat wearing a hat", 3, 10, 7.5
SIZES = ((64, 64), (64, 96))  # height, width
SAMPLERS = {"ddim": DDIMScheduler, "euler": EulerDiscreteScheduler, "dpmsolver++": DPMSolverMultistepScheduler}
MORE_SAMPLERS = {"euler_ancestral": EulerAncestralDiscreteScheduler, "heun": HeunDiscreteScheduler, "unipc": UniPCMultistepScheduler}
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
    publish_tokenizer(FOLDER / "tokenizer", vocab, merges)
    return pipe


def publish_tokenizer(folder, vocab, merges):
    (folder / "tokenizer.json").unlink()  # published Stable Diffusion folders hold the two files below
    (folder / "vocab.json").write_text(json.dumps(vocab, ensure_ascii=False))
    (folder / "merges.txt").write_text("#version: 0.2\n" + "".join(f"{a} {b}\n" for a, b in merges))


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


def draw_cases(folder, pipe, cases, pictures):
    """Writes cases.safetensors: final latents of each request, some pictures, and in the metadata the requests as JSON."""
    pipe.text_encoder.__dict__["text_model"] = pipe.text_encoder  # diffusers looks for the final norm there, transformers 5 has it above
    pipe.set_progress_bar_config(disable=True)
    drawn = {}
    for name, case in cases.items():
        call = {k: v for k, v in case.items() if k not in ("seed", "steps", "scheduler", "parts")}
        sampler = (SAMPLERS | MORE_SAMPLERS).get(case.get("scheduler"), type(pipe.scheduler))
        pipe.scheduler = sampler.from_pretrained(folder, subfolder="scheduler")
        if "parts" in case:
            states, nothing = weighted(pipe, case["parts"])
            call |= dict(prompt=None, prompt_embeds=states, negative_prompt_embeds=nothing)
        last = {}
        image = pipe(
            **call,
            num_inference_steps=case["steps"],
            generator=torch.Generator().manual_seed(case["seed"]),
            output_type="pt",
            callback_on_step_end=lambda pipe, i, t, kwargs: last.update(latents=kwargs["latents"][0].clone()) or {},
        ).images[0]
        drawn[f"latents_{name}"] = last["latents"]
        if name in pictures:
            drawn[f"image_{name}"] = image.half()
        inside = ((image > 0) & (image < 1)).float().mean().item()
        print(folder.name, name, f"latents std {last['latents'].std():.2f}, picture std {image.std():.3f}, inside {inside:.2f}")
    requests = {name: {k: v for k, v in case.items() if k != "parts"} for name, case in cases.items()}
    path = folder / "cases.safetensors"
    save_file({k: v.contiguous() for k, v in drawn.items()}, path, metadata={"requests": json.dumps(requests)})


def weighted(pipe, parts):
    """States of text with weights, and as many of no text: chunks of CONTEXT - 2 tokens, each times its weights, then its mean restored."""
    tokens = [(i, w) for text, w in parts for i in pipe.tokenizer(text, add_special_tokens=False).input_ids]
    start, end = pipe.tokenizer.bos_token_id, pipe.tokenizer.eos_token_id
    states = []
    for at in range(0, len(tokens), CONTEXT - 2):
        chunk = [(start, 1), *tokens[at : at + CONTEXT - 2], (end, 1)]
        chunk += [(end, 1)] * (CONTEXT - len(chunk))
        z = pipe.text_encoder(torch.tensor([[i for i, _ in chunk]])).last_hidden_state
        times = z * torch.tensor([w for _, w in chunk])[None, :, None]
        states.append(times * (z.mean() / times.mean()))
    nothing = pipe.text_encoder(torch.tensor([[start] + [end] * (CONTEXT - 1)])).last_hidden_state
    return torch.cat(states, dim=1), nothing.repeat(1, len(states), 1)


def more_cases():
    request = dict(prompt=PROMPT, seed=SEED, steps=STEPS, guidance_scale=GUIDANCE, height=64, width=64)
    cases = {sampler: request | dict(scheduler=sampler) for sampler in MORE_SAMPLERS}
    request["scheduler"] = "ddim"
    cases["negative"] = request | dict(negative_prompt="a red crown", seed=4)
    cases["clip_skip"] = request | dict(clip_skip=1, negative_prompt="a hat")
    cases["rescale"] = request | dict(guidance_rescale=0.7)
    parts = [("a photo of a ", 1), ("cat", 1.3), (" and a person with ", 1), ("red", 0.5), (" glasses in the crown on a beach", 1)]
    prompt = "a photo of a (cat:1.3) and a person with (red:0.5) glasses in the crown on a beach"
    cases["weights"] = request | dict(prompt=prompt, parts=parts)
    return cases


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
    with torch.no_grad():
        draw_cases(FOLDER, pipe, more_cases(), MORE_SAMPLERS)
    for path in FOLDER.rglob("*.*"):
        path.chmod(0o644)


if __name__ == "__main__":
    main()
