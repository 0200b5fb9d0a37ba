#!/usr/bin/env python3
"""Trains anemo's default model and writes it as a Hugging Face checkpoint (BF16 safetensors).

Architecture: Mixtral (8 experts, top-2, grouped-query attention, RoPE half-split, sliding window 64, RMSNorm).
The forward pass is written out here instead of taken from transformers because a sorted expert loop over short
packed sequences is several times faster on two CPU cores; `--check` proves that transformers computes the same.

Schedule: warm-up, constant, linear decay over the last --decay steps. A checkpoint lies in --work every 200 steps
with the optimiser state; a later call goes on from it, also with another --steps. So: train at the constant rate as
long as there is time, then call again with --steps N --decay K to land.

  train.py --work DIR --steps 100000 --decay 1500          train (resumable)
  train.py --work DIR --export OUT                         write config.json and model.safetensors
  train.py --check OUT                                     compare with transformers

Needs: torch, tokenizers, safetensors, numpy (and transformers for --check).
"""
import argparse
import json
import math
import pathlib
import random
import time

import numpy as np
import torch
import torch.nn.functional as F
from tokenizers import Tokenizer

import generate

HERE = pathlib.Path(__file__).resolve().parent
CONFIG = dict(
    architectures=["MixtralForCausalLM"], model_type="mixtral", vocab_size=485, hidden_size=128,
    intermediate_size=256, num_hidden_layers=4, num_attention_heads=4, num_key_value_heads=2, head_dim=32,
    hidden_act="silu", max_position_embeddings=256, sliding_window=64, rms_norm_eps=1e-5, rope_theta=10000.0,
    num_local_experts=8, num_experts_per_tok=2, tie_word_embeddings=False, bos_token_id=1, eos_token_id=2,
    torch_dtype="bfloat16", attention_dropout=0.0, router_aux_loss_coef=0.01)
SEQ = 128
EMBED_SD = 0.5
EOS = 2
HARD = {"sum": 2.5, "records": 2.5, "lookup": 3.0, "brackets": 1.5}  # drawn more often
PROMPT_WEIGHT = 0.05  # operands are random: learning to predict them is no use, but perplexity should mean something


def parameter_shapes(c=CONFIG):
    d, f, e = c["hidden_size"], c["intermediate_size"], c["num_local_experts"]
    q, kv = c["num_attention_heads"] * c["head_dim"], c["num_key_value_heads"] * c["head_dim"]
    shapes = {"embed": (c["vocab_size"], d), "norm": (d,), "head": (c["vocab_size"], d)}
    for i in range(c["num_hidden_layers"]):
        shapes |= {f"{i}.n1": (d,), f"{i}.q": (q, d), f"{i}.k": (kv, d), f"{i}.v": (kv, d), f"{i}.o": (d, q),
                   f"{i}.n2": (d,), f"{i}.router": (e, d), f"{i}.w1": (e, f, d), f"{i}.w3": (e, f, d),
                   f"{i}.w2": (e, d, f)}
    return shapes


def initial_parameters(seed):
    """Embeddings as large as what a layer adds: at the usual 0.02 the first layers drown which token a row is about, and
    looking things up was not learned in 4900 steps; at 0.5 it takes 100."""
    torch.manual_seed(seed)
    params = {}
    for name, shape in parameter_shapes().items():
        if len(shape) == 1:
            t = torch.ones(shape)
        else:
            t = torch.randn(shape) * {"embed": EMBED_SD, "head": 0.02}.get(name, shape[-1] ** -0.5)
            if name.endswith((".o", ".w2")):
                t *= (2 * CONFIG["num_hidden_layers"]) ** -0.5
        params[name] = t
    plant_previous_token_head(params)
    return {n: t.requires_grad_() for n, t in params.items()}


@torch.no_grad()
def plant_previous_token_head(p, strength=1.5, n_frequencies=4):
    """Head 0 of layer 0 starts by attending to the token before, found by rotary phase alone: the one ingredient of
    looking things up that noise hides for hundreds of steps more. All weights train on from there.

    Embedding dimension 0 is a constant; q and k read only it. With half-split pairs (i, i + half) and q turned back by
    one position, q_t . k_s is proportional to sum_f cos((t - 1 - s) theta_f), which is largest at s = t - 1. Only the
    fastest frequencies take part: the slow ones hardly tell neighbours apart."""
    half = CONFIG["head_dim"] // 2
    n = n_frequencies
    theta = CONFIG["rope_theta"] ** (-torch.arange(n) / half)
    p["embed"][:, 0] = 4 * EMBED_SD
    for name, first, second in (("0.q", theta.cos(), -theta.sin()), ("0.k", torch.ones(n), torch.zeros(n))):
        p[name][:2 * half] = 0
        p[name][:n, 0] = strength * first
        p[name][half:half + n, 0] = strength * second
    p["0.o"][:, :2 * half] *= 3


def rms_norm(x, w):
    return F.rms_norm(x, (x.shape[-1],), w, CONFIG["rms_norm_eps"])


def rope_tables():
    d = CONFIG["head_dim"]
    angle = torch.arange(SEQ)[:, None] * CONFIG["rope_theta"] ** (-torch.arange(0, d, 2) / d)[None, :]
    return torch.cat([angle.cos()] * 2, -1), torch.cat([angle.sin()] * 2, -1)


def rotate(x, cos, sin):
    a, b = x.chunk(2, -1)
    return x * cos + torch.cat([-b, a], -1) * sin


def attention(x, p, i, cos, sin, mask):
    b, t, _ = x.shape
    heads, kv, hd = CONFIG["num_attention_heads"], CONFIG["num_key_value_heads"], CONFIG["head_dim"]
    q = rotate((x @ p[f"{i}.q"].T).view(b, t, heads, hd).transpose(1, 2), cos, sin)
    k = rotate((x @ p[f"{i}.k"].T).view(b, t, kv, hd).transpose(1, 2), cos, sin)
    v = (x @ p[f"{i}.v"].T).view(b, t, kv, hd).transpose(1, 2)
    k, v = (z.repeat_interleave(heads // kv, 1) for z in (k, v))
    y = F.scaled_dot_product_attention(q, k, v, attn_mask=mask)
    return y.transpose(1, 2).reshape(b, t, heads * hd) @ p[f"{i}.o"].T


def experts(x, p, i):
    """Sorted rows, one dense product per expert. Returns the output and the load-balancing loss."""
    n_experts, k = CONFIG["num_local_experts"], CONFIG["num_experts_per_tok"]
    prob = (x @ p[f"{i}.router"].T).softmax(-1)
    weight, index = prob.topk(k, -1)
    weight = weight / weight.sum(-1, keepdim=True)
    flat = index.flatten()
    order = flat.argsort(stable=True)
    counts = torch.bincount(flat, minlength=n_experts)
    rows = order // k
    parts = []
    for e, xe in enumerate(x[rows].split(counts.tolist())):
        parts.append((F.silu(xe @ p[f"{i}.w1"][e].T) * (xe @ p[f"{i}.w3"][e].T)) @ p[f"{i}.w2"][e].T)
    y = torch.zeros_like(x).index_add(0, rows, torch.cat(parts) * weight.flatten()[order, None])
    load = counts.float() / flat.numel()
    return y, n_experts * (load * prob.mean(0)).sum()


def forward(p, ids, document):
    """ids, document [b, SEQ] -> logits [b, SEQ, vocab], balance loss. Documents packed in a row do not see each other."""
    cos, sin = rope_tables()
    delta = torch.arange(SEQ)[:, None] - torch.arange(SEQ)[None, :]
    mask = ((delta >= 0) & (delta < CONFIG["sliding_window"]))[None] & (document[:, :, None] == document[:, None, :])
    x = p["embed"][ids]
    balance = 0.0
    for i in range(CONFIG["num_hidden_layers"]):
        x = x + attention(rms_norm(x, p[f"{i}.n1"]), p, i, cos, sin, mask[:, None])
        h = rms_norm(x, p[f"{i}.n2"])
        y, b = experts(h.reshape(-1, h.shape[-1]), p, i)
        x = x + y.view_as(x)
        balance = balance + b
    return rms_norm(x, p["norm"]) @ p["head"].T, balance / CONFIG["num_hidden_layers"]


class Packer:
    """Packs whole documents (<s> prompt answer </s>) into rows of SEQ tokens; no document is cut."""

    def __init__(self, tokenizer):
        self.tokenizer = tokenizer

    def lessons(self, cases):
        """Per case: token ids, and for each piece of its lesson where it ends and whether it is an answer."""
        prefixes, ends = [], []
        for c in cases:
            text = ""
            for piece, is_answer in c.lesson:
                text += piece
                prefixes.append(text)
                ends.append(is_answer)
        encoded, at, lessons = self.tokenizer.encode_batch(prefixes), 0, []
        for c in cases:
            part = encoded[at:at + len(c.lesson)]
            lessons.append((part[-1].ids, [(len(e.ids), a) for e, a in zip(part, ends[at:])]))
            at += len(c.lesson)
        return lessons

    def rows(self, cases, count=None):
        ids, docs, weights, at = [], [], [], SEQ
        for n, (tokens, pieces) in enumerate(self.lessons(cases)):
            tokens = tokens + [EOS]
            pieces[-1] = (len(tokens), True)
            assert len(tokens) <= SEQ
            if at + len(tokens) > SEQ:
                if count is not None and len(ids) == count:
                    break
                ids.append(np.zeros(SEQ, np.int64))
                docs.append(np.full(SEQ, -1, np.int64))
                weights.append(np.zeros(SEQ, np.float32))
                at = 0
            ids[-1][at:at + len(tokens)] = tokens
            docs[-1][at:at + len(tokens)] = n
            begin = 1
            for end, is_answer in pieces:  # else long answers drown short ones
                weights[-1][at + begin:at + end] = (end - begin) ** -0.5 if is_answer else PROMPT_WEIGHT
                begin = end
            at += len(tokens)
        return tuple(torch.from_numpy(np.stack(z)) for z in (ids, docs, weights))


def training_cases(rng, count, odds):
    kinds = list(generate.KINDS)
    odds = [odds.get(k, 1.0) for k in kinds]
    levels = {"records": (30, 35, 20, 11, 4)}  # level 0, no events, first: reading before reckoning
    return [generate.make(k, rng.choices(range(5), levels.get(k, (0, 40, 30, 22, 8)))[0], rng, False)
            for k in rng.choices(kinds, odds, k=count)]


def batch(packer, seed, step, rows, odds):
    rng = random.Random(f"{seed}/batch/{step}")
    return packer.rows(training_cases(rng, rows * 5, odds), rows)


def loss_of(logits, ids, docs, weights):
    w = weights[:, 1:] * (docs[:, 1:] == docs[:, :-1])
    nll = F.cross_entropy(logits[:, :-1].reshape(-1, logits.shape[-1]), ids[:, 1:].reshape(-1), reduction="none")
    return (nll.view_as(w) * w).sum() / w.sum()


def orthogonalise(g, steps=5):
    """Newton-Schulz iteration towards the nearest semi-orthogonal matrix (Muon; Jordan et al. 2024), batched."""
    x = g / (g.norm(dim=(-2, -1), keepdim=True) + 1e-7)
    wide = x.shape[-2] <= x.shape[-1]
    x = x if wide else x.mT
    for _ in range(steps):
        a = x @ x.mT
        x = 3.4445 * x + (-4.7750 * a + 2.0315 * a @ a) @ x
    return x if wide else x.mT


class Optimiser:
    """Muon for the matrices inside the layers, Adam for the rest."""

    def __init__(self, params):
        self.params = params
        self.muon = [n for n, t in params.items()
                     if t.ndim >= 2 and n not in ("embed", "head") and not n.endswith("router")]
        self.state = {n: [torch.zeros_like(t), torch.zeros_like(t)] for n, t in params.items()}

    @torch.no_grad()
    def step(self, n_step, scale):
        for name, t in self.params.items():
            m, v = self.state[name]
            if name in self.muon:
                m.mul_(0.95).add_(t.grad)
                update = orthogonalise(t.grad + 0.95 * m) * max(1, t.shape[-2] / t.shape[-1]) ** 0.5
                t.mul_(1 - scale * 0.02 * 0.02).sub_(scale * 0.02 * update)
            else:
                m.mul_(0.9).add_(t.grad, alpha=0.1)
                v.mul_(0.98).addcmul_(t.grad, t.grad, value=0.02)
                mh, vh = m / (1 - 0.9 ** n_step), v / (1 - 0.98 ** n_step)
                t.sub_(scale * 3e-3 * mh / (vh.sqrt() + 1e-8))
            t.grad = None


@torch.no_grad()
def evaluate(p, packer, cases):
    """Share of cases whose answer and end are all argmax: the same as greedy exact match."""
    for case in cases:
        case.lesson = [(case.prompt, False), (case.answer, True)]
    ids, docs, weights = packer.rows(cases)
    wrong = torch.zeros(len(cases), dtype=torch.bool)
    for at in range(0, len(ids), 64):
        sl = slice(at, at + 64)
        guess = forward(p, ids[sl], docs[sl])[0][:, :-1].argmax(-1)
        bad = (guess != ids[sl, 1:]) & (weights[sl, 1:] > PROMPT_WEIGHT)
        wrong[docs[sl, 1:][bad]] = True
    return 1 - wrong.float().mean().item()


def report(p, packer, count):
    scores = {}
    for kind in generate.KINDS:
        for level in generate.LEVELS[:3]:
            scores[f"{kind}{level}"] = evaluate(p, packer, generate.distinct_cases(kind, level, count, 1, True))
    return scores


def lr_scale(step, steps, decay):
    return min(1.0, step / 100, max(0.0, (steps - step) / decay))


def train(a, packer):
    work = pathlib.Path(a.work)
    work.mkdir(parents=True, exist_ok=True)
    params = initial_parameters(a.seed)
    opt = Optimiser(params)
    state_file, step = work / "state.pt", 0
    if state_file.exists():
        saved = torch.load(state_file)
        step = saved["step"]
        for n in params:
            params[n].data.copy_(saved["params"][n])
            for old, new in zip(opt.state[n], saved["state"][n]):
                old.copy_(new)
    odds = HARD | {k: float(v) for k, v in (o.split("=") for o in a.odds)}
    curve = open(work / "loss.csv", "a")
    running, since, tokens = [], time.time(), 0
    while step < a.steps:
        step += 1
        ids, docs, weights = batch(packer, a.seed, step, a.rows, odds)
        logits, balance = forward(params, ids, docs)
        loss = loss_of(logits, ids, docs, weights)
        (loss + CONFIG["router_aux_loss_coef"] * balance).backward()
        opt.step(step, a.rate * lr_scale(step, a.steps, a.decay))
        running.append(loss.item())
        tokens += ids.numel()
        if step % 50 == 0:
            rate = tokens / (time.time() - since)
            print(f"step {step} loss {np.mean(running):.4f} balance {balance.item():.3f} {rate:.0f} tokens/s", flush=True)
            curve.write(f"{step},{np.mean(running):.4f}\n")
            curve.flush()
            running = []
        if step % 200 == 0 or step == a.steps:
            torch.save(dict(step=step, params={n: t.data for n, t in params.items()}, state=opt.state), work / "tmp.pt")
            (work / "tmp.pt").rename(state_file)
        if step % 400 == 0:
            print(" ".join(f"{k} {v:.2f}" for k, v in report(params, packer, 100).items()), flush=True)
            since, tokens = time.time(), 0
    print(json.dumps(report(params, packer, 500)))


def hugging_face_names(params):
    """Names and shapes as on the hub: classic Mixtral, one matrix per expert."""
    top = {"embed": "model.embed_tokens", "norm": "model.norm", "head": "lm_head"}
    layer = {"n1": "input_layernorm", "n2": "post_attention_layernorm", "q": "self_attn.q_proj",
             "k": "self_attn.k_proj", "v": "self_attn.v_proj", "o": "self_attn.o_proj",
             "router": "block_sparse_moe.gate"}
    out = {}
    for name, t in params.items():
        if name in top:
            out[top[name] + ".weight"] = t
            continue
        i, part = name.split(".")
        if part in layer:
            out[f"model.layers.{i}.{layer[part]}.weight"] = t
        else:
            for e in range(t.shape[0]):
                out[f"model.layers.{i}.block_sparse_moe.experts.{e}.{part}.weight"] = t[e]
    return out


def export(work, out):
    from safetensors.torch import save_file
    out = pathlib.Path(out)
    out.mkdir(parents=True, exist_ok=True)
    params = torch.load(pathlib.Path(work) / "state.pt")["params"]
    tensors = {n: t.to(torch.bfloat16).contiguous() for n, t in hugging_face_names(params).items()}
    save_file(tensors, out / "model.safetensors", metadata={"format": "pt"})
    (out / "config.json").write_text(json.dumps(CONFIG, indent=2) + "\n")


def check(folder, packer):
    """The exported model in transformers against this file's forward pass, one document."""
    from safetensors.torch import load_file
    from transformers import AutoModelForCausalLM
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, attn_implementation="eager")
    tensors = {n: t.float() for n, t in load_file(pathlib.Path(folder) / "model.safetensors").items()}
    p = {}
    for name, shape in parameter_shapes().items():
        hf = [k for k in hugging_face_names({name: torch.empty(shape)})]
        p[name] = torch.stack([tensors[k] for k in hf]) if len(shape) == 3 else tensors[hf[0]]
    worst = 0.0
    for case in generate.distinct_cases("records", 3, 5, 3, True):
        ids, docs, _ = packer.rows([case])
        n = int((docs[0] == 0).sum())
        with torch.no_grad():
            ours, theirs = forward(p, ids, docs)[0][0, :n], model(ids[:, :n]).logits[0]
        worst = max(worst, (ours - theirs).abs().max().item() / theirs.std().item())
    print(f"largest difference to transformers: {worst:.2e} of the logits' sd")
    assert worst < 1e-4


def main():
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ap.add_argument("--work")
    ap.add_argument("--steps", type=int, default=100000)
    ap.add_argument("--decay", type=int, default=1500)
    ap.add_argument("--rate", type=float, default=1.0, help="multiplies all learning rates")
    ap.add_argument("--odds", nargs="*", default=[], metavar="KIND=N", help="how often a kind is drawn")
    ap.add_argument("--rows", type=int, default=64, help=f"rows of {SEQ} tokens per step")
    ap.add_argument("--seed", type=int, default=1)
    ap.add_argument("--threads", type=int, default=2)
    ap.add_argument("--export", metavar="OUT")
    ap.add_argument("--check", metavar="FOLDER")
    a = ap.parse_args()
    torch.set_num_threads(a.threads)
    packer = Packer(Tokenizer.from_file(str(HERE.parent / "tokenizer.json")))
    if a.check:
        check(a.check, packer)
    elif a.export:
        export(a.work, a.export)
    else:
        train(a, packer)


if __name__ == "__main__":
    main()
