#!/usr/bin/env python3
"""Text with right answers: the training corpus and the held-out tasks of anemo's default model.

Every case is one line `prompt + answer`, made from random operands. Eight kinds, each with a
difficulty dial (level 1 is easiest). A case is held out when the hash of its *operands* (not of its
text, and not of their order where the order does not change the answer) falls into 1 of 8 buckets:
training never sees it, evaluation sees only those, and there are as many as one likes.

Standard library only.   generate.py --tasks DIR   writes the held-out files that the repository ships
                         generate.py --overlap     counts operands that are on both sides (must be 0)
                         generate.py --text N      prints N training lines
"""
import argparse
import hashlib
import json
import pathlib
import random
import sys

NAMES = ("Ada Ben Cleo Dan Eva Finn Gus Hana Ivo Jana Kai Lea Max Nina Otto Pia Quin Rosa Sam Tia Udo Vera "
         "Wim Zoe").split()
COLOURS = "red blue green gold black white pink grey brown teal lime navy plum rust sand mint".split()
LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
PAIRS = {"(": ")", "[": "]", "{": "}", "<": ">"}
LEVELS = (1, 2, 3, 4)
HELD_OUT_BUCKETS = 8


class Case:
    """One question: `key` identifies the operands, `wrong` holds three distinct wrong answers.

    `lesson` is what training reads: pieces (text, is_answer). Where one text can answer several questions, training
    reads other questions with their answers first; evaluation asks only one."""

    def __init__(self, kind, level, key, prompt, answer, wrong, lesson=None):
        self.kind, self.level, self.key = kind, level, f"{kind}:{key}"
        self.prompt, self.answer, self.wrong = prompt, answer, wrong
        self.lesson = lesson or [(prompt, False), (answer, True)]

    def held_out(self):
        return hashlib.sha256(self.key.encode()).digest()[0] % HELD_OUT_BUCKETS == 0


def distinct_wrong(answer, propose):
    """Three distinct wrong answers from `propose`."""
    wrong = []
    for _ in range(200):
        candidate = propose()
        if candidate != answer and candidate not in wrong:
            wrong.append(candidate)
            if len(wrong) == 3:
                return wrong
    raise RuntimeError(f"no three wrong answers for {answer!r}")


def near_number(value, rng):
    return str(max(0, value + rng.choice((-20, -11, -10, -9, -2, -1, 1, 2, 9, 10, 11, 20))))


def swapped(items, rng):
    items = list(items)
    i = rng.randrange(len(items))
    j = rng.randrange(len(items))
    items[i], items[j] = items[j], items[i]
    return items


def lesson_of(text, questions, asked):
    """Pieces of a text with other questions (question, answer) answered before the one that is asked."""
    pieces = [(text, False)]
    for question, answer in questions + [asked]:
        pieces += [(f" {question}", False), (answer, True), (";", False)]
    return pieces[:-1]


def make_sum(level, rng):
    top = 10 ** (level + 1)
    a, b = rng.randrange(top), rng.randrange(top)
    wrong = distinct_wrong(str(a + b), lambda: near_number(a + b, rng))
    return f"{min(a, b)}+{max(a, b)}", f"sum {a}+{b}=", str(a + b), wrong


def make_lookup(level, rng):
    n = (3, 6, 10, 14)[level - 1]
    names = rng.sample(NAMES, n)
    colours = [rng.choice(COLOURS) for _ in names]
    i = rng.randrange(n)
    key = ",".join(sorted(f"{a}{c}" for a, c in zip(names, colours)))
    facts = ",".join(f" {a} {c}" for a, c in zip(names, colours))
    wrong = distinct_wrong(" " + colours[i], lambda: " " + rng.choice(COLOURS))
    others = [(names[j], f" {colours[j]}") for j in rng.choices(range(n), k=rng.randrange(9))][:20 - n]  # 3 tokens each: all of it within the window
    lesson = lesson_of(f"know{facts}.", others, (names[i], f" {colours[i]}"))
    return key, f"know{facts}. {names[i]}", f" {colours[i]}", wrong, lesson


def make_sort(level, rng):
    digits = [rng.choice("0123456789") for _ in range((4, 7, 10, 13)[level - 1])]
    answer = "".join(sorted(digits))
    def propose():
        items = swapped(answer, rng)
        items[rng.randrange(len(items))] = rng.choice("0123456789")
        return "".join(items)
    # The multiset is the operand for level 2 and up; four digits have too few multisets.
    key = answer if level > 1 else "".join(digits)
    return key, f"sort {''.join(digits)}=", answer, distinct_wrong(answer, propose)


def letters(level, rng, sizes):
    """Between the size of the level below and that of this level: a fixed length could be copied by distance alone."""
    low = sizes[level - 2] + 1 if level > 1 else 3
    return [rng.choice(LETTERS) for _ in range(rng.randint(low, sizes[level - 1]))]


def letter_wrong(answer, rng):
    def propose():
        items = swapped(answer, rng)
        items[rng.randrange(len(items))] = rng.choice(answer)
        return "".join(items)
    if len(set(answer)) > 2:
        return distinct_wrong(answer, propose)
    return distinct_wrong(answer, lambda: answer[:-1] + rng.choice(LETTERS))


def make_copy(level, rng):
    text = "".join(letters(level, rng, (6, 12, 20, 28)))
    return text, f"copy {text}=", text, letter_wrong(text, rng)


def make_reverse(level, rng):
    text = "".join(letters(level, rng, (4, 8, 12, 16)))
    return text, f"turn {text}=", text[::-1], letter_wrong(text[::-1], rng)


def make_brackets(level, rng):
    size = (6, 12, 20, 28)[level - 1]
    text, stack = [], []
    for i in range(size):
        if stack and rng.random() < 0.45 and (len(stack) > 1 or i < size - 1):
            text.append(PAIRS[stack.pop()])
        else:
            stack.append(rng.choice(list(PAIRS)))
            text.append(stack[-1])
    answer = "".join(PAIRS[c] for c in reversed(stack))
    def propose():
        items = list(answer)
        if rng.random() < 0.3:
            items.append(rng.choice(list(PAIRS.values())))
        else:
            items[rng.randrange(len(items))] = rng.choice(list(PAIRS.values()))
        return "".join(items)
    return "".join(text), f"close {''.join(text)}=", answer, distinct_wrong(answer, propose)


def make_max(level, rng):
    numbers = [rng.randrange(10, 100) for _ in range((3, 5, 8, 12)[level - 1])]
    answer = str(max(numbers))
    others = [str(n) for n in numbers]
    def propose():
        return rng.choice(others) if rng.random() < 0.5 else str(rng.randrange(10, 100))
    key = ",".join(map(str, sorted(numbers)))
    return key, f"max {','.join(map(str, numbers))}=", answer, distinct_wrong(answer, propose)


def make_records(level, rng):
    """An amount stands right behind its name: with a token between, which amount is whose was not learned in 1800 steps.
    Level 0, for training only, has no events."""
    people, events = ((3, 0), (2, 1), (3, 2), (3, 3), (4, 6))[level]
    names = rng.sample(NAMES, people)
    amount = {a: rng.randrange(1, 10) for a in names}
    text = ",".join(f" {a}{amount[a]}" for a in names)
    who = rng.choice(names)
    for _ in range(events):
        a = who if rng.random() < 0.5 else rng.choice(names)
        step = rng.randrange(1, 10)
        if rng.random() < 0.4 and amount[a] >= step:
            amount[a] -= step
            text += f"; {a}-{step}"
        else:
            amount[a] += step
            text += f"; {a}+{step}"
    wrong = distinct_wrong(str(amount[who]), lambda: near_number(amount[who], rng))
    also = random.Random(text)
    others = [(a, str(amount[a])) for a in also.sample(names, people) if a != who][:also.randrange(people)]
    lesson = lesson_of(f"have{text}.", others, (who, str(amount[who])))
    return text, f"have{text}. {who}", str(amount[who]), wrong, lesson


KINDS = {"sum": make_sum, "lookup": make_lookup, "sort": make_sort, "copy": make_copy, "reverse": make_reverse,
         "brackets": make_brackets, "max": make_max, "records": make_records}


def make(kind, level, rng, held_out):
    """A random case of this kind and level on the wanted side of the hold-out."""
    while True:
        case = Case(kind, level, *KINDS[kind](level, rng))
        if case.held_out() == held_out:
            return case


def distinct_cases(kind, level, count, seed, held_out):
    rng = random.Random(f"{seed}/{kind}/{level}/{held_out}")
    seen, cases = set(), []
    for _ in range(count * 40):
        case = make(kind, level, rng, held_out)
        if case.prompt not in seen:
            seen.add(case.prompt)
            cases.append(case)
            if len(cases) == count:
                return cases
    raise RuntimeError(f"{kind} level {level}: fewer than {count} distinct cases")


def write_tasks(folder, count, seed):
    folder = pathlib.Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    rng = random.Random(seed)
    for kind in KINDS:
        lines = []
        for level in LEVELS[:3]:
            for case in distinct_cases(kind, level, count, seed, True):
                choices = [case.answer] + case.wrong
                rng.shuffle(choices)
                lines.append(json.dumps({"kind": kind, "level": level, "prompt": case.prompt, "answer": case.answer,
                                         "choices": choices, "gold": choices.index(case.answer)}))
        (folder / f"{kind}.jsonl").write_text("\n".join(lines) + "\n")


def write_text(path, count, seed, held_out):
    """`count` lines prompt + answer, kinds and levels in turn: what perplexity is measured on."""
    rng = random.Random(f"{seed}/text/{held_out}")
    kinds = list(KINDS)
    with open(path, "w") as f:
        for i in range(count):
            case = make(kinds[i % len(kinds)], LEVELS[i // len(kinds) % 3], rng, held_out)
            f.write(case.prompt + case.answer + "\n")


def count_overlap(count, seed):
    total = 0
    for kind in KINDS:
        for level in LEVELS[:3]:
            held = {c.key for c in distinct_cases(kind, level, count, seed, True)}
            rng = random.Random(f"{seed}/overlap/{kind}/{level}")
            train = {make(kind, level, rng, False).key for _ in range(20 * count)}
            both = len(held & train)
            total += both
            print(f"{kind:9s} level {level}: {len(held):5d} held out, {len(train):6d} training operands, overlap {both}")
    print(f"overlap in all: {total}")
    return total


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--tasks", metavar="DIR", help="write held-out KIND.jsonl, heldout.txt and train.txt")
    p.add_argument("--count", type=int, default=500, help="held-out cases per kind and level")
    p.add_argument("--seed", type=int, default=1)
    p.add_argument("--overlap", action="store_true")
    p.add_argument("--text", type=int, metavar="N")
    a = p.parse_args()
    if a.tasks:
        write_tasks(a.tasks, a.count, a.seed)
        write_text(pathlib.Path(a.tasks) / "heldout.txt", 1200, a.seed, True)
        write_text(pathlib.Path(a.tasks) / "train.txt", 1200, a.seed, False)
    if a.overlap:
        sys.exit(1 if count_overlap(a.count, a.seed) else 0)
    if a.text:
        rng = random.Random(a.seed)
        for _ in range(a.text):
            c = make(rng.choice(list(KINDS)), rng.choice(LEVELS), rng, False)
            print(c.prompt + c.answer)


if __name__ == "__main__":
    main()
