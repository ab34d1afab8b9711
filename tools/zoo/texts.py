"""The conversations of the held-out problems as text, the way the zoo's chat template writes them."""

import json
import pathlib


def turn(role, content):
    return f"<|im_start|>{role}\n{content.strip()}<|im_end|>\n"


def prompt(messages):
    return "".join(turn(m["role"], m["content"]) for m in messages) + "<|im_start|>assistant\n"


def read_lines(path):
    return [json.loads(line) for line in pathlib.Path(path).read_text(encoding="utf-8").splitlines()]


def conversations(problems, answers):
    """Every problem with the reply that transformers gave in float32 (NAME.answers.jsonl), one text each."""
    return [prompt(p["messages"]) + a["reply"] + "<|im_end|>\n"
            for p, a in zip(read_lines(problems), read_lines(answers), strict=True)]
