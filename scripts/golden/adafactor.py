"""Five steps of transformers' Adafactor, without relative steps. Writes models/backend/torch/testdata/adafactor.json.

The loss of a step is mean(kernel · x) + mean(vector · y), so that its gradients are known. The kernel, of a convolution, is a matrix of its first
dimension and the others; the vector does not decay.
"""
import json
import pathlib

import torch
from transformers.optimization import Adafactor

out = pathlib.Path(__file__).resolve().parents[2] / "models/backend/torch/testdata/adafactor.json"
CLIP, DECAY = 0.4, 0.1


def main():
    g = torch.Generator().manual_seed(7)
    matrix, vector = (torch.randn(*dims, generator=g).requires_grad_() for dims in ((3, 20), (5,)))
    start = [matrix.flatten().tolist(), vector.tolist()]
    optimizer = Adafactor([{"params": [matrix], "weight_decay": DECAY}, {"params": [vector], "weight_decay": 0}], lr=1e-2, scale_parameter=False,
                          relative_step=False, warmup_init=False)
    steps = []
    for lr in (1e-2, 2e-2, 2e-2, 1e-2, 5e-3):
        x, y = torch.randn(3, 20, generator=g), torch.randn(5, generator=g) * 3 * len(steps) / 4
        optimizer.zero_grad()
        ((matrix * x).mean() + (vector * y).mean()).backward()
        norm = torch.nn.utils.clip_grad_norm_([matrix, vector], CLIP)
        for group in optimizer.param_groups:
            group["lr"] = lr
        optimizer.step()
        steps.append({"lr": lr, "x": x.flatten().tolist(), "y": y.tolist(), "norm": norm.item(), "kernel": matrix.flatten().tolist(), "vector": vector.tolist()})
    out.write_text(json.dumps({"clip": CLIP, "decay": DECAY, "kernel": start[0], "vector": start[1], "steps": steps}, indent=1) + "\n")


main()
