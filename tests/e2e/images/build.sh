#!/usr/bin/env bash
# Base images for the container test: the public ones where a registry can be reached, else stand-ins from Debian's
# packages. Prints NAME=image lines for the environment of docker-compose. Needs root and debootstrap for stand-ins.
set -euo pipefail
cd "$(dirname "$0")"

declare -A public=(
    [PYTHON_IMAGE]="$(sed -n 's/^ARG PYTHON_IMAGE=//p' ../../../Dockerfile.processing)"
    [POSTGRES_IMAGE]="$(sed -n 's/.*{POSTGRES_IMAGE:-\([^}]*\)}.*/\1/p' ../../../docker-compose.processing.yml | head -1)"
    [REDIS_IMAGE]="$(sed -n 's/.*{REDIS_IMAGE:-\([^}]*\)}.*/\1/p' ../../../docker-compose.processing.yml | head -1)"
    [NGINX_IMAGE]="$(sed -n 's/.*{NGINX_IMAGE:-\([^}]*\)}.*/\1/p' ../../../docker-compose.processing.yml | head -1)"
    [PROMETHEUS_IMAGE]="$(sed -n 's/.*{PROMETHEUS_IMAGE:-\([^}]*\)}.*/\1/p' ../../../docker-compose.processing.yml | head -1)"
)
declare -A stand_in=([PYTHON_IMAGE]=python [POSTGRES_IMAGE]=postgres [REDIS_IMAGE]=redis [NGINX_IMAGE]=nginx [PROMETHEUS_IMAGE]=prometheus)
prefix=abbanoa-stand-in

if timeout 60 docker pull --quiet "${public[NGINX_IMAGE]}" >&2 2>/dev/null; then
    for name in "${!public[@]}"; do echo "$name=${public[$name]}"; done
    exit 0
fi
echo "No image registry can be reached: building stand-ins from Debian's packages ..." >&2

work="$(mktemp -d)"
trap 'rm -rf "$work"' EXIT
if ! docker image inspect "$prefix/debian" >/dev/null 2>&1; then
    debootstrap --variant=minbase --include=ca-certificates bookworm "$work/root" http://deb.debian.org/debian >"$work/log" 2>&1 ||
        { tail -5 "$work/log" >&2; exit 1; }
    rm -rf "$work"/root/var/cache/apt/archives/*.deb "$work"/root/var/lib/apt/lists/*
    tar -C "$work/root" -c . | docker import - "$prefix/debian" >/dev/null
    rm -rf "$work/root"
fi
# The certificates this machine trusts: package indexes may be behind a mirror of its own.
mkdir "$work/context"
cp /etc/ssl/certs/ca-certificates.crt "$work/context/"
cp postgres-entrypoint.sh "$work/context/"
build() { # name
    DOCKER_BUILDKIT=0 docker build --quiet --network=host --build-arg "BASE=$prefix/debian" -t "$prefix/$1" \
        -f "$1.Dockerfile" "$work/context" >"$work/$1.log" 2>&1 || { cat "$work/$1.log" >&2; return 1; }
}
# They need nothing of each other: two at a time.
export -f build
export prefix work
printf '%s\n' "${stand_in[@]}" | xargs -P 2 -I{} bash -c 'build {}'
for name in "${!stand_in[@]}"; do echo "$name=$prefix/${stand_in[$name]}"; done
