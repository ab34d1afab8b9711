#!/bin/sh
# Remakes tests/goldens. The zoo's checkpoints (tools/zoo) must be in zoo/ already.
set -eu
cd "$(dirname "$0")"
python3 make_text_goldens.py
python3 make_model_goldens.py
python3 hub_fp8.py
