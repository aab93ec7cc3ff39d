#!/usr/bin/env bash
# Checks, builds and starts the whole system, waits until it is healthy, and says where it is.
set -euo pipefail
usage() {
    cat <<END
Usage: ./scripts/start_processing_services.sh [--demo] [--observability] [--no-build]

Checks the engine, .env.processing, credentials, secrets and ports; builds the images; starts everything; waits for health.

  --demo           a simulated network in place of BigQuery; needs no settings and no credentials
  --observability  Prometheus and Grafana as well
  --no-build       use the images that are there
END
}
profiles=() build=yes demo=no
for argument in "$@"; do
    case "$argument" in
        --demo) profiles+=(--profile demo) demo=yes ;;
        --observability) profiles+=(--profile observability) ;;
        --no-build) build=no ;;
        -h | --help) usage; exit 0 ;;
        *) usage >&2; exit 2 ;;
    esac
done
# shellcheck source=scripts/compose.sh
source "$(dirname "$0")/compose.sh"
# shellcheck source=scripts/versions.sh
source scripts/versions.sh
# shellcheck source=scripts/settings.sh
source scripts/settings.sh

need_engine

check_settings $demo ./scripts/start_processing_services.sh
if is_anybody_alerted && [[ " ${profiles[*]} $(setting COMPOSE_PROFILES) " == *observability* ]] && [ -z "$(setting ALERT_ALERTMANAGER_URL)" ]; then
    say "Note: Prometheus' own rules (no replica runs, the API is slow) reach nobody. Set ALERT_ALERTMANAGER_URL in .env.processing."
fi

# --- ports: taken by somebody else?
own="$(docker ps --filter "label=com.docker.compose.project=$(project_name)" --format '{{.Ports}}')"
for entry in POSTGRES_PORT:5433 REDIS_PORT:6380 API_PORT:8000 NGINX_PORT:8080 NGINX_HTTPS_PORT:8443; do
    name="${entry%%:*}" port="$(setting "${entry%%:*}" "${entry##*:}")"
    if (exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null && [[ "$own" != *":$port->"* ]]; then
        fail "Port $port is taken by another program." "stop it, or set $name in .env.processing to a free port"
    fi
done
memory="$(awk '/MemTotal/ {print int($2 / 1024 / 1024)}' /proc/meminfo)"
[ "$memory" -ge 3 ] || say "Note: this machine has $memory GB of memory; 4 are advised."

# --- build and start
version="$(version_here)"
log="$(mktemp)"
trap 'rm -f "$log"' EXIT
if [ $build = yes ]; then
    say "Building the images (minutes at the first time) ..."
    compose "${profiles[@]}" build --build-arg "REVISION=$version" >"$log" 2>&1 || { tail -n 30 "$log" >&2; fail "The images could not be built." "see the lines above; behind a proxy or mirror, set PYTHON_IMAGE and BUILD_NETWORK in .env.processing"; }
    [ "$version" = unknown ] || keep_built "$version"
fi
say "Starting ..."
if ! compose "${profiles[@]}" up -d >"$log" 2>&1; then
    tail -n 15 "$log" >&2
    for service in setup migrate; do
        for id in $(containers_of "$service"); do
            [ "$(docker inspect -f '{{.State.ExitCode}}' "$id")" = 0 ] || docker logs --tail 5 "$id" >&2
        done
    done
    ! grep -qi overlaps "$log" || fail "The network $(setting EDGE_PREFIX 172.31.83).0/24 is in use on this machine." "set EDGE_PREFIX in .env.processing to another"
    fail "The containers could not be started." "see the lines above; then docker-compose -f docker-compose.processing.yml logs"
fi
use_demo_that_runs
for service in postgres redis processing api-replica api nginx prometheus grafana; do refresh "$service"; done
if ! wait_for_health 180 postgres redis processing api nginx; then
    "$PWD/scripts/monitor_processing.sh" >&2 || true
    fail "Not everything became healthy within three minutes." "docker-compose -f docker-compose.processing.yml logs --tail 50"
fi

# --- where it is
http="$(setting NGINX_PORT 8080)" https="$(setting NGINX_HTTPS_PORT 8443)" host="$(setting SERVER_NAME localhost)"
cat <<END
Everything is healthy.

API            https://$host:$https/api/v1/dashboard/summary   (http://$host:$http leads there)
Documentation  https://$host:$https/docs
On this host   http://localhost:$(setting API_PORT 8000)/health
PostgreSQL     docker exec -it $postgres psql -U $(setting POSTGRES_USER abbanoa_user) -d $(setting POSTGRES_DB abbanoa_processing)
Redis          docker exec -it $redis redis-cli
Status         ./scripts/monitor_processing.sh --watch
END
[[ " ${profiles[*]} " != *observability* ]] || cat <<END
Prometheus     http://localhost:$(setting PROMETHEUS_PORT 9090)
Grafana        http://localhost:$(setting GRAFANA_PORT 3000)   (admin; password: docker exec $(containers_of grafana | head -n 1 | cut -c1-12) cat /run/secrets/grafana_password)
END
keys="$(sql -At -c "SELECT count(*) FROM water_infrastructure.api_keys WHERE revoked_at IS NULL" 2>/dev/null || echo 0)"
[ "$keys" != 0 ] || echo "
Nobody may ask yet. Make a key:  ./scripts/create_api_key.sh dashboard"
