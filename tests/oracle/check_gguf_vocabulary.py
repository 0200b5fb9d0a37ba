#!/usr/bin/env python3
"""Does llama.cpp cut text as the original library does, with the vocabulary that `anemo quantize` puts into a GGUF file?

For each tokenizer file a model of one layer is made around it, converted, and the text encoded twice: by llama.cpp's
llama-tokenize from the GGUF, and by the library the file belongs to (tokenizers, sentencepiece, tiktoken by way of
mistral-common) from the file itself. Prints the number of ids and the first difference; exit 1 where there is one.

    check_gguf_vocabulary.py ANEMO LLAMA_TOKENIZE TEXT TOKENIZER...
"""
import json
import pathlib
import shutil
import subprocess
import sys
import tempfile

import torch
from mistral_common.tokens.tokenizers.tekken import Tekkenizer
from safetensors.torch import save_file
from sentencepiece import SentencePieceProcessor
from tokenizers import Tokenizer

anemo, llama_tokenize, text_file, *files = sys.argv[1:]
text = pathlib.Path(text_file).read_text()


def reference(path):
    """What the file must be called beside a model, how many tokens it has, its ids of the text."""
    if path.suffix != ".json":
        model = SentencePieceProcessor(model_file=str(path))
        return "tokenizer.model", model.vocab_size(), model.encode(text)
    if "vocab" in json.loads(path.read_text()):
        model = Tekkenizer.from_file(path)
        return "tekken.json", model.n_words, model.encode(text, False, False)
    model = Tokenizer.from_file(str(path))
    return "tokenizer.json", model.get_vocab_size(), model.encode(text, add_special_tokens=False).ids


def write_model(folder, vocab):
    d, ffn, heads = 32, 64, 2
    config = {"architectures": ["MistralForCausalLM"], "model_type": "mistral", "vocab_size": vocab, "hidden_size": d,
              "intermediate_size": ffn, "num_hidden_layers": 1, "num_attention_heads": heads, "num_key_value_heads": heads,
              "head_dim": d // heads, "hidden_act": "silu", "max_position_embeddings": 2048, "rms_norm_eps": 1e-5,
              "rope_theta": 10000.0, "sliding_window": None, "tie_word_embeddings": False, "bos_token_id": 1, "eos_token_id": 2}
    shapes = {"self_attn.q_proj": (d, d), "self_attn.k_proj": (d, d), "self_attn.v_proj": (d, d), "self_attn.o_proj": (d, d),
              "mlp.gate_proj": (ffn, d), "mlp.up_proj": (ffn, d), "mlp.down_proj": (d, ffn), "input_layernorm": (d,),
              "post_attention_layernorm": (d,)}
    tensors = {f"model.layers.0.{name}.weight": torch.randn(shape) for name, shape in shapes.items()}
    tensors |= {"model.embed_tokens.weight": torch.randn(vocab, d), "lm_head.weight": torch.randn(vocab, d),
                "model.norm.weight": torch.ones(d)}
    (folder / "config.json").write_text(json.dumps(config))
    save_file(tensors, folder / "model.safetensors", {"format": "pt"})


bad = 0
for path in map(pathlib.Path, files):
    with tempfile.TemporaryDirectory() as name:
        folder, gguf = pathlib.Path(name) / "model", pathlib.Path(name) / "model.gguf"
        beside, vocab, expected = reference(path)
        folder.mkdir()
        write_model(folder, vocab)
        shutil.copy(path, folder / beside)
        subprocess.run([anemo, "quantize", folder, gguf, "--to", "q8:g32", "--quiet"], check=True, stdout=subprocess.DEVNULL)
        out = subprocess.run([llama_tokenize, "-m", gguf, "-f", text_file, "--ids", "--no-bos", "--no-parse-special",
                              "--log-disable"], check=True, capture_output=True, text=True).stdout
        ids = json.loads(out[out.index("["):])
        first = next((i for i, (a, b) in enumerate(zip(ids, expected)) if a != b), min(len(ids), len(expected)))
        same = ids == expected
        bad += not same
        print(f"{path.name:45} {len(expected):8} ids", "the same" if same else f"differ at {first}: {ids[first:first + 5]}, expected {expected[first:first + 5]}")
sys.exit(bad > 0)
