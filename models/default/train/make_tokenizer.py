#!/usr/bin/env python3
"""Trains the default model's tokenizer.json: SentencePiece-style BPE with byte fallback, as Mistral's.

Words become one token each; digits, capital letters of random strings and brackets stay single, because the
merges are learned from words alone. Needs: tokenizers.   make_tokenizer.py OUT.json"""
import random
import sys

from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

import generate

WORDS = "sum know sort copy turn close max have".split() + generate.COLOURS + generate.NAMES
VOCAB = 512


def main(out):
    bpe = Tokenizer(models.BPE(byte_fallback=True, unk_token="<unk>", fuse_unk=True))
    # Only for learning the merges: nothing is merged across a space, a digit or a sign.
    bpe.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.Punctuation(), pre_tokenizers.Digits(True)])
    special = ["<unk>", "<s>", "</s>"]
    byte_tokens = [f"<0x{b:02X}>" for b in range(256)]
    trainer = trainers.BpeTrainer(vocab_size=VOCAB, special_tokens=special + byte_tokens, show_progress=False,
                                  initial_alphabet=sorted(set(generate.LETTERS + generate.LETTERS.lower() +
                                                              "0123456789+-=,.;?()[]{}<>\u2581")))
    rng = random.Random(0)
    words = ["\u2581" + rng.choice(WORDS) for _ in range(20000)] + ["\u2581", "\n"] * 50
    bpe.train_from_iterator(words, trainer)
    bpe.pre_tokenizer = None
    bpe.normalizer = normalizers.Sequence([normalizers.Prepend("\u2581"), normalizers.Replace(" ", "\u2581")])
    bpe.decoder = decoders.Sequence([decoders.Replace("\u2581", " "), decoders.ByteFallback(), decoders.Fuse(),
                                     decoders.Strip(" ", 1, 0)])
    bpe.post_processor = processors.TemplateProcessing(single="<s> $A", pair="<s> $A <s>:1 $B:1",
                                                       special_tokens=[("<s>", 1)])
    # In the vocabulary the bytes are ordinary tokens; only these three are special.
    import json
    doc = json.loads(bpe.to_str(pretty=True))
    doc["added_tokens"] = [t for t in doc["added_tokens"] if t["content"] in special]
    with open(out, "w") as f:
        json.dump(doc, f, ensure_ascii=False, indent=1)
        f.write("\n")


if __name__ == "__main__":
    main(sys.argv[1])
