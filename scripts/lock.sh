#!/usr/bin/env bash
# Re-resolves requirements/*.in into the pinned, hashed requirements-*.txt beside the README.
# Run it after changing an .in file; `./scripts/lock.sh --upgrade` also takes newer releases.
set -euo pipefail
cd "$(dirname "$0")/.."
compile() {
    uv pip compile --quiet --generate-hashes --python-version 3.11 --universal \
        --no-emit-index-url --custom-compile-command "./scripts/lock.sh" "$@"
}
# The widest set is resolved first and constrains the narrower ones: one version of everything everywhere.
compile "$@" requirements/dev.in -o requirements-dev.txt
for name in quickstart processing api pip; do
    compile -c requirements-dev.txt "requirements/$name.in" -o "requirements-$name.txt"
done
