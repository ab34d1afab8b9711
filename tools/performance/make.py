#!/usr/bin/env python3
"""Writes the part on CUDA of docs/performance.md: what bench/attention_cuda measured on a card.

    build/cuda/bench/attention_cuda --json >lines
    tools/performance/make.py lines          keeps them in docs/performance_cuda.jsonl, with the commit; writes the page
    tools/performance/make.py --page [OUTPUT]   writes the page from performance_cuda.jsonl alone (OUTPUT:
                                                docs/performance.md)

Only what stands between the two marks of the page is replaced.
"""

import json
import pathlib
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parents[2]
RESULTS = ROOT / "docs" / "performance_cuda.jsonl"
PAGE = ROOT / "docs" / "performance.md"
BEGIN = "<!-- From here to the end mark: tools/performance/make.py, from performance_cuda.jsonl. Do not edit. -->\n"
END = "<!-- End mark. -->\n"


def take(path):
    lines = [json.loads(line) for line in pathlib.Path(path).read_text().splitlines() if line.startswith("{")]
    head, rows = lines[0], lines[1:]
    if "device" not in head or not any("case" in row for row in rows):
        sys.exit(f"{path}: expected what bench/attention_cuda --json prints")
    git = subprocess.run(["git", "rev-parse", "--short", "HEAD"], check=True, cwd=ROOT, stdout=subprocess.PIPE)
    head["commit"] = git.stdout.decode().strip()
    kept = [head, *(row for row in rows if row.get("picked", True))]
    RESULTS.write_text("".join(json.dumps(line) + "\n" for line in kept))


def cells(values):
    return "| " + " | ".join(values) + " |"


def time(us):
    return f"{us:.1f}" if us < 99.95 else f"{us:,.0f}"


def best(row):
    return f"{time(row['best_us'])} ({row['best']})" if row["best_us"] else ""


def case_table(section, rows):
    lines = [cells([f"{section}, µs", "best public", "here", "of the roof", "error", "body"]),
             "|---|---|---:|---:|---:|---|"]
    lines += [cells([row["what"], best(row), time(row["us"]), f"{row['roof_percent']:.0f} %",
                     f"{row['relative_error']:.1e}".replace("e-0", "e-"), f"`{row['body']}`"]) for row in rows]
    return "\n".join(lines)


def ratio_table(rows):
    lines = [cells(["Where pages lie, and how long they are", "µs", "over", "times"]), "|---|---:|---:|---:|"]
    lines += [cells([row["ratio"], time(row["us"]), time(row["over_us"]), f"{row['times']:.2f}"]) for row in rows]
    return "\n".join(lines)


def text_of(head):
    matmul = f"{head['matmul_tflop_per_s']:.0f} TFLOP/s (cuBLASLt, 8192 cubed, bf16)"
    return f"""
## Attention on {head['device']}

{head['date']}, commit {head['commit']}, `build/cuda/bench/attention_cuda`: medians of {head['repetitions']}, everything a step launches included, other data written through the L2 cache before each; half a second of rest before cases of more than a millisecond, for a hot card is up to a tenth slower. Pages of 64 tokens anywhere in an arena of 8 GiB, bf16 queries, the body that the table of backends picks.

- **case**: `32 x 8192` is 32 sequences of 8192 tokens with one query each.
- **best public**: the fastest public kernel that we measured on such a card; one with FP8 queries computes less exactly (2.7e-2 over latents).
- **of the roof**: the least time for the bytes or for the products, whichever is larger, at what the same run measured: reads {head['read_gb_per_s'] / 1000:.2f} TB/s, products {matmul}.
- **error**: relative, of 512 rows, against sums in double of the numbers that the cache stands for.

What holds each body is in `docs/kernels/`.
"""


def part(lines):
    head, rows = lines[0], lines[1:]
    cases = [row for row in rows if "case" in row]
    ratios = [row for row in rows if "ratio" in row]
    sections = list(dict.fromkeys(row["section"] for row in cases))
    blocks = [text_of(head)]
    # What the cases of pages say is said by the ratios.
    blocks += [case_table(section, [row for row in cases if row["section"] == section]) + "\n"
               for section in sections if section != "Pages"]
    if ratios:
        blocks.append(ratio_table(ratios) + "\n")
    return "\n".join(blocks)


def write_page(output):
    page = PAGE.read_text()
    if BEGIN not in page or END not in page:
        sys.exit(f"{PAGE}: its marks are gone: {BEGIN.strip()} and {END.strip()}")
    before, rest = page.split(BEGIN)
    lines = [json.loads(line) for line in RESULTS.read_text().splitlines()]
    pathlib.Path(output).write_text(before + BEGIN + part(lines) + END + rest.split(END)[1])


def main(args):
    if args[:1] == ["--page"] and len(args) <= 2:
        write_page(args[1] if len(args) == 2 else PAGE)
    elif len(args) == 1:
        take(args[0])
        write_page(PAGE)
    else:
        sys.exit(__doc__)


if __name__ == "__main__":
    main(sys.argv[1:])
