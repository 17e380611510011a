"""Standard normals of PyTorch's CPU generator. Writes models/rng/testdata/cpu.json.

Per case: seed, the sizes drawn one after the other from one generator, and of every draw the sha256 of its float32
little-endian bytes and its first and last values. The bytes are those of PyTorch's x86-64 builds with AVX2.
"""
import hashlib
import json
import pathlib

import torch

out = pathlib.Path(__file__).resolve().parents[2] / "models/rng/testdata"

CASES = [
    (seed, sizes)
    for seed in (0, 1, 42, 1234567, 2**32 + 5, 2**63 + 1)
    for sizes in (
        [1], [15], [16], [17], [31], [33], [1000], [4 * 64 * 64], [12 * 16 * 16],
        [1, 1, 16, 3, 17, 2, 5, 100], [3, 4, 1, 12 * 16 * 16, 7, 15],
    )
]


def draws(seed, sizes):
    g = torch.Generator().manual_seed(seed)
    for n in sizes:
        yield torch.randn(n, generator=g).numpy().astype("<f4")


def main():
    cases = []
    for seed, sizes in CASES:
        vs = list(draws(seed, sizes))
        cases.append({
            "seed": seed,
            "sizes": sizes,
            "sha256": [hashlib.sha256(v.tobytes()).hexdigest() for v in vs],
            "first": [float(v[0]) for v in vs],
            "last": [float(v[-1]) for v in vs],
        })
    out.mkdir(parents=True, exist_ok=True)
    (out / "cpu.json").write_text("[\n" + ",\n".join(json.dumps(c) for c in cases) + "\n]\n")


main()
