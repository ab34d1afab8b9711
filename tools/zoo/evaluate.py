#!/usr/bin/env python3
"""Exact match of saved checkpoints on the held-out problems, by transformers' greedy decoding in float32.

    python3 evaluate.py zoo/eval.jsonl zoo/mimo-tiny zoo/deepseek-tiny zoo/qwen-tiny

For every checkpoint it writes <checkpoint>.answers.jsonl beside it: one line a problem, with the whole reply, so that another
implementation can be compared reply by reply.
"""

import argparse
import json
import pathlib
import re

import torch
from transformers import AutoModelForCausalLM, PreTrainedTokenizerFast


def exact_float32():
    """No TF32 anywhere, cuDNN's convolutions included; bf16 weights are upcast when they are loaded."""
    torch.backends.cuda.matmul.allow_tf32 = False
    torch.backends.cudnn.allow_tf32 = False
    torch.set_float32_matmul_precision("highest")


def load(folder, device):
    return AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32,
                                                attn_implementation="eager").to(device).eval()


@torch.no_grad()
def replies(model, tokenizer, conversations, batch, limit=200):
    tokenizer.padding_side = "left"
    out = []
    for at in range(0, len(conversations), batch):
        prompts = [tokenizer.apply_chat_template(c, tokenize=False,
                                                 add_generation_prompt=True) for c in conversations[at:at + batch]]
        inputs = tokenizer(prompts, return_tensors="pt", padding=True, add_special_tokens=False,
                           return_token_type_ids=False).to(model.device)
        ids = model.generate(**inputs, max_new_tokens=limit, do_sample=False)[:, inputs["input_ids"].shape[1]:]
        out += tokenizer.batch_decode(ids, skip_special_tokens=True)
    return out


def answer_of(reply):
    found = re.findall(r"^#### (-?\d+)$", reply, re.MULTILINE)
    return found[-1] if found else None


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("problems")
    parser.add_argument("checkpoints", nargs="+")
    parser.add_argument("--batch", type=int, default=250)
    args = parser.parse_args()
    exact_float32()
    problems = [json.loads(line) for line in open(args.problems, encoding="utf-8")]
    device = "cuda" if torch.cuda.is_available() else "cpu"
    for folder in args.checkpoints:
        model, tokenizer = load(folder, device), PreTrainedTokenizerFast.from_pretrained(folder)
        lines, right = [], 0
        for problem, reply in zip(problems,
                                  replies(model, tokenizer, [p["messages"] for p in problems],
                                          args.batch)):
            exact = answer_of(reply) == problem["answer"]
            right += exact
            lines.append(json.dumps({"answer": answer_of(reply), "expected": problem["answer"],
                                     "exact": exact, "reply": reply}))
        pathlib.Path(f"{folder}.answers.jsonl").write_text("\n".join(lines) + "\n")
        parameters = sum(p.numel() for p in model.parameters())
        print(f"{pathlib.Path(folder).name}: {right}/{len(problems)} = {right / len(problems):.1%} exact, {parameters:,} parameters", flush=True)


if __name__ == "__main__":
    main()
