#!/bin/sh
# Remakes the zoo: tokenizer, held-out problems, the three checkpoints side by side on one GPU, their scores, their drafts.
#   make.sh [FOLDER]        default: zoo/ of this checkout
set -eu
here=$(cd "$(dirname "$0")" && pwd)
mkdir -p "${1:-$here/../../zoo}"
zoo=$(cd "${1:-$here/../../zoo}" && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$here"
[ -f "$zoo/tokenizer/tokenizer.json" ] || python3 tokenizer.py "$zoo/tokenizer"
python3 problems.py --eval 500 > "$zoo/eval.jsonl"

make_one() {  # model, steps
  common="--tokenizer $zoo/tokenizer --rows $work/$1.npz --steps $2"
  python3 train.py $common
  OMP_NUM_THREADS=2 python3 train.py $common --model "$1" --out "$zoo/$1"
}
jobs=""
make_one mimo-tiny 2000 & jobs="$jobs $!"
make_one deepseek-tiny 4500 & jobs="$jobs $!"
make_one qwen-tiny 2000 & jobs="$jobs $!"
for job in $jobs; do wait "$job"; done
python3 evaluate.py "$zoo/eval.jsonl" "$zoo/mimo-tiny" "$zoo/deepseek-tiny" "$zoo/qwen-tiny"
jobs=""
for model in mimo-tiny deepseek-tiny qwen-tiny; do
  OMP_NUM_THREADS=2 python3 train_draft.py --model "$zoo/$model" --eval "$zoo/eval.jsonl" \
    --out "$zoo/$model-dflash" --golden "$zoo/$model-dflash.golden.json" & jobs="$jobs $!"
done
for job in $jobs; do wait "$job"; done
