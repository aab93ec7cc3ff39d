#!/usr/bin/env bash
# The whole system in containers, tested end to end: ./scripts/test_stack.sh
#
# With --prepare only what takes minutes of waiting: the engine, base images, our images. The test that follows ends it.
# With --swarm the stack file instead, on two engines that are joined to a swarm on this machine; needs root. About ten minutes.
# With --soak MINUTES mixed load instead, at the limits that the settings have by themselves: does memory grow?
#
# Needs an engine, and as root installs one (Debian's docker.io) and starts it where there is none. Base images come from
# the public registries or, where none can be reached, are made from Debian's packages. Takes about fifteen minutes.
set -euo pipefail
cd "$(dirname "$0")/.."
prepare=no swarm=no
case "${1:-}" in
    --prepare) prepare=yes; shift ;;
    --swarm) swarm=yes; shift ;;
esac
# The engine that an earlier --prepare has started is ours as well.
engine=/tmp/abbanoa-test-engine.pid
work="$(mktemp -d)"
finish() {
    code=$?
    rm -rf "$work"
    if [ $prepare = no ] && [ -f $engine ]; then
        # The file may be older than the process that has the number now.
        [ "$(cat "/proc/$(cat $engine)/comm" 2>/dev/null)" != dockerd ] || kill "$(cat $engine)" || true
        rm -f $engine
    fi
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
    nohup dockerd >/tmp/abbanoa-test-engine.log 2>&1 </dev/null &
    started=$!
    echo "$started" >$engine
    for _ in $(seq 60); do
        timeout 5 docker info >/dev/null 2>&1 && break
        kill -0 "$started" 2>/dev/null || break
        sleep 0.5
    done
    if ! timeout 5 docker info >/dev/null 2>&1; then
        tail -n 5 /tmp/abbanoa-test-engine.log >&2
        skip "the Docker engine does not start (above: the end of its log)"
    fi
fi
need docker-compose docker-compose
need debootstrap debootstrap
[ $swarm = no ] || need docker-registry docker-registry
tests/e2e/images/build.sh >"$work/images"
if [ $prepare = yes ] || [ $swarm = yes ]; then
    python_image="$(sed -n 's/^PYTHON_IMAGE=//p' "$work/images")"
    network="$(grep -q stand-in "$work/images" && echo host || echo default)"
    builds=()
    for name in processing api demo; do
        DOCKER_BUILDKIT=0 docker build -q --network "$network" --build-arg "PYTHON_IMAGE=$python_image" \
            -f "Dockerfile.$name" -t "abbanoa-stack-test-$name" . >"$work/$name.log" 2>&1 &
        builds+=($!)
    done
    # These only: the engine goes on. What goes wrong here goes wrong again in the test, which says so.
    wait "${builds[@]}" || true
    [ $swarm = yes ] || exit 0
fi
grep -q 'stand-in' "$work/images" && echo "BUILD_NETWORK=host" >>"$work/images"
source scripts/setup.sh requirements-dev.txt
if [ $swarm = yes ]; then
    python -m tests.e2e.swarm_main "$work/images" "$@"
else
    python -m tests.e2e.main "$work/images" "$@"
fi
