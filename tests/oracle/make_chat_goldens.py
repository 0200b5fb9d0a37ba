#!/usr/bin/env python3
"""Writes tests/data/byte_level/chats.json: what the makers' encoders make of chats and of gaps to fill.

Needs: mistral-common, transformers, tokenizers.    make_chat_goldens.py TEST_DATA [LLAMA31_JINJA]

mistral-common encodes for every version of Mistral's form: on tiny_tekken.json with another version and special tokens
(`patch`), and on the real vocabularies of TEST_DATA. transformers' apply_chat_template encodes for Llama 3 and gpt-oss,
on tiny.json with their special tokens, from templates written below after the published formats; Llama 3.1's comes from
LLAMA31_JINJA (vllm-project/vllm, examples/tool_chat_template_llama3.1_json.jinja), whose entry is left out without it."""
import importlib.metadata
import json
import os
import platform
import sys
import tempfile

from mistral_common.protocol.fim.request import FIMRequest
from mistral_common.protocol.instruct.request import ChatCompletionRequest
from mistral_common.tokens.tokenizers.mistral import MistralTokenizer
from transformers import PreTrainedTokenizerFast

from make_byte_level_goldens import LLAMA3, O200K, added, split

DATA = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "data", "byte_level")


def chat(*turns):
    roles = {"s": "system", "u": "user", "a": "assistant"}
    return [{"role": roles[t[0]], "content": t[1:]} for t in turns]


CHATS = [
    chat("uHello"), chat("u"), chat("u Hello, how are you? "), chat("sBe brief.", "uHello"),
    chat("sBe brief.\n", "uWho?", "aMe.", "uAnd\n\nthen?"), chat("uone", "atwo  ", "uthree", "a four", "ufive "),
    chat("sFirst rule.", "sSecond rule.", "uGo"), chat("uone", "utwo", "athree", "afour", "ufive", "usix"),
    chat("uone", "atwo", "sNow in French.", "uthree"), chat("uSay [INST] and </s>\n<s>", "a[/INST] \u2603", "u\u00dcn\u00efc\u00f6d\u00e9 \U0001f642"),
    chat("s  spaced  ", "u\n\n  def f(x):\n    return x\n", "a```\n", "u\t"),
]
GAPS = [("def f(", "return x"), ("", "x"), ("a", ""), ("def add(a, b):\n    ", "\n    return s\n"), ("x ", " y"), ("1", "\u00e9\U0001f642")]
HEADER = "{{ '<|start_header_id|>' + %s + '<|end_header_id|>\\n\\n' }}"
JINJA_LLAMA3 = ("{{ bos_token }}{% for m in messages %}" + HEADER % "m.role" + "{{ m.content | trim + '<|eot_id|>' }}{% endfor %}" + HEADER % "'assistant'")
JINJA_HARMONY = ("{{ '<|start|>system<|message|>You are ChatGPT, a large language model trained by OpenAI.\\nKnowledge cutoff: 2024-06\\n"
                 "Current date: 2025-06-28\\n\\nReasoning: medium\\n\\n# Valid channels: analysis, commentary, final. Channel must be included for every "
                 "message.<|end|>' }}{% for m in messages %}{% if m.role == 'system' %}{{ '<|start|>developer<|message|># Instructions\\n\\n' }}"
                 "{% elif m.role == 'assistant' %}{{ '<|start|>assistant<|channel|>final<|message|>' }}{% else %}{{ '<|start|>user<|message|>' }}{% endif %}"
                 "{{ m.content + '<|end|>' }}{% endfor %}{{ '<|start|>assistant' }}")
SPECIAL_LLAMA3 = ["<|begin_of_text|>", "<|end_of_text|>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"]
SPECIAL_HARMONY = ["<|startoftext|>", "<|endoftext|>", "<|return|>", "<|channel|>", "<|start|>", "<|end|>", "<|message|>"]
LATER = ["[ARGS]", "[CALL_ID]", "[THINK]", "[/THINK]", "[MODEL_SETTINGS]", "[/MODEL_SETTINGS]"]


def mistral_entry(name, tokenizer, effort=None, **more):
    def ids(i):
        try:
            return tokenizer.encode_chat_completion(ChatCompletionRequest(messages=CHATS[i], reasoning_effort=effort)).tokens
        except Exception as e:  # the oracle refuses this chat
            print(name, i, type(e).__name__, str(e)[:100])
            return None
    entry = {"name": name, "oracle": "mistral-common", **({"effort": effort} if effort else {}), **more, "ids": [ids(i) for i in range(len(CHATS))]}
    if name in ("mistral-v1", "mistral-v2"):  # no [SUFFIX] in these vocabularies: v1 says so, v2 puts <unk> for it
        return entry
    entry["gaps"] = [tokenizer.encode_fim(FIMRequest(prompt=p, suffix=s)).tokens for p, s in GAPS]
    return entry


def tekken_entry(base, version, effort=None):
    early = ["<unk>", "<s>", "</s>", "[INST]", "[/INST]", "[AVAILABLE_TOOLS]", "[/AVAILABLE_TOOLS]", "[TOOL_RESULTS]", "[/TOOL_RESULTS]", "[TOOL_CALLS]",
             "[IMG]", "<pad>", "[IMG_BREAK]", "[IMG_END]", "[PREFIX]", "[MIDDLE]", "[SUFFIX]", "[SYSTEM_PROMPT]", "[/SYSTEM_PROMPT]", "[TOOL_CONTENT]"]
    patch = {"config": {**base["config"], "version": version}}
    if version == "v15":
        patch["model_settings_builder"] = {"reasoning_effort": {"type": "enum", "accepts_none": True, "default": "none", "values": ["none", "high"]},
                                           "json_schema": {"type": "json_schema", "accepts_none": False, "default": None}}
    if version not in ("v3", "v7"):
        patch["special_tokens"] = [{"rank": i, "token_str": t, "is_control": True} for i, t in enumerate(early + LATER)]
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "tekken.json")
        with open(path, "w") as f:
            json.dump({**base, **patch}, f)
        t = MistralTokenizer.from_file(path)
    name = "mistral-v3-tekken" if version == "v3" else "mistral-v7-tekken" if version == "v7" else "mistral-" + version
    return mistral_entry(name, t, effort, file="tiny_tekken.json", patch=patch)


def jinja_entry(name, base, special, pattern, template, **more):
    n = len(base["model"]["vocab"])
    patch = {"added_tokens": [added(n + i, t, True) for i, t in enumerate(special)], "pre_tokenizer": split(pattern), "post_processor": None}
    doc = {**base, **patch, "model": {**base["model"], "ignore_merges": True}}
    with tempfile.NamedTemporaryFile("w", suffix=".json") as f:
        json.dump(doc, f)
        f.flush()
        t = PreTrainedTokenizerFast(tokenizer_file=f.name, bos_token=special[0])
    def ids(messages):
        text = t.apply_chat_template(messages, chat_template=template, add_generation_prompt=True, tokenize=False)
        return t.backend_tokenizer.encode(text, add_special_tokens=False).ids
    return {"name": name, "oracle": "transformers", "file": "tiny.json", "patch": {**patch, "model": {"ignore_merges": True}}, **more,
            "ids": [None if any("</s>" in m["content"] for m in c) else ids(c) for c in CHATS]}


def main(root, llama31):
    with open(os.path.join(DATA, "tiny_tekken.json"), encoding="utf-8") as f:
        tekken = json.load(f)
    with open(os.path.join(DATA, "tiny.json"), encoding="utf-8") as f:
        tiny = json.load(f)
    entries = []
    for version in ("v3", "v7", "v11", "v13", "v15"):
        entries.append(tekken_entry(tekken, version))
    entries.append(tekken_entry(tekken, "v15", "high"))
    for name, file in (("mistral-v1", "tokenizer.model.v1"), ("mistral-v2", "mistral_instruct_tokenizer_240216.model.v2"),
                       ("mistral-v3", "mistral_instruct_tokenizer_240323.model.v3"), ("mistral-v7", "mistral_instruct_tokenizer_241114.model.v7"),
                       ("mistral-v3-tekken", "tekken_240911.json")):
        path = os.path.join(root, "tokenizers", file)
        if os.path.exists(path):
            entries.append(mistral_entry(name, MistralTokenizer.from_file(path), real="tokenizers/" + file))
    entries.append(jinja_entry("llama3", tiny, SPECIAL_LLAMA3, LLAMA3, JINJA_LLAMA3))
    if llama31:
        with open(llama31, encoding="utf-8") as f:
            template = "{%- set strftime_now = none %}{%- set date_string = '26 Jul 2024' %}" + f.read()
        entries.append(jinja_entry("llama3.1", tiny, SPECIAL_LLAMA3, LLAMA3, template))
    entries.append(jinja_entry("harmony", tiny, SPECIAL_HARMONY, O200K, JINJA_HARMONY, date="2025-06-28"))
    doc = {"made_by": "tests/oracle/make_chat_goldens.py",
           "versions": {"python": platform.python_version(), **{p: importlib.metadata.version(p) for p in ("mistral-common", "transformers", "tokenizers")}},
           "chats": CHATS, "gaps": GAPS, "entries": entries}
    with open(os.path.join(DATA, "chats.json"), "w") as f:
        f.write("{\n" + ",\n".join(json.dumps(k) + ": " + ("[\n" + ",\n".join(json.dumps(e, separators=(",", ":")) for e in v) + "]"
                                                            if isinstance(v, list) else json.dumps(v)) for k, v in doc.items()) + "\n}\n")


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2] if len(sys.argv) > 2 else None)
