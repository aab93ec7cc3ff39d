#!/usr/bin/env bash
# Sourced by the scripts that work on the containers: `compose` is whichever Compose this machine has, on our file and
# on .env.processing; names of containers, and sentences for people.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

fail() { # the sentence, the next step
    echo "Error: $1" >&2
    [ -z "${2:-}" ] || echo "Next:  $2" >&2
    exit 1
}

say() { echo "$*" >&2; }

need_engine() {
    command -v docker >/dev/null 2>&1 ||
        fail "Docker is not installed." "install Docker Engine and Compose (https://docs.docker.com/engine/install/, or: apt-get install docker.io docker-compose)"
    timeout 20 docker info >/dev/null 2>&1 ||
        fail "The Docker engine does not answer, or $(id -un) may not use it." "start it (sudo systemctl start docker), or add the user to the group docker"
    if timeout 20 docker compose version >/dev/null 2>&1; then
        compose_command=(docker compose)
    elif command -v docker-compose >/dev/null 2>&1; then
        compose_command=(docker-compose)
    else
        fail "Docker Compose is not installed." "install the plugin (apt-get install docker-compose-plugin) or docker-compose 1.29.2"
    fi
}

compose() { "${compose_command[@]}" -f docker-compose.processing.yml "$@"; }

setting() { # name, default -> as Compose sees it: the environment first, then .env.processing
    local value="${!1:-}"
    if [ -z "$value" ] && [ -f .env.processing ]; then
        value="$(sed -n "s/^$1=//p" .env.processing | tail -n 1 | sed -e "s/^'\(.*\)'$/\1/" -e 's/^"\(.*\)"$/\1/')"
    fi
    printf %s "${value:-${2:-}}"
}

# shellcheck disable=SC2034 # by those who source this
postgres=abbanoa-postgres-processing redis=abbanoa-redis-processing
sql() { # options and a statement, as the owner, over the socket
    timeout "${SQL_TIMEOUT:-15}" docker exec -i "$postgres" psql -X -q -v ON_ERROR_STOP=1 \
        -U "$(setting POSTGRES_USER abbanoa_user)" -d "$(setting POSTGRES_DB abbanoa_processing)" "$@"
}

containers_of() { compose ps -q "$1" 2>/dev/null; } # a service -> ids of its containers that are there

health_of() { # container -> healthy, unhealthy, starting, or its state where it has no check
    docker inspect -f '{{if .State.Health}}{{if .State.Running}}{{.State.Health.Status}}{{else}}{{.State.Status}}{{end}}{{else}}{{.State.Status}}{{end}}' "$1" 2>/dev/null || echo missing
}

wait_for_health() { # seconds, services ...
    local deadline=$((SECONDS + $1)) service id state pending
    shift
    while :; do
        pending=""
        for service in "$@"; do
            for id in $(containers_of "$service"); do
                state="$(health_of "$id")"
                [ "$state" = healthy ] || pending="$pending $service ($state)"
            done
            [ -n "$(containers_of "$service")" ] || pending="$pending $service (not there)"
        done
        [ -n "$pending" ] || break
        if [ $SECONDS -ge $deadline ]; then
            [ ! -t 2 ] || printf '\r\033[K' >&2
            return 1
        fi
        [ ! -t 2 ] || printf '\r\033[KWaiting for%s' "$pending" >&2
        sleep 1
    done
    [ ! -t 2 ] || printf '\r\033[K' >&2
}
