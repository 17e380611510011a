"""Golden LoRA and textual-inversion files, and what diffusers makes of them on the tiny folder of pipeline.py.

    pip install torch==2.7.1 diffusers==0.42.1 transformers==5.23.0 peft==0.21.2 safetensors numpy
    python scripts/golden/exchange.py                    # rewrites encoder/exchange/testdata/
    python scripts/golden/exchange.py check bin/server   # exports each file in each format, and compares in diffusers

See README.md beside this file.
"""

import json
import subprocess
import sys
import tempfile
import types
from pathlib import Path

import torch
from diffusers import StableDiffusionPipeline, StableDiffusionXLPipeline, UNet2DConditionModel
from diffusers.loaders.lora_conversion_utils import _convert_non_diffusers_lora_to_diffusers, _maybe_map_sgm_blocks_to_diffusers
from models import MODELS
from safetensors.torch import load_file, save_file

FOLDER = MODELS / "pipeline" / "testdata" / "tiny-sd"
DATA = MODELS.parent / "encoder" / "exchange" / "testdata"
ATTENTION = ("to_q", "to_k", "to_v", "to_out.0")
REST = ("ff.net.0.proj", "ff.net.2", "proj_in", "proj_out")
TEXT = ("q_proj", "k_proj", "v_proj", "out_proj", "fc1", "fc2")
PROMPT = "a photo of a cat"


def pipeline():
    pipe = StableDiffusionPipeline.from_pretrained(FOLDER, safety_checker=None)
    pipe.set_progress_bar_config(disable=True)
    return pipe


def layers(module, ends, prefix=""):
    """Path and weight shape of the layers whose path ends with one of ends."""
    for name, m in module.named_modules():
        if name.endswith(ends):
            yield prefix + name, tuple(m.weight.shape)


def factors(shape, rank, generator):
    """down [rank, in] and up [out, rank]; of a 1×1 convolution with two more axes of 1."""
    out, width = shape[:2]
    down = torch.randn(rank, width, generator=generator) / width**0.5
    up = torch.randn(out, rank, generator=generator) * 0.5 / rank**0.5
    ones = (1,) * (len(shape) - 2)
    return down.reshape(*down.shape, *ones), up.reshape(*up.shape, *ones)


def targets(pipe, ends=ATTENTION + REST):
    # transformers 5 names the text modules without "text_model.", which every published file has
    yield from (("unet", path, shape) for path, shape in layers(pipe.unet, ends))
    if ends != ATTENTION:
        text = getattr(pipe.text_encoder, "text_model", pipe.text_encoder)
        yield from (("text_encoder", path, shape) for path, shape in layers(text, TEXT, "text_model."))


def kohya(pipe, g, alpha=lambda i, rank: 3.0):
    tensors = {}
    for i, (part, path, shape) in enumerate(targets(pipe)):
        rank = 1 + i % 5
        name = {"unet": "lora_unet_", "text_encoder": "lora_te_"}[part] + path.replace(".", "_")
        tensors[f"{name}.lora_down.weight"], tensors[f"{name}.lora_up.weight"] = factors(shape, rank, g)
        tensors[f"{name}.alpha"] = torch.tensor(alpha(i, rank))
    return tensors, {"ss_network_module": "networks.lora"}


def alphas(pipe, g):
    """As resized files are: each layer has an alpha of its own. Half of them are in the form of 1×1 convolutions."""
    tensors, meta = kohya(pipe, g, lambda i, rank: [1.0, 3.0, float(rank)][i % 3])
    halves = [k for k, v in tensors.items() if v.dim() == 2]
    return tensors | {k: tensors[k][:, :, None, None] for k in halves[: len(halves) // 2]}, meta


def folded(pipe, tensors):
    """The same numbers as diffusers reads them right: its loader (0.42) mixes up the alphas of kohya's files where layers differ in them."""
    plain = {}
    for part, path, shape in targets(pipe):
        name = {"unet": "lora_unet_", "text_encoder": "lora_te_"}[part] + path.replace(".", "_")
        down, up, alpha = (tensors[f"{name}.{end}"] for end in ("lora_down.weight", "lora_up.weight", "alpha"))
        ones = shape[2:]
        plain[f"{part}.{path}.lora_A.weight"] = down.reshape(*down.shape[:2], *ones)
        plain[f"{part}.{path}.lora_B.weight"] = (up * alpha / down.shape[0]).reshape(*up.shape[:2], *ones)
    return plain


def peft(pipe, g):
    tensors = {}
    for part, path, shape in targets(pipe):
        down, up = factors(shape, 4, g)
        tensors[f"{part}.{path}.lora_A.weight"], tensors[f"{part}.{path}.lora_B.weight"] = down, up
    own = "down_blocks.0.attentions.0.transformer_blocks.0.attn1.to_q"
    settings = {}
    for part, alpha in (("unet", 6), ("text_encoder", 2)):
        settings |= {f"{part}.r": 4, f"{part}.lora_alpha": alpha, f"{part}.target_modules": list(ATTENTION + REST + TEXT)}
        settings |= {f"{part}.alpha_pattern": {own: 12} if part == "unet" else {}, f"{part}.rank_pattern": {}}
    return tensors, {"lora_adapter_metadata": json.dumps(settings)}


def trainer(pipe, g):
    """As diffusers' own training scripts wrote it; ranks differ, and each layer's alpha is its rank."""
    tensors = {}
    for i, (part, path, shape) in enumerate(targets(pipe)):
        down, up = factors(shape, 2 + i % 3, g)
        suffix = "lora" if part == "unet" else "lora_linear_layer"
        tensors[f"{part}.{path}.{suffix}.down.weight"], tensors[f"{part}.{path}.{suffix}.up.weight"] = down, up
    return tensors, {}


def processor(pipe, g):
    """Names of the attention processors of diffusers before 0.22."""
    tensors = {}
    for part, path, shape in targets(pipe, ATTENTION):
        down, up = factors(shape, 3, g)
        attention, layer = path.removesuffix(".0").rsplit(".", 1)
        name = f"{part}.{attention}.processor.{layer}_lora"
        tensors[f"{name}.down.weight"], tensors[f"{name}.up.weight"] = down, up
    return tensors, {}


KINDS = {"kohya": kohya, "alphas": alphas, "peft": peft, "trainer": trainer, "processor": processor}


def inputs(pipe):
    g = torch.Generator().manual_seed(5)
    return dict(
        sample=torch.randn(2, 4, 8, 8, generator=g),
        timestep=torch.tensor([900.0, 7.0]),
        encoder_hidden_states=torch.randn(2, 16, 16, generator=g),
        input_ids=pipe.tokenizer(PROMPT, padding="max_length", return_tensors="pt").input_ids,
    )


def outputs(pipe, io):
    with torch.no_grad():
        noise = pipe.unet(io["sample"], io["timestep"], io["encoder_hidden_states"]).sample
        return noise, pipe.text_encoder(io["input_ids"]).last_hidden_state


def loaded(source, io):
    """source is a file or its tensors."""
    pipe = pipeline()
    if isinstance(source, Path):
        pipe.load_lora_weights(source.parent, weight_name=source.name)
    else:
        pipe.load_lora_weights(source)
    return outputs(pipe, io)


def lora(io, expected):
    for kind, make in KINDS.items():
        for seed, letter in enumerate("ab"):
            tensors, meta = make(pipeline(), torch.Generator().manual_seed(100 + seed))
            path = DATA / f"{kind}_{letter}.safetensors"
            save_file(tensors, path, metadata={"format": "pt"} if not meta else meta)
            noise, states = loaded(folded(pipeline(), tensors) if kind == "alphas" else path, io)
            expected[f"noise_pred_{kind}_{letter}"], expected[f"last_hidden_state_{kind}_{letter}"] = noise, states
            change = (noise - expected["noise_pred"]).std() / expected["noise_pred"].std()
            text = (states - expected["last_hidden_state"]).std() / expected["last_hidden_state"].std()
            print(path.name, f"changes noise_pred by {change:.2f}, last_hidden_state by {text:.2f} of their deviations")


def pictures(expected):
    """Final latents of 5 steps with a LoRA of both networks, without guidance and with it."""
    pipe = pipeline()
    pipe.load_lora_weights(DATA, weight_name="kohya_a.safetensors")
    for name, scale in (("latents", 1.0), ("latents_guided", 7.5)):
        g = torch.Generator().manual_seed(3)
        out = pipe(PROMPT, num_inference_steps=5, guidance_scale=scale, generator=g, height=64, width=64, output_type="latent")
        expected[f"{name}_kohya_a"] = out.images


def sdxl_names():
    """Names of some of SDXL's layers in kohya's files, and the paths diffusers finds for them."""
    layers = [("input_blocks_4_1", 2), ("input_blocks_5_1", 2), ("input_blocks_7_1", 10), ("input_blocks_8_1", 10), ("middle_block_1", 10)]
    layers += [(f"output_blocks_{i}_1", 10 if i < 3 else 2) for i in range(6)]
    names = [f"{block}_{end}" for block, _ in layers for end in ("proj_in", "proj_out")]
    names += [f"{block}_transformer_blocks_{depth - 1}_{end}" for block, depth in layers for end in ("attn1_to_q", "attn2_to_out_0", "ff_net_0_proj")]
    names += ["middle_block_0_emb_layers_1", "middle_block_2_emb_layers_1", "input_blocks_1_0_emb_layers_1", "input_blocks_4_0_skip_connection"]
    names += ["output_blocks_8_0_emb_layers_1", "output_blocks_8_0_skip_connection"]
    keys = {f"lora_unet_{name}.{half}.weight": name for name in names for half in ("lora_down", "lora_up")}
    config = types.SimpleNamespace(layers_per_block=2)
    found = {}
    for name in names:
        pair = {k: torch.zeros(1, 1) for k, n in keys.items() if n == name}
        mapped, _ = _convert_non_diffusers_lora_to_diffusers(_maybe_map_sgm_blocks_to_diffusers(pair, config))
        (down,) = (k for k in mapped if ".down." in k or "lora_A" in k)
        path = down.removeprefix("unet.").replace(".processor.", ".").replace("_lora.down.weight", "")
        path = path.removesuffix(".lora.down.weight").removesuffix(".lora_A.weight")
        found["lora_unet_" + name] = path + ".0" if path.endswith("to_out") else path
    (DATA / "sdxl_names.json").write_text(json.dumps(found, indent=1) + "\n")


def sdxl_lora(pipe, g, form):
    """A LoRA of the UNet and both text encoders, in kohya's names or in PEFT's."""
    tensors, i = {}, 0
    for part, kohya_part, module in (("unet", "lora_unet_", pipe.unet), ("text_encoder", "lora_te1_", pipe.text_encoder), ("text_encoder_2", "lora_te2_", pipe.text_encoder_2)):
        text = part != "unet"
        if text:
            module = getattr(module, "text_model", module)
        for path, shape in layers(module, TEXT if text else ATTENTION + REST, "text_model." if text else ""):
            down, up = factors(shape, 1 + i % 3 if form == "kohya" else 2, g)
            i += 1
            if form == "kohya":
                name = kohya_part + path.replace(".", "_")
                tensors |= {f"{name}.lora_down.weight": down, f"{name}.lora_up.weight": up, f"{name}.alpha": torch.tensor(2.0)}
            else:
                tensors |= {f"{part}.{path}.lora_A.weight": down, f"{part}.{path}.lora_B.weight": up}
    return tensors


def sdxl_pipeline(folder):
    pipe = StableDiffusionXLPipeline.from_pretrained(folder).to(torch.float32)
    pipe.set_progress_bar_config(disable=True)
    return pipe


def sdxl_latents(folder, source, scale):
    pipe = sdxl_pipeline(folder)
    if source is not None:
        pipe.load_lora_weights(source.parent, weight_name=source.name)
    g = torch.Generator().manual_seed(3)
    return pipe(PROMPT, num_inference_steps=5, guidance_scale=scale, generator=g, height=64, width=64, output_type="latent").images


def sdxl():
    """LoRA for the folders of families.py, and latents of 5 steps with them, without guidance and with it."""
    (DATA / "sdxl").mkdir(exist_ok=True)
    expected = {}
    for form, draw in (("kohya", "a"), ("peft", "b"), ("kohya", "b"), ("peft", "a")):
        folder, path = MODELS / "pipeline" / "testdata" / f"tiny-sdxl_{draw}", DATA / "sdxl" / f"{form}_{draw}.safetensors"
        pipe = sdxl_pipeline(folder)
        save_file(sdxl_lora(pipe, torch.Generator().manual_seed(ord(draw) + len(form)), form), path, metadata={"format": "pt"})
        for name, scale in (("latents", 1.0), ("latents_guided", 5.0)):
            expected[f"{name}_{form}_{draw}"] = sdxl_latents(folder, path, scale)
        plain = sdxl_latents(folder, None, 1.0)
        change = (expected[f"latents_{form}_{draw}"] - plain).abs().max().item()
        print(path.name, f"changes the latents by {change:.2f}")
    save_file({k: v.contiguous() for k, v in expected.items()}, DATA / "sdxl" / "expected.safetensors")


def sdxl_word_latents(folder, path, scale):
    pipe = sdxl_pipeline(folder)
    # Where the configuration has the old eos_token_id 2, transformers pools at the highest id: the new word's in place of the end's.
    getattr(pipe.text_encoder_2, "text_model", pipe.text_encoder_2).eos_token_id = pipe.tokenizer_2.eos_token_id
    word = load_file(path)
    pipe.load_textual_inversion(word["clip_l"], token="<it>", text_encoder=pipe.text_encoder, tokenizer=pipe.tokenizer)
    pipe.load_textual_inversion(word["clip_g"], token="<it>", text_encoder=pipe.text_encoder_2, tokenizer=pipe.tokenizer_2)
    g = torch.Generator().manual_seed(3)
    prompt = "a photo of <it> hat"
    return pipe(prompt, num_inference_steps=5, guidance_scale=scale, generator=g, height=64, width=64, output_type="latent").images


def sdxl_words():
    """Words for both text encoders, of one vector and of two, and latents with them."""
    expected = {}
    for count, draw in ((1, "a"), (2, "b")):
        folder, path = MODELS / "pipeline" / "testdata" / f"tiny-sdxl_{draw}", DATA / "sdxl" / f"word_{draw}.safetensors"
        pipe, g = sdxl_pipeline(folder), torch.Generator().manual_seed(count)
        widths = pipe.text_encoder.config.hidden_size, pipe.text_encoder_2.config.hidden_size
        save_file({key: torch.randn(count, width, generator=g) for key, width in zip(("clip_l", "clip_g"), widths)}, path, metadata={"format": "pt"})
        for scale in 1, 5:
            expected[f"latents_{scale}_word_{draw}"] = sdxl_word_latents(folder, path, float(scale))
    save_file({k: v.contiguous() for k, v in expected.items()}, DATA / "sdxl" / "words.safetensors")


def check_sdxl(export, compare):
    expected = load_file(DATA / "sdxl" / "expected.safetensors")
    words = load_file(DATA / "sdxl" / "words.safetensors")
    for path in sorted((DATA / "sdxl").glob("*_[ab].safetensors")):
        folder = MODELS / "pipeline" / "testdata" / f"tiny-sdxl_{path.stem[-1]}"
        if path.stem.startswith("word"):
            latents = sdxl_word_latents(folder, export(path, "embedding", folder), 1.0)
            compare("embedding", latents, words[f"latents_1_{path.stem}"])
            continue
        for form in ("kohya", "diffusers"):
            out = export(path, form, folder)
            compare(form, sdxl_latents(folder, out, 1.0), expected[f"latents_{path.stem}"])


def words(expected):
    g = torch.Generator().manual_seed(9)
    one, two = torch.randn(16, generator=g), torch.randn(2, 16, generator=g)
    save_file({"<Cat-Toy>": one}, DATA / "word_token.safetensors", metadata={"format": "pt"})
    save_file({"emb_params": two}, DATA / "word_params.safetensors", metadata={"format": "pt"})
    for name, vectors in (("word_token", one), ("word_params", two)):
        pipe = pipeline()
        pipe.load_textual_inversion({"<it>": vectors})
        ids = pipe.tokenizer(pipe.maybe_convert_prompt("a photo of <it> hat", pipe.tokenizer), padding="max_length", return_tensors="pt")
        with torch.no_grad():
            expected[f"last_hidden_state_{name}"] = pipe.text_encoder(ids.input_ids).last_hidden_state


def make():
    DATA.mkdir(parents=True, exist_ok=True)
    pipe = pipeline()
    io = inputs(pipe)
    expected = dict(io)
    expected["noise_pred"], expected["last_hidden_state"] = outputs(pipe, io)
    lora(io, expected)
    pictures(expected)
    words(expected)
    sdxl_names()
    sdxl()
    sdxl_words()
    save_file({k: v.contiguous() for k, v in expected.items()}, DATA / "expected.safetensors")
    for path in DATA.glob("**/*.safetensors"):
        path.chmod(0o644)


def check(server):
    """Exports every file in every format; what diffusers makes of the export must be what it made of the file."""
    expected = load_file(DATA / "expected.safetensors")
    worst = {}
    with tempfile.TemporaryDirectory() as tmp:
        out = Path(tmp) / "out.safetensors"

        def export(path, form, folder=FOLDER):
            subprocess.run([server, "export", path, "--format", form, "-o", out, "--model", folder], check=True)
            return out

        def compare(form, got, want):
            want = expected[want] if isinstance(want, str) else want
            worst[form] = max(worst.get(form, 0), ((got - want).abs().max() / want.std()).item())

        check_sdxl(export, compare)

        for path in sorted(DATA.glob("*_[ab].safetensors")):
            for form in ("kohya", "diffusers"):
                export(path, form)
                noise, states = loaded(out, expected)
                compare(form, noise, f"noise_pred_{path.stem}")
                compare(form, states, f"last_hidden_state_{path.stem}")
            if path.stem.startswith("processor"):  # merged weights are the UNet's alone
                export(path, "merged")
                unet = UNet2DConditionModel.from_config(UNet2DConditionModel.load_config(FOLDER / "unet"))
                unet.load_state_dict(load_file(out))
                with torch.no_grad():
                    noise = unet.eval()(expected["sample"], expected["timestep"], expected["encoder_hidden_states"]).sample
                compare("merged", noise, f"noise_pred_{path.stem}")
        for path in sorted(DATA.glob("word_*.safetensors")):
            export(path, "embedding")
            (vectors,), (original,) = load_file(out).values(), load_file(path).values()
            worst["embedding"] = max(worst.get("embedding", 0), (vectors - original.reshape(vectors.shape)).abs().max().item())
            pipeline().load_textual_inversion(out)
    for form, d in worst.items():
        print(f"{form}: {d:.1e} from the original file")
    if max(worst.values()) > 1e-4 or len(worst) != 4:
        sys.exit("an exported file does not do what the original does")


if __name__ == "__main__":
    torch.set_num_threads(1)
    if sys.argv[1:2] == ["check"]:
        check(sys.argv[2])
    else:
        make()
