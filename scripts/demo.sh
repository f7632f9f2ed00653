#!/usr/bin/env bash
# Sets up ckptkit in .venv (or the folder VENV names) and runs the main job on checkpoints in fixtures/:
# inspect, validate (one configuration is right, one says 12 layers of 24), convert, and validate what was written.
set -euo pipefail
cd "$(dirname "$0")/.."

VENV=${VENV:-.venv}
PYTHON=${PYTHON:-python3}
export PIP_DISABLE_PIP_VERSION_CHECK=1

[ -x "$VENV/bin/python" ] || "$PYTHON" -m venv "$VENV"
[ -x "$VENV/bin/ckptkit" ] || "$VENV/bin/python" -m pip install -q -c constraints.txt -e .

OUT=$(mktemp -d)
trap 'rm -rf "$OUT"' EXIT
run() { printf '\n$ ckptkit %s\n' "$*"; "$VENV/bin/ckptkit" "$@"; }

run inspect fixtures/made/bert-google
run validate fixtures/made/roberta-large-shaped
run validate fixtures/made/roberta-large-shaped --config fixtures/made/roberta-large-shaped/config-12.json && status=0 || status=$?
[ "$status" = 1 ] || { echo "the wrong configuration should have been caught (exit status 1), not $status" >&2; exit 1; }
run convert fixtures/made/bert-google "$OUT/bert-hf" --to hf
run validate "$OUT/bert-hf"
ls "$OUT/bert-hf"
