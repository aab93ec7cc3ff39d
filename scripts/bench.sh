#!/usr/bin/env bash
# Measures speed as ratios within one run: ./scripts/bench.sh processing | serving. Each ends with one JSON line.
set -euo pipefail
cd "$(dirname "$0")/.."
suite="${1:-}"
case "$suite" in
    processing) ;;
    serving)
        command -v wrk >/dev/null 2>&1 || {
            echo "The load generator wrk is needed: apt-get install wrk" >&2
            exit 1
        }
        ;;
    *)
        echo "Usage: $0 processing|serving" >&2
        exit 2
        ;;
esac
source scripts/setup.sh requirements-dev.txt
exec python -m "benchmarks.$suite"
