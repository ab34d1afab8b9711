#!/usr/bin/env python3
"""Trains one checkpoint of the zoo and saves it in bf16, as transformers writes it.

    python3 train.py --tokenizer zoo/tokenizer --rows ROWS.npz    # the data
    python3 train.py --tokenizer zoo/tokenizer --rows ROWS.npz --model mimo-tiny --out zoo/mimo-tiny

fp32 masters under bf16 autocast, AdamW with warm-up and a cosine, rows packed by data.py.
"""

import argparse
import math
import pathlib
import shutil
import time

import numpy as np
import torch
import torch.nn.functional as F
from transformers import AutoModelForCausalLM, GenerationConfig, PreTrainedTokenizerFast
from transformers.integrations.moe import ALL_EXPERTS_FUNCTIONS

import configs
import data

TOKENIZER_FILES = ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja")


def dense_experts(self, hidden, index, weights):
    """Every expert on every token, weighted by the router: with eight small experts this beats sorting the tokens."""
    tokens, experts = hidden.shape[0], self.num_experts
    share = torch.zeros(tokens, experts, device=hidden.device, dtype=weights.dtype).scatter(1, index, weights)
    self.load = (share.detach() > 0).sum(0)
    up = F.linear(hidden, self.gate_up_proj.flatten(0, 1)).view(tokens, experts, -1)
    act = self._apply_gate(up) * share.unsqueeze(-1).to(up.dtype)
    return F.linear(act.flatten(1), self.down_proj.permute(1, 0, 2).flatten(1))


ALL_EXPERTS_FUNCTIONS.register("dense", dense_experts)


@torch.no_grad()
def balance(model, rate):
    """Auxiliary-loss-free balancing: an expert that got too much has its selection bias lowered, and the other way round."""
    for module in model.modules():
        experts = getattr(module, "experts", None)
        if experts is not None and hasattr(experts, "load"):
            load = experts.load.float()
            module.gate.e_score_correction_bias += rate * torch.sign(load.mean() - load)


def optimizer_for(model, lr):
    """Weight decay for matrices only: norms, sinks and decays are not meant to be near zero."""
    matrices = [p for p in model.parameters() if p.ndim >= 2]
    vectors = [p for p in model.parameters() if p.ndim < 2]
    groups = [{"params": matrices, "weight_decay": 0.05}, {"params": vectors, "weight_decay": 0.0}]
    return torch.optim.AdamW(groups, lr=lr, betas=(0.9, 0.95), fused=True)


def schedule(step, steps, warmup=100):
    if step < warmup:
        return step / warmup
    return 0.5 + 0.5 * math.cos(math.pi * (step - warmup) / max(1, steps - warmup))


def loss_of(model, rows, weights):
    with torch.autocast("cuda", torch.bfloat16):
        logits = model(input_ids=rows[:, :-1], use_cache=False).logits
    losses = F.cross_entropy(logits.float().flatten(0, 1), rows[:, 1:].flatten(), reduction="none")
    weights = weights[:, 1:].flatten()
    return (losses * weights).sum() / weights.sum()


def train(model, rows, weights, args):
    optimizer, began = optimizer_for(model, args.lr), time.time()
    for step in range(args.steps):
        at = slice(step * args.batch % len(rows), step * args.batch % len(rows) + args.batch)
        factor = schedule(step + 1, args.steps)
        for group in optimizer.param_groups:
            group["lr"] = args.lr * factor
        batch = torch.from_numpy(rows[at].astype(np.int64)).cuda(non_blocking=True)
        loss = loss_of(model, batch, torch.from_numpy(weights[at].astype(np.float32)).cuda())
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        balance(model, 1e-3 * factor)
        if step % 100 == 0 or step + 1 == args.steps:
            print(f"{args.model} step {step} loss {loss.item():.4f} {time.time() - began:.0f} s",
                  flush=True)


def save(model, tokenizer_folder, tokenizer, out):
    """bf16 weights; buffers (the router's selection bias) stay fp32, as in the published checkpoints."""
    for parameter in model.parameters():
        parameter.data = parameter.data.to(torch.bfloat16)
    model.generation_config = GenerationConfig(eos_token_id=tokenizer.eos_token_id,
                                               pad_token_id=tokenizer.pad_token_id, do_sample=False)
    model.config.pad_token_id = tokenizer.pad_token_id
    model.save_pretrained(out)
    for file in TOKENIZER_FILES:
        shutil.copy(pathlib.Path(tokenizer_folder) / file, out)


def build_model(name, tokenizer):
    config = configs.build(name, tokenizer)
    # MiMo's attention has sinks, which only its own eager code knows.
    options = {"attn_implementation": "eager" if name == "mimo-tiny" else "sdpa"}
    if hasattr(config, "n_routed_experts"):
        options["experts_implementation"] = "dense"
    return AutoModelForCausalLM.from_config(config, **options).float().cuda().train()


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--tokenizer", required=True)
    parser.add_argument("--rows", required=True,
                        help="where the packed rows are, or are to be written when no --model is given")
    parser.add_argument("--model", choices=configs.ARCHITECTURES)
    parser.add_argument("--out")
    parser.add_argument("--steps", type=int, default=1500)
    parser.add_argument("--batch", type=int, default=96)
    parser.add_argument("--lr", type=float, default=2e-3)
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args()
    if not args.model:
        tokens, weights = data.make_rows(args.tokenizer, args.seed, args.steps * args.batch)
        np.savez(args.rows, tokens=tokens, weights=weights)
        print(f"{len(tokens)} rows, {(weights > 0).mean():.1%} of them tokens")
        return
    torch.manual_seed(args.seed)
    tokenizer = PreTrainedTokenizerFast.from_pretrained(args.tokenizer)
    model = build_model(args.model, tokenizer)
    print(f"{args.model}: {sum(p.numel() for p in model.parameters()):,} parameters")
    with np.load(args.rows) as rows:
        train(model, rows["tokens"], rows["weights"], args)
    save(model, args.tokenizer, tokenizer, args.out)


if __name__ == "__main__":
    main()
