#!/usr/bin/env python3
"""Exact match of saved checkpoints on the held-out problems, by transformers' greedy decoding.

    python3 evaluate.py zoo/eval.jsonl zoo/mimo-tiny zoo/deepseek-tiny zoo/qwen-tiny
    python3 evaluate.py zoo/eval.jsonl zoo/mimo-tiny zoo/deepseek-tiny zoo/qwen-tiny --reference zoo/reference.json

The first computes in float32 and writes <checkpoint>.answers.jsonl beside every checkpoint: one line a problem, with the whole
reply, so that another implementation can be compared reply by reply. The second computes in float32 and in bfloat16 and writes
one file: which problems each got wrong, and the mean loss per token of the conversations with those replies.
"""

import argparse
import json
import pathlib
import re

import torch
import transformers
from transformers import AutoModelForCausalLM, PreTrainedTokenizerFast

import texts


def exact_float32():
    """No TF32 anywhere, cuDNN's convolutions included; bf16 weights are upcast when they are loaded."""
    torch.backends.cuda.matmul.allow_tf32 = False
    torch.backends.cudnn.allow_tf32 = False
    torch.set_float32_matmul_precision("highest")


def load(folder, device, dtype=torch.float32):
    return AutoModelForCausalLM.from_pretrained(folder, dtype=dtype,
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


@torch.no_grad()
def mean_loss(model, tokenizer, lines, batch):
    """-> tokens predicted, mean of -log p: every token of a line but its first, given those before it."""
    tokenizer.padding_side = "right"
    total, n = 0.0, 0
    for at in range(0, len(lines), batch):
        inputs = tokenizer(lines[at:at + batch], return_tensors="pt", padding=True,
                           return_token_type_ids=False).to(model.device)
        wanted = inputs["attention_mask"][:, 1:].bool()
        logits = model(**inputs).logits[:, :-1][wanted].float()
        total += torch.nn.functional.cross_entropy(logits, inputs["input_ids"][:, 1:][wanted],
                                                   reduction="sum").item()
        n += int(wanted.sum())
    return n, total / n


def answer_of(reply):
    found = re.findall(r"^#### (-?\d+)$", reply, re.MULTILINE)
    return found[-1] if found else None


def answer_all(folder, model, problems, batch):
    tokenizer = PreTrainedTokenizerFast.from_pretrained(folder)
    lines = []
    for problem, reply in zip(problems, replies(model, tokenizer, [p["messages"] for p in problems], batch)):
        lines.append({"answer": answer_of(reply), "expected": problem["answer"],
                      "exact": answer_of(reply) == problem["answer"], "reply": reply})
    return lines


def reference(args, device):
    problems = texts.read_lines(args.problems)
    models = {}
    for folder in args.checkpoints:
        tokenizer = PreTrainedTokenizerFast.from_pretrained(folder)
        conversations = texts.conversations(args.problems, f"{folder}.answers.jsonl")
        rendered = tokenizer.apply_chat_template(problems[0]["messages"], tokenize=False, add_generation_prompt=True)
        assert conversations[0].startswith(rendered), "texts.py disagrees with the chat template"
        rows = models[pathlib.Path(folder).name] = {}
        for dtype in ("float32", "bfloat16"):
            model = load(folder, device, getattr(torch, dtype))
            lines = answer_all(folder, model, problems, args.batch)
            n, loss = mean_loss(model, tokenizer, conversations, args.batch)
            wrong = [i for i, line in enumerate(lines) if not line["exact"]]
            rows[dtype] = {"n": len(lines), "correct": len(lines) - len(wrong), "wrong": wrong,
                           "tokens": n, "mean_nll": round(loss, 6)}
            print(f"{folder} {dtype}: {rows[dtype]}", flush=True)
    made = {"transformers": transformers.__version__, "torch": torch.__version__.split("+")[0],
            "device": torch.cuda.get_device_name() if device == "cuda" else device, "models": models}
    pathlib.Path(args.reference).write_text(json.dumps(made, indent=1) + "\n")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("problems")
    parser.add_argument("checkpoints", nargs="+")
    parser.add_argument("--batch", type=int, default=250)
    parser.add_argument("--reference", help="write this file instead of answers, in float32 and bfloat16")
    args = parser.parse_args()
    exact_float32()
    device = "cuda" if torch.cuda.is_available() else "cpu"
    if args.reference:
        return reference(args, device)
    problems = texts.read_lines(args.problems)
    for folder in args.checkpoints:
        model = load(folder, device)
        lines = answer_all(folder, model, problems, args.batch)
        right = sum(line["exact"] for line in lines)
        pathlib.Path(f"{folder}.answers.jsonl").write_text("\n".join(map(json.dumps, lines)) + "\n")
        parameters = sum(p.numel() for p in model.parameters())
        print(f"{pathlib.Path(folder).name}: {right}/{len(problems)} = {right / len(problems):.1%} exact, {parameters:,} parameters", flush=True)


if __name__ == "__main__":
    main()
