#!/usr/bin/env bash
# Sourced by the other scripts: makes .venv from one of the locked requirement files, once per change of that file.
# Usage: source scripts/setup.sh <requirements file>
set -euo pipefail
requirements="$1"
python="${PYTHON:-python3.11}"
command -v "$python" >/dev/null 2>&1 || python=python3
"$python" -c 'import sys; sys.exit(sys.version_info[:2] != (3, 11))' || {
    echo "Python 3.11 is needed; '$python' is $("$python" --version 2>&1). Install it, or name it: PYTHON=/path/to/python3.11 $0" >&2
    exit 1
}
# A wider set serves a narrower need: after ./scripts/test.sh the quickstart installs nothing again.
stamp_of() { sha256sum "$1" | cut -d' ' -f1; }
installed="$(cat .venv/installed 2>/dev/null || true)"
wanted="$(stamp_of "$requirements")"
if [ "$installed" != "$wanted" ] && [ "$installed" != "$(stamp_of requirements-dev.txt)" ]; then
    echo "Installing $requirements into .venv (once) ..." >&2
    "$python" -m venv .venv
    # What is imported is compiled when it first is: most of the libraries' files never are.
    install_from() { .venv/bin/python -m pip install --no-compile --quiet --disable-pip-version-check --require-hashes -r "$1" >&2; }
    install_from requirements-pip.txt
    install_from "$requirements"
    echo "$wanted" >.venv/installed
fi
export PATH="$PWD/.venv/bin:$PATH"
# Without that every process would compile all it imports anew, some seconds each.
unset PYTHONDONTWRITEBYTECODE
