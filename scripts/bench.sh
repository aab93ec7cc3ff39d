#!/usr/bin/env bash
# Measures speed as ratios within one run, what detection finds, how well flow is forecast, ninety days of models'
# lives, a bad fortnight of the services, a large network, readings as utilities have them, and the dashboard's pages in a
# browser. Each suite ends with one JSON line:
# ./scripts/bench.sh processing | serving | anomalies | forecasting | lifecycle | endurance | scale | field | screens
set -euo pipefail
cd "$(dirname "$0")/.."
suite="${1:-}"
case "$suite" in
    processing | anomalies | forecasting | lifecycle | endurance | scale | field) ;;
    screens)
        [ -n "${CHROMIUM:-}" ] || command -v chromium >/dev/null 2>&1 || {
            echo "The browser chromium is needed: apt-get install chromium" >&2
            exit 1
        }
        ;;
    serving)
        command -v wrk >/dev/null 2>&1 || {
            echo "The load generator wrk is needed: apt-get install wrk" >&2
            exit 1
        }
        ;;
    *)
        echo "Usage: $0 processing|serving|anomalies|forecasting|lifecycle|endurance|scale|field|screens" >&2
        exit 2
        ;;
esac
source scripts/setup.sh requirements-dev.txt
shift
exec python -m "benchmarks.$suite" "$@"
