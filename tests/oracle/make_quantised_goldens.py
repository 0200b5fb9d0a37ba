#!/usr/bin/env python3
"""tests/data/quantised/NAME/: a tiny random Mistral in each quantised form of Hugging Face checkpoints.

    config.json, model.safetensors    the checkpoint: codes, scales, zero points, group indices
    golden.json                       per matrix the sha256 of its values as little-endian float32, row by row

Who dequantises: compressed-tensors' own decompressors (pack-quantized, int-quantized, float-quantized), transformers'
convert_moe_packed_tensors (MXFP4, whose result is BF16 and exact); GPTQ, AWQ and block FP8 are written out here in
numpy, element by element, from the layout's description, because their packages need a GPU to install. Values of GPTQ
and AWQ are the exact products; the packages round them to half.

    make_quantised_goldens.py [--out DIR]      needs torch, safetensors, compressed-tensors, transformers, numpy
"""
import argparse
import hashlib
import json
import pathlib
from importlib.metadata import version

import numpy as np
import torch
from safetensors.torch import save_file

D, FFN, VOCAB, HEADS, KV, HD = 64, 32, 16, 4, 2, 16
GROUP = 32
MATRICES = {"self_attn.q_proj": (HEADS * HD, D), "self_attn.k_proj": (KV * HD, D), "self_attn.v_proj": (KV * HD, D),
            "self_attn.o_proj": (D, HEADS * HD), "mlp.gate_proj": (FFN, D), "mlp.up_proj": (FFN, D),
            "mlp.down_proj": (D, FFN)}
g = np.random.default_rng(20261127)


def words(codes, bits):
    """Codes [.., n] to u32 words [.., n * bits / 32], low bits first, as int32."""
    per = 32 // bits
    c = codes.astype(np.uint64).reshape(*codes.shape[:-1], -1, per)
    w = (c << (np.arange(per, dtype=np.uint64) * bits)).sum(-1)
    return torch.from_numpy(w.astype(np.uint32).view(np.int32).copy())


def random_codes(n, k, bits):
    return g.integers(0, 2**bits, (n, k))


def random_scales(shape, dtype, bits=4):
    return torch.from_numpy((g.random(shape) + 0.5).astype(np.float32) / 2**bits / 2).to(dtype)


def gptq(n, k, bits, v1, order, symmetric):
    """w[out, in] = s[g] (q - z), g = g_idx[in]"""
    groups = k // GROUP
    q, s = random_codes(n, k, bits), random_scales((groups, n), torch.float16, bits)
    z = np.full((groups, n), 2**(bits - 1)) if symmetric else g.integers(1 if v1 else 0, 2**bits, (groups, n))
    g_idx = g.permutation(np.arange(k) // GROUP) if order else np.arange(k) // GROUP
    parts = {"qweight": words(q, bits).T.contiguous(), "qzeros": words(z - v1, bits), "scales": s,
             "g_idx": torch.from_numpy(g_idx.astype(np.int32))}
    sf = s.float().numpy()
    w = np.empty((n, k), np.float32)
    for o in range(n):
        for i in range(k):
            w[o, i] = sf[g_idx[i], o] * np.float32(q[o, i] - z[g_idx[i], o])
    return parts, w


def awq(n, k):
    """Nibble i of a word is output 8c + [0, 2, 4, 6, 1, 3, 5, 7][i]; zero points as they are."""
    order = [0, 2, 4, 6, 1, 3, 5, 7]
    groups = k // GROUP
    q, z, s = random_codes(n, k, 4), g.integers(0, 16, (groups, n)), random_scales((groups, n), torch.float16)

    def pack(x):  # [rows, n]
        return words(x.reshape(-1, n // 8, 8)[:, :, order].reshape(-1, n), 4)
    parts = {"qweight": pack(q.T), "qzeros": pack(z), "scales": s}
    w = np.empty((n, k), np.float32)
    for o in range(n):
        for i in range(k):
            w[o, i] = s[i // GROUP, o].float().item() * np.float32(q[o, i] - z[i // GROUP, o])
    return parts, w


def compressed(n, k, bits, symmetric, dtype, order, channel):
    from compressed_tensors.compressors.pack_quantized.helpers import pack_to_int32, unpack_from_int32
    from compressed_tensors.quantization.lifecycle.forward import dequantize
    from compressed_tensors.quantization import QuantizationArgs
    groups = 1 if channel else k // GROUP
    q = torch.from_numpy(g.integers(-2**(bits - 1), 2**(bits - 1), (n, k)).astype(np.int8))
    s = random_scales((n, groups), dtype, bits)
    z = torch.from_numpy(g.integers(-2**(bits - 1), 2**(bits - 1), (n, groups)).astype(np.int8))
    parts = {"weight_packed": pack_to_int32(q, bits), "weight_scale": s, "weight_shape": torch.tensor([n, k])}
    if not symmetric:
        parts["weight_zero_point"] = pack_to_int32(z, bits, packed_dim=0).contiguous()
        assert torch.equal(unpack_from_int32(parts["weight_zero_point"], bits, z.shape, packed_dim=0), z)
    g_idx = None
    if order:
        g_idx = torch.from_numpy(g.permutation(np.arange(k) // GROUP).astype(np.int32))
        parts["weight_g_idx"] = g_idx
    assert torch.equal(unpack_from_int32(parts["weight_packed"], bits, q.shape), q)
    args = QuantizationArgs(num_bits=bits, symmetric=symmetric, strategy="channel" if channel else "group",
                            group_size=None if channel else GROUP)
    columns = torch.argsort(g_idx, stable=True) if order else torch.arange(k)  # into runs of groups, and back
    w = torch.empty(n, k)
    w[:, columns] = dequantize(q[:, columns], s.float(), None if symmetric else z, args=args, dtype=torch.float32)
    return parts, w.numpy()


def int8(n, k, symmetric):
    from compressed_tensors.quantization.lifecycle.forward import dequantize
    from compressed_tensors.quantization import QuantizationArgs
    q = torch.from_numpy(g.integers(-128, 128, (n, k)).astype(np.int8))
    s = random_scales((n, 1), torch.bfloat16, 8)
    z = torch.from_numpy(g.integers(-20, 20, (n, 1)).astype(np.int8))
    parts = {"weight": q, "weight_scale": s} | ({} if symmetric else {"weight_zero_point": z})
    args = QuantizationArgs(num_bits=8, symmetric=symmetric, strategy="channel")
    return parts, dequantize(q, s.float(), None if symmetric else z, args=args, dtype=torch.float32).numpy()


def random_fp8(n, k):
    bits = g.integers(0, 256, (n, k)).astype(np.uint8)
    bits[(bits & 0x7f) == 0x7f] = 0x7e  # no NaN
    return torch.from_numpy(bits).view(torch.float8_e4m3fn)


def fp8(n, k, channel):
    from compressed_tensors.quantization.lifecycle.forward import dequantize
    from compressed_tensors.quantization import QuantizationArgs
    w = random_fp8(n, k)
    s = random_scales((n, 1) if channel else (1,), torch.float32, 10)
    args = QuantizationArgs(num_bits=8, type="float", strategy="channel" if channel else "tensor")
    return {"weight": w, "weight_scale": s, "input_scale": torch.tensor([0.5])}, \
        dequantize(w, s, None, args=args, dtype=torch.float32).numpy()


def fp8_blocks(n, k):
    w, s = random_fp8(n, k), random_scales((-(-n // 48), -(-k // 24)), torch.float32, 10)
    out = np.empty((n, k), np.float32)
    for o in range(n):
        for i in range(k):
            out[o, i] = w[o, i].float().item() * s[o // 48, i // 24].numpy()
    return {"weight": w, "weight_scale_inv": s}, out


def ct_config(fmt, **weights):
    return {"quant_method": "compressed-tensors", "format": fmt, "ignore": ["lm_head"], "quantization_status": "compressed",
            "config_groups": {"group_0": {"targets": ["Linear"], "weights": weights, "input_activations": None}}}


GPTQ = {"quant_method": "gptq", "group_size": GROUP, "sym": False}
FORMS = {
    "gptq-v1": (GPTQ | {"bits": 4, "desc_act": False}, lambda n, k: gptq(n, k, 4, 1, False, False)),
    "gptq-v1-symmetric": (GPTQ | {"bits": 4, "desc_act": False, "sym": True, "checkpoint_format": "gptq"},
                          lambda n, k: gptq(n, k, 4, 1, False, True)),
    "gptq-v2-act-order": (GPTQ | {"bits": 4, "desc_act": True, "checkpoint_format": "gptq_v2"},
                          lambda n, k: gptq(n, k, 4, 0, True, False)),
    "gptq-8bit": (GPTQ | {"bits": 8, "desc_act": False}, lambda n, k: gptq(n, k, 8, 1, False, False)),
    "awq": ({"quant_method": "awq", "bits": 4, "group_size": GROUP, "zero_point": True, "version": "gemm"}, awq),
    "ct-w4a16": (ct_config("pack-quantized", num_bits=4, type="int", symmetric=True, strategy="group", group_size=GROUP),
                 lambda n, k: compressed(n, k, 4, True, torch.bfloat16, False, False)),
    "ct-w4a16-act-order": (ct_config("pack-quantized", num_bits=4, type="int", symmetric=False, strategy="group",
                                     group_size=GROUP, actorder="group"),
                           lambda n, k: compressed(n, k, 4, False, torch.float16, True, False)),
    "ct-w4a16-asymmetric": (ct_config("pack-quantized", num_bits=4, type="int", symmetric=False, strategy="channel"),
                            lambda n, k: compressed(n, k, 4, False, torch.float16, False, True)),
    "ct-w8a8": (ct_config("int-quantized", num_bits=8, type="int", symmetric=True, strategy="channel"),
                lambda n, k: int8(n, k, True)),
    "ct-w8a8-asymmetric": (ct_config("int-quantized", num_bits=8, type="int", symmetric=False, strategy="channel"),
                           lambda n, k: int8(n, k, False)),
    "ct-fp8": (ct_config("float-quantized", num_bits=8, type="float", symmetric=True, strategy="tensor"),
               lambda n, k: fp8(n, k, False)),
    "ct-fp8-channel": (ct_config("float-quantized", num_bits=8, type="float", symmetric=True, strategy="channel"),
                       lambda n, k: fp8(n, k, True)),
    "fp8-blocks": ({"quant_method": "fp8", "weight_block_size": [48, 24], "activation_scheme": "dynamic"}, fp8_blocks),
}


def digest(values):
    return hashlib.sha256(np.ascontiguousarray(values, "<f4").tobytes()).hexdigest()


def make(folder, quantisation, quantise):
    folder.mkdir(parents=True, exist_ok=True)
    config = dict(model_type="mistral", vocab_size=VOCAB, hidden_size=D, intermediate_size=FFN, num_hidden_layers=1,
                  num_attention_heads=HEADS, num_key_value_heads=KV, head_dim=HD, max_position_embeddings=64,
                  rms_norm_eps=1e-5, rope_theta=10000.0, sliding_window=None, tie_word_embeddings=True,
                  bos_token_id=1, eos_token_id=2, quantization_config=quantisation)
    (folder / "config.json").write_text(json.dumps(config, indent=1) + "\n")
    tensors, golden = {}, {}
    for name, shape in (("embed_tokens", (VOCAB, D)), ("norm", (D,)), ("layers.0.input_layernorm", (D,)),
                        ("layers.0.post_attention_layernorm", (D,))):
        scale = 1 if len(shape) == 2 else 0.2
        x = g.standard_normal(shape) * scale + (len(shape) == 1)
        tensors[f"model.{name}.weight"] = torch.from_numpy(x).to(torch.float16)
    for name, (n, k) in MATRICES.items():
        parts, values = quantise(n, k)
        assert values.shape == (n, k) and values.dtype == np.float32 and np.isfinite(values).all()
        for part, tensor in parts.items():
            tensors[f"model.layers.0.{name}.{part}"] = tensor
        golden[f"model.layers.0.{name}.weight"] = digest(values)
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    return golden


def make_mxfp4(folder):
    """The experts of a gpt-oss layer; the matrices are read by name, without a whole model."""
    from transformers.integrations.mxfp4 import convert_moe_packed_tensors
    folder.mkdir(parents=True, exist_ok=True)
    tensors, golden = {}, {}
    for name, rows in (("gate_up_proj", 48), ("down_proj", 20)):
        blocks = torch.from_numpy(g.integers(0, 256, (3, rows, 2, 16)).astype(np.uint8))
        scales = torch.from_numpy(g.integers(100, 140, (3, rows, 2)).astype(np.uint8))
        blocks[0, 0, 0] &= 0x88
        scales[0, 0, 0] = 0
        tensors[f"experts.{name}_blocks"], tensors[f"experts.{name}_scales"] = blocks, scales
        values = convert_moe_packed_tensors(blocks, scales, dtype=torch.float32)  # [experts, k, rows]
        values = values.transpose(1, 2).numpy() + np.float32(0)  # -0 becomes 0: anemo's tables are integers
        for e in range(3):
            if name == "gate_up_proj":
                golden[f"gate {e}"], golden[f"up {e}"] = digest(values[e, 0::2]), digest(values[e, 1::2])
            else:
                golden[f"down {e}"] = digest(values[e])
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    return golden


def main():
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ap.add_argument("--out", default=pathlib.Path(__file__).resolve().parent.parent / "data" / "quantised")
    out = pathlib.Path(ap.parse_args().out)
    versions = {p: version(p) for p in ("torch", "safetensors", "compressed-tensors", "transformers", "numpy")}
    for name, (quantisation, quantise) in FORMS.items():
        golden = make(out / name, quantisation, quantise)
        (out / name / "golden.json").write_text(json.dumps({"versions": versions, "sha256": golden}, indent=1) + "\n")
    golden = make_mxfp4(out / "mxfp4")
    (out / "mxfp4" / "golden.json").write_text(json.dumps({"versions": versions, "sha256": golden}, indent=1) + "\n")
    print(sum(f.stat().st_size for f in out.glob("*/*")), "bytes")


if __name__ == "__main__":
    main()
