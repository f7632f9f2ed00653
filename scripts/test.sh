#!/usr/bin/env bash
# Lint, types and tests, as CI runs them:
#
#     scripts/test.sh [arguments for pytest]
#
# The environment is .venv, or the folder that VENV names. It is made if it is not there, and installed into again when
# pyproject.toml, constraints.txt or what is compiled has changed. PYTHON names the interpreter to make it with (3.11, else python3).
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

venv="${VENV:-.venv}"
export PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_INPUT=1 PIP_ROOT_USER_ACTION=ignore

if [ ! -x "$venv/bin/python" ]; then
  python="${PYTHON:-}"
  if [ -z "$python" ]; then
    # a version manager's shim may be there without the version behind it
    if python3.11 -c '' 2>/dev/null; then python=python3.11; else python=python3; fi
  fi
  "$python" -m venv "$venv"
fi

wanted="$(cat pyproject.toml constraints.txt setup.py ckptkit/support/*.c | cksum) $PWD"
# --no-compile: of the frameworks' thirty thousand files a part is imported, and compiled then
if [ "$(cat "$venv/installed-for" 2>/dev/null)" != "$wanted" ]; then
  "$venv/bin/python" -m pip install --quiet --no-compile -c constraints.txt -e '.[test]'
  printf '%s' "$wanted" > "$venv/installed-for"
fi

run() {
  echo "== $*"
  "$venv/bin/python" -m "$@"
}
run ruff check
run mypy
run pytest -q -n 2 "$@"
