#!/usr/bin/env bash
# The whole system in containers, tested end to end: ./scripts/test_stack.sh
#
# Needs an engine, and as root installs one (Debian's docker.io) and starts it where there is none. Base images come from
# the public registries or, where none can be reached, are made from Debian's packages. Takes about seven minutes.
set -euo pipefail
cd "$(dirname "$0")/.."
started=""
work="$(mktemp -d)"
finish() {
    code=$?
    rm -rf "$work"
    [ -z "$started" ] || { kill "$started" 2>/dev/null && wait "$started" 2>/dev/null; } || true
    exit $code
}
trap finish EXIT

skip() { echo "SKIPPED: the container test cannot run here: $1" >&2; exit 0; }

need() { # package, command
    command -v "$2" >/dev/null 2>&1 && return
    { [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null 2>&1; } || skip "$2 is missing, and only root on Debian can install it"
    echo "Installing $1 ..." >&2
    { apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "$1"; } >"$work/apt" 2>&1 ||
        { tail -n 5 "$work/apt" >&2; echo "$1 could not be installed" >&2; exit 1; }
}

if ! timeout 20 docker info >/dev/null 2>&1; then
    [ "$(id -u)" = 0 ] || skip "no Docker engine answers, and only root can start one"
    need docker.io dockerd
    need iptables iptables
    nohup dockerd >"$work/dockerd.log" 2>&1 &
    started=$!
    for _ in $(seq 60); do
        timeout 5 docker info >/dev/null 2>&1 && break
        kill -0 "$started" 2>/dev/null || break
        sleep 0.5
    done
    if ! timeout 5 docker info >/dev/null 2>&1; then
        tail -n 5 "$work/dockerd.log" >&2
        skip "the Docker engine does not start (above: the end of its log)"
    fi
fi
need docker-compose docker-compose
need debootstrap debootstrap
source scripts/setup.sh requirements-dev.txt
tests/e2e/images/build.sh >"$work/images"
grep -q 'stand-in' "$work/images" && echo "BUILD_NETWORK=host" >>"$work/images"
python -m tests.e2e.main "$work/images"
