"""Golden pictures from pictures: image to image and inpainting on the tiny Stable Diffusion folder, on one whose UNet reads masks, and on SDXL.

    python scripts/golden/image.py

Reads models/pipeline/testdata/tiny-sd/ and writes images.safetensors there; rewrites models/pipeline/testdata/tiny-inpaint/, of which
text encoder, tokenizer and VAE are tiny-sd's; writes images.safetensors into the folders tiny-sdxl_{a,b} of families.py. See README.md beside this file.
"""

import json
import shutil

import numpy as np
import torch
from diffusers import (
    DDIMScheduler,
    EulerAncestralDiscreteScheduler,
    EulerDiscreteScheduler,
    DPMSolverMultistepScheduler,
    HeunDiscreteScheduler,
    StableDiffusionImg2ImgPipeline,
    StableDiffusionInpaintPipeline,
    StableDiffusionPipeline,
    StableDiffusionXLImg2ImgPipeline,
    StableDiffusionXLInpaintPipeline,
    StableDiffusionXLPipeline,
    UNet2DConditionModel,
)
from models import randomize
from PIL import Image
from pipeline import FOLDER, GUIDANCE, PROMPT, SEED, STEPS
from safetensors.torch import save_file

INPAINT = FOLDER.parent / "tiny-inpaint"
SAMPLERS = {
    "ddim": DDIMScheduler,
    "euler": EulerDiscreteScheduler,
    "euler_ancestral": EulerAncestralDiscreteScheduler,
    "dpmsolver++": DPMSolverMultistepScheduler,
    "heun": HeunDiscreteScheduler,
}
SIZE = 64, 96  # height and width; SDXL's tiny folders draw at most 64 pixels
SMALL = 48, 64


def given(height, width):
    """A picture and a mask: smooth colours, and a rectangle whose edges lie between latents."""
    y, x = np.mgrid[0:height, 0:width]
    picture = np.stack([x * 2 + y // 2, 255 - y * 3, 128 + 100 * np.sin(x / 9) * np.cos(y / 7)], axis=-1)
    mask = np.zeros((height, width))
    mask[13 : height - 14, 22 : width - 26] = 255
    return Image.fromarray(picture.clip(0, 255).astype(np.uint8)), Image.fromarray(mask.astype(np.uint8))


def draw(folder, pipe, kind, sampler, strength, picture, mask):
    if not hasattr(pipe, "text_encoder_2"):
        pipe.text_encoder.__dict__["text_model"] = pipe.text_encoder
    pipe.set_progress_bar_config(disable=True)
    pipe.scheduler = SAMPLERS[sampler].from_pretrained(folder, subfolder="scheduler")
    call = dict(image=picture, strength=strength)
    if kind == "inpaint":
        call |= dict(mask_image=mask, height=picture.height, width=picture.width)
    last = {}
    image = pipe(
        PROMPT,
        **call,
        num_inference_steps=STEPS,
        guidance_scale=GUIDANCE,
        generator=torch.Generator().manual_seed(SEED),
        output_type="pt",
        callback_on_step_end=lambda pipe, i, t, kwargs: last.update(latents=kwargs["latents"][0].clone()) or {},
    ).images[0]
    return last["latents"], image


def write(folder, pipes, cases, size=SIZE):
    picture, mask = given(*size)
    drawn = {"picture": torch.from_numpy(np.array(picture)).float(), "mask": torch.from_numpy(np.array(mask)).float()}
    for name, case in cases.items():
        latents, image = draw(folder, pipes[case["kind"]], picture=picture, mask=mask, **case)
        drawn[f"latents_{name}"] = latents
        if case["sampler"] == "ddim" or size == SMALL and case["sampler"] == "euler":
            drawn[f"image_{name}"] = image.half()
        print(folder.name, name, f"latents std {latents.std():.2f}, picture std {image.std():.3f}")
    request = json.dumps(dict(prompt=PROMPT, seed=SEED, steps=STEPS, guidance_scale=GUIDANCE, cases=cases))
    path = folder / "images.safetensors"
    save_file({k: v.contiguous() for k, v in drawn.items()}, path, metadata={"request": request})
    path.chmod(0o644)


def inpainting_folder():
    """tiny-sd with a UNet of nine channels in."""
    base = StableDiffusionPipeline.from_pretrained(FOLDER, safety_checker=None)
    cfg = {k: v for k, v in base.unet.config.items() if k != "_name_or_path"}
    unet = UNet2DConditionModel.from_config(cfg, in_channels=9)
    randomize(unet, 1010)
    with torch.no_grad():
        unet.conv_out.weight.mul_(0.5)
    shutil.rmtree(INPAINT, ignore_errors=True)
    INPAINT.mkdir()
    unet.save_pretrained(INPAINT / "unet", safe_serialization=True)
    for part in ("text_encoder", "tokenizer", "vae", "scheduler"):
        shutil.copytree(FOLDER / part, INPAINT / part)
    shutil.copy(FOLDER / "model_index.json", INPAINT / "model_index.json")
    parts = base.components | dict(unet=unet)
    for path in INPAINT.rglob("*.*"):
        path.chmod(0o644)
    return parts


def pipelines(parts):
    parts = {k: parts[k] for k in ("tokenizer", "text_encoder", "unet", "vae", "scheduler")}
    parts |= dict(safety_checker=None, feature_extractor=None, requires_safety_checker=False)
    return {"image": StableDiffusionImg2ImgPipeline(**parts), "inpaint": StableDiffusionInpaintPipeline(**parts)}


def case(kind, sampler, strength):
    return dict(kind=kind, sampler=sampler, strength=strength)


def sdxl():
    for draw_ in "ab":
        folder = FOLDER.parent / f"tiny-sdxl_{draw_}"
        parts = StableDiffusionXLPipeline.from_pretrained(folder).to(torch.float32).components
        zeros = json.loads((folder / "model_index.json").read_text())["force_zeros_for_empty_prompt"]
        more = dict(force_zeros_for_empty_prompt=zeros, add_watermarker=False)
        pipes = {"image": StableDiffusionXLImg2ImgPipeline(**parts, **more), "inpaint": StableDiffusionXLInpaintPipeline(**parts, **more)}
        # without DDIM, which these folders' configuration, of another sampler, says too little of
        cases = {f"image_{s}": case("image", s, 0.6) for s in SAMPLERS if s != "ddim"}
        if draw_ == "a":  # diffusers (0.42) forgets the statistics of b's latents where it inpaints, not where it decodes
            cases |= {f"inpaint_{s}": case("inpaint", s, 1.0) for s in ("euler", "euler_ancestral")} | {"inpaint_euler_part": case("inpaint", "euler", 0.7)}
        write(folder, pipes, cases, SMALL)


def main():
    torch.set_num_threads(1)
    cases = {f"image_{s}": case("image", s, 0.6) for s in SAMPLERS}
    cases["image_ddim_full"] = case("image", "ddim", 1.0)
    cases |= {f"inpaint_{s}": case("inpaint", s, 1.0) for s in SAMPLERS}
    cases |= {f"inpaint_{s}_part": case("inpaint", s, 0.7) for s in SAMPLERS}
    parts = StableDiffusionPipeline.from_pretrained(FOLDER, safety_checker=None).components
    write(FOLDER, pipelines(parts), cases)
    cases = {f"inpaint_{s}": case("inpaint", s, 1.0) for s in ("ddim", "euler_ancestral")}
    cases |= {f"inpaint_{s}_part": case("inpaint", s, 0.7) for s in ("ddim", "euler_ancestral")}
    write(INPAINT, pipelines(inpainting_folder()), cases)
    sdxl()


if __name__ == "__main__":
    main()
