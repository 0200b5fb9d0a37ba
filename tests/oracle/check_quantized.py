#!/usr/bin/env python3
"""Reads what `anemo quantize` writes with the `gguf` and `compressed-tensors` packages.

For each GGUF target: every tensor's name, shape and type as GGUFReader sees it, and its values by gguf.quants against the
source's: equal to the package's own quantiser for Q4_0 and Q8_0, within a bound for the others. For a safetensors target:
codes unpacked by compressed-tensors, scales applied, within the same bound.

    check_quantized.py ANEMO [MODEL]     MODEL: an HF Mixtral directory (default: models/default beside the sources)
"""
import json
import pathlib
import subprocess
import sys
import tempfile

import gguf
import numpy as np
import torch
from compressed_tensors.compressors.pack_quantized.helpers import unpack_from_int32
from safetensors.torch import load_file

Q = gguf.GGMLQuantizationType
anemo = sys.argv[1]
model = pathlib.Path(sys.argv[2] if len(sys.argv) > 2 else pathlib.Path(__file__).resolve().parents[2] / "models" / "default")
config = json.loads((model / "config.json").read_text())
source = {n: t.float().numpy() for n, t in load_file(model / "model.safetensors").items()}
NAMES = {"attn_norm": "input_layernorm", "ffn_norm": "post_attention_layernorm", "attn_q": "self_attn.q_proj",
         "attn_k": "self_attn.k_proj", "attn_v": "self_attn.v_proj", "attn_output": "self_attn.o_proj",
         "ffn_gate_inp": "block_sparse_moe.gate"}
EXPERTS = {"ffn_gate_exps": "w1", "ffn_up_exps": "w3", "ffn_down_exps": "w2"}
TOP = {"token_embd": "model.embed_tokens", "output_norm": "model.norm", "output": "lm_head"}


def wanted(name):
    """The source's values under a GGUF name: q and k with their rows in pairs."""
    parts = name.removesuffix(".weight").split(".")
    if len(parts) == 1:
        return source[TOP[parts[0]] + ".weight"]
    layer, short = f"model.layers.{parts[1]}.", parts[2]
    if short in EXPERTS:
        return np.stack([source[f"{layer}block_sparse_moe.experts.{e}.{EXPERTS[short]}.weight"]
                         for e in range(config["num_local_experts"])])
    x = source[layer + NAMES[short] + ".weight"]
    heads = {"attn_q": config["num_attention_heads"], "attn_k": config["num_key_value_heads"]}.get(short)
    return x.reshape(heads, 2, -1, x.shape[-1]).swapaxes(1, 2).reshape(x.shape) if heads else x


def check_gguf(path, bound):
    reader, types, worst = gguf.GGUFReader(path), set(), 0.0
    for t in reader.tensors:
        want = wanted(t.name)
        assert list(t.shape) == list(want.shape[::-1]), (t.name, t.shape, want.shape)
        got = gguf.quants.dequantize(t.data, t.tensor_type).reshape(want.shape)
        types.add(t.tensor_type.name)
        if t.tensor_type == Q.F32:
            assert np.array_equal(got, want), t.name
        elif t.tensor_type in (Q.Q4_0, Q.Q8_0, Q.Q5_0):
            assert np.array_equal(t.data.reshape(-1), gguf.quants.quantize(want, t.tensor_type).reshape(-1)), t.name
        worst = max(worst, float(np.sqrt(((got - want) ** 2).mean() / (want ** 2).mean())))
    assert 0 < worst < bound, worst
    return f"{len(reader.tensors)} tensors, {sorted(types)}, largest relative error {worst:.4f}"


def check_safetensors(path, bound, bits):
    tensors, worst, n = load_file(path / "model.safetensors"), 0.0, 0
    for name, want in source.items():
        if name in tensors and name + "_scale" not in tensors:
            assert np.array_equal(tensors[name].float().numpy(), want), name
            continue
        scale = tensors[name + "_scale"].float()
        shape = torch.Size(tensors[name + "_shape"].tolist())
        codes = unpack_from_int32(tensors[name + "_packed"], bits, shape)
        values = codes.float().reshape(*scale.shape, -1) * scale[..., None]
        got, n = values.reshape(want.shape).numpy(), n + 1
        worst = max(worst, float(np.sqrt(((got - want) ** 2).mean() / (want ** 2).mean())))
    assert 0 < worst < bound, worst
    return f"{n} quantised matrices, largest relative error {worst:.4f}"


with tempfile.TemporaryDirectory() as folder:
    for to, bound, kinds in (("q8:row", 0.02, "s"), ("q8:g32", 0.01, "sg"), ("q6_k", 0.04, "g"), ("q4_k", 0.1, "g"),
                             ("q4:g32", 0.15, "sg"), ("q4_0", 0.15, "g"), ("q4:g128", 0.2, "s")):
        for kind in kinds:
            out = pathlib.Path(folder) / (to.replace(":", "-") + (".gguf" if kind == "g" else ""))
            subprocess.run([anemo, "quantize", model, out, "--to", to], check=True, stdout=subprocess.DEVNULL)
            print(f"{to:8} {'GGUF' if kind == 'g' else 'safetensors':12}",
                  check_gguf(out, bound) if kind == "g" else check_safetensors(out, bound, int(to[1])))
