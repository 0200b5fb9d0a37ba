#!/usr/bin/env python3
"""Does transformers understand what `anemo quantize` writes as safetensors, for every family?

Three models on the same 40 tokens, in float32: (a) the source's own config.json over the dequantised matrices; (b) the
config.json that anemo wrote over the same; (c) the directory that anemo wrote, as it is, unpacked by compressed-tensors.
Prints the largest difference of logits from (a), in their standard deviations; both are 0 where all goes well. Where rows
are no whole groups, compressed-tensors refuses (c) by itself; then its sentence is printed.

    check_quantized_logits.py ANEMO [MODELS]      MODELS: tests/data/models
"""
import json
import pathlib
import subprocess
import sys
import tempfile

import torch
from compressed_tensors.compressors.pack_quantized.helpers import unpack_from_int32
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM

anemo = sys.argv[1]
models = pathlib.Path(sys.argv[2] if len(sys.argv) > 2 else pathlib.Path(__file__).resolve().parents[1] / "data" / "models")
tokens = torch.tensor([[1 + i * 7 % 40 for i in range(40)]])
PARTS = ("_packed", "_scale", "_shape")


def dequantised(tensors, bits):
    floats = {n: t.float() for n, t in tensors.items() if not n.endswith(PARTS)}
    for name in [n.removesuffix("_packed") for n in tensors if n.endswith("_packed")]:
        rows, columns = tensors[name + "_shape"].tolist()
        scale = tensors[name + "_scale"].float()
        codes = unpack_from_int32(tensors[name + "_packed"], bits, torch.Size((rows, columns))).float()
        width = columns if scale.shape[1] == 1 else 32
        floats[name] = codes * scale.repeat_interleave(width, 1)[:, :columns]
    return floats


def logits(path):
    return AutoModelForCausalLM.from_pretrained(path, dtype=torch.float32, attn_implementation="eager")(tokens).logits


def of(path, config, tensors):
    path.mkdir()
    (path / "config.json").write_text(json.dumps(config))
    save_file(tensors, path / "model.safetensors", {"format": "pt"})
    return logits(path)


def as_written(path):
    try:
        return logits(path)
    except (ValueError, RuntimeError) as e:
        return str(e).splitlines()[0]


for model in ("mistral-full", "mixtral-window", "llama3", "ministral", "ministral3", "qwen3-moe"):
    for to in ("q8:row", "q8:g32", "q4:g32"):
        with tempfile.TemporaryDirectory() as name:
            folder = pathlib.Path(name)
            out = folder / "out"
            subprocess.run([anemo, "quantize", models / model, out, "--to", to], check=True, stdout=subprocess.DEVNULL)
            config, tensors = json.loads((out / "config.json").read_text()), load_file(out / "model.safetensors")
            floats = dequantised(tensors, int(to[1]))
            want = of(folder / "source", json.loads((models / model / "config.json").read_text()), floats)
            plain = {k: v for k, v in config.items() if k != "quantization_config"}
            difference = lambda x: x if isinstance(x, str) else f"{float((x - want).abs().max() / want.std()):.4f}"
            print(f"{model:15} {to:7} config {difference(of(folder / 'config', plain, floats))},"
                  f" files {difference(as_written(out))}", flush=True)
