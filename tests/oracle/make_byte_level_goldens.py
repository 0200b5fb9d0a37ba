#!/usr/bin/env python3
"""Writes tests/data/byte_level: a small byte-level vocabulary in three containers, and what the reference libraries
make of 20000 nasty strings.

  tiny.json         tokenizer.json: GPT-2's splitter, special and matched added tokens, pieces that no merge reaches
  tiny_tekken.json  the same pieces as tekken.json (more entries than the vocabulary has)
  tiny.gguf         the same pieces and merges under tokenizer.ggml.* keys, pre = gpt-4o
  goldens.json      the parts the strings are made of; for each tokenizer a hash of all ids; the ids of the first strings

Needs: tokenizers, tiktoken, mistral-common, sentencepiece, gguf.    make_byte_level_goldens.py [TEST_DATA]
TEST_DATA (see tests/support/test_data.c) has the real vocabularies; without it their entries are left out.

The strings come from a linear congruential generator that the test repeats (nasty() below). Code points are chosen
among those assigned in Unicode 14, which every library here knows. The libraries take text only: what is not UTF-8 is
encoded here by anemo's rule (each such byte one token, the stretches between them on their own)."""
import base64
import json
import os
import platform
import pydoc_data.topics
import random
import sys
import unicodedata

import gguf
import sentencepiece
import tiktoken
import tokenizers
from tokenizers import Regex, Tokenizer, models, pre_tokenizers, trainers

HERE = os.path.dirname(os.path.abspath(__file__))
OUT = os.path.join(HERE, "..", "data", "byte_level")
CONTRACTION = "(?i:'s|'t|'re|'ve|'m|'ll|'d)"
LETTERS = r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+"
CAPITALS = r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*"
SPACES = r"\s*[\r\n]+|\s+(?!\S)|\s+"
GPT2 = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
LLAMA3 = CONTRACTION + r"|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|" + SPACES
QWEN2 = CONTRACTION + r"|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|" + SPACES
TEKKEN = LETTERS + "|" + CAPITALS + r"|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|" + SPACES
O200K = (LETTERS + CONTRACTION + "?|" + CAPITALS + CONTRACTION + r"?|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|" + SPACES)
FRAGMENTS = [" ", "  ", "   ", " " * 9, "\n", "\n\n", "\r\n", "\t", " \n", "\n ", "\r", "\x0b", "\x0c", "\x85", "\u00a0", "\u2028", "\u3000",
             "\u180e", "\u200b", "\u200d", "\ufeff", "\x00", "\x01", "\x1f", "\x7f", "'s", "'S", "'ll", "'LL", "'re", "'\u017f", "'T", "'ve", "'d",
             "\u2019s", "the", " the", "The", "THE", "ing", " function", "value", "iPhone", "HTTPServer", "don't", "DON'T", "it's", "0", "1",
             "42", "123", "1234", "3.14159", "\u0663\u0664", "\u00bd", "\u2163", "/", "//", "./", "!!", "...", "()", "{}\n", "_", "__init__", "=", "==",
             "<|", "|>", "<s>", "</s>", "[INST]", "<tool>", " <sp>", "<pad>", "e\u0301", "\u00e9", "a\u0328\u0301", "\u212b", "\u0344", "\uac00", "\u1112\u1161\u11ab",
             "\U0001f642", "\U0001f469\u200d\U0001f4bb", "\U0001f44d\U0001f3fd", "\U0001f1eb\U0001f1f7", "Stra\u00dfe", "\u0421\u043b\u043e\u0432\u043e", "\u05e9\u05dc\u05d5\u05dd",
             "\u0645\u0631\u062d\u0628\u0627", "\u0928\u092e\u0938\u094d\u0924\u0947", "\u4f60\u597d\u4e16\u754c", "\u65e5\u672c\u8a9e", "\ud55c\uad6d\uc5b4", "\u0e44\u0e17\u0e22", "\u01c5", "\u01c6\u01c4", "\u02b0", "\U00010400\U00010428"]
SPECIAL = ["<unk>", "<s>", "</s>", "[INST]", "[/INST]"]
MATCHED = ["<tool>", " <sp>", "x==", "x==="]
STRINGS, SHOWN = 20000, 12


def pool():
    """Code points of all scripts: every 60th of those assigned, none of the private ones."""
    assigned = [c for c in range(0x20, 0x110000) if unicodedata.category(chr(c)) not in ("Cn", "Cs", "Co") and c != 0x2581]
    letters = [c for c in assigned if not 0x3400 <= c <= 0xd7a3 and not 0x17000 <= c <= 0x18d08 and c < 0x20000]
    return sorted(set(letters[::17] + assigned[::900] + list(range(0x20, 0x250, 3))))


class Generator:
    def __init__(self, seed):
        self.state = seed

    def below(self, n):
        self.state = (self.state * 6364136223846793005 + 1442695040888963407) % 2 ** 64
        return (self.state >> 33) % n


def nasty(points):
    """STRINGS pairs of (UTF-8 only?, bytes)."""
    g = Generator(20)
    for _ in range(STRINGS):
        mode, parts, n = g.below(4), [], 1 + g.below(20)
        for _ in range(n):
            kind = g.below(3) if mode == 3 else mode if mode < 2 else g.below(2)
            if kind == 0:
                parts.append(chr(points[g.below(len(points))]).encode())
            elif kind == 1:
                parts.append(FRAGMENTS[g.below(len(FRAGMENTS))].encode())
            else:
                parts.append(bytes([g.below(256)]))
        yield mode != 3, b"".join(parts)


def by_stretches(encode, byte_ids, data):
    """The ids of any bytes: text by `encode`, each byte outside UTF-8 by its own token."""
    ids, stretch = [], ""
    for c in data.decode("utf-8", "surrogateescape") + "\udc00":
        if not 0xdc00 <= ord(c) <= 0xdcff:
            stretch += c
            continue
        ids += encode(stretch) if stretch else []
        stretch = ""
        if ord(c) >= 0xdc80:
            ids.append(byte_ids[ord(c) - 0xdc00])
    return ids


def fnv(state, ids):
    for i in list(ids) + [0xffffffff]:
        state = ((state ^ i) * 0x100000001b3) % 2 ** 64
    return state


def measure(name, encode, byte_ids, strings, **more):
    state, shown = 0xcbf29ce484222325, []
    for utf8, data in strings:
        if byte_ids is None and not utf8:
            continue
        ids = by_stretches(encode, byte_ids, data) if byte_ids else encode(data.decode())
        state = fnv(state, ids)
        if len(shown) < SHOWN:
            shown.append(ids)
    print(name, "%016x" % state, flush=True)
    return {"name": name, **more, "hash": "%016x" % state, "ids": shown}


# ---------------------------------------------------------------- the small vocabulary

def alphabet():
    seen = [b for b in range(256) if 0x21 <= b <= 0x7e or 0xa1 <= b <= 0xff and b != 0xad]
    rest = [b for b in range(256) if b not in seen]
    return {**{b: chr(b) for b in seen}, **{b: chr(256 + i) for i, b in enumerate(rest)}}


def train():
    t = Tokenizer(models.BPE())
    t.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.Split(Regex(O200K), "isolated"),
                                               pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])
    text = [pydoc_data.topics.topics[k] for k in sorted(pydoc_data.topics.topics)][:60]
    text += ["".join(x for x in FRAGMENTS if x.isprintable())] * 40 + ["x = 1234\n\n\n    return    12\r\n"] * 40
    t.train_from_iterator(text, trainers.BpeTrainer(vocab_size=900, initial_alphabet=list(alphabet().values()), show_progress=False))
    model = json.loads(t.to_str())["model"]
    # ids: the 256 bytes by value, then merges in order, as the files of the world have it
    merges = [tuple(m) if isinstance(m, list) else tuple(m.split(" ")) for m in model["merges"]]
    pieces = [alphabet()[b] for b in range(256)] + [a + b for a, b in merges]
    assert len(set(pieces)) == len(pieces)
    rng = random.Random(5)
    unreachable = set(rng.sample(range(200, len(merges)), 25))  # what ignore_merges is about
    return pieces, [m for i, m in enumerate(merges) if i not in unreachable]


def added(i, content, special):
    return {"id": i, "content": content, "single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": special}


def split(pattern):
    return {"type": "Sequence", "pretokenizers": [
        {"type": "Split", "pattern": {"Regex": pattern}, "behavior": "Isolated", "invert": False},
        {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": False}]}


def tokenizer_json(pieces, merges):
    n = len(pieces)
    tokens = [added(n + i, x, True) for i, x in enumerate(SPECIAL)] + [added(n + len(SPECIAL) + i, x, False) for i, x in enumerate(MATCHED)]
    byte_level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}
    bos = n + SPECIAL.index("<s>")
    return {"version": "1.0", "truncation": None, "padding": None, "added_tokens": tokens, "normalizer": None, "pre_tokenizer": byte_level,
            "post_processor": {"type": "Sequence", "processors": [byte_level, {
                "type": "TemplateProcessing", "single": [{"SpecialToken": {"id": "<s>", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}],
                "pair": [{"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 1}}],
                "special_tokens": {"<s>": {"id": "<s>", "ids": [bos], "tokens": ["<s>"]}}}]},
            "decoder": byte_level,
            "model": {"type": "BPE", "dropout": None, "unk_token": None, "continuing_subword_prefix": None, "end_of_word_suffix": None,
                      "fuse_unk": False, "byte_fallback": False, "ignore_merges": False, "vocab": {p: i for i, p in enumerate(pieces)},
                      "merges": [" ".join(m) for m in merges]}}


def patched(base, patch):
    doc = {**base, **{k: v for k, v in patch.items() if k != "model"}}
    doc["model"] = {**base["model"], **patch.get("model", {})}
    t = Tokenizer.from_str(json.dumps(doc))
    t.encode_special_tokens = True  # special tokens in a text are text
    return t


def raw(piece):
    back = {c: b for b, c in alphabet().items()}
    return bytes(back[c] for c in piece)


def tekken_json(pieces):
    """A vocabulary of all but the last 50 entries, behind 30 special tokens."""
    vocab = [{"rank": i, "token_bytes": base64.b64encode(raw(p)).decode(), "token_str": None} for i, p in enumerate(pieces)]
    return {"config": {"pattern": TEKKEN, "num_vocab_tokens": len(vocab), "default_vocab_size": len(vocab) - 50 + 30,
                       "default_num_special_tokens": 30, "version": "v3"}, "vocab": vocab}


def write_gguf(path, pieces, merges):
    w = gguf.GGUFWriter(path, "llama")
    tokens = pieces + SPECIAL + MATCHED
    w.add_tokenizer_model("gpt2")
    w.add_tokenizer_pre("gpt-4o")
    w.add_token_list([t.encode() for t in tokens])
    w.add_token_types([1] * len(pieces) + [3] * len(SPECIAL) + [4] * len(MATCHED))
    w.add_token_merges([" ".join(m) for m in merges])
    w.add_bos_token_id(len(pieces) + 1)
    w.add_eos_token_id(len(pieces) + 2)
    w.write_header_to_file()
    w.write_kv_data_to_file()
    w.write_tensors_to_file()
    w.close()


# ---------------------------------------------------------------- real vocabularies

def gpt2_of_gguf(path):
    fields = gguf.GGUFReader(path).fields
    tokens = fields["tokenizer.ggml.tokens"].contents()
    merges = [tuple(m.split(" ")) for m in fields["tokenizer.ggml.merges"].contents()]
    t = Tokenizer(models.BPE(vocab={p: i for i, p in enumerate(tokens)}, merges=merges))
    t.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    return t, [tokens.index(alphabet()[b]) for b in range(256)]


def real_entries(root, strings):
    from mistral_common.tokens.tokenizers.tekken import Tekkenizer
    entries = []
    path = os.path.join(root, "tokenizers")
    for name in ("tekken_240718.json", "tekken_240911.json"):
        if os.path.exists(os.path.join(path, name)):
            t = Tekkenizer.from_file(os.path.join(path, name))
            entries.append(measure(name, lambda x: t.encode(x, bos=False, eos=False), [1000 + b for b in range(256)], strings,
                                   real="tokenizers/" + name, oracle="mistral-common"))
    t, byte_ids = gpt2_of_gguf(os.path.join(path, "ggml-vocab-gpt-2.gguf"))
    entries.append(measure("GPT-2", lambda x: t.encode(x).ids, byte_ids, strings, real="tokenizers/ggml-vocab-gpt-2.gguf",
                           oracle="tokenizers"))
    for name in ("tokenizer.model.v1", "mistral_instruct_tokenizer_240323.model.v3"):
        sp = sentencepiece.SentencePieceProcessor(model_file=os.path.join(path, name))
        entries.append(measure(name, sp.encode, None, strings, real="tokenizers/" + name, oracle="sentencepiece"))
    return entries


def main(root):
    os.makedirs(OUT, exist_ok=True)
    pieces, merges = train()
    base, tekken = tokenizer_json(pieces, merges), tekken_json(pieces)
    with open(os.path.join(OUT, "tiny.json"), "w", encoding="utf-8") as f:
        f.write(json.dumps(base, ensure_ascii=False, separators=(",", ":")) + "\n")
    with open(os.path.join(OUT, "tiny_tekken.json"), "w", encoding="utf-8") as f:
        f.write(json.dumps(tekken, separators=(",", ":")) + "\n")
    write_gguf(os.path.join(OUT, "tiny.gguf"), pieces, merges)

    points = pool()
    strings = list(nasty(points))
    whole = {"model": {"ignore_merges": True}}
    patches = [("GPT-2", {}), ("GPT-2, pattern", {"pre_tokenizer": split(GPT2)}), ("Llama 3", {"pre_tokenizer": split(LLAMA3), **whole}),
               ("Qwen 2", {"pre_tokenizer": split(QWEN2), "normalizer": {"type": "NFC"}}),
               ("tekken", {"pre_tokenizer": split(TEKKEN), **whole}), ("o200k", {"pre_tokenizer": split(O200K), **whole}),
               ("o200k, merges", {"pre_tokenizer": split(O200K)})]
    entries = []
    for name, patch in patches:
        t = patched(base, patch)
        entries.append(measure(name, lambda x: t.encode(x, add_special_tokens=False).ids, list(range(256)), strings,
                               file="tiny.json", patch=patch, oracle="tokenizers"))
    entries.append({**entries[5], "name": "GGUF gpt-4o", "file": "tiny.gguf", "patch": None})
    entries.append({**entries[4], "name": "GGUF tekken", "file": "tiny.gguf", "patch": None, "pre": "tekken"})
    ranks = {raw(p): i for i, p in enumerate(pieces[:-50])}
    t = tiktoken.Encoding(name="tiny", pat_str=TEKKEN, mergeable_ranks=ranks, special_tokens={})
    entries.append(measure("tekken.json", lambda x: [30 + i for i in t.encode_ordinary(x)], [30 + b for b in range(256)], strings,
                           file="tiny_tekken.json", oracle="tiktoken"))
    if root:
        entries += real_entries(root, strings)
    doc = {"made_by": "tests/oracle/make_byte_level_goldens.py",
           "versions": {"python": platform.python_version(), "unicode": unicodedata.unidata_version, "tokenizers": tokenizers.__version__,
                        **{p: __import__("importlib.metadata").metadata.version(p) for p in ("tiktoken", "mistral-common", "sentencepiece", "gguf")}},
           "seed": 20, "strings": STRINGS, "fragments": FRAGMENTS, "points": points, "entries": entries}
    lines = [json.dumps(k) + ": " + ("[\n" + ",\n".join(json.dumps(e, separators=(",", ":")) for e in v) + "]" if k == "entries" else
                                     json.dumps(v, separators=(",", ":"))) for k, v in doc.items()]
    with open(os.path.join(OUT, "goldens.json"), "w") as f:
        f.write("{\n" + ",\n".join(lines) + "\n}\n")


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else None)
