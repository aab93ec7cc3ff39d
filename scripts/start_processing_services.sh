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
# shellcheck source=containers/setup/strength.sh
source containers/setup/strength.sh

need_engine

# --- settings
if [ ! -f .env.processing ] && [ $demo = no ]; then
    fail "There is no .env.processing." "cp .env.processing.example .env.processing, and set BIGQUERY_PROJECT_ID and GOOGLE_APPLICATION_CREDENTIALS in it (or try ./scripts/start_processing_services.sh --demo)"
fi
project="$(setting BIGQUERY_PROJECT_ID)"
if [ $demo = yes ]; then
    [ -z "$project" ] || [ "$project" = demo ] ||
        fail "BIGQUERY_PROJECT_ID is $project, so that the demo's readings would not be looked at." "leave it empty in .env.processing for the demo, or start without --demo"
else
    [ -n "$project" ] ||
        fail "BIGQUERY_PROJECT_ID is not set in .env.processing." "name the Google Cloud project whose BigQuery has the readings (or start with --demo)"
    credentials="$(setting GOOGLE_APPLICATION_CREDENTIALS)"
    if [ -z "$credentials" ]; then
        say "Note: GOOGLE_APPLICATION_CREDENTIALS is not set: the service account of this machine will be used, which only a machine of Google's has. Elsewhere, set it."
    elif [[ "$credentials" != /* && "$credentials" != ./* ]]; then
        fail "GOOGLE_APPLICATION_CREDENTIALS is '$credentials', which Compose takes for a volume's name." "give the full path of the service account's key file in .env.processing"
    elif [ ! -f "$credentials" ]; then
        fail "GOOGLE_APPLICATION_CREDENTIALS names $credentials, which is no file." "give the full path of the service account's key file in .env.processing"
    elif ! grep -q '"type"' "$credentials" || ! grep -q '"private_key"\|"refresh_token"\|"external_account"' "$credentials"; then
        fail "$credentials is not a Google credentials file." "download the service account's key as JSON"
    fi
fi
environment="$(setting ENVIRONMENT production)"
case "$environment" in
    production | trial) ;;
    *) fail "ENVIRONMENT is '$environment' in .env.processing." "choose production or trial" ;;
esac
for name in POSTGRES_PASSWORD POSTGRES_PROCESSING_PASSWORD POSTGRES_API_PASSWORD POSTGRES_READONLY_PASSWORD REDIS_PASSWORD GRAFANA_PASSWORD; do
    value="$(secret_given $name)"
    [ -z "${!name:-}" ] || [ "${!name}" = "$value" ] || say "Note: $name of your shell counts for nothing: secrets come from .env.processing or secrets/."
    if [ -n "$value" ] && { ! why="$(unusable "$value")" || { [ "$environment" = production ] && ! why="$(weakness "$value")"; }; }; then
        fail "$name $why." "choose another (openssl rand -hex 24), or leave it empty and one is made"
    fi
done

# --- somebody who is told when something goes wrong
if [ -z "$(secret_given ALERT_WEBHOOK_URL)$(setting ALERT_ALERTMANAGER_URL)" ] && { [ -z "$(setting ALERT_SMTP_HOST)" ] || [ -z "$(setting ALERT_MAIL_TO)" ]; }; then
    say "Note: nobody is told when something goes wrong. Set ALERT_WEBHOOK_URL, ALERT_ALERTMANAGER_URL, or ALERT_SMTP_HOST and ALERT_MAIL_TO in .env.processing."
elif [[ " ${profiles[*]} $(setting COMPOSE_PROFILES) " == *observability* ]] && [ -z "$(setting ALERT_ALERTMANAGER_URL)" ]; then
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
