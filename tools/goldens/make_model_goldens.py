#!/usr/bin/env python3
"""Reference logits and greedy tokens by transformers, for random checkpoints of awkward shapes and for the zoo.

    python3 make_model_goldens.py [--zoo ../../zoo] [--out ../../tests/goldens/models] [--only NAME ...]

Every number comes from the saved checkpoint, loaded afresh in float32 on the CPU (weights upcast, nothing else rounded), with
eager attention, without a cache: each greedy token is a whole forward pass over everything before it.
"""

import argparse
import json
import pathlib
import shutil

import torch
from transformers import AutoModelForCausalLM, PreTrainedTokenizerFast

import hub_mimo
from model_specs import SPECS

LENGTHS = (1, 37, 150, 300)
GREEDY = 32
TOP = 8
ENOUGH_MARGIN = 0.01  # a random prompt is redrawn until no greedy choice is closer than this, or the best of a few is taken
ZOO = ("mimo-tiny", "deepseek-tiny", "qwen-tiny")


@torch.no_grad()
def randomise(model, seed):
    """Weights large enough that logits are far from flat and every part of a layer matters."""
    generator = torch.Generator().manual_seed(seed)
    for name, p in model.named_parameters():
        noise = torch.randn(p.shape, generator=generator)
        if "norm" in name:
            p += 0.2 * noise  # around one, or around zero where the norm adds one
        elif name.endswith("sinks"):
            p.copy_(noise)
        elif name.endswith("A_log"):
            p.copy_(0.7 * noise)
        elif "embed_tokens" in name or "lm_head" in name:
            p.copy_(0.25 * noise)
        elif p.ndim < 2 or "conv1d" in name:
            p.copy_(0.4 * noise)
        else:
            p.copy_(1.4 * noise / p.shape[-1] ** 0.5)
    for name, b in model.named_buffers():
        if name.endswith("e_score_correction_bias"):
            b.copy_(0.2 * torch.randn(b.shape, generator=generator))


@torch.no_grad()
def logits_of(model, tokens):
    return model(input_ids=torch.tensor([tokens]), use_cache=False).logits[0].float()


def golden(model, tokens):
    logits = logits_of(model, tokens)
    logprobs = logits.double().log_softmax(-1)
    nll = [-logprobs[i, t].item() for i, t in enumerate(tokens[1:])]
    values, ids = logits[-1].topk(TOP)
    greedy, margins, last = [], [], logits[-1]
    while len(greedy) < GREEDY:
        first, second = last.topk(2).values.tolist()
        margins.append(first - second)
        greedy.append(last.argmax().item())
        last = logits_of(model, tokens + greedy)[-1]
    rounded = lambda xs: [round(x, 5) for x in xs]
    return {"tokens": tokens, "nll": rounded(nll),
            "last_logits_top": [[i, round(v, 5)] for i, v in zip(ids.tolist(), values.tolist())],
            "greedy": greedy, "margins": rounded(margins)}


def random_goldens(model, seed, tries=8):
    generator = torch.Generator().manual_seed(seed)
    out = []
    for length in LENGTHS:
        best = None
        for _ in range(tries):
            tokens = torch.randint(0, model.config.vocab_size, (length,),
                                   generator=generator).tolist()
            one = golden(model, tokens)
            if best is None or min(one["margins"]) > min(best["margins"]):
                best = one
            if min(best["margins"]) > ENOUGH_MARGIN:
                break
        out.append(best)
    return out


def chat_goldens(model, zoo, folder):
    """Real conversations of several lengths; the last one is a row of several, longer than any window."""
    tokenizer = PreTrainedTokenizerFast.from_pretrained(folder)
    lines = [json.loads(line)["messages"] for line in open(zoo / "eval.jsonl", encoding="utf-8")]
    render = {"tokenize": True, "add_generation_prompt": True, "return_dict": False}
    by_length = sorted((tokenizer.apply_chat_template(m, **render) for m in lines[:200]), key=len)
    prompts = [by_length[0], by_length[60], by_length[120], by_length[180], by_length[-1]]
    joined = by_length[150] + by_length[170] + by_length[199]
    return [golden(model, tokens) for tokens in (*prompts, joined[-360:])]


def load(folder):
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32,
                                                 attn_implementation="eager").eval()
    if any(hasattr(model.config, k) for k in ("n_routed_experts", "num_experts", "num_local_experts")):
        model.set_experts_implementation("eager")
    return model


def write(path, name, prompts):
    """One line a prompt: compact, and a change of one prompt changes one line of a diff."""
    lines = ",\n".join(json.dumps(p, separators=(",", ":")) for p in prompts)
    path.write_text(f'{{"name":"{name}","prompts":[\n{lines}\n]}}\n')
    print(f"{name}: smallest margin {min(min(p['margins']) for p in prompts):.4f}, "
          f"largest nll {max(max(p['nll'], default=0) for p in prompts):.2f}", flush=True)


def make_random(spec, seed, out):
    folder = out / spec.name
    shutil.rmtree(folder, ignore_errors=True)
    torch.manual_seed(seed)
    if spec.hub_only:
        model = hub_mimo.build(spec.config, spec.hub_only)
    else:
        model = AutoModelForCausalLM.from_config(spec.config)
    model = model.float().eval()
    randomise(model, seed)
    for p in model.parameters():
        p.data = p.data.to(spec.dtype)
    if spec.hub_only:
        hub_mimo.write(model, folder, spec.hub_only)
        for p in model.parameters():
            p.data = p.data.float()  # transformers cannot load these keys; this is what loading does
    else:
        model.save_pretrained(folder, max_shard_size=spec.shard_size)
        (folder / "generation_config.json").unlink(missing_ok=True)
        if spec.hub_twin:
            hub_mimo.write(model, out / f"{spec.name}-hub", {})
        model = load(folder)
    prompts = random_goldens(model, seed)
    for name in [spec.name] + [f"{spec.name}-hub"] * spec.hub_twin:
        write(out / name / "golden.json", name, prompts)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    here = pathlib.Path(__file__).resolve().parent
    parser.add_argument("--zoo", type=pathlib.Path, default=here / "../../zoo")
    parser.add_argument("--out", type=pathlib.Path, default=here / "../../tests/goldens/models")
    parser.add_argument("--only", nargs="*")
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    for seed, spec in enumerate(SPECS, 100):
        if not args.only or spec.name in args.only:
            make_random(spec, seed, args.out)
    for seed, name in enumerate(ZOO, 200):
        if (not args.only or name in args.only) and (args.zoo / name).exists():
            model = load(args.zoo / name)
            write(args.out / f"{name}.golden.json", name,
                  random_goldens(model, seed) + chat_goldens(model, args.zoo, args.zoo / name))


if __name__ == "__main__":
    main()
