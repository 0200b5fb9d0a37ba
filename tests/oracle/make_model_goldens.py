#!/usr/bin/env python3
"""Random tiny checkpoints and the logits that Hugging Face transformers computes from them.

For each model in MODELS it writes tests/data/models/NAME/
    config.json, *.safetensors   a checkpoint as it would be downloaded (classic hub names, one matrix per expert)
    *.gguf                       the same weights as GGUF v3: float, of the first three also Q8_0 and Q4_0 (q and k
                                 rows interleaved where llama.cpp does, experts merged, norms and router F32), written
                                 by the `gguf` package; none of a multimodal model
    *.f32                        logits, little-endian float32 [rows, vocab]
    golden.json                  token ids, which logits belong to which file, router choices, the greedy continuation
                                 of the first 16 tokens, versions, seeds

The oracle is transformers in float32 with eager attention, loading the directory just written. Quantised forms are
dequantised by `gguf.quants`, written as a float32 checkpoint into a temporary directory, and loaded from there, so
that the golden is "dequantise, then float32": what a kernel with unquantised activations must give.

A random model says little unless every part of it matters, so the initial values are scaled until the logits' standard
deviation is at least 1 and the attention is far from uniform; and a router whose choice hangs on the last bit tests
nothing, so seeds are tried until every decision (second against third, and first against second) is apart by MIN_GAP.

    make_model_goldens.py [--out DIR] [NAME...]        needs torch, transformers, safetensors, gguf, numpy
"""
import argparse
import json
import pathlib
import platform
import shutil
import sys
import tempfile

import gguf
import numpy as np
import torch
import transformers
from safetensors.torch import save_file as save_torch
from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForImageTextToText, Mxfp4Config

TOKENS = 40       # five windows of 8
LONG_TOKENS = 200 # beyond three 64-token KV pages; logits at LONG_ROWS only
LONG_ROWS = [62, 63, 64, 65, 71, 72, 127, 128, 129, 191, 192, 198, 199]
GREEDY_PROMPT, GREEDY_TOKENS = 16, 64
MIN_GAP = 2e-3
Q = gguf.GGMLQuantizationType

MODELS = {
    # Sharded F32, no window, three query heads per kv head, v5 style of writing theta.
    "mistral-full": dict(
        dtype=torch.float32, shards=2, gguf_float=Q.F32, seed=101, theta_in="rope_parameters", greedy_prompt=20,
        config=dict(architectures=["MistralForCausalLM"], model_type="mistral", vocab_size=256, hidden_size=64,
                    intermediate_size=64, num_hidden_layers=2, num_attention_heads=6, num_key_value_heads=2,
                    head_dim=16, sliding_window=None, rope_theta=10000.0, rms_norm_eps=1e-5,
                    tie_word_embeddings=False)),
    # F16, window, multi-query, tied output.
    "mistral-window": dict(
        dtype=torch.float16, shards=1, gguf_float=Q.F16, seed=202, theta_in="rope_theta",
        config=dict(architectures=["MistralForCausalLM"], model_type="mistral", vocab_size=256, hidden_size=64,
                    intermediate_size=64, num_hidden_layers=3, num_attention_heads=4, num_key_value_heads=1,
                    head_dim=32, sliding_window=8, rope_theta=1000.0, rms_norm_eps=1e-6,
                    tie_word_embeddings=True)),
    # BF16, window, eight experts, top-2, head_dim that is no power of two.
    "mixtral-window": dict(
        dtype=torch.bfloat16, shards=1, gguf_float=Q.BF16, seed=303, theta_in="rope_theta",
        config=dict(architectures=["MixtralForCausalLM"], model_type="mixtral", vocab_size=256, hidden_size=64,
                    intermediate_size=32, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2,
                    head_dim=24, sliding_window=8, rope_theta=1000000.0, rms_norm_eps=1e-5,
                    tie_word_embeddings=False, num_local_experts=8, num_experts_per_tok=2)),
    # Scaled RoPE of which every kind of pair is met: kept, blended, divided.
    "llama3": dict(
        dtype=torch.bfloat16, seed=404, gguf_float=Q.BF16, arch="llama",
        config=dict(architectures=["LlamaForCausalLM"], model_type="llama", vocab_size=48, hidden_size=24,
                    intermediate_size=16, num_hidden_layers=2, num_attention_heads=2, num_key_value_heads=1,
                    head_dim=16, rope_theta=10000.0, rms_norm_eps=1e-5, tie_word_embeddings=False,
                    rope_scaling=dict(rope_type="llama3", factor=8.0, low_freq_factor=1.0, high_freq_factor=4.0,
                                      original_max_position_embeddings=64))),
    # The first three layers of the pattern of Ministral 8B.
    "ministral": dict(
        dtype=torch.bfloat16, seed=505, gguf_float=Q.BF16, arch="llama",
        config=dict(architectures=["MinistralForCausalLM"], model_type="ministral", vocab_size=48, hidden_size=24,
                    intermediate_size=16, num_hidden_layers=3, num_attention_heads=2, num_key_value_heads=1,
                    head_dim=16, sliding_window=8, rope_theta=10000.0, rms_norm_eps=1e-5, tie_word_embeddings=True,
                    layer_types=["full_attention", "sliding_attention", "sliding_attention"])),
    "qwen3-moe": dict(
        dtype=torch.bfloat16, seed=606, gguf_float=Q.BF16, arch="qwen3moe",
        config=dict(architectures=["Qwen3MoeForCausalLM"], model_type="qwen3_moe", vocab_size=48, hidden_size=24,
                    intermediate_size=48, moe_intermediate_size=16, num_hidden_layers=2, num_attention_heads=2,
                    num_key_value_heads=1, head_dim=16, sliding_window=None, use_sliding_window=False,
                    rope_theta=10000.0, rms_norm_eps=1e-6, tie_word_embeddings=False, num_experts=4,
                    num_experts_per_tok=2, norm_topk_prob=True, decoder_sparse_step=1, mlp_only_layers=[],
                    attention_bias=False)),
    # YaRN between fractions of pairs, alternating window, sinks, biases, some gates beyond the clamp.
    "gpt-oss": dict(
        dtype=torch.bfloat16, seed=707, gguf_float=Q.BF16, arch="gpt-oss",
        config=dict(architectures=["GptOssForCausalLM"], model_type="gpt_oss", vocab_size=48, hidden_size=24,
                    intermediate_size=16, num_hidden_layers=2, num_attention_heads=2, num_key_value_heads=1,
                    head_dim=16, sliding_window=8, rope_theta=10000.0, rms_norm_eps=1e-5, tie_word_embeddings=False,
                    num_local_experts=4, num_experts_per_tok=2, attention_bias=True, swiglu_limit=7.0,
                    layer_types=["sliding_attention", "full_attention"],
                    rope_scaling=dict(rope_type="yarn", factor=8.0, beta_fast=4.0, beta_slow=1.0, truncate=False,
                                      original_max_position_embeddings=64))),
    # As gpt-oss is published: the experts in MXFP4 (rows of at least one block of 32), the rest BF16.
    "gpt-oss-mxfp4": dict(
        dtype=torch.bfloat16, seed=1010, gguf_float=Q.BF16, arch="gpt-oss", mxfp4=True,
        config=dict(architectures=["GptOssForCausalLM"], model_type="gpt_oss", vocab_size=48, hidden_size=32,
                    intermediate_size=32, num_hidden_layers=2, num_attention_heads=2, num_key_value_heads=1,
                    head_dim=16, sliding_window=8, rope_theta=10000.0, rms_norm_eps=1e-5, tie_word_embeddings=False,
                    num_local_experts=4, num_experts_per_tok=2, attention_bias=True, swiglu_limit=7.0,
                    layer_types=["sliding_attention", "full_attention"],
                    rope_scaling=dict(rope_type="yarn", factor=8.0, beta_fast=4.0, beta_slow=1.0, truncate=False,
                                      original_max_position_embeddings=64))),
    # YaRN between whole pairs, magnitude 1, a query temperature that begins at position 32.
    "ministral3": dict(
        dtype=torch.bfloat16, seed=808, gguf_float=Q.BF16, arch="mistral3",
        config=dict(architectures=["Ministral3ForCausalLM"], model_type="ministral3", vocab_size=48, hidden_size=24,
                    intermediate_size=16, num_hidden_layers=2, num_attention_heads=2, num_key_value_heads=1,
                    head_dim=16, sliding_window=None, rms_norm_eps=1e-5, tie_word_embeddings=False,
                    rope_parameters=dict(rope_type="yarn", rope_theta=10000.0, factor=4.0, beta_fast=4.0,
                                         beta_slow=1.0, original_max_position_embeddings=32, mscale=1.0,
                                         mscale_all_dim=1.0, llama_4_scaling_beta=0.3))),
    # The text path of a multimodal checkpoint, under the hub's names.
    "mistral3-vision": dict(
        dtype=torch.bfloat16, seed=909, gguf_float=None, arch=None,
        vision=dict(model_type="pixtral", hidden_size=16, intermediate_size=16, num_hidden_layers=1,
                    num_attention_heads=1, head_dim=16, image_size=16, patch_size=8, num_channels=3,
                    hidden_act="gelu", rope_theta=10000.0),
        config=dict(architectures=["MistralForCausalLM"], model_type="mistral", vocab_size=48, hidden_size=24,
                    intermediate_size=16, num_hidden_layers=2, num_attention_heads=2, num_key_value_heads=1,
                    head_dim=16, sliding_window=None, rope_theta=10000.0, rms_norm_eps=1e-5,
                    tie_word_embeddings=False)),
}
COMMON = dict(hidden_act="silu", max_position_embeddings=512, bos_token_id=1, eos_token_id=2, attention_dropout=0.0)


# ---------------------------------------------------------------- weights

def theta_of(config):
    return config.get("rope_theta") or config["rope_parameters"]["rope_theta"]


def experts_of(config):
    return config.get("num_local_experts") or config.get("num_experts") or 0


def gpt_oss_experts(p, config, matrix, bias):
    """All experts in one tensor, [experts, inputs, outputs], outputs of gate and up in turn. The gain takes some
    gates beyond the clamp."""
    d, f, n = config["hidden_size"], config["intermediate_size"], experts_of(config)
    return {p + "mlp.router.weight": matrix(n, d, 1.5), p + "mlp.router.bias": bias(n),
            p + "mlp.experts.gate_up_proj": torch.stack([matrix(2 * f, d, 4.0).T for _ in range(n)]),
            p + "mlp.experts.gate_up_proj_bias": bias(n, 2 * f),
            p + "mlp.experts.down_proj": torch.stack([matrix(d, f, 0.3).T for _ in range(n)]),
            p + "mlp.experts.down_proj_bias": bias(n, d)}


def random_weights(config, seed):
    """Hub names -> float32 tensors. Gains: attention logits of sd about 2, logits of sd about 2."""
    g = torch.Generator().manual_seed(seed)
    d, f = config["hidden_size"], config.get("moe_intermediate_size", config["intermediate_size"])
    hd, family = config["head_dim"], config["model_type"]
    q, kv = config["num_attention_heads"] * hd, config["num_key_value_heads"] * hd

    def matrix(n, k, gain):
        return torch.randn(n, k, generator=g) * gain * k ** -0.5

    def norm(n=d):
        return 0.6 + 0.8 * torch.rand(n, generator=g)

    def bias(*shape):
        return torch.randn(*shape, generator=g) * 0.5

    w = {"model.embed_tokens.weight": torch.randn(config["vocab_size"], d, generator=g) * 0.3,
         "model.norm.weight": norm()}
    if not config["tie_word_embeddings"]:
        w["lm_head.weight"] = matrix(config["vocab_size"], d, 2.0)
    for i in range(config["num_hidden_layers"]):
        p = f"model.layers.{i}."
        w[p + "input_layernorm.weight"] = norm()
        w[p + "post_attention_layernorm.weight"] = norm()
        w[p + "self_attn.q_proj.weight"] = matrix(q, d, 1.5)
        w[p + "self_attn.k_proj.weight"] = matrix(kv, d, 1.5)
        w[p + "self_attn.v_proj.weight"] = matrix(kv, d, 1.0)
        w[p + "self_attn.o_proj.weight"] = matrix(d, q, 1.0)
        if family == "qwen3_moe":
            w[p + "self_attn.q_norm.weight"], w[p + "self_attn.k_norm.weight"] = norm(hd), norm(hd)
            w[p + "mlp.gate.weight"] = matrix(experts_of(config), d, 1.5)
            experts = [f"{p}mlp.experts.{e}." for e in range(experts_of(config))]
        elif family == "gpt_oss":
            for part, n in (("q", q), ("k", kv), ("v", kv), ("o", d)):
                w[f"{p}self_attn.{part}_proj.bias"] = bias(n)
            w[p + "self_attn.sinks"] = torch.randn(config["num_attention_heads"], generator=g) + 1
            w |= gpt_oss_experts(p, config, matrix, bias)
            experts = []
        elif family == "mixtral":
            w[p + "block_sparse_moe.gate.weight"] = matrix(config["num_local_experts"], d, 1.5)
            experts = [f"{p}block_sparse_moe.experts.{e}." for e in range(config["num_local_experts"])]
        else:
            experts = [p + "mlp."]
        for e in experts:
            gate, up, down = ("w1", "w3", "w2") if family == "mixtral" else ("gate_proj", "up_proj", "down_proj")
            w[f"{e}{gate}.weight"] = matrix(f, d, 1.5)
            w[f"{e}{up}.weight"] = matrix(f, d, 1.5)
            w[f"{e}{down}.weight"] = matrix(d, f, 1.0)
    return w


def vision_weights(spec, seed):
    """What transformers itself makes of the vision tower and the projector, under the hub's names."""
    config = AutoConfig.for_model("mistral3", **wrapper_config(spec, dict(COMMON, **spec["config"])))
    torch.manual_seed(seed)
    state = AutoModelForImageTextToText.from_config(config).state_dict()
    return {n.removeprefix("model."): t for n, t in state.items() if "language_model" not in n and "lm_head" not in n}


def wrapper_config(spec, text):
    return dict(text_config=text, vision_config=spec["vision"], image_token_index=3, spatial_merge_size=2,
                vision_feature_layer=-1, projector_hidden_act="gelu", multimodal_projector_bias=False,
                tie_word_embeddings=False)


def write_checkpoint(folder, spec, weights, dtype):
    folder.mkdir(parents=True, exist_ok=True)
    config = {**COMMON, **spec["config"], "torch_dtype": str(dtype).removeprefix("torch.")}
    tensors = {n: t.to(dtype).contiguous() for n, t in weights.items()}
    if spec.get("mxfp4"):
        config["quantization_config"] = dict(quant_method="mxfp4", modules_to_not_convert=NOT_CONVERTED)
        for n in [n for n in tensors if is_mxfp4(n)]:
            tensors[n + "_blocks"], tensors[n + "_scales"] = to_mxfp4(weights[n])
            del tensors[n]
    if spec.get("theta_in") == "rope_parameters":
        config["rope_parameters"] = {"rope_type": "default", "rope_theta": config.pop("rope_theta")}
    if "vision" in spec:
        config = dict(architectures=["Mistral3ForConditionalGeneration"], model_type="mistral3",
                      torch_dtype=config["torch_dtype"], **wrapper_config(spec, config))
        tensors = {f"language_model.{n}": t for n, t in tensors.items()}
        tensors |= {n: t.to(dtype).contiguous() for n, t in vision_weights(spec, spec["seed"]).items()}
    (folder / "config.json").write_text(json.dumps(config, indent=1) + "\n")
    shards = spec.get("shards", 1)
    if shards == 1:
        save_torch(tensors, folder / "model.safetensors", metadata={"format": "pt"})
        return
    names, place = sorted(tensors), {}
    for s in range(shards):
        file = f"model-{s + 1:05d}-of-{shards:05d}.safetensors"
        part = {n: tensors[n] for n in names[s::shards]}
        save_torch(part, folder / file, metadata={"format": "pt"})
        place |= {n: file for n in part}
    total = sum(t.numel() * t.element_size() for t in tensors.values())
    index = {"metadata": {"total_size": total}, "weight_map": dict(sorted(place.items()))}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index, indent=1) + "\n")


# ---------------------------------------------------------------- MXFP4

FP4 = np.array([0, .5, 1, 1.5, 2, 3, 4, 6, 0, -.5, -1, -1.5, -2, -3, -4, -6], dtype=np.float32)
NOT_CONVERTED = ["model.layers.*.self_attn", "model.layers.*.mlp.router", "model.embed_tokens", "lm_head"]


def is_mxfp4(name):
    return name.endswith("experts.gate_up_proj") or name.endswith("experts.down_proj")


def to_mxfp4(tensor):
    """[experts, inputs, outputs] -> blocks u8 [experts, outputs, inputs / 32, 16], the first of two codes in the low
    half, and scales u8: 2^(scale - 127), under which the largest value is 4 to 6."""
    rows = tensor.transpose(1, 2).numpy()
    groups = rows.reshape(*rows.shape[:2], -1, 32)
    scales = np.floor(np.log2(np.abs(groups).max(-1))).astype(np.int32) - 2 + 127
    codes = np.abs((groups / np.exp2(scales[..., None] - 127.0))[..., None] - FP4).argmin(-1).astype(np.uint8)
    return torch.from_numpy(codes[..., 0::2] | codes[..., 1::2] << 4), torch.from_numpy(scales.astype(np.uint8))


def from_mxfp4(blocks, scales):
    codes = np.stack([blocks.numpy() & 15, blocks.numpy() >> 4], -1).reshape(*blocks.shape[:3], 32)
    values = FP4[codes] * np.exp2(scales.numpy()[..., None] - 127.0).astype(np.float32)
    return torch.from_numpy(values.reshape(*blocks.shape[:2], -1)).transpose(1, 2).contiguous()


# ---------------------------------------------------------------- GGUF

def interleaved(rows, heads):
    """Rows of a q or k matrix from half-split order (all first halves, all second) to pairs (2i, 2i+1)."""
    hd = rows.shape[0] // heads
    return rows.reshape(heads, 2, hd // 2, -1).swapaxes(1, 2).reshape(rows.shape)


def half_split(rows, heads):
    hd = rows.shape[0] // heads
    return rows.reshape(heads, hd // 2, 2, -1).swapaxes(1, 2).reshape(rows.shape)


LAYER_NAMES = {"attn_norm.weight": "input_layernorm.weight", "ffn_norm.weight": "post_attention_layernorm.weight",
               "attn_q.weight": "self_attn.q_proj.weight", "attn_k.weight": "self_attn.k_proj.weight",
               "attn_v.weight": "self_attn.v_proj.weight", "attn_output.weight": "self_attn.o_proj.weight",
               "ffn_gate_inp.weight": "block_sparse_moe.gate.weight", "ffn_gate.weight": "mlp.gate_proj.weight",
               "ffn_up.weight": "mlp.up_proj.weight", "ffn_down.weight": "mlp.down_proj.weight"}
QWEN3_NAMES = {"attn_q_norm.weight": "self_attn.q_norm.weight", "attn_k_norm.weight": "self_attn.k_norm.weight",
               "ffn_gate_inp.weight": "mlp.gate.weight"}
GPT_OSS_NAMES = {"post_attention_norm.weight": "post_attention_layernorm.weight", "attn_q.bias": "self_attn.q_proj.bias",
                 "attn_k.bias": "self_attn.k_proj.bias", "attn_v.bias": "self_attn.v_proj.bias",
                 "attn_output.bias": "self_attn.o_proj.bias", "attn_sinks.weight": "self_attn.sinks",
                 "ffn_gate_inp.weight": "mlp.router.weight", "ffn_gate_inp.bias": "mlp.router.bias"}


def layer_names(config):
    if config["model_type"] == "qwen3_moe":
        return {**LAYER_NAMES, **QWEN3_NAMES}
    if config["model_type"] == "gpt_oss":
        names = {**LAYER_NAMES, **GPT_OSS_NAMES}
        del names["ffn_norm.weight"]
        return names
    return LAYER_NAMES


EXPERT_NAMES = {"mixtral": ("block_sparse_moe.experts", "w1", "w3", "w2"),
                "qwen3_moe": ("mlp.experts", "gate_proj", "up_proj", "down_proj")}


def gguf_tensors(config, weights, interleave):
    """GGUF name -> (float32 array, hub names it came from)."""
    out = {"token_embd.weight": ["model.embed_tokens.weight"], "output_norm.weight": ["model.norm.weight"],
           "output.weight": ["lm_head.weight"]}
    result = {}
    for i in range(config["num_hidden_layers"]):
        p = f"model.layers.{i}."
        for short, name in layer_names(config).items():
            out[f"blk.{i}.{short}"] = [p + name]
        folder, *parts = EXPERT_NAMES.get(config["model_type"], ("",))
        for short, part in zip(("gate", "up", "down"), parts):
            out[f"blk.{i}.ffn_{short}_exps.weight"] = [f"{p}{folder}.{e}.{part}.weight"
                                                       for e in range(experts_of(config))]
        if config["model_type"] == "gpt_oss":
            pair, down = f"{p}mlp.experts.gate_up_proj", f"{p}mlp.experts.down_proj"
            for short, first in (("gate", 0), ("up", 1)):
                result[f"blk.{i}.ffn_{short}_exps.weight"] = (
                    weights[pair][:, :, first::2].transpose(1, 2).numpy(), [])
                result[f"blk.{i}.ffn_{short}_exps.bias"] = (weights[pair + "_bias"][:, first::2].numpy(), [])
            result[f"blk.{i}.ffn_down_exps.weight"] = (weights[down].transpose(1, 2).numpy(), [])
            result[f"blk.{i}.ffn_down_exps.bias"] = (weights[down + "_bias"].numpy(), [])
    for short, names in out.items():
        if not names or names[0] not in weights:
            continue
        parts = [weights[n].numpy() for n in names]
        if interleave and ".attn_q." in short:
            parts = [interleaved(parts[0], config["num_attention_heads"])]
        elif interleave and ".attn_k." in short:
            parts = [interleaved(parts[0], config["num_key_value_heads"])]
        result[short] = (np.stack(parts) if short.split(".")[-2].endswith("_exps") else parts[0], names)
    return result


def llama3_factors(config):
    """How llama.cpp's converter writes Llama 3's scaling: what each frequency is divided by."""
    r, d = config["rope_scaling"], config["head_dim"]
    low, high = r["original_max_position_embeddings"] / r["low_freq_factor"], \
        r["original_max_position_embeddings"] / r["high_freq_factor"]
    factors = []
    for i in range(0, d, 2):
        wavelength = 2 * np.pi * theta_of(config) ** (i / d)
        smooth = (r["original_max_position_embeddings"] / wavelength - r["low_freq_factor"]) / \
            (r["high_freq_factor"] - r["low_freq_factor"])
        factors.append(1 if wavelength < high else r["factor"] if wavelength > low
                       else 1 / ((1 - smooth) / r["factor"] + smooth))
    return np.array(factors, np.float32)


def add_scaling(w, config):
    r = config.get("rope_scaling") or config.get("rope_parameters") or {}
    if r.get("rope_type") == "llama3":
        w.add_tensor("rope_freqs.weight", llama3_factors(config))
    if r.get("rope_type") != "yarn":
        return
    w.add_rope_scaling_type(gguf.RopeScalingType.YARN)
    w.add_rope_scaling_factor(r["factor"])
    w.add_rope_scaling_orig_ctx_len(r["original_max_position_embeddings"])
    w.add_rope_scaling_yarn_beta_fast(r["beta_fast"])
    w.add_rope_scaling_yarn_beta_slow(r["beta_slow"])
    if "mscale_all_dim" in r:
        w.add_rope_scaling_yarn_log_mul(r["mscale_all_dim"])
    if "llama_4_scaling_beta" in r:
        w.add_attn_temperature_scale(r["llama_4_scaling_beta"])


def write_gguf(path, name, arch, config, weights, qtype):
    """Writes the file; returns the weights that a reader sees, as float32 under hub names and in hub order (but for
    gpt-oss's experts)."""
    w = gguf.GGUFWriter(path, arch)
    w.add_name(f"anemo golden {name}")
    w.add_vocab_size(config["vocab_size"])
    w.add_context_length(COMMON["max_position_embeddings"])
    w.add_embedding_length(config["hidden_size"])
    w.add_block_count(config["num_hidden_layers"])
    w.add_feed_forward_length(config["intermediate_size"])
    w.add_head_count(config["num_attention_heads"])
    w.add_head_count_kv(config["num_key_value_heads"])
    w.add_key_length(config["head_dim"])
    w.add_value_length(config["head_dim"])
    w.add_rope_dimension_count(config["head_dim"])
    w.add_rope_freq_base(theta_of(config))
    w.add_layer_norm_rms_eps(config["rms_norm_eps"])
    if config.get("sliding_window"):
        w.add_sliding_window(config["sliding_window"])
    if config["model_type"] == "ministral":
        w.add_sliding_window_pattern([t == "sliding_attention" for t in config["layer_types"]])
    if experts_of(config):
        w.add_expert_count(experts_of(config))
        w.add_expert_used_count(config["num_experts_per_tok"])
    if config["model_type"] in ("qwen3_moe", "gpt_oss"):
        w.add_expert_feed_forward_length(config.get("moe_intermediate_size", config["intermediate_size"]))
    w.add_bos_token_id(COMMON["bos_token_id"])
    w.add_eos_token_id(COMMON["eos_token_id"])
    add_scaling(w, config)
    seen, interleave = {}, arch in ("llama", "mistral3")
    for short, (array, names) in gguf_tensors(config, weights, interleave).items():
        float_only = array.ndim == 1 or "ffn_gate_inp" in short or short.endswith(".bias")
        t = Q.F32 if float_only else qtype
        data = gguf.quants.quantize(np.ascontiguousarray(array, np.float32), t)
        w.add_tensor(short, data, raw_dtype=t)
        back = gguf.quants.dequantize(data, t).reshape(array.shape)
        if interleave and ".attn_q." in short:
            back = half_split(back, config["num_attention_heads"])
        elif interleave and ".attn_k." in short:
            back = half_split(back, config["num_key_value_heads"])
        for n, part in zip(names, back if array.ndim == 3 else [back]):
            seen[n] = torch.from_numpy(np.ascontiguousarray(part, np.float32))
        if not names:
            assert np.array_equal(back, array), f"{name}: {short} is not exact"
    w.write_header_to_file()
    w.write_kv_data_to_file()
    w.write_tensors_to_file()
    w.close()
    return seen


# ---------------------------------------------------------------- the oracle

def load(folder):
    whole = "vision_config" in json.loads((pathlib.Path(folder) / "config.json").read_text())
    kind = AutoModelForImageTextToText if whole else AutoModelForCausalLM
    if "quantization_config" in (pathlib.Path(folder) / "config.json").read_text():
        return kind.from_pretrained(folder, dtype=torch.float32, attn_implementation="eager",
                                    quantization_config=Mxfp4Config(dequantize=True)).float().eval()
    return kind.from_pretrained(folder, dtype=torch.float32, attn_implementation="eager").eval()


def oracle(folder, tokens):
    """Logits [tokens, vocab], router choices [layers][tokens][top_k], smallest router gap."""
    model = load(folder)
    routes, gaps = [], []

    def on_gate(_module, _inputs, output):
        logits, _, chosen = output
        order = logits.sort(-1, descending=True).values
        gaps.append((order[:, :-1] - order[:, 1:])[:, :chosen.shape[-1]].min().item())
        routes.append(chosen.tolist())

    for name, module in model.named_modules():
        if name.endswith("mlp.gate") or name.endswith("mlp.router"):
            module.register_forward_hook(on_gate)
    with torch.no_grad():
        logits = model(torch.tensor([tokens])).logits[0]
    return logits.numpy(), routes, min(gaps, default=float("inf"))


def greedy(folder, prompt):
    """The most probable continuation, whatever ends it, and the smallest gap on its way: between the best two ids,
    and between router choices."""
    tokens = list(prompt)
    model = load(folder)
    with torch.no_grad():
        for _ in range(GREEDY_TOKENS):
            tokens.append(int(model(torch.tensor([tokens])).logits[0, -1].argmax()))
    logits, _, gap = oracle(folder, tokens)
    best = np.sort(logits[len(prompt) - 1:-1], -1)
    return tokens[len(prompt):], min(gap, float((best[:, -1] - best[:, -2]).min()))


def greedy_golden(spec, folder, tokens):
    prompt = spec.get("greedy_prompt", GREEDY_PROMPT)
    ids, gap = greedy(folder, tokens[:prompt])
    return {"prompt": prompt, "ids": ids, "smallest_gap": gap, "transformers": transformers.__version__}


def random_tokens(config, count, seed):
    g = torch.Generator().manual_seed(seed)
    return [1] + torch.randint(3, config["vocab_size"], (count - 1,), generator=g).tolist()


def make(name, spec, folder, seed):
    """One attempt; None when a router decision is too close."""
    config = spec["config"]
    weights = {n: t.to(spec["dtype"]).float() for n, t in random_weights(config, seed).items()}
    if spec.get("mxfp4"):
        weights |= {n: from_mxfp4(*to_mxfp4(t)) for n, t in weights.items() if is_mxfp4(n)}
    tokens, long_tokens = random_tokens(config, TOKENS, seed + 1), random_tokens(config, LONG_TOKENS, seed + 2)
    shutil.rmtree(folder, ignore_errors=True)
    write_checkpoint(folder, spec, weights, spec["dtype"])
    logits, routes, gap = oracle(folder, tokens)
    long_logits, _, long_gap = oracle(folder, long_tokens)
    if min(gap, long_gap) < MIN_GAP:
        return None
    continuation = greedy_golden(spec, folder, tokens)
    if continuation["smallest_gap"] < MIN_GAP:
        return None
    sd = float(logits.std())
    assert sd >= 1, f"{name}: the logits' standard deviation is {sd}"
    logits.astype("<f4").tofile(folder / "logits.f32")
    long_logits[LONG_ROWS].astype("<f4").tofile(folder / "long.f32")
    forms = []
    old = "arch" not in spec
    for qtype in (spec["gguf_float"], Q.Q8_0, Q.Q4_0) if old else (spec["gguf_float"],):
        if qtype is None:
            continue
        file = f"model-{qtype.name.lower()}.gguf"
        seen = write_gguf(folder / file, name, spec.get("arch", "llama"), config, weights, qtype)
        form = {"file": file, "logits": "logits.f32", "routes": routes}
        if qtype in (Q.Q8_0, Q.Q4_0):
            with tempfile.TemporaryDirectory() as tmp:
                write_checkpoint(pathlib.Path(tmp), {**spec, "shards": 1}, seen, torch.float32)
                q_logits, form["routes"], q_gap = oracle(tmp, tokens)
            if q_gap < MIN_GAP:
                return None
            form["logits"] = f"logits-{qtype.name.lower()}.f32"
            q_logits.astype("<f4").tofile(folder / form["logits"])
            gap = min(gap, q_gap)
        else:
            lost = [n for n in weights if n not in seen and ".mlp.experts." not in n]
            wrong = [n for n in seen if not torch.equal(seen[n], weights[n])]
            assert not lost and not wrong, f"{name}: {file} is not exact: {lost + wrong}"
        forms.append(form)
    return {"model": name, "made_by": "tests/oracle/make_model_goldens.py", "seed": seed, "sd": sd,
            "smallest_router_gap": None if gap == float("inf") else min(gap, long_gap),
            "versions": {"python": platform.python_version(), "torch": torch.__version__,
                         "transformers": transformers.__version__, "gguf": gguf_version(), "numpy": np.__version__},
            "vocab": config["vocab_size"], "tokens": tokens,
            "forms": [{"file": ".", "logits": "logits.f32", "routes": routes}] + forms,
            "greedy": continuation,
            "long": {"tokens": long_tokens, "rows": LONG_ROWS, "logits": "long.f32"}}


def gguf_version():
    from importlib.metadata import version
    return version("gguf")


def main():
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ap.add_argument("--out", default=pathlib.Path(__file__).resolve().parent.parent / "data" / "models")
    ap.add_argument("--greedy-only", action="store_true",
                    help="add the greedy continuation to goldens that are there, and change nothing else")
    ap.add_argument("names", nargs="*", default=list(MODELS), help="models to make; all of them")
    a = ap.parse_args()
    torch.set_num_threads(1)
    for name in a.names:
        spec = MODELS[name]
        folder = pathlib.Path(a.out) / name
        if a.greedy_only:
            golden = json.loads((folder / "golden.json").read_text())
            golden["greedy"] = greedy_golden(spec, folder, golden["tokens"])
            assert golden["greedy"]["smallest_gap"] >= MIN_GAP, name
            (folder / "golden.json").write_text(json.dumps(golden, separators=(",", ":")) + "\n")
            continue
        for seed in range(spec["seed"], spec["seed"] + 2000):
            golden = make(name, spec, folder, seed)
            if golden:
                break
        else:
            sys.exit(f"{name}: no seed gives a router gap of {MIN_GAP}")
        (folder / "golden.json").write_text(json.dumps(golden, separators=(",", ":")) + "\n")
        size = sum(f.stat().st_size for f in folder.iterdir())
        print(f"{name}: seed {golden['seed']}, logits' sd {golden['sd']:.2f}, "
              f"router gap {golden['smallest_router_gap']}, {size} bytes")


if __name__ == "__main__":
    main()
