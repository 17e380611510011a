"""Golden file for the primitives: what PyTorch makes of small random tensors.

    pip install torch==2.7.1 safetensors numpy
    python scripts/golden/ops.py

Rewrites models/backend/ref/testdata/ops.safetensors: <case>.0, <case>.1, … go in, <case>.y comes out. See README.md beside this file.
"""

import pathlib

import torch
import torch.nn.functional as F
from safetensors.torch import save_file

FILE = pathlib.Path(__file__).resolve().parents[2] / "models/backend/ref/testdata/ops.safetensors"

# case: shapes of what goes in, the function
CASES = {
    "matmul": ([(3, 1, 2, 4), (5, 4, 3)], torch.matmul),
    "linear": ([(2, 3, 4), (5, 4), (5,)], F.linear),
    "conv2d": ([(2, 3, 7, 6), (4, 3, 3, 3), (4,)], lambda x, w, b: F.conv2d(x, w, b, stride=2, padding=1)),
    "conv2d_flat": ([(1, 2, 5, 7), (3, 2, 1, 3)], lambda x, w: F.conv2d(x, w, stride=1, padding=1)),
    "pad_conv2d": ([(1, 2, 6, 4), (3, 2, 3, 3), (3,)], lambda x, w, b: F.conv2d(F.pad(x, (0, 1, 0, 1)), w, b, stride=2)),
    "pad": ([(2, 3, 4)], lambda x: F.pad(x, (1, 2, 3, 4))),
    "group_norm": ([(3, 6, 2, 5), (6,), (6,)], lambda x, w, b: F.group_norm(x, 3, w, b, 1e-5)),
    "layer_norm": ([(2, 3, 5), (5,), (5,)], lambda x, w, b: F.layer_norm(x, (5,), w, b, 0.25)),
    "softmax": ([(2, 4, 3)], lambda x: (300 * x).softmax(1)),
    "mean": ([(2, 3, 4)], lambda x: x.mean((0, 2), keepdim=True)),
    "max": ([(2, 3, 4)], lambda x: x.amax((1, 2), keepdim=True)),
    "argmax": ([(3, 4, 2)], lambda x: x.round().argmax(1)),
    "where": ([(3, 1), (2, 3, 4)], lambda x, y: torch.where(x < y, x, 2 * y)),
    "equal": ([(3, 4)], lambda x: (x == x.amax(1, keepdim=True)).float()),
    "permute": ([(2, 3, 4)], lambda x: x.permute(2, 0, 1)),
    "reshape": ([(2, 6, 5)], lambda x: x.reshape(2, 3, -1)),
    "concat": ([(2, 1, 3), (2, 4, 3)], lambda x, y: torch.cat((x, y), 1)),
    "slice": ([(3, 7)], lambda x: x[:, 2:7]),
    "expand": ([(3, 1), (2, 3, 4)], lambda x, y: x.expand(2, 3, 4)),
    "upsample": ([(2, 1, 2, 3)], lambda x: F.interpolate(x, scale_factor=2, mode="nearest")),
    "gelu": ([(3, 5)], lambda x: F.gelu(3 * x)),
    "silu": ([(3, 5)], lambda x: F.silu(3 * x)),
    "tanh": ([(3, 5)], torch.tanh),
    "sin": ([(3, 5)], lambda x: (20 * x).sin()),
    "cos": ([(3, 5)], lambda x: (20 * x).cos()),
    "log": ([(3, 5)], lambda x: (x * x + 0.5).log()),
    "sqrt": ([(3, 5)], lambda x: (x * x + 0.5).sqrt()),
    "exp": ([(3, 5)], torch.exp),
    "trunc": ([(3, 5)], lambda x: (3 * x).long()),
}


def attention(q, k, v, mask):
    """Two heads of width 3."""
    q, k, v = (t.unflatten(-1, (2, 3)).transpose(1, 2) for t in (q, k, v))
    return F.scaled_dot_product_attention(q, k, v, attn_mask=mask).transpose(1, 2).flatten(2)


CASES["attention"] = ([(2, 5, 6), (2, 4, 6), (2, 4, 6), (2, 1, 1, 4)], attention)


def main():
    out = {}
    for i, (name, (shapes, f)) in enumerate(CASES.items()):
        g = torch.Generator().manual_seed(i)
        args = [torch.randn(s, generator=g) for s in shapes]
        out |= {f"{name}.{j}": a for j, a in enumerate(args)}
        out[f"{name}.y"] = f(*args).clone(memory_format=torch.contiguous_format)
    table, rows = torch.randn(5, 3, generator=torch.Generator().manual_seed(99)), torch.tensor([[4, 0], [2, 2], [1, 3]])
    out |= {"gather.0": table, "gather.1": rows, "gather.y": F.embedding(rows, table)}
    FILE.parent.mkdir(parents=True, exist_ok=True)
    save_file(out, FILE)
    print(FILE.name, FILE.stat().st_size, "bytes")


if __name__ == "__main__":
    main()
