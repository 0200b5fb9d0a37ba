#!/usr/bin/env python3
"""tests/data/requantise.bin: what the `gguf` package's quantisers make of 40 rows of 64 floats.

Little-endian: float32 [40, 64], then the Q8_0 bytes [40, 2 * 34], then the Q4_0 bytes [40, 2 * 18]. The rows hold normal
values over many magnitudes, ties of the rounding, zeros, one-sided blocks, and scales that are half-precision
subnormals: wherever two quantisers that are not the same would differ.

    make_requantise_golden.py [--out FILE]        needs gguf, numpy
"""
import argparse
import pathlib

import gguf
import numpy as np

ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
ap.add_argument("--out", default=pathlib.Path(__file__).resolve().parent.parent / "data" / "requantise.bin")
path = ap.parse_args().out

g = np.random.default_rng(20261122)
rows = g.standard_normal((40, 64)) * np.exp2(g.integers(-12, 13, (40, 1)))
rows[0] = 0
rows[1, :32] = 0
rows[2] = np.arange(64) - 32                    # ties of Q4_0: scale 4 and half-integer codes
rows[3] = np.concatenate([np.arange(32) / 2 - 8, np.arange(32) * 8 - 128 + 4])
rows[4, 0] = 127                                # scale 1 in Q8_0, so halves are ties
rows[4, 1:] = np.arange(63) - 31.5
rows[5] = np.abs(rows[5])
rows[6] = -np.abs(rows[6])
rows[7] = 1.0
rows[8] *= 2.0**-18 / np.abs(rows[8]).max()     # subnormal scales
rows[9] *= 2.0**-24 / np.abs(rows[9]).max()
rows[10, :2] = [5.0, -5.0]                      # the first of two largest wins in Q4_0
rows[10, 2:32] = 1.0
rows = rows.astype("<f4")

Q = gguf.GGMLQuantizationType
with open(path, "wb") as f:
    f.write(rows.tobytes())
    for t in (Q.Q8_0, Q.Q4_0):
        f.write(gguf.quants.quantize(rows, t).tobytes())
print(f"{path}: {path.stat().st_size} bytes")
