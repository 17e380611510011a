"""Golden files for single-file checkpoints: the names of Stable Diffusion 1, 2 and XL at small widths, and what diffusers converts them to.

    python scripts/golden/ldm.py

Rewrites models/checkpoint/testdata/ldm_{sd1,sd2,sdxl}.json.gz. See README.md beside this file.
"""

import gzip
import hashlib
import json
import pathlib
import re
import types
import zlib

import numpy as np
import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from diffusers.loaders import single_file_utils as single
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection

OUT = pathlib.Path(__file__).resolve().parents[2] / "models" / "checkpoint" / "testdata"
UNET, VAE = "model.diffusion_model.", "first_stage_model."

CROSS, PLAIN = "CrossAttn{}Block2D", "{}Block2D"


def levels(*cross):
    down = [(CROSS if c else PLAIN).format("Down") for c in cross]
    return dict(down_block_types=down, up_block_types=[(CROSS if c else PLAIN).format("Up") for c in reversed(cross)])


def text(layers, act, **more):
    return dict(hidden_size=64, intermediate_size=128, num_hidden_layers=layers, num_attention_heads=1, hidden_act=act,
                vocab_size=40, max_position_embeddings=77, eos_token_id=2, **more)


CASES = {
    "sd1": dict(
        type="v1",
        unet=dict(levels(1, 1, 1, 0), sample_size=64, in_channels=4, out_channels=4, block_out_channels=[32, 64, 96, 96], layers_per_block=2,
                  cross_attention_dim=64, attention_head_dim=[8] * 4, use_linear_projection=False, transformer_layers_per_block=[1] * 4),
        vae=dict(scaling_factor=0.18215, sample_size=512),
        texts=[("cond_stage_model.transformer.", False, text(12, "quick_gelu", projection_dim=64))],
        prediction="epsilon",
    ),
    "sd2": dict(
        type="v2",
        unet=dict(levels(1, 1, 1, 0), sample_size=96, in_channels=4, out_channels=4, block_out_channels=[64, 64, 128, 128], layers_per_block=2,
                  cross_attention_dim=1024, attention_head_dim=[1, 1, 2, 2], use_linear_projection=True, transformer_layers_per_block=[1] * 4),
        vae=dict(scaling_factor=0.18215, sample_size=768),
        texts=[("cond_stage_model.model.", False, text(23, "gelu", projection_dim=64))],
        prediction="v_prediction",
    ),
    "sdxl": dict(
        type="xl_base",
        unet=dict(levels(0, 1, 1), sample_size=128, in_channels=4, out_channels=4, block_out_channels=[32, 64, 64], layers_per_block=2,
                  cross_attention_dim=128, attention_head_dim=[1, 1, 1], use_linear_projection=True, transformer_layers_per_block=[1, 2, 10],
                  addition_embed_type="text_time", addition_time_embed_dim=256, projection_class_embeddings_input_dim=6 * 256 + 48),
        vae=dict(scaling_factor=0.13025, sample_size=1024),
        texts=[("conditioner.embedders.0.transformer.", False, text(12, "quick_gelu", projection_dim=64)),
               ("conditioner.embedders.1.model.", True, text(12, "gelu", projection_dim=48))],
        prediction="epsilon",
    ),
}


def to_ldm_unet(name, config):
    """The LDM name of a UNet's weight."""
    per, last = config["layers_per_block"] + 1, len(config["block_out_channels"]) - 1
    for new, old in {**single.DIFFUSERS_TO_LDM_MAPPING["unet"]["layers"], **single.DIFFUSERS_TO_LDM_MAPPING["unet"]["addition_embed_type"]}.items():
        if name == new:
            return old
    resnet = lambda s: (s.replace("norm1", "in_layers.0").replace("conv1", "in_layers.2").replace("norm2", "out_layers.0")
                        .replace("conv2", "out_layers.3").replace("time_emb_proj", "emb_layers.1").replace("conv_shortcut", "skip_connection"))
    if m := re.match(r"mid_block\.(resnets|attentions)\.(\d)\.(.*)", name):
        return f"middle_block.{2 * int(m[2])}.{resnet(m[3])}" if m[1] == "resnets" else f"middle_block.1.{m[3]}"
    side, block, kind, layer, rest = re.match(r"(down|up)_blocks\.(\d)\.(\w+)\.(\d)\.(.*)", name).groups()
    block, layer = int(block), int(layer)
    at = f"input_blocks.{1 + block * per + layer}" if side == "down" else f"output_blocks.{block * per + layer}"
    if kind == "resnets":
        return f"{at}.0.{resnet(rest)}"
    if kind == "attentions":
        return f"{at}.1.{rest}"
    if kind == "downsamplers":
        return f"input_blocks.{(block + 1) * per}.0.op.{rest.removeprefix('conv.')}"
    crossed = config["up_block_types"][block].startswith("Cross")
    return f"output_blocks.{block * per + per - 1}.{2 if crossed else 1}.{rest}"


def to_ldm_vae(name, count):
    """The LDM name of a VAE's weight."""
    name = name.replace("conv_norm_out", "norm_out").replace("conv_shortcut", "nin_shortcut")
    name = re.sub(r"mid_block\.resnets\.(\d)", lambda m: f"mid.block_{int(m[1]) + 1}", name)
    for new, old in {"group_norm": "norm", "to_q": "q", "to_k": "k", "to_v": "v", "to_out.0": "proj_out"}.items():
        name = name.replace(f"mid_block.attentions.0.{new}.", f"mid.attn_1.{old}.")
    name = re.sub(r"down_blocks\.(\d)\.resnets", r"down.\1.block", name)
    name = re.sub(r"down_blocks\.(\d)\.downsamplers\.0", r"down.\1.downsample", name)
    name = re.sub(r"up_blocks\.(\d)\.resnets", lambda m: f"up.{count - 1 - int(m[1])}.block", name)
    return re.sub(r"up_blocks\.(\d)\.upsamplers\.0", lambda m: f"up.{count - 1 - int(m[1])}.upsample", name)


def open_clip(config, layers):
    """The shapes of an OpenCLIP text encoder."""
    d, f = config["hidden_size"], config["intermediate_size"]
    shapes = {"positional_embedding": [config["max_position_embeddings"], d], "token_embedding.weight": [config["vocab_size"], d],
              "ln_final.weight": [d], "ln_final.bias": [d], "text_projection": [d, config["projection_dim"]], "logit_scale": []}
    for i in range(layers):
        block = f"transformer.resblocks.{i}."
        for name, shape in {"ln_1": [d], "ln_2": [d], "attn.out_proj": [d, d], "mlp.c_fc": [f, d], "mlp.c_proj": [d, f]}.items():
            shapes |= {f"{block}{name}.weight": shape, f"{block}{name}.bias": shape[:1]}
        shapes |= {f"{block}attn.in_proj_weight": [3 * d, d], f"{block}attn.in_proj_bias": [3 * d]}
    return shapes


def pattern(name, shape):
    """Half-precision numbers that the name decides, all finite: the test makes the same."""
    count = int(np.prod(shape))
    x = np.uint32(zlib.crc32(name.encode())) + np.arange(count, dtype=np.uint32) * np.uint32(2654435761)
    bits = (x >> np.uint32(16)).astype(np.uint16) & np.uint16(0xBBFF)
    return torch.from_numpy(bits.view(np.float16).reshape(shape).copy())


def digest(tensors):
    return {k: [list(v.shape), hashlib.sha256(v.contiguous().numpy().tobytes()).hexdigest()[:16]] for k, v in tensors.items()}


def same(what, converted, model):
    want = {k if not what.startswith("text") or k.startswith("text_") else "text_model." + k: list(v.shape) for k, v in model.state_dict().items()}
    want = {k: v for k, v in want.items() if not k.endswith("position_ids")}
    got = {k: list(v.shape) for k, v in converted.items()}
    assert got == want, (what, sorted(set(got) ^ set(want))[:10], [k for k in got if k in want and got[k] != want[k]][:10])


def run(name, case):
    shapes, configs, components, models = {}, {}, {}, {}
    models["unet"] = UNet2DConditionModel(**case["unet"])
    configs["unet"] = case["unet"]
    vae = dict(case["vae"], block_out_channels=[32, 32, 64, 64], down_block_types=["DownEncoderBlock2D"] * 4, in_channels=3, out_channels=3,
               up_block_types=["UpDecoderBlock2D"] * 4, layers_per_block=2, latent_channels=4)
    models["vae"], configs["vae"] = AutoencoderKL(**vae), vae
    for k, v in models["unet"].state_dict().items():
        shapes[UNET + to_ldm_unet(k, case["unet"])] = list(v.shape)
    for k, v in models["vae"].state_dict().items():
        ldm = VAE + to_ldm_vae(k, 4)
        conv = [1, 1] if re.search(r"attn_1\.(q|k|v|proj_out)\.weight", ldm) else []
        shapes[ldm] = list(v.shape) + conv
    for i, (prefix, projects, config) in enumerate(case["texts"]):
        part = "text_encoder" if i == 0 else "text_encoder_2"
        models[part] = (CLIPTextModelWithProjection if projects else CLIPTextModel)(CLIPTextConfig(**config))
        configs[part] = dict(config, architectures=[type(models[part]).__name__])
        if prefix.endswith("model."):
            for k, v in open_clip(config, config["num_hidden_layers"] + (not projects)).items():
                shapes[prefix + k] = v
        else:
            for k, v in models[part].state_dict().items():
                shapes[prefix + (k if k.startswith("text_model.") else "text_model." + k)] = list(v.shape)
            shapes[prefix + "text_model.embeddings.position_ids"] = [1, 77]
    shapes["alphas_cumprod"] = [1000]
    checkpoint = lambda: {k: pattern(k, v) for k, v in shapes.items()}
    assert single.infer_diffusers_model_type(checkpoint()) == case["type"]
    converted = {"unet": single.convert_ldm_unet_checkpoint(checkpoint(), case["unet"]),
                 "vae": single.convert_ldm_vae_checkpoint(checkpoint(), vae)}
    for i, (prefix, projects, config) in enumerate(case["texts"]):
        part = "text_encoder" if i == 0 else "text_encoder_2"
        if prefix.endswith("model."):
            model = types.SimpleNamespace(config=types.SimpleNamespace(hidden_size=64))
            result = single.convert_open_clip_checkpoint(model, checkpoint(), prefix=prefix)
            result = {k: v for k, v in result.items() if projects or k != "text_projection.weight"}
        else:
            result = single.convert_ldm_clip_checkpoint(checkpoint())
        converted[part] = {k: v for k, v in result.items() if not k.endswith("position_ids")}
    for part, tensors in converted.items():
        same(part, tensors, models[part])
        components[part] = digest(tensors)
    golden = dict(ldm=shapes, configs=configs, components=components, prediction_type=case["prediction"])
    data = json.dumps(golden, sort_keys=True, separators=(",", ":")).encode()
    (OUT / f"ldm_{name}.json.gz").write_bytes(gzip.compress(data, mtime=0))
    print(name, len(shapes), "tensors", sum(int(np.prod(s)) for s in shapes.values()), "numbers")


if __name__ == "__main__":
    torch.set_num_threads(1)
    torch.manual_seed(0)
    OUT.mkdir(exist_ok=True)
    for key, value in CASES.items():
        run(key, value)
