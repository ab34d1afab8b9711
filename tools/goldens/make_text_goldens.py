#!/usr/bin/env python3
"""Reference token ids, decoded texts and rendered chat templates, by tokenizers, transformers and Jinja.

    python3 make_text_goldens.py [--zoo ../../zoo] [--out ../../tests/goldens/text]

tokenizer.jsonl         the zoo's tokenizer: {"text", "ids", "ids_special", "decoded", "decoded_skip"}
tokenizers/NAME.json    small tokenizers with the features of other families; NAME.jsonl the same columns for each
template.jsonl          {"template", "context", "output", "error"}; output is null where rendering must fail, and "rare" marks
                        what no published template is known to use

No PyTorch is needed. `ids` is without, `ids_special` with what the post-processor adds; decoding starts from `ids_special`.
"""

import argparse
import json
import pathlib

from transformers import PreTrainedTokenizerFast
from transformers.utils.chat_template_utils import render_jinja_template

import template_cases
import text_samples
from tokenizer_variants import VARIANTS


def row(tokenizer, text):
    ids = tokenizer(text, add_special_tokens=False)["input_ids"]
    special = tokenizer(text)["input_ids"]
    decode = lambda skip: tokenizer.decode(special, skip_special_tokens=skip,
                                           clean_up_tokenization_spaces=False)
    return {"text": text, "ids": ids, "ids_special": special, "decoded": decode(False),
            "decoded_skip": decode(True)}


def write_lines(path, rows):
    path.write_text("".join(json.dumps(r, ensure_ascii=True,
                                       separators=(",", ":")) + "\n" for r in rows))
    print(f"{path.name}: {len(rows)} rows, {path.stat().st_size:,} bytes")


def variant_goldens(out):
    folder = out / "tokenizers"
    folder.mkdir(exist_ok=True)
    for name, (build, strings, special) in VARIANTS.items():
        file = folder / f"{name}.json"
        data = build()
        file.write_text(json.dumps(data, ensure_ascii=False, separators=(",", ":")) + "\n")
        tokenizer = PreTrainedTokenizerFast(tokenizer_file=str(file),
                                            clean_up_tokenization_spaces=False, **special)
        for token in data["added_tokens"]:  # the library numbers added tokens by itself; a file that disagrees tests nothing
            assert tokenizer.convert_tokens_to_ids(token["content"]) == token["id"], (name, token)
        write_lines(out / f"{name}.jsonl",
                    [row(tokenizer, text) for text in text_samples.some_strings(strings)])


def render(case):
    """As apply_chat_template does it; a template that fails, at compile time or when rendering, must fail elsewhere too."""
    context = dict(case.context)
    messages = context.pop("messages", [])
    options = {name: context.pop(name) for name in ("tools", "documents",
                                                    "add_generation_prompt") if name in context}
    try:
        rendered, _ = render_jinja_template([messages], chat_template=case.template, **options,
                                            **context)
        return rendered[0]
    except Exception as failure:
        if not case.fails:
            raise RuntimeError(f"{case.template!r} failed: {failure!r}") from failure
        return None


def template_goldens(out, zoo):
    rows = []
    for case in template_cases.cases((zoo / "tokenizer" / "chat_template.jinja").read_text()):
        output = render(case)
        if case.fails and output is not None:
            raise RuntimeError(f"{case.template!r} was expected to fail, gave {output!r}")
        row = {"template": case.template, "context": case.context, "output": output,
               "error": case.fails}
        rows.append({**row, "rare": True} if case.rare else row)
    write_lines(out / "template.jsonl", rows)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    here = pathlib.Path(__file__).resolve().parent
    parser.add_argument("--zoo", type=pathlib.Path, default=here / "../../zoo")
    parser.add_argument("--out", type=pathlib.Path, default=here / "../../tests/goldens/text")
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    zoo_tokenizer = PreTrainedTokenizerFast.from_pretrained(args.zoo / "tokenizer")
    write_lines(args.out / "tokenizer.jsonl",
                [row(zoo_tokenizer, text) for text in text_samples.all_strings()])
    variant_goldens(args.out)
    template_goldens(args.out, args.zoo)


if __name__ == "__main__":
    main()
