#!/usr/bin/env bash
# Makes, lists and revokes the keys that callers of the API present.
set -euo pipefail
usage() {
    cat <<END
Usage: ./scripts/create_api_key.sh NAME [--scope read|write|admin] [--expires 90d|12h|52w|never] [--person "FULL NAME"]
       ./scripts/create_api_key.sh --list
       ./scripts/create_api_key.sh --revoke KEY_ID

The key is printed once, on standard output; only its digest is stored. The default is a key that may read for a year. Events
are acknowledged under the name of the key, or of the person it was made for. A NAME that begins with - comes last, after --.
END
}
case "${1:-}" in
    -h | --help) usage; exit 0 ;;
    "") usage >&2; exit 2 ;;
    --list) arguments=(list) ;;
    --revoke) arguments=(revoke "${2:?$(usage)}") ;;
    *) arguments=(create --by "${SUDO_USER:-$(id -un)}" "$@") ;;
esac
# shellcheck source=scripts/compose.sh
source "$(dirname "$0")/compose.sh"
need_engine
[ "$(health_of $postgres)" = healthy ] || fail "PostgreSQL is not running." "./scripts/start_processing_services.sh; in a swarm, call this on the machine of the databases"
migration="$(docker ps -aq --filter "label=com.docker.swarm.service.name=$(project_name)_migrate" | head -n 1)"
if [ -n "$migration" ]; then
    # In a swarm: as the owner, by the socket, like the migration.
    command=(docker run --rm --read-only --network none --cap-drop ALL --security-opt no-new-privileges
        -v "$(project_name)_postgres-socket:/var/run/postgresql" -e POSTGRES_HOST=/var/run/postgresql -e POSTGRES_PORT=5432
        -e POSTGRES_SSLMODE=disable
        -e "POSTGRES_USER=$(setting POSTGRES_USER abbanoa_user)" -e "POSTGRES_DB=$(setting POSTGRES_DB abbanoa_processing)"
        -e LOG_FORMAT=json "$(docker inspect -f '{{.Image}}' "$migration")")
else
    command=(compose run --rm --no-deps -T migrate)
fi
# Compose tells of containers it makes on standard error, which only matters where something goes wrong.
told="$(mktemp)"
trap 'rm -f "$told"' EXIT
code=0
"${command[@]}" python3 -m src.db.api_keys "${arguments[@]}" 2>"$told" </dev/null || code=$?
grep -v -E '^(Creating|Starting|Recreating) |Container .* (Creating|Created|Starting|Started)|^ *$' "$told" >&2 || true
exit $code
