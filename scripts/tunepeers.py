"""The other side of `scripts/bench tune`: tuning steps in PyTorch with diffusers and peft, on the checkpoint of `peers.py make`.

    tunepeers.py DIR METHOD THREADS '{"side": 256, "rows": 1, "rank": 8, "targets": ["to_q"], "vectors": 1, "low": false}'

It makes a step for each line of its input and answers {"seconds": …, "peak_mb": …}. A step is what diffusers' training scripts do in one: noise is
predicted for random latents, the gradient of the squared error clipped to norm 1, and AdamW moves what is trained. METHOD says what that is: lora
(peft, text states computed once), textual-inversion (a word's vectors, through the text encoder) or dreambooth (the whole UNet; the text encoder
runs without gradients). "low": gradient checkpointing, and Adafactor for dreambooth. All of it is float32.
"""
import json
import os
import resource
import sys
import time

os.environ["ONEDNN_DEFAULT_FPMATH_MODE"] = "STRICT"
os.environ["HF_HUB_OFFLINE"] = "1"

import torch
from diffusers import UNet2DConditionModel
from transformers import CLIPTextModel
from transformers.optimization import Adafactor

torch.set_float32_matmul_precision("highest")


class Tuning:
    def __init__(self, folder, method, side, rows, rank, targets, vectors, low):
        torch.manual_seed(0)
        self.unet = UNet2DConditionModel.from_pretrained(folder, subfolder="unet", dtype=torch.float32).train()
        self.text = CLIPTextModel.from_pretrained(folder, subfolder="text_encoder", dtype=torch.float32)
        self.unet.requires_grad_(method == "dreambooth")
        self.text.requires_grad_(False)
        if low:
            self.unet.enable_gradient_checkpointing()
        width, length = self.text.config.hidden_size, self.text.config.max_position_embeddings
        self.latents = rows, self.unet.config.in_channels, side // 8, side // 8
        self.ids = torch.randint(0, self.text.config.vocab_size, (rows, length))
        self.method, self.states = method, None
        if method == "lora":
            from peft import LoraConfig

            self.unet.add_adapter(LoraConfig(r=rank, lora_alpha=rank, target_modules=targets))
            with torch.no_grad():
                self.states = self.text(self.ids).last_hidden_state
        if method == "textual-inversion":
            self.word = torch.zeros(vectors, width, requires_grad=True)
            slots = torch.zeros(rows, length, vectors)
            slots[:, 5 : 5 + vectors] = torch.eye(vectors)
            self.table().register_forward_hook(lambda module, inputs, out: out + slots @ self.word)
            self.trained = [self.word]
        else:
            self.trained = [p for p in self.unet.parameters() if p.requires_grad]
        if low and method == "dreambooth":
            self.optimizer = Adafactor(self.trained, lr=1e-6, scale_parameter=False, relative_step=False, warmup_init=False, weight_decay=0.01)
        else:
            self.optimizer = torch.optim.AdamW(self.trained, lr=1e-6, weight_decay=0.01, fused=True)

    def table(self):
        return self.text.get_input_embeddings()

    def encoded(self):
        if self.states is not None:
            return self.states
        with torch.set_grad_enabled(self.method == "textual-inversion"):
            return self.text(self.ids).last_hidden_state

    def step(self):
        sample, target = torch.randn(self.latents), torch.randn(self.latents)
        timestep = torch.randint(0, 1000, (self.latents[0],))
        pred = self.unet(sample, timestep, self.encoded()).sample
        ((pred - target).square().mean((1, 2, 3))).mean().backward()
        torch.nn.utils.clip_grad_norm_(self.trained, 1.0)
        self.optimizer.step()
        self.optimizer.zero_grad()


def main():
    folder, method, threads, settings = sys.argv[1:]
    torch.set_num_threads(int(threads))
    out = os.fdopen(os.dup(1), "w")  # answers; what libraries print goes to the error output
    os.dup2(2, 1)
    tuning = Tuning(folder, method, **json.loads(settings))
    for _ in sys.stdin:
        start = time.perf_counter()
        tuning.step()
        print(json.dumps({"seconds": time.perf_counter() - start, "peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024}), file=out, flush=True)


main()
