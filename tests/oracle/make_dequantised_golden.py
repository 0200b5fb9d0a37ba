#!/usr/bin/env python3
"""tests/data/dequantised.bin: what the `gguf` package reads from random blocks of each GGML type.

Little-endian, per type: u32 type number, u32 values, u32 bytes, the blocks, then float32 values. Codes are random bytes;
half-precision fields are normal numbers of both signs, subnormals and zeros (no NaN, no infinity), and the exponents of
MXFP4 cover the whole byte, except that the largest ones are left out where the value would overflow.

    make_dequantised_golden.py [--out FILE]        needs gguf, numpy (made with gguf 0.19.0, numpy 2.3.5)
"""
import argparse
import pathlib

import gguf
import numpy as np

Q = gguf.GGMLQuantizationType
# type: offsets of the half-precision fields in a block
TYPES = {Q.F32: (), Q.F16: (0,), Q.BF16: (), Q.Q4_0: (0,), Q.Q4_1: (0, 2), Q.Q5_0: (0,), Q.Q5_1: (0, 2), Q.Q8_0: (0,),
         Q.Q4_K: (0, 2), Q.Q5_K: (0, 2), Q.Q6_K: (208,), Q.IQ4_NL: (0,), Q.MXFP4: ()}
VALUES = 768

ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
ap.add_argument("--out", default=pathlib.Path(__file__).resolve().parent.parent / "data" / "dequantised.bin")
path = ap.parse_args().out
g = np.random.default_rng(20261126)


def halves(n):
    """Half-precision numbers of every kind, as bytes [n, 2]."""
    x = g.standard_normal(n) * np.exp2(g.integers(-12, 3, n))
    x[g.random(n) < 0.1] *= 2.0**-10  # subnormals among them
    x[g.random(n) < 0.05] = 0
    return x.astype("<f2").view(np.uint8).reshape(n, 2)


with open(path, "wb") as f:
    for t, fields in TYPES.items():
        block, size = gguf.GGML_QUANT_SIZES[t]
        n = VALUES // block
        raw = g.integers(0, 256, (n, size), dtype=np.uint8)
        for at in fields:
            raw[:, at:at + 2] = halves(n)
        if t in (Q.F32, Q.BF16):
            x = (g.standard_normal(n) * np.exp2(g.integers(-130, 100, n))).astype("<f4")
            raw = x.view(np.uint8).reshape(n, 4)[:, 4 - size:].copy()
        if t == Q.MXFP4:
            raw[:, 0] = np.concatenate([np.arange(8), g.integers(8, 250, n - 8)])
            raw[0, 1:] &= 0x88  # a block of zeros with exponent 0, as quantisers write it
        values = gguf.quants.dequantize(raw.reshape(1, -1), t).astype("<f4").reshape(-1)
        assert values.size == VALUES and np.isfinite(values).all(), t
        np.array([t, VALUES, raw.size], "<u4").tofile(f)
        raw.tofile(f)
        values.tofile(f)
print(f"{path}: {path.stat().st_size} bytes")
