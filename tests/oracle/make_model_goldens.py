#!/usr/bin/env python3
"""Random tiny checkpoints and the logits that Hugging Face transformers computes from them.

For each model in MODELS it writes tests/data/models/NAME/
    config.json, *.safetensors   a checkpoint as it would be downloaded (classic hub names, one matrix per expert)
    *.gguf                       the same weights as GGUF v3: float, Q8_0 and Q4_0 (q and k rows interleaved, experts
                                 merged, norms and router F32), written by the `gguf` package
    *.f32                        logits, little-endian float32 [rows, vocab]
    golden.json                  token ids, which logits belong to which file, router choices, versions, seeds

The oracle is transformers in float32 with eager attention, loading the directory just written. Quantised forms are
dequantised by `gguf.quants`, written as a float32 checkpoint into a temporary directory, and loaded from there, so
that the golden is "dequantise, then float32": what a kernel with unquantised activations must give.

A random model says little unless every part of it matters, so the initial values are scaled until the logits' standard
deviation is at least 1 and the attention is far from uniform; and a router whose choice hangs on the last bit tests
nothing, so seeds are tried until every decision (second against third, and first against second) is apart by MIN_GAP.

    make_model_goldens.py [--out DIR]        needs torch, transformers, safetensors, gguf, numpy
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
from transformers import AutoModelForCausalLM

TOKENS = 40       # five windows of 8
LONG_TOKENS = 200 # beyond three 64-token KV pages; logits at LONG_ROWS only
LONG_ROWS = [62, 63, 64, 65, 71, 72, 127, 128, 129, 191, 192, 198, 199]
MIN_GAP = 2e-3
Q = gguf.GGMLQuantizationType

MODELS = {
    # Sharded F32, no window, three query heads per kv head, v5 style of writing theta.
    "mistral-full": dict(
        dtype=torch.float32, shards=2, gguf_float=Q.F32, seed=101, theta_in="rope_parameters",
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
}
COMMON = dict(hidden_act="silu", max_position_embeddings=512, bos_token_id=1, eos_token_id=2, attention_dropout=0.0)


# ---------------------------------------------------------------- weights

def random_weights(config, seed):
    """Hub names -> float32 tensors. Gains: attention logits of sd about 2, logits of sd about 2."""
    g = torch.Generator().manual_seed(seed)
    d, f = config["hidden_size"], config["intermediate_size"]
    hd = config["head_dim"]
    q, kv = config["num_attention_heads"] * hd, config["num_key_value_heads"] * hd

    def matrix(n, k, gain):
        return torch.randn(n, k, generator=g) * gain * k ** -0.5

    def norm():
        return 0.6 + 0.8 * torch.rand(d, generator=g)

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
        if config["model_type"] == "mixtral":
            w[p + "block_sparse_moe.gate.weight"] = matrix(config["num_local_experts"], d, 1.5)
            experts = [f"{p}block_sparse_moe.experts.{e}." for e in range(config["num_local_experts"])]
        else:
            experts = [p + "mlp."]
        for e in experts:
            gate, up, down = ("w1", "w3", "w2") if "experts" in e else ("gate_proj", "up_proj", "down_proj")
            w[f"{e}{gate}.weight"] = matrix(f, d, 1.5)
            w[f"{e}{up}.weight"] = matrix(f, d, 1.5)
            w[f"{e}{down}.weight"] = matrix(d, f, 1.0)
    return w


def write_checkpoint(folder, spec, weights, dtype):
    folder.mkdir(parents=True, exist_ok=True)
    config = {**COMMON, **spec["config"], "torch_dtype": str(dtype).removeprefix("torch.")}
    if spec["theta_in"] == "rope_parameters":
        config["rope_parameters"] = {"rope_type": "default", "rope_theta": config.pop("rope_theta")}
    (folder / "config.json").write_text(json.dumps(config, indent=1) + "\n")
    tensors = {n: t.to(dtype).contiguous() for n, t in weights.items()}
    if spec["shards"] == 1:
        save_torch(tensors, folder / "model.safetensors", metadata={"format": "pt"})
        return
    names, place = sorted(tensors), {}
    for s in range(spec["shards"]):
        file = f"model-{s + 1:05d}-of-{spec['shards']:05d}.safetensors"
        part = {n: tensors[n] for n in names[s::spec["shards"]]}
        save_torch(part, folder / file, metadata={"format": "pt"})
        place |= {n: file for n in part}
    total = sum(t.numel() * t.element_size() for t in tensors.values())
    index = {"metadata": {"total_size": total}, "weight_map": dict(sorted(place.items()))}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index, indent=1) + "\n")


# ---------------------------------------------------------------- GGUF

def interleaved(rows, heads):
    """Rows of a q or k matrix from half-split order (all first halves, all second) to pairs (2i, 2i+1)."""
    hd = rows.shape[0] // heads
    return rows.reshape(heads, 2, hd // 2, -1).swapaxes(1, 2).reshape(rows.shape)


def half_split(rows, heads):
    hd = rows.shape[0] // heads
    return rows.reshape(heads, hd // 2, 2, -1).swapaxes(1, 2).reshape(rows.shape)


LAYER_NAMES = {"attn_norm": "input_layernorm", "ffn_norm": "post_attention_layernorm", "attn_q": "self_attn.q_proj",
               "attn_k": "self_attn.k_proj", "attn_v": "self_attn.v_proj", "attn_output": "self_attn.o_proj",
               "ffn_gate_inp": "block_sparse_moe.gate", "ffn_gate": "mlp.gate_proj", "ffn_up": "mlp.up_proj",
               "ffn_down": "mlp.down_proj"}
EXPERT_NAMES = {"ffn_gate_exps": "w1", "ffn_up_exps": "w3", "ffn_down_exps": "w2"}


def gguf_tensors(config, weights):
    """GGUF name -> (float32 array, hub names it came from)."""
    out = {"token_embd.weight": ["model.embed_tokens.weight"], "output_norm.weight": ["model.norm.weight"],
           "output.weight": ["lm_head.weight"]}
    for i in range(config["num_hidden_layers"]):
        for short, name in LAYER_NAMES.items():
            out[f"blk.{i}.{short}.weight"] = [f"model.layers.{i}.{name}.weight"]
        for short, part in EXPERT_NAMES.items():
            out[f"blk.{i}.{short}.weight"] = [f"model.layers.{i}.block_sparse_moe.experts.{e}.{part}.weight"
                                              for e in range(config.get("num_local_experts", 0))]
    result = {}
    for short, names in out.items():
        if not names or names[0] not in weights:
            continue
        parts = [weights[n].numpy() for n in names]
        if ".attn_q." in short:
            parts = [interleaved(parts[0], config["num_attention_heads"])]
        elif ".attn_k." in short:
            parts = [interleaved(parts[0], config["num_key_value_heads"])]
        result[short] = (np.stack(parts) if short.split(".")[-2].endswith("_exps") else parts[0], names)
    return result


def write_gguf(path, name, config, weights, qtype):
    """Writes the file; returns the weights that a reader sees, as float32 under hub names and in hub order."""
    w = gguf.GGUFWriter(path, "llama")
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
    w.add_rope_freq_base(config["rope_theta"])
    w.add_layer_norm_rms_eps(config["rms_norm_eps"])
    if config["sliding_window"]:
        w.add_sliding_window(config["sliding_window"])
    if "num_local_experts" in config:
        w.add_expert_count(config["num_local_experts"])
        w.add_expert_used_count(config["num_experts_per_tok"])
    w.add_bos_token_id(COMMON["bos_token_id"])
    w.add_eos_token_id(COMMON["eos_token_id"])
    seen = {}
    for short, (array, names) in gguf_tensors(config, weights).items():
        float_only = array.ndim == 1 or "ffn_gate_inp" in short
        t = Q.F32 if float_only else qtype
        data = gguf.quants.quantize(np.ascontiguousarray(array, np.float32), t)
        w.add_tensor(short, data, raw_dtype=t)
        back = gguf.quants.dequantize(data, t).reshape(array.shape)
        if ".attn_q." in short:
            back = half_split(back, config["num_attention_heads"])
        elif ".attn_k." in short:
            back = half_split(back, config["num_key_value_heads"])
        for n, part in zip(names, back if array.ndim == 3 else [back]):
            seen[n] = torch.from_numpy(np.ascontiguousarray(part, np.float32))
    w.write_header_to_file()
    w.write_kv_data_to_file()
    w.write_tensors_to_file()
    w.close()
    return seen


# ---------------------------------------------------------------- the oracle

def oracle(folder, tokens):
    """Logits [tokens, vocab], router choices [layers][tokens][top_k], smallest router gap."""
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, attn_implementation="eager").eval()
    routes, gaps = [], []

    def on_gate(_module, _inputs, output):
        logits, _, chosen = output
        order = logits.sort(-1, descending=True).values
        gaps.append((order[:, :-1] - order[:, 1:])[:, :chosen.shape[-1]].min().item())
        routes.append(chosen.tolist())

    for name, module in model.named_modules():
        if name.endswith("mlp.gate"):
            module.register_forward_hook(on_gate)
    with torch.no_grad():
        logits = model(torch.tensor([tokens])).logits[0]
    return logits.numpy(), routes, min(gaps, default=float("inf"))


def random_tokens(config, count, seed):
    g = torch.Generator().manual_seed(seed)
    return [1] + torch.randint(3, config["vocab_size"], (count - 1,), generator=g).tolist()


def make(name, spec, folder, seed):
    """One attempt; None when a router decision is too close."""
    config = spec["config"]
    weights = {n: t.to(spec["dtype"]).float() for n, t in random_weights(config, seed).items()}
    tokens, long_tokens = random_tokens(config, TOKENS, seed + 1), random_tokens(config, LONG_TOKENS, seed + 2)
    shutil.rmtree(folder, ignore_errors=True)
    write_checkpoint(folder, spec, weights, spec["dtype"])
    logits, routes, gap = oracle(folder, tokens)
    long_logits, _, long_gap = oracle(folder, long_tokens)
    if min(gap, long_gap) < MIN_GAP:
        return None
    sd = float(logits.std())
    assert sd >= 1, f"{name}: the logits' standard deviation is {sd}"
    logits.astype("<f4").tofile(folder / "logits.f32")
    long_logits[LONG_ROWS].astype("<f4").tofile(folder / "long.f32")
    forms = []
    for qtype in (spec["gguf_float"], Q.Q8_0, Q.Q4_0):
        file = f"model-{qtype.name.lower()}.gguf"
        seen = write_gguf(folder / file, name, config, weights, qtype)
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
            assert all(torch.equal(seen[n], t) for n, t in weights.items()), f"{name}: {file} is not exact"
        forms.append(form)
    return {"model": name, "made_by": "tests/oracle/make_model_goldens.py", "seed": seed, "sd": sd,
            "smallest_router_gap": None if gap == float("inf") else min(gap, long_gap),
            "versions": {"python": platform.python_version(), "torch": torch.__version__,
                         "transformers": transformers.__version__, "gguf": gguf_version(), "numpy": np.__version__},
            "vocab": config["vocab_size"], "tokens": tokens,
            "forms": [{"file": ".", "logits": "logits.f32", "routes": routes}] + forms,
            "long": {"tokens": long_tokens, "rows": LONG_ROWS, "logits": "long.f32"}}


def gguf_version():
    from importlib.metadata import version
    return version("gguf")


def main():
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ap.add_argument("--out", default=pathlib.Path(__file__).resolve().parent.parent / "data" / "models")
    a = ap.parse_args()
    torch.set_num_threads(1)
    for name, spec in MODELS.items():
        folder = pathlib.Path(a.out) / name
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
