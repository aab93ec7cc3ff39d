#!/usr/bin/env bash
# Checks and tests, set-up included. Extra arguments go to pytest, e.g. ./scripts/test.sh -k metrics -x
# Tests wait for servers more than they compute: three at a time, each with servers of its own.
set -euo pipefail
cd "$(dirname "$0")/.."
source scripts/setup.sh requirements-dev.txt
ruff check .
ruff format --check .
mypy
lint-imports
exec python -m pytest -n 3 --dist worksteal "$@"
