#!/usr/bin/env python3
"""Grade-school word problems with worked solutions: the task the zoo's checkpoints are trained on.

    python3 problems.py --eval 500 > zoo/eval.jsonl        # the held-out problems
    python3 problems.py --sample 3                         # a look at the training side

A conversation has one to three turns. A follow-up question goes on from the previous answer, so a model that loses its
cache between turns gets it wrong. The reply's form depends on the system prompt (none, tutor, numbered, terse), so a model
that loses the system prompt gets that wrong too. Training and held-out problems are split by the hash of the first question:
no held-out question is ever drawn for training. Only the standard library is needed.
"""

import argparse
import hashlib
import json
import random
import re

from problem_tables import FOLLOW_UPS, NAMES, ROWS, SYSTEM_PROMPTS, THINGS

HELD_OUT_SHARE = 16  # one first question in 16 is held out
LIMIT = 1000  # every value of every step stays below this
STYLES = (None, *SYSTEM_PROMPTS)


class Redraw(Exception):
    """The numbers drawn make no sensible problem; draw again."""


def draw_numbers(rng, spec, values):
    """Follows a row's `draw` from left to right, adding to `values`. A bare condition that is false asks for a redraw."""
    for part in filter(None, (p.strip() for p in spec.split(";"))):
        name, equals, rule = part.partition("=")
        if not re.fullmatch(r"[a-z]", name) or rule.startswith("="):
            if not eval(part, {}, values):  # a condition such as x%2==0; the tables are ours
                raise Redraw
        elif rule == "div":
            divisors = [d for d in range(2, 10) if values["x"] % d == 0 and values["x"] > d]
            if not divisors:
                raise Redraw
            values[name] = rng.choice(divisors)
        elif ".." in rule:
            low, high = (int(eval(bound, {}, values)) for bound in rule.split(".."))
            if low > high:
                raise Redraw
            # Small numbers are as likely as large ones in wide ranges: two-digit arithmetic needs the practice too.
            values[name] = rng.randint(low, min(high, low + 30) if rng.random() < 0.3 else high)
        else:
            values[name] = eval(rule, {}, values)
    if any(v <= 0 or v >= LIMIT for v in values.values()):
        raise Redraw


def compute(expression, values):
    """'l*w' with the row's values -> ('12 * 7 = 70 + 14', 84): long products are written out by tens and ones."""
    left, op, right = re.fullmatch(r"(\w+)([-+*/])(\w+)", expression).groups()
    a, b = (values[n] if n in values else int(n) for n in (left, right))
    if op == "/" and (a % b or a // b > (250 if b == 2 else 40)):
        raise Redraw
    value = {"+": a + b, "-": a - b, "*": a * b, "/": a // b}[op]
    if not 0 < value < LIMIT:
        raise Redraw
    shown = f"{a} {op} {b} = {value}"
    big, small = max(a, b), min(a, b)
    if op == "*" and big > 12 and big % 10 and small > 1:
        if small > 12 or big > 99:
            raise Redraw
        shown = f"{a} * {b} = {big // 10 * 10 * small} + {big % 10 * small} = {value}"
    return shown, value


def solve(steps, values, words):
    """-> [(lead, calculation, tail)], answer. Adds s1, s2 ... to values."""
    worked = []
    for number, (lead, expression, tail) in enumerate(steps, 1):
        shown, value = compute(expression, values)
        values[f"s{number}"] = value
        worked.append((lead.format(**words, **values), shown, tail.format(**words, **values)))
    return worked, value


def reply(worked, answer, style):
    """The assistant's text for a worked solution, in the form the system prompt asks for."""
    if style == "terse":
        lines = [shown for _, shown, _ in worked]
    else:
        lines = [f"{lead} {shown} {tail}." for lead, shown, tail in worked]
        if style == "numbered":
            lines = [f"{i}. {line}" for i, line in enumerate(lines, 1)]
    return "\n".join([*lines, f"#### {answer}"])


def draw_words(rng):
    (a, he), (b, _) = rng.sample(NAMES, 2)
    (thing, things), (thing2, things2) = rng.sample(THINGS, 2)
    him, his = ("him", "his") if he == "he" else ("her", "her")
    return dict(a=a, b=b, he=he, He=he.capitalize(), him=him, his=his, His=his.capitalize(),
                thing=thing, things=things,
                thing2=thing2, things2=things2)


def first_turn(rng):
    """-> question, worked, answer, scene (what a follow-up needs to know)."""
    while True:
        row, words, values = rng.choice(ROWS), draw_words(rng), {}
        try:
            draw_numbers(rng, row.draw, values)
            worked, answer = solve(row.steps, values, words)
        except Redraw:
            continue
        scene = dict(words, kind=row.kind, unit=row.unit.format(**words))
        return row.text.format(**words, **values), worked, answer, scene


def next_turn(rng, previous, scene):
    while True:
        row, values = rng.choice(FOLLOW_UPS), {"x": previous}
        if row.kinds != "any" and scene["kind"] not in row.kinds.split():
            continue
        try:
            draw_numbers(rng, row.draw, values)
            worked, answer = solve(row.steps, values, scene)
        except Redraw:
            continue
        question = row.text.format(**scene, **values)
        kind = scene["kind"] if row.kind == "same" else row.kind
        unit = "dollars" if kind == "money" else scene["unit"]
        return question, worked, answer, dict(scene, kind=kind, unit=unit)


def held_out(question):
    return hashlib.sha256(question.encode()).digest()[0] % HELD_OUT_SHARE == 0


def conversation(rng, want_held_out, turns=None):
    """-> messages (ending in the assistant's last reply), the final answer."""
    if turns is None:
        turns = rng.choices((1, 2, 3), (50, 30, 20))[0]
    style = rng.choice(STYLES)
    while True:
        question, worked, answer, scene = first_turn(rng)
        if held_out(question) == want_held_out:
            break
    messages = [{"role": "system", "content": SYSTEM_PROMPTS[style]}] if style else []
    for turn in range(turns):
        if turn:
            question, worked, answer, scene = next_turn(rng, answer, scene)
        messages.append({"role": "user", "content": question})
        messages.append({"role": "assistant", "content": reply(worked, answer, style)})
    return messages, str(answer)


def eval_set(count, seed=2024):
    """The held-out set: half single-turn, half with follow-ups; no question twice."""
    rng, seen, lines = random.Random(seed), set(), []
    while len(lines) < count:
        turns = 1 if len(lines) % 2 == 0 else rng.choice((2, 2, 3))
        messages, answer = conversation(rng, True, turns)
        first = next(m["content"] for m in messages if m["role"] == "user")
        if first not in seen:
            seen.add(first)
            lines.append({"messages": messages[:-1], "answer": answer})
    return lines


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--eval", type=int, help="print this many held-out problems")
    parser.add_argument("--sample", type=int, help="print this many training conversations")
    parser.add_argument("--seed", type=int, default=0, help="seed of --sample")
    args = parser.parse_args()
    for line in eval_set(args.eval or 0):
        print(json.dumps(line, ensure_ascii=False))
    rng = random.Random(args.seed)
    for _ in range(args.sample or 0):
        messages, answer = conversation(rng, False)
        print(json.dumps({"messages": messages, "answer": answer}, ensure_ascii=False, indent=1))


if __name__ == "__main__":
    main()
