"""Five steps of PyTorch's AdamW with clipped gradients. Writes models/backend/torch/testdata/adamw.json.

The loss of a step is mean(matrix · x) + mean(vector · y), so that its gradients are known. The vector does not decay.
"""
import json
import pathlib

import torch

out = pathlib.Path(__file__).resolve().parents[2] / "models/backend/torch/testdata/adamw.json"
CLIP = 0.4


def main():
    g = torch.Generator().manual_seed(7)
    matrix, vector = (torch.randn(*dims, generator=g).requires_grad_() for dims in ((3, 4), (5,)))
    start = [matrix.flatten().tolist(), vector.tolist()]
    optimizer = torch.optim.AdamW([{"params": [matrix], "weight_decay": 0.1}, {"params": [vector], "weight_decay": 0}], betas=(0.9, 0.99), eps=1e-8)
    steps = []
    for lr in (1e-2, 2e-2, 2e-2, 1e-2, 5e-3):
        x, y = torch.randn(3, 4, generator=g), torch.randn(5, generator=g) * 3 * len(steps) / 4
        optimizer.zero_grad()
        ((matrix * x).mean() + (vector * y).mean()).backward()
        norm = torch.nn.utils.clip_grad_norm_([matrix, vector], CLIP)
        for group in optimizer.param_groups:
            group["lr"] = lr
        optimizer.step()
        steps.append({"lr": lr, "x": x.flatten().tolist(), "y": y.tolist(), "norm": norm.item(), "matrix": matrix.flatten().tolist(), "vector": vector.tolist()})
    out.parent.mkdir(exist_ok=True)
    out.write_text(json.dumps({"clip": CLIP, "matrix": start[0], "vector": start[1], "steps": steps}, indent=1) + "\n")


main()
