#!/usr/bin/env python3
"""Trains the DFlash draft of one checkpoint of the zoo, on replies that the checkpoint itself gives.

    python3 train_draft.py --model zoo/mimo-tiny --eval zoo/eval.jsonl --out zoo/mimo-tiny-dflash --golden FILE

The loss is that of the field: blocks at random positions of a reply, cross-entropy against the target's own tokens, weighted
down with the distance from the block's first token. Ends with the mean accepted length on the held-out problems, and writes
what the draft proposes for a few of them: numbers for another implementation to agree with.
"""

import argparse
import json
import pathlib
import random
import time

import numpy as np
import torch
import torch.nn.functional as F
from transformers import AutoModelForCausalLM, PreTrainedTokenizerFast

import draft_model
import problems
from train import schedule

BLOCK, GAMMA, ANCHORS, LENGTH = 8, 4.0, 24, 352


@torch.no_grad()
def regenerate(target, tokenizer, conversations, batch, limit=160):
    """-> [(tokens, length of the prompt)]: each conversation up to its last turn, and the target's greedy reply."""
    tokenizer.padding_side, out = "left", []
    prompts = [tokenizer.apply_chat_template(c, tokenize=False, add_generation_prompt=True) for c in conversations]
    order = sorted(range(len(prompts)), key=lambda i: len(prompts[i]))
    for at in range(0, len(order), batch):
        texts = [prompts[i] for i in order[at:at + batch]]
        inputs = tokenizer(texts, return_tensors="pt", padding=True, add_special_tokens=False,
                           return_token_type_ids=False).to(target.device)
        ids = target.generate(**inputs, max_new_tokens=limit, do_sample=False).tolist()
        for row, mask in zip(ids, inputs["attention_mask"].tolist()):
            n = sum(mask)
            row = row[len(mask) - n:]
            if tokenizer.eos_token_id not in row[n:]:
                continue
            end = row.index(tokenizer.eos_token_id, n) + 1
            if end <= LENGTH:
                out.append((row[:end], n))
        print(f"regenerated {min(at + batch, len(order))}/{len(order)}", flush=True)
    return out


def training_conversations(count, seed):
    rng = random.Random(seed)
    return [problems.conversation(rng, False)[0][:-1] for _ in range(count)]


def stack(samples, pad):
    tokens = np.full((len(samples), LENGTH), pad, np.int64)
    spans = np.zeros((len(samples), 2), np.int64)
    for i, (row, n) in enumerate(samples):
        tokens[i, :len(row)], spans[i] = row, (n, len(row))
    return torch.from_numpy(tokens), torch.from_numpy(spans)


@torch.no_grad()
def taps_of(target, tokens, layers):
    states = target(input_ids=tokens, use_cache=False, output_hidden_states=True).hidden_states
    return torch.cat([states[k + 1] for k in layers], -1)


def draw_anchors(spans):
    """Positions in the reply at which at least one more token follows."""
    first, last = spans[:, :1], spans[:, 1:] - 2
    share = torch.rand(len(spans), ANCHORS, device=spans.device)
    return (first + (share * (last - first + 1).clamp(min=1)).long()).minimum(last)


def proposals(draft, target, taps, tokens, anchors, mask_token):
    """-> logits [B, A, BLOCK, V] and labels [B, A, BLOCK] of blocks that begin with the token at each anchor."""
    at = (anchors[..., None] + torch.arange(BLOCK, device=tokens.device)).clamp(max=LENGTH - 1)
    labels = tokens.gather(1, at.flatten(1)).view(at.shape)
    ids = torch.full_like(labels, mask_token)
    ids[..., 0] = labels[..., 0]
    head = target.get_output_embeddings().weight
    return F.linear(draft(taps, target.get_input_embeddings().weight, ids, anchors), head), labels


@torch.no_grad()
def all_taps(target, tokens, layers, batch=500):
    """Of every row, once: the target does not change. bf16 on the GPU."""
    return torch.cat([taps_of(target, part.cuda(), layers).to(torch.bfloat16) for part in tokens.split(batch)])


def train(draft, target, tokens, spans, args, mask_token):
    taps = all_taps(target, tokens, draft.c["dflash_config"]["target_layer_ids"])
    tokens, spans = tokens.cuda(), spans.cuda()
    optimizer = torch.optim.AdamW(draft.parameters(), lr=args.lr, weight_decay=0.01, fused=True)
    decay = torch.exp(-(torch.arange(BLOCK, device="cuda").float() - 1) / GAMMA)
    decay[0] = 0
    began = time.time()
    for step in range(args.steps):
        for group in optimizer.param_groups:
            group["lr"] = args.lr * schedule(step + 1, args.steps, args.steps // 25)
        pick = torch.randint(0, len(tokens), (args.batch,), device="cuda")
        rows, where = tokens[pick], spans[pick]
        anchors = draw_anchors(where)
        with torch.autocast("cuda", torch.bfloat16):
            logits, labels = proposals(draft, target, taps[pick], rows, anchors, mask_token)
        inside = anchors[..., None] + torch.arange(BLOCK, device="cuda") < where[:, 1, None, None]
        weights = inside * decay
        losses = F.cross_entropy(logits.float().flatten(0, 2), labels.flatten(), reduction="none")
        loss = (losses * weights.flatten()).sum() / weights.sum()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(draft.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        if step % 250 == 0 or step + 1 == args.steps:
            print(f"{args.model.name} step {step} loss {loss.item():.4f} {time.time() - began:.0f} s", flush=True)


@torch.no_grad()
def accepted_length(draft, target, samples, tokenizer, mask_token):
    """Blocks one after another as decoding would take them; -> mean tokens a block, the target's own included, and by position."""
    tokens, spans = stack(samples, tokenizer.pad_token_id)
    layers, n_blocks, n_tokens = draft.c["dflash_config"]["target_layer_ids"], 0, 0
    hits = torch.zeros(BLOCK)
    for at in range(0, len(tokens), 50):
        rows, where = tokens[at:at + 50].cuda(), spans[at:at + 50].cuda()
        taps = taps_of(target, rows, layers)
        every = torch.arange(LENGTH, device="cuda").expand(len(rows), -1)
        best = []
        for part in every.split(44, 1):
            logits, _ = proposals(draft, target, taps, rows, part, mask_token)
            best.append(logits.argmax(-1))
        best = torch.cat(best, 1)
        for i in range(len(rows)):
            p, end = where[i].tolist()
            while p < end - 1:
                k = 1
                while k < BLOCK and p + k < end and best[i, p, k] == rows[i, p + k]:
                    hits[k] += 1
                    k += 1
                n_blocks, n_tokens, p = n_blocks + 1, n_tokens + k, p + k
    return n_tokens / n_blocks, (hits / n_blocks).tolist()[1:]


@torch.no_grad()
def write_golden(draft, target, samples, tokenizer, mask_token, path):
    """In float32 on the CPU, from the saved files: what the draft proposes at a few places of a few replies."""
    draft, target = draft.cpu().float(), target.cpu().float()
    lines = []
    for row, n in samples[:6]:
        tokens, _ = stack([(row, n)], tokenizer.pad_token_id)
        anchors = torch.tensor([[n, (n + len(row)) // 2, len(row) - 2]])
        taps = taps_of(target, tokens[:, :len(row)], draft.c["dflash_config"]["target_layer_ids"])
        logits, _ = proposals(draft, target, taps, tokens, anchors, mask_token)
        top = logits[0, :, 1:].topk(2)
        lines.append(json.dumps({
            "tokens": row, "prompt_tokens": n, "anchors": anchors[0].tolist(),
            "proposed": top.indices[..., 0].tolist(),
            "logits": [[round(x, 5) for x in block] for block in top.values[..., 0].tolist()],
            "margins": [[round(x, 5) for x in block] for block in (top.values[..., 0] - top.values[..., 1]).tolist()],
        }, separators=(",", ":")))
    pathlib.Path(path).write_text('{"blocks":[\n' + ",\n".join(lines) + "\n]}\n")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", type=pathlib.Path, required=True)
    parser.add_argument("--eval", type=pathlib.Path, required=True)
    parser.add_argument("--out", type=pathlib.Path, required=True)
    parser.add_argument("--golden", type=pathlib.Path, required=True)
    parser.add_argument("--conversations", type=int, default=16000)
    parser.add_argument("--steps", type=int, default=4000)
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--lr", type=float, default=1e-3)
    args = parser.parse_args()
    torch.manual_seed(1)
    tokenizer = PreTrainedTokenizerFast.from_pretrained(args.model)
    target = AutoModelForCausalLM.from_pretrained(args.model, dtype=torch.float32,
                                                  attn_implementation="eager").cuda().eval().requires_grad_(False)
    mask_token = tokenizer.convert_tokens_to_ids("<|mask|>")
    samples = regenerate(target, tokenizer, training_conversations(args.conversations, 11), 2000)
    tokens, spans = stack(samples, tokenizer.pad_token_id)
    draft = draft_model.Draft(draft_model.config_of(args.model.name, target.config, mask_token)).cuda()
    print(f"{args.model.name}: {len(samples)} replies, {sum(p.numel() for p in draft.parameters()):,} parameters", flush=True)
    train(draft, target, tokens, spans, args, mask_token)
    draft_model.save(draft, args.out)
    draft = draft_model.load(args.out, "cuda")
    held_out = [json.loads(line)["messages"] for line in open(args.eval, encoding="utf-8")]
    replies = regenerate(target, tokenizer, held_out, 500)
    mean, by_position = accepted_length(draft, target, replies, tokenizer, mask_token)
    print(f"{args.model.name}: mean accepted length {mean:.2f} of {BLOCK}, by position "
          + " ".join(f"{x:.3f}" for x in by_position), flush=True)
    write_golden(draft, target, replies, tokenizer, mask_token, args.golden)


if __name__ == "__main__":
    main()
