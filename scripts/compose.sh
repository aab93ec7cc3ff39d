#!/usr/bin/env bash
# Sourced by the scripts that work on the containers: `compose` is whichever Compose this machine has, on our file and
# on .env.processing; names of containers, what they were given, and sentences for people.
set -euo pipefail
# shellcheck disable=SC2034 # Where the caller was, to whom relative paths mean something.
called_from="$PWD"
cd "$(dirname "${BASH_SOURCE[0]}")/.."

fail() { # the sentence, the next step
    echo "Error: $1" >&2
    [ -z "${2:-}" ] || echo "Next:  $2" >&2
    exit 1
}

say() { echo "$*" >&2; }

quietly() { # a command, whose output is shown where it fails
    local told code=0
    told="$("$@" 2>&1)" || code=$?
    [ $code = 0 ] && return
    printf '%s\n' "$told" | tail -n 20 >&2
    fail "'$*' failed." "see the lines above"
}

need_docker() {
    command -v docker >/dev/null 2>&1 ||
        fail "Docker is not installed." "install Docker Engine and Compose (https://docs.docker.com/engine/install/, or: apt-get install docker.io docker-compose)"
    timeout 20 docker info >/dev/null 2>&1 ||
        fail "The Docker engine does not answer, or $(id -un) may not use it." "start it (sudo systemctl start docker), or add the user to the group docker"
}

need_engine() {
    need_docker
    if timeout 20 docker compose version >/dev/null 2>&1; then
        compose_command=(docker compose)
    elif command -v docker-compose >/dev/null 2>&1; then
        compose_command=(docker-compose)
    else
        fail "Docker Compose is not installed." "install the plugin (apt-get install docker-compose-plugin) or docker-compose 1.29.2"
    fi
    find_databases
}

find_databases() { # a swarm gives names of its own to the containers of this machine
    local service id
    for service in postgres redis; do
        id="$(docker ps -q --filter "label=com.docker.swarm.service.name=$(project_name)_$service" | head -n 1)"
        [ -z "$id" ] || printf -v "$service" %s "$id"
    done
}

compose() { "${compose_command[@]}" -f docker-compose.processing.yml "$@"; }

setting() { # name, default -> as Compose sees it: the environment first, then .env.processing
    local value="${!1:-}"
    if [ -z "$value" ] && [ -f .env.processing ]; then
        value="$(sed -n "s/^$1=//p" .env.processing | tail -n 1 | sed -e "s/^'\(.*\)'$/\1/" -e 's/^"\(.*\)"$/\1/')"
    fi
    printf %s "${value:-${2:-}}"
}

secret_given() { # the name of a secret -> what secrets/ or .env.processing give, as containers/setup takes it
    local file
    file="secrets/$(printf %s "$1" | tr '[:upper:]' '[:lower:]')"
    if [ -s "$file" ]; then cat -- "$file"; else (unset "$1" && setting "$1"); fi
}

# shellcheck disable=SC2034 # by those who source this
postgres=abbanoa-postgres-processing redis=abbanoa-redis-processing
sql() { # options and a statement, as the owner, over the socket
    timeout "${SQL_TIMEOUT:-15}" docker exec -i "$postgres" psql -X -q -v ON_ERROR_STOP=1 \
        -U "$(setting POSTGRES_USER abbanoa_user)" -d "${DATABASE:-$(setting POSTGRES_DB abbanoa_processing)}" "$@"
}

project_name() { setting COMPOSE_PROJECT_NAME "$(basename "$PWD" | tr '[:upper:]' '[:lower:]' | tr -dc 'a-z0-9_-')"; }

containers_of() { # a service -> ids of its containers, whether they run or not
    docker ps -aq --filter "label=com.docker.compose.project=$(project_name)" \
        --filter label=com.docker.compose.oneoff=False --filter "label=com.docker.compose.service=$1"
}

health_of() { # container -> healthy, unhealthy, starting, or its state where it has no check
    docker inspect -f '{{if .State.Health}}{{if .State.Running}}{{.State.Health.Status}}{{else}}{{.State.Status}}{{end}}{{else}}{{.State.Status}}{{end}}' "$1" 2>/dev/null || echo missing
}

wait_for_health() { # seconds, services ...
    local deadline=$((SECONDS + $1)) service ids id state pending
    shift
    while :; do
        pending=""
        for service in "$@"; do
            ids="$(containers_of "$service")"
            for id in $ids; do
                state="$(health_of "$id")"
                # Those without a check of their own need only run.
                [ "$state" = healthy ] || [ "$state" = running ] || pending="$pending $service ($state)"
            done
            [ -n "$ids" ] || pending="$pending $service (not there)"
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

run_to_end() { # a service that does one thing and ends: its container is replaced where it changed, and runs
    local id
    quietly compose up -d --no-deps "$1"
    id="$(containers_of "$1" | head -n 1)"
    if [ "$(timeout 600 docker wait "$id")" != 0 ]; then
        docker logs --tail 10 "$id" >&2
        fail "$1 failed." "see the lines above"
    fi
}

# --- files that containers were given: Compose replaces a container whose image or settings changed, and does not see
# that a mounted file or a secret did.
changed_at() { # container -> when the newest file it was given changed, in seconds; rules are read again by themselves
    {
        docker inspect -f '{{range .Mounts}}{{if eq .Type "bind"}}{{.Destination}}|{{.Source}}{{println}}{{end}}{{end}}' "$1" |
            while IFS='|' read -r destination source; do
                case "$destination" in "" | /srv/abbanoa/alerts) ;; *) find "$source" -printf '%C@\n' 2>/dev/null || true ;; esac
            done
        docker exec "$1" sh -c 'stat -c %Z /run/secrets /run/secrets/*' 2>/dev/null || true
    } | sort -n | tail -n 1
}

loaded_at() { # container -> when it last read them
    docker exec "$1" stat -c %Y /tmp/loaded 2>/dev/null || date -d "$(docker inspect -f '{{.State.StartedAt}}' "$1")" +%s.%N
}

is_stale() { # container
    awk -v changed="$(changed_at "$1")" -v loaded="$(loaded_at "$1")" 'BEGIN {exit !(changed + 0 > loaded + 0)}'
}

refresh() { # a service whose files may have changed: it reads them, without a gap where it can
    local id script=""
    case "$1" in nginx) script=/etc/abbanoa/start.sh ;; postgres) script=/containers/start.sh ;; esac
    for id in $(containers_of "$1"); do
        is_stale "$id" || continue
        say "What $1 was given has changed: it reads it again ..."
        # Those of a version that one goes back to may not know how.
        if [ -n "$script" ] && docker exec "$id" grep -qw reload "$script" 2>/dev/null; then
            quietly docker exec "$id" sh "$script" reload
        else
            quietly compose up -d --no-deps --force-recreate --scale "$1=$(containers_of "$1" | wc -l)" "$1"
            return
        fi
    done
}

replace() { # services ...: of each as many as there are, of the image, settings, files and secrets that are there now
    local service count
    for service in "$@"; do
        count="$(containers_of "$service" | wc -l)"
        [ "$count" -gt 0 ] || continue
        say "Replacing $service where it has changed ..."
        quietly compose up -d --no-deps --scale "$service=$count" "$service"
        refresh "$service"
        wait_for_health 120 "$service" ||
            fail "$service does not become healthy." "docker-compose -f docker-compose.processing.yml logs --tail 50 $service"
    done
}

replace_all() { # everything that there is, in the order in which one needs the other; what never was here stays away
    say "Handing out secrets and certificates ..."
    run_to_end setup
    replace postgres redis
    say "Migrating ..."
    # To its end, so that a migration that fails stops this before any of our services is touched.
    run_to_end migrate
    replace bigquery processing api-replica api nginx prometheus grafana
}

use_demo_that_runs() { # its image is built, and it is started, where it was started before
    local profiles
    profiles="$(setting COMPOSE_PROFILES)"
    [ -z "$(containers_of bigquery)" ] || profiles="$profiles,demo"
    export COMPOSE_PROFILES="${profiles#,}"
}
