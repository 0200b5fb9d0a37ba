#!/usr/bin/env python3
"""Writes tests/data/tokenizers: small vocabularies in three containers, and what the reference libraries make of texts.

  tiny.model   SentencePiece BPE, byte fallback, dummy prefix; control, user-defined and unused pieces
  bare.model   the same pieces without dummy prefix
  trim.model   no byte fallback (unknown characters), remove_extra_whitespaces
  tiny.gguf    tiny.model's vocabulary under tokenizer.ggml.* keys
  tiny.json    tiny.model's vocabulary as tokenizer.json (normalizer Prepend and Replace)
  goldens.json texts, their ids under each file and each patch of tokenizer.json, and decoded ids

Needs: sentencepiece, tokenizers, gguf, protobuf.   make_tokenizer_goldens.py [models/default/tokenizer.json]

The ids of a text are null where anemo deliberately differs from the libraries: U+2581 in a text with byte fallback
(models/tokenizers/encode.c), and a control token of one character, which tokenizers finds in the text. A text that begins with a space under Metaspace is encoded by an equal tokenizer.json whose
normalizer puts the prefix, since Metaspace itself drops that space."""
import io
import json
import os
import platform
import pydoc_data.topics
import random
import sys

import gguf
import sentencepiece as spm
import tokenizers
from sentencepiece import sentencepiece_model_pb2 as pb
from tokenizers import Tokenizer

HERE = os.path.dirname(os.path.abspath(__file__))
OUT = os.path.join(HERE, "..", "data", "tokenizers")
MARK = "\u2581"
CONTROL = ["[INST]", "[/INST]", "\u263a"]  # the last is a control piece of one code point
USER = ["<sep>", "==", "===", MARK + "<fill>", "x=="]
NORMAL, UNKNOWN, CONTROL_TYPE, USER_TYPE, UNUSED, BYTE = 1, 2, 3, 4, 5, 6

HAND = ["", " ", "  ", "   ", " " * 17, "\n", "\n\n", "\t", " \n", "\n ", "\t\t x", "Hello", " Hello", "  Hello", "Hello ",
        "Hello  ", " Hello ", "Hello world", "Hello  world", "Hello   world \n again", "the function returns the value",
        "</s>", "<s>", "<s></s>", "<unk>", "a</s>b", "[INST]", "[INST] hi [/INST]", "x[/INST]", "<0x41>", "<0x0A>",
        "<0xFF><0xFE>", "<sep>", "a<sep>b", "a <sep> b", "<sep><sep>", " <sep>", "<sep> x", "<sep", "sep>", "==", "===",
        "====", "=====", "a==b", "x==", "x===", "if x == y: return", " <fill>", "a <fill> b", "<fill>", "  <fill>",
        "0", "12", "1234567890", "3.14159", "v1.2.3", "a1b2", "é", "naïve café", "Ünïcödé", "Привет, мир!", "日本語の文章です。",
        "你好世界", "한국어", "ไทย", "عربى", "שלום", "नमस्ते", "🙂", "👩‍👩‍👧‍👦", "👍🏽", "\U0001f999 llama", "\u263a", "a\u263ab",
        "\u00a0", "a\u00a0b", "\u3000", "\u200b", "\u200d", "\ufeff", "\ufffd", "\ufffd\ufffd", "\U0010ffff", "e\u0301", "\r\n",
        "\x01\x02\x7f", "\x00", "a\x00b", MARK, MARK + "a", "a" + MARK + "b", " " + MARK, "\u2580\u2582",
        "def f(x):\n    return x + 1\n", "for (int i = 0; i < n; ++i) {\n\tsum += a[i];\n}", "https://example.org/a?b=c#d",
        "a" * 50, "ab" * 25, "-" * 40, "=" * 17, "the" * 9, "ththththe", "inging", "!?.,;:'\"()[]{}<>", "C:\\path\\to", "ALL CAPS WORDS",
        "mixedCaseWords", "trailing newline\n", "\u00dfQ\u0416\u0436 z", "q\u0416q"]


def corpus():
    text = "\n".join(pydoc_data.topics.topics[k] for k in sorted(pydoc_data.topics.topics))
    return [line for line in text.split("\n") if line.strip() and MARK not in line and len(line) < 200]


def texts(lines):
    rng = random.Random(20)
    out = list(HAND)
    page = "\n".join(lines)
    pool = list(" \n\t.,=<>[]()_-019aeinorstz") + ["  ", "é", "ß", "Ж", "字", "🙂", "\u200d", "<sep>", "==", " <fill>", "</s>", "[INST]",
                                                     "the", "ing", " of"]
    while len(out) < 200:
        if rng.random() < 0.4:
            at = rng.randrange(len(page) - 80)
            out.append(page[at:at + rng.randrange(1, 60)])
        else:
            out.append("".join(rng.choice(pool) for _ in range(rng.randrange(1, 25))))
    return out


# ---------------------------------------------------------------- vocabularies

def train(lines, **options):
    model = io.BytesIO()
    spm.SentencePieceTrainer.train(sentence_iterator=iter(lines), model_writer=model, model_type="bpe", split_digits=True,
                                   normalization_rule_name="identity", allow_whitespace_only_pieces=True,
                                   character_coverage=1.0, num_threads=1, minloglevel=2, **options)
    proto = pb.ModelProto()
    proto.ParseFromString(model.getvalue())
    proto.trainer_spec.ClearField("input")
    return proto


def write(name, data):
    with open(os.path.join(OUT, name), "wb") as f:
        f.write(data)


def mark_unused(proto):
    """Two pieces that others are made of, and one that nothing is made of."""
    for p in proto.pieces:
        if p.piece in ("th", "ing", MARK + "function"):
            p.type = UNUSED
    assert sum(p.type == UNUSED for p in proto.pieces) >= 2


def write_gguf(name, proto):
    w = gguf.GGUFWriter(os.path.join(OUT, name), "llama")
    w.add_tokenizer_model("llama")
    w.add_token_list([p.piece.encode() for p in proto.pieces])
    w.add_token_scores([p.score for p in proto.pieces])
    w.add_token_types([p.type for p in proto.pieces])
    w.add_bos_token_id(1)
    w.add_eos_token_id(2)
    w.add_unk_token_id(0)
    w.add_add_space_prefix(True)
    w.write_header_to_file()
    w.write_kv_data_to_file()
    w.write_tensors_to_file()
    w.close()


def added(i, content, special):
    return {"id": i, "content": content, "single_word": False, "lstrip": False, "rstrip": False, "normalized": False,
            "special": special}


PREPEND = {"type": "Prepend", "prepend": MARK}
REPLACE = {"type": "Replace", "pattern": {"String": " "}, "content": MARK}
DECODE = [{"type": "Replace", "pattern": {"String": MARK}, "content": " "}, {"type": "ByteFallback"}, {"type": "Fuse"}]
STRIP = {"type": "Strip", "content": " ", "start": 1, "stop": 0}


def tokenizer_json(proto):
    ids = {p.piece: i for i, p in enumerate(proto.pieces)}
    merges = []
    for i, p in sorted(enumerate(proto.pieces), key=lambda x: (-x[1].score, x[0])):
        if p.type in (NORMAL, UNUSED):
            merges += sorted(((p.piece[:k], p.piece[k:]) for k in range(1, len(p.piece))
                              if p.piece[:k] in ids and p.piece[k:] in ids), key=lambda m: (ids[m[0]], ids[m[1]]))
    special = [added(i, p.piece, p.type != USER_TYPE) for i, p in enumerate(proto.pieces)
               if p.type in (UNKNOWN, CONTROL_TYPE, USER_TYPE)]
    return {
        "version": "1.0", "truncation": None, "padding": None, "added_tokens": special,
        "normalizer": {"type": "Sequence", "normalizers": [PREPEND, REPLACE]}, "pre_tokenizer": None,
        "post_processor": {"type": "TemplateProcessing",
                           "single": [{"SpecialToken": {"id": "<s>", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}],
                           "pair": [{"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 1}}],
                           "special_tokens": {"<s>": {"id": "<s>", "ids": [1], "tokens": ["<s>"]}}},
        "decoder": {"type": "Sequence", "decoders": DECODE + [STRIP]},
        "model": {"type": "BPE", "dropout": None, "unk_token": "<unk>", "continuing_subword_prefix": None,
                  "end_of_word_suffix": None, "fuse_unk": True, "byte_fallback": True, "ignore_merges": False, "vocab": ids,
                  "merges": [" ".join(m) for m in merges]}}


# ---------------------------------------------------------------- patches of tokenizer.json

def metaspace(scheme, split):
    return {"type": "Metaspace", "replacement": MARK, "prepend_scheme": scheme, "split": split}


BARE = {"type": "Sequence", "decoders": DECODE}
FIRST = {"normalizer": None, "pre_tokenizer": metaspace("first", False)}
# name, patch of our file, patch whose prefix Metaspace does not drop (None: the same), lossless, all texts
PATCHES = [
    ("prepend", {}, None, True, True),
    ("metaspace first", FIRST, {}, True, True),
    ("metaspace first, ignore_merges", {**FIRST, "model": {"ignore_merges": True}}, {"model": {"ignore_merges": True}}, True, False),
    ("metaspace always, split", {"normalizer": None, "pre_tokenizer": metaspace("always", True)},
     {"pre_tokenizer": metaspace("never", True)}, True, False),
    ("metaspace always, split, ignore_merges", {"normalizer": None, "pre_tokenizer": metaspace("always", True),
                                                "model": {"ignore_merges": True}},
     {"pre_tokenizer": metaspace("never", True), "model": {"ignore_merges": True}}, True, False),
    ("metaspace never", {"normalizer": None, "pre_tokenizer": metaspace("never", False), "decoder": BARE}, None, True, False),
    ("metaspace decoder", {"normalizer": None, "pre_tokenizer": metaspace("always", False),
                           "decoder": {"type": "Sequence", "decoders": [{"type": "ByteFallback"}, metaspace("always", False)]}},
     {}, True, False),
    ("replace only", {"normalizer": REPLACE, "decoder": BARE}, None, True, False),
    ("spaces as they are", {"normalizer": None, "decoder": {"type": "Sequence", "decoders": [{"type": "ByteFallback"}, {"type": "Fuse"}]}},
     None, True, False),
    ("unknown, fused", {"model": {"byte_fallback": False}}, None, False, False),
    ("unknown, each", {"model": {"byte_fallback": False, "fuse_unk": False}}, None, False, False),
]


def patched(base, patch):
    doc = {**base, **{k: v for k, v in patch.items() if k != "model"}}
    doc["model"] = {**base["model"], **patch.get("model", {})}
    t = Tokenizer.from_str(json.dumps(doc))
    t.encode_special_tokens = True  # special tokens in a text are text
    return t


def hf_ids(t, equal, scheme, byte_fallback, text):
    if (byte_fallback and MARK in text) or CONTROL[2] in text:
        return None
    if equal is not None and " " in text:
        user = any(u.replace(MARK, " ") in text or u in text for u in USER)
        if scheme == "first" and user:
            return None if text.startswith(" ") else t.encode(text, add_special_tokens=False).ids
        t = equal
    return t.encode(text, add_special_tokens=False).ids


def hf_encode(name, file, base, patch, equal, lossless, some):
    t = patched(base, patch)
    other = None if equal is None else patched(base, equal)
    scheme = ((patch.get("pre_tokenizer") or {}).get("prepend_scheme"))
    fallback = patch.get("model", {}).get("byte_fallback", True)
    ids = [hf_ids(t, other, scheme, fallback and name != "spaces as they are", x) for x in some]
    entry = {"name": name, "files": [file], "oracle": "tokenizers", "lossless": lossless, "ids": ids}
    if patch:
        entry["patch"] = patch
    with_bos = t.encode("Hello", add_special_tokens=True).ids
    assert with_bos == [1] + t.encode("Hello", add_special_tokens=False).ids
    return entry


def spm_encode(name, files, proto, lossless, some):
    sp = spm.SentencePieceProcessor(model_proto=proto.SerializeToString())
    fallback = proto.trainer_spec.byte_fallback
    return {"name": name, "files": files, "oracle": "sentencepiece", "lossless": lossless,
            "ids": [None if fallback and MARK in x else sp.encode(x) for x in some]}


def decode_cases(n, pieces, decode, usable, seed):
    """Ids at random, every other time with spaces in front; kept where no broken UTF-8 had to be mended."""
    rng = random.Random(seed)
    marked = [i for i in usable if pieces[i].piece.startswith(MARK)]
    space = next(i for i in usable if pieces[i].piece == MARK)
    cases = []
    while len(cases) < n:
        ids = [rng.choice(usable) for _ in range(rng.randrange(1, 12))]
        if len(cases) % 2:
            ids = [rng.choice(marked) for _ in range(rng.randrange(1, 4))] + ids
        if len(cases) % 4 == 1:
            ids = [1, space] + ids
        text = decode(ids)
        if "\ufffd" not in text:
            cases.append({"ids": ids, "text": text})
    return cases


# ---------------------------------------------------------------- main

def dump(doc):
    """One line per text, per list of ids and per case: readable diffs."""
    lines = []
    for key, value in doc.items():
        if isinstance(value, list):
            rows = []
            for item in value:
                inner = None
                for long in ("ids", "cases"):
                    if isinstance(item, dict) and isinstance(item.get(long), list):
                        inner = long
                if inner:
                    head = json.dumps({k: v for k, v in item.items() if k != inner}, ensure_ascii=True)
                    body = ",\n".join("  " + json.dumps(x, separators=(",", ":")) for x in item[inner])
                    rows.append(head[:-1] + f', "{inner}": [\n{body}]}}')
                else:
                    rows.append("  " + json.dumps(item, ensure_ascii=True))
            lines.append(f"{json.dumps(key)}: [\n" + ",\n".join(rows) + "]")
        else:
            lines.append(f"{json.dumps(key)}: {json.dumps(value)}")
    return "{\n" + ",\n".join(lines) + "\n}\n"


def main(default_json):
    os.makedirs(OUT, exist_ok=True)
    lines = corpus()
    tiny = train(lines + ["café naïve Ünïcödé Привет мир 日本語"] * 20, vocab_size=700, byte_fallback=True, control_symbols=CONTROL,
                 user_defined_symbols=USER, remove_extra_whitespaces=False, add_dummy_prefix=True)
    base = tokenizer_json(tiny)
    mark_unused(tiny)
    bare = pb.ModelProto()
    bare.CopyFrom(tiny)
    bare.normalizer_spec.add_dummy_prefix = False
    trim = train(lines[:400], vocab_size=200, byte_fallback=False, control_symbols=CONTROL[:2], user_defined_symbols=USER[:3],
                 remove_extra_whitespaces=True, add_dummy_prefix=True, unk_surface=" ? ")
    write("tiny.model", tiny.SerializeToString())
    write("bare.model", bare.SerializeToString())
    write("trim.model", trim.SerializeToString())
    write_gguf("tiny.gguf", tiny)
    write("tiny.json", (json.dumps(base, ensure_ascii=False, separators=(",", ":")) + "\n").encode())

    some = texts(lines)
    few = some[:len(HAND)]
    encode = [spm_encode("tiny", ["tiny.model", "tiny.gguf"], tiny, True, some), spm_encode("bare", ["bare.model"], bare, True, few),
              spm_encode("trim", ["trim.model"], trim, False, few)]
    for name, patch, equal, lossless, everything in PATCHES:
        encode.append(hf_encode(name, "tiny.json", base, patch, equal, lossless, some if everything else few))
    with open(default_json, encoding="utf-8") as f:
        default = json.load(f)
    encode.append(hf_encode("default model", "default", default, {}, None, True, some))

    sp = spm.SentencePieceProcessor(model_proto=tiny.SerializeToString())
    sp_trim = spm.SentencePieceProcessor(model_proto=trim.SerializeToString())
    hf = patched(base, {})
    plain = [i for i, p in enumerate(tiny.pieces) if p.type in (NORMAL, CONTROL_TYPE, BYTE) and p.piece != "<0x20>"]
    decode = [
        {"files": ["tiny.model", "tiny.gguf"], "oracle": "sentencepiece",
         "cases": decode_cases(60, tiny.pieces, sp.decode, range(len(tiny.pieces)), 1)},
        {"files": ["trim.model"], "oracle": "sentencepiece",
         "cases": decode_cases(40, trim.pieces, sp_trim.decode, range(len(trim.pieces)), 2)},
        {"files": ["tiny.json"], "oracle": "tokenizers",
         "cases": decode_cases(40, tiny.pieces, lambda ids: hf.decode(ids, skip_special_tokens=True), plain, 3)}]
    doc = {"made_by": "tests/oracle/make_tokenizer_goldens.py",
           "versions": {"python": platform.python_version(), "sentencepiece": spm.__version__, "tokenizers": tokenizers.__version__,
                        "gguf": __import__("importlib.metadata").metadata.version("gguf")},
           "texts": some, "encode": encode, "decode": decode}
    write("goldens.json", dump(doc).encode())


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else os.path.join(HERE, "..", "..", "models", "default", "tokenizer.json"))
