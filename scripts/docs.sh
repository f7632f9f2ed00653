#!/usr/bin/env bash
# Builds the site of docs/ into site/, strictly: a page outside the navigation, a link or an anchor that leads nowhere, a name that the API's page
# has and the package has not, ends it. The environment is .venv-docs, or the folder that VENV names; PYTHON names the interpreter to make it with.
#
#     scripts/docs.sh                 build
#     scripts/docs.sh serve           build, and show it at http://127.0.0.1:8000 as it changes
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

venv="${VENV:-.venv-docs}"
export PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_INPUT=1 NO_MKDOCS_2_WARNING=1
[ -x "$venv/bin/python" ] || "${PYTHON:-python3}" -m venv "$venv"
[ -x "$venv/bin/mkdocs" ] || "$venv/bin/python" -m pip install --quiet -c constraints.txt -e '.[docs]'
exec "$venv/bin/mkdocs" "${1:-build}" --strict
