"""The other side of `scripts/bench peers`: diffusers on a checkpoint of random weights in Stable Diffusion 1.5's sizes.

    peers.py make DIR [--tiny]   writes the checkpoint, two LoRA files and, as a plain torch.onnx export, unet.onnx; once
    peers.py serve DIR THREADS   answers requests, a line of JSON each, until its input ends

A request names what to do, {"do": "unet", "size": 512, "batch": 2}; the answer is {"seconds": …} of that alone, and "file" where it has
an output to compare. All of it is float32: what AMX or other hardware could do in fewer bits is switched off.
"""
import argparse
import json
import os
import pathlib
import resource
import shutil
import sys
import time

os.environ["ONEDNN_DEFAULT_FPMATH_MODE"] = "STRICT"
os.environ["HF_HUB_OFFLINE"] = "1"

import torch
from diffusers import AutoencoderKL, DDIMScheduler, StableDiffusionPipeline, UNet2DConditionModel
from safetensors.torch import save_file
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

torch.set_float32_matmul_precision("highest")
TOKENIZER = pathlib.Path(__file__).parent.parent / "models" / "demo" / "tokenizer"
PROMPT = "an illustration of a face wearing a crown"
RANK, LORAS = 4, ("first", "second")


def sizes(tiny):
    """Stable Diffusion 1.5's published configurations, or the same at a tenth of the width."""
    unet = dict(sample_size=64, block_out_channels=(320, 640, 1280, 1280), cross_attention_dim=768, attention_head_dim=8)
    text = dict(hidden_size=768, intermediate_size=3072, num_attention_heads=12, num_hidden_layers=12, vocab_size=49408, projection_dim=768)
    vae = dict(block_out_channels=(128, 256, 512, 512), layers_per_block=2, sample_size=512)
    if tiny:
        unet |= dict(block_out_channels=(32, 64, 128, 128), cross_attention_dim=64)
        text |= dict(hidden_size=64, intermediate_size=256, num_attention_heads=4, num_hidden_layers=2, vocab_size=4000)
        vae |= dict(block_out_channels=(32, 32, 64, 64))
    kinds = "DownEncoderBlock2D", "UpDecoderBlock2D"
    vae |= {key: (kind,) * 4 for key, kind in zip(("down_block_types", "up_block_types"), kinds)}
    return unet, text | dict(max_position_embeddings=77, hidden_act="quick_gelu"), vae


def make(folder, tiny):
    torch.manual_seed(0)
    unet, text, vae = sizes(tiny)
    tokenizer = CLIPTokenizer.from_pretrained(TOKENIZER, model_max_length=77)
    text |= dict(eos_token_id=tokenizer.eos_token_id, bos_token_id=tokenizer.bos_token_id)
    unet = UNet2DConditionModel(**unet)
    StableDiffusionPipeline(
        unet=unet, vae=AutoencoderKL(**vae), text_encoder=CLIPTextModel(CLIPTextConfig(**text)), tokenizer=tokenizer,
        scheduler=DDIMScheduler(beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", clip_sample=False, set_alpha_to_one=False, steps_offset=1),
        safety_checker=None, feature_extractor=None, requires_safety_checker=False,
    ).save_pretrained(folder)
    for name in "vocab.json", "merges.txt":  # which published checkpoints have, and transformers 5 no longer writes
        shutil.copy(TOKENIZER / name, folder / "tokenizer")
    for name in LORAS:
        save_file(lora(unet), folder / f"{name}.safetensors")
    export(unet.eval(), folder)
    (folder / "made").touch()


def lora(unet):
    """A LoRA on every attention projection, in diffusers' names."""
    weights = {}
    for path, module in unet.named_modules():
        if isinstance(module, torch.nn.Linear) and ".attn" in path:
            weights[f"unet.{path}.lora_A.weight"] = torch.randn(RANK, module.in_features) / module.in_features**0.5
            weights[f"unet.{path}.lora_B.weight"] = 0.01 * torch.randn(module.out_features, RANK)
    return weights


def export(unet, folder):
    """unet.onnx with its weights in unet.data, as torch.onnx writes it."""
    import onnx

    class Plain(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.unet = unet

        def forward(self, sample, timestep, encoder_hidden_states):
            return self.unet(sample, timestep, encoder_hidden_states, return_dict=False)[0]

    inputs = ["sample", "timestep", "encoder_hidden_states"]
    axes = {"sample": {0: "batch", 2: "height", 3: "width"}, "timestep": {0: "batch"}, "encoder_hidden_states": {0: "batch", 1: "length"}}
    example = torch.randn(2, 4, 32, 32), torch.ones(2), torch.randn(2, 77, unet.config.cross_attention_dim)
    parts = folder / "export"
    parts.mkdir(exist_ok=True)
    with torch.inference_mode():
        torch.onnx.export(Plain(), example, str(parts / "unet.onnx"), opset_version=17, input_names=inputs, output_names=["noise_pred"],
                          dynamic_axes=axes, dynamo=False)
    model = onnx.load(parts / "unet.onnx")
    for file in parts.iterdir():
        file.unlink()
    parts.rmdir()
    (folder / "unet.data").unlink(missing_ok=True)
    onnx.save(model, folder / "unet.onnx", save_as_external_data=True, location="unet.data")


class Peer:
    def __init__(self, folder):
        self.folder = folder

    def load(self):
        self.pipe = StableDiffusionPipeline.from_pretrained(self.folder, dtype=torch.float32, local_files_only=True)
        self.pipe.set_progress_bar_config(disable=True)

    def prepare(self):
        """Loads the pipeline and draws what both sides read."""
        self.load()
        unet = self.pipe.unet.config
        torch.manual_seed(1)
        self.io = {"timestep": torch.full((2,), 500.0), "encoder_hidden_states": torch.randn(2, 77, unet.cross_attention_dim)}
        self.io["input_ids"] = torch.randint(0, self.pipe.text_encoder.config.vocab_size, (1, 77))
        for size in 256, 512:
            self.io[f"sample{size}"] = torch.randn(2, unet.in_channels, size // 8, size // 8)
        return self.write("inputs", self.io)

    def write(self, name, tensors):
        path = self.folder / f"{name}.io.safetensors"
        save_file({key: t.contiguous() for key, t in tensors.items()}, path)
        return str(path)

    def unet(self, size, batch):
        io = self.io
        return {"noise_pred": self.pipe.unet(io[f"sample{size}"][:batch], io["timestep"][:batch], io["encoder_hidden_states"][:batch]).sample}

    def text(self):
        return {"last_hidden_state": self.pipe.text_encoder(self.io["input_ids"]).last_hidden_state}

    def vae(self, size):
        return {"image": self.pipe.vae.decode(self.io[f"sample{size}"][:1]).sample}

    def picture(self, size, steps):
        """Made whole, for the memory it takes."""
        self.pipe(PROMPT, height=size, width=size, num_inference_steps=steps, guidance_scale=7.5)

    def lora(self, file):
        """Another concept from its file, in place of the one before."""
        before = self.pipe.get_list_adapters().get("unet", [])
        name = f"concept{time.monotonic_ns()}"
        self.pipe.load_lora_weights(self.folder / file, adapter_name=name)
        self.pipe.set_adapters(name)
        if before:
            self.pipe.delete_adapters(before)

    def adapter(self, file):
        """A concept that is loaded already, in place of another one; the time of the exchange alone."""
        loaded = self.pipe.get_list_adapters().get("unet", [])
        for other in LORAS:
            if other not in loaded:
                self.pipe.load_lora_weights(self.folder / f"{other}.safetensors", adapter_name=other)
        start = time.perf_counter()
        self.pipe.set_adapters(pathlib.Path(file).stem)
        return time.perf_counter() - start


def serve(folder, threads):
    torch.set_num_threads(threads)
    peer = Peer(folder)
    out = os.fdopen(os.dup(1), "w")  # answers; what libraries print goes to the error output
    os.dup2(2, 1)
    for line in sys.stdin:
        request = json.loads(line)
        do, keep = request.pop("do"), request.pop("keep", False)
        with torch.inference_mode():
            start = time.perf_counter()
            result = getattr(peer, do)(**request)
            answer = {"seconds": time.perf_counter() - start}
        if isinstance(result, str):
            answer["file"] = result
        elif isinstance(result, float):
            answer["seconds"] = result
        elif result and keep:
            answer["file"] = peer.write(do, result)
        answer["peak_mb"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        print(json.dumps(answer), file=out, flush=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["make", "serve"])
    parser.add_argument("folder", type=pathlib.Path)
    parser.add_argument("threads", type=int, nargs="?", default=os.cpu_count())
    parser.add_argument("--tiny", action="store_true")
    args = parser.parse_args()
    if args.what == "make":
        args.folder.mkdir(parents=True, exist_ok=True)
        make(args.folder, args.tiny)
    else:
        serve(args.folder, args.threads)
