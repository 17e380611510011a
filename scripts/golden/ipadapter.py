"""Golden files for image prompts: tiny IP-Adapters with random weights, and what diffusers makes of them.

    pip install torch==2.7.1 diffusers==0.42.1 transformers==5.23.0 safetensors numpy pillow
    python scripts/golden/ipadapter.py

Reads models/pipeline/testdata/tiny-{sd,sdxl_a}/ and rewrites models/{ipadapter,pixels}/testdata/. See README.md beside this file.
"""

import json
import math
import shutil

import numpy as np
import torch
from diffusers import StableDiffusionPipeline, StableDiffusionXLPipeline
from models import MODELS, randomize
from PIL import Image
from safetensors.torch import save_file
from transformers import CLIPVisionConfig, CLIPVisionModelWithProjection

DATA = MODELS / "ipadapter" / "testdata"
FOLDERS = MODELS / "pipeline" / "testdata"
PROMPT, STEPS = "a drawing of a cat wearing a hat", 6
VISION = dict(hidden_size=16, intermediate_size=32, projection_dim=12, num_hidden_layers=3, num_attention_heads=2, image_size=28, patch_size=7, hidden_act="gelu")

# Kind, base model, and of Plus the number of queries, their width and the heads, of FaceID the rank of its LoRA.
CASES = {
    "base_a": dict(kind="base", model="tiny-sd"),
    "base_b": dict(kind="base", model="tiny-sd"),
    "plus_a": dict(kind="plus", model="tiny-sd", queries=3, width=16, heads=1),
    "plus_b": dict(kind="plus", model="tiny-sd", queries=5, width=8, heads=2),
    "full_face": dict(kind="full", model="tiny-sd"),
    "base_sdxl": dict(kind="base", model="tiny-sdxl_a"),
    "plus_sdxl": dict(kind="plus", model="tiny-sdxl_a", queries=4, width=8, heads=1),
    "faceid_a": dict(kind="faceid", model="tiny-sd", rank=3),
    "faceid_b": dict(kind="faceid", model="tiny-sd", rank=2),
}


def photos():
    """Two pictures whose shortest side is another each, with edges and with noise."""
    g = np.random.default_rng(7)
    made = {}
    for name, (h, w) in {"tall": (71, 44), "wide": (40, 93)}.items():
        y, x = np.mgrid[0:h, 0:w]
        picture = np.stack([x * 5 + y, 255 - y * 3, 128 + 100 * np.sin(x / 5) * np.cos(y / 4)], axis=-1)
        picture[h // 4 : h // 2, w // 3 : w // 2] = (250, 10, 90)
        picture += g.integers(-20, 20, picture.shape)
        made[name] = Image.fromarray(picture.clip(0, 255).astype(np.uint8))
        made[name].save(DATA / f"{name}.png")
    return made


def resized(photos):
    """The pictures at other sizes, as Pillow's bicubic makes them, as width x height."""
    sizes = {"tall": ((28, 45), (20, 60), (44, 71)), "wide": ((65, 28), (200, 111))}
    made = {f"{name}_{w}x{h}": torch.from_numpy(np.array(photos[name].resize((w, h), Image.BICUBIC))) for name in sizes for w, h in sizes[name]}
    folder = MODELS / "pixels" / "testdata"
    folder.mkdir(exist_ok=True)
    save_file(made, folder / "resized.safetensors")


def drawer(seed):
    """Draws tensors by name and shape: norms about one, biases small, matrices that keep sizes."""
    g = torch.Generator().manual_seed(seed)

    def draw(name, *shape):
        n = torch.randn(shape, generator=g)
        if len(shape) > 1 and not name.endswith("latents"):
            return n / math.sqrt(shape[-1])
        return 1 + 0.3 * n if "norm" in name and name.endswith("weight") else 0.5 * n

    return draw


FACE = 20  # numbers of a face's vector; 512 in the published files


def projection(draw, kind, text, queries=0, width=0, heads=0, rank=0):
    """image_proj under its published names."""
    shapes = {}
    if kind == "base":
        shapes = {"proj.weight": (4 * text, VISION["projection_dim"]), "proj.bias": (4 * text,), "norm.weight": (text,), "norm.bias": (text,)}
    hidden = VISION["hidden_size"]
    if kind == "full":
        for name, shape in {"0.weight": (hidden, hidden), "0.bias": (hidden,), "2.weight": (text, hidden), "2.bias": (text,)}.items():
            shapes["proj." + name] = shape
        shapes |= {"proj.3.weight": (text,), "proj.3.bias": (text,)}
    if kind == "faceid":
        shapes = {"proj.0.weight": (2 * FACE, FACE), "proj.0.bias": (2 * FACE,), "proj.2.weight": (4 * text, 2 * FACE), "proj.2.bias": (4 * text,)}
        shapes |= {"norm.weight": (text,), "norm.bias": (text,)}
    if kind == "plus":
        shapes = {"latents": (1, queries, width), "proj_in.weight": (width, hidden), "proj_in.bias": (width,)}
        shapes |= {"proj_out.weight": (text, width), "proj_out.bias": (text,), "norm_out.weight": (text,), "norm_out.bias": (text,)}
        inner = 64 * heads
        for i in range(4):
            for norm in ("0.norm1", "0.norm2", "1.0"):
                shapes |= {f"layers.{i}.{norm}.weight": (width,), f"layers.{i}.{norm}.bias": (width,)}
            shapes |= {f"layers.{i}.0.to_q.weight": (inner, width), f"layers.{i}.0.to_kv.weight": (2 * inner, width)}
            shapes |= {f"layers.{i}.0.to_out.weight": (width, inner)}
            shapes |= {f"layers.{i}.1.1.weight": (4 * width, width), f"layers.{i}.1.3.weight": (width, 4 * width)}
    return {f"image_proj.{name}": draw(name, *shape) for name, shape in shapes.items()}


def attention(draw, unet, rank=0):
    """ip_adapter under its published names: a number for every attention of the UNet, odd ones for those to text."""
    state = {}
    for i, (name, module) in enumerate((n.removesuffix(".processor"), unet.get_submodule(n.removesuffix(".processor"))) for n in unet.attn_processors):
        for part, layer in {"q": module.to_q, "k": module.to_k, "v": module.to_v, "out": module.to_out[0]}.items():
            if rank:  # of FaceID, on all of them
                state[f"ip_adapter.{i}.to_{part}_lora.down.weight"] = draw("down", rank, layer.in_features)
                state[f"ip_adapter.{i}.to_{part}_lora.up.weight"] = 0.5 * draw("up", layer.out_features, rank)
        if name.endswith("attn2"):
            for part in ("to_k_ip", "to_v_ip"):
                state[f"ip_adapter.{i}.{part}.weight"] = draw(part, *module.to_k.weight.shape)
    return state


def pipeline(model):
    kind = StableDiffusionXLPipeline if "xl" in model else StableDiffusionPipeline
    extra = dict(add_watermarker=False) if "xl" in model else dict(safety_checker=None, feature_extractor=None)
    pipe = kind.from_pretrained(FOLDERS / model, torch_dtype=torch.float32, **extra)
    for encoder in ("text_encoder", "text_encoder_2"):
        if hasattr(pipe, encoder) and not hasattr(getattr(pipe, encoder), "text_model"):
            text = getattr(pipe, encoder)
            text.__dict__["text_model"] = text
    pipe.set_progress_bar_config(disable=True)
    return pipe


def requests(model, seed):
    size = 32 if "xl" in model else 64
    request = dict(prompt=PROMPT, seed=seed, steps=STEPS, guidance_scale=7.5, width=size, height=size)
    return {
        "one": request | dict(photos=["tall"], scale=1.0),
        "weak": request | dict(photos=["wide"], scale=0.4, negative_prompt="a red crown", seed=seed + 1),
        "two": request | dict(photos=["tall", "wide"], scale=0.8, width=size + 32 if size == 64 else size + 16),
        "alone": request | dict(photos=["wide"], scale=1.2, guidance_scale=1),
    }


def draw_picture(pipe, given, case):
    """given is ip_adapter_image, or for FaceID ip_adapter_image_embeds, as a function of the photos' names and of guidance."""
    pipe.set_ip_adapter_scale(case["scale"])
    last = {}
    image = pipe(
        case["prompt"],
        negative_prompt=case.get("negative_prompt"),
        **given(case["photos"], case["guidance_scale"] > 1),
        width=case["width"],
        height=case["height"],
        num_inference_steps=case["steps"],
        guidance_scale=case["guidance_scale"],
        generator=torch.Generator().manual_seed(case["seed"]),
        output_type="pt",
        callback_on_step_end=lambda pipe, i, t, kwargs: last.update(latents=kwargs["latents"][0].clone()) or {},
    ).images[0]
    return last["latents"], image


def see(pipe, kind, photos, seed):
    """What the image side reads of the photos, what it makes of that, and of nothing; and what a pipeline is given."""
    if kind == "faceid":
        faces = torch.nn.functional.normalize(torch.randn((len(photos), 1, FACE), generator=torch.Generator().manual_seed(seed)), dim=-1)

        def given(names, guided):
            mine = torch.stack([face for name, face in zip(photos, faces) if name in names])[None]
            return {"ip_adapter_image_embeds": [torch.cat([torch.zeros_like(mine), mine]) if guided else mine]}

        return {"face_embeds": faces[:, 0]}, faces, torch.zeros_like(faces), given
    pixels = pipe.feature_extractor(list(photos.values()), return_tensors="pt").pixel_values
    plain, blank = pipe.encode_image(list(photos.values()), "cpu", 1, output_hidden_states=kind != "base")
    return {"pixel_values": pixels}, plain, blank, lambda names, guided: {"ip_adapter_image": [[photos[name] for name in names]]}


def load(name, case, seed):
    """Draws the weights, writes them and loads them into the base model's pipeline."""
    folder = DATA / name
    folder.mkdir()
    pipe, draw, encoder = pipeline(case["model"]), drawer(seed + 1), None
    if case["kind"] != "faceid":
        encoder = "image_encoder"
        vision = randomize(CLIPVisionModelWithProjection(CLIPVisionConfig(**VISION)), seed)
        vision.save_pretrained(folder / encoder, safe_serialization=True)
    shape = {k: v for k, v in case.items() if k not in ("kind", "model")}
    state = projection(draw, case["kind"], pipe.unet.config.cross_attention_dim, **shape) | attention(draw, pipe.unet, case.get("rank", 0))
    save_file({k: v.contiguous() for k, v in state.items()}, folder / "adapter.safetensors")
    pipe.load_ip_adapter(str(folder), subfolder="", weight_name="adapter.safetensors", image_encoder_folder=encoder)
    return folder, pipe


def make(name, case, seed, photos):
    folder, pipe = load(name, case, seed)
    io, plain, blank, given = see(pipe, case["kind"], photos, seed + 3)
    (tokens,), (nothing,) = pipe.unet.encoder_hid_proj([plain[None]]), pipe.unet.encoder_hid_proj([blank[None]])
    io |= {"image_tokens": tokens[0], "blank_tokens": nothing[0, :1]}

    cfg, size = pipe.unet.config, pipe.unet.config.sample_size
    g = torch.Generator().manual_seed(seed + 2)
    sample, states = torch.randn((2, cfg.in_channels, size, size), generator=g), torch.randn((2, 5, cfg.cross_attention_dim), generator=g)
    added = {"image_embeds": [torch.stack([plain, plain.flip(0)])]}
    if "xl" in case["model"]:
        pooled = cfg.projection_class_embeddings_input_dim - 6 * cfg.addition_time_embed_dim
        added |= {"text_embeds": torch.randn((2, pooled), generator=g), "time_ids": torch.tensor([[64.0, 64, 0, 0, 64, 64], [32, 48, 8, 0, 32, 32]])}
        io |= {"text_embeds": added["text_embeds"], "time_ids": added["time_ids"]}
    pipe.set_ip_adapter_scale(0.7)
    io |= {"sample": sample, "timestep": torch.tensor([981.0, 41.0]), "encoder_hidden_states": states}
    io["noise_pred"] = pipe.unet(sample, io["timestep"], states, added_cond_kwargs=added).sample

    cases = requests(case["model"], 20 + seed)
    for request, settings in cases.items():
        io[f"latents_{request}"], image = draw_picture(pipe, given, settings)
        if request == "one":
            io["image_one"] = image.half()
        print(name, request, f"latents std {io[f'latents_{request}'].std():.2f}, picture std {image.std():.3f}")
    metadata = {"cases": json.dumps(dict(model=case["model"], scale=0.7, rank=case.get("rank", 0), requests=cases))}
    save_file({k: v.contiguous().clone() for k, v in io.items()}, folder / "io.safetensors", metadata=metadata)


def main():
    torch.set_num_threads(1)
    shutil.rmtree(DATA, ignore_errors=True)
    DATA.mkdir(parents=True)
    given = photos()
    resized(given)
    with torch.no_grad():
        for i, (name, case) in enumerate(CASES.items()):
            make(name, case, 3000 + 10 * i, given)
    for path in DATA.rglob("*.*"):
        path.chmod(0o644)


if __name__ == "__main__":
    main()
