#!/usr/bin/env bash
# The whole system on this machine, set-up included: ./scripts/quickstart.sh --help
set -euo pipefail
cd "$(dirname "$0")/.."
source scripts/setup.sh requirements-quickstart.txt
exec python -m src.quickstart.main "$@"
