#!/usr/bin/env bash
# Puts a backup back: the database and Redis then hold exactly what they held. What they hold now is lost.
set -euo pipefail
usage() {
    cat <<END
Usage: ./scripts/restore.sh FOLDER [--yes] [--stopped]

FOLDER is one that ./scripts/backup.sh wrote. Works on an empty server as well. Services stop meanwhile and start again.

  --yes      do not ask
  --stopped  leave processing, API and Nginx stopped, to look at the data first
END
}
folder="" yes=no stopped=no
for argument in "$@"; do
    case "$argument" in
        --yes) yes=yes ;;
        --stopped) stopped=yes ;;
        -h | --help) usage; exit 0 ;;
        -*) usage >&2; exit 2 ;;
        *) folder="$(realpath "$argument")" ;;
    esac
done
[ -n "$folder" ] || { usage >&2; exit 2; }
# shellcheck source=scripts/compose.sh
source "$(dirname "$0")/compose.sh"
need_engine
[ -f "$folder/SHA256SUMS" ] || fail "$folder is no backup: it has no SHA256SUMS." "choose a folder of backups/"
(cd "$folder" && sha256sum --quiet -c SHA256SUMS) || fail "The backup is damaged: a checksum does not match." "choose another"
if [ $yes = no ]; then
    read -r -p "What the database and Redis hold now will be lost. Restore $folder? [y/N] " answer
    [ "$answer" = y ] || exit 1
fi
user="$(setting POSTGRES_USER abbanoa_user)" database="$(setting POSTGRES_DB abbanoa_processing)"
log="$(mktemp)"
trap 'rm -f "$log"' EXIT
quietly() { "$@" >"$log" 2>&1 || { tail -n 20 "$log" >&2; fail "'$*' failed." "see the lines above"; }; }

say "Stopping what uses the data ..."
quietly compose stop nginx api api-replica processing redis
quietly compose up -d setup postgres
wait_for_health 120 postgres || fail "PostgreSQL does not become healthy." "docker logs $postgres"

say "Restoring the database ..."
administer() { docker exec -i $postgres psql -X -q -v ON_ERROR_STOP=1 -U "$user" -d postgres "$@"; }
quietly administer -v name="$database" <<'END'
DROP DATABASE IF EXISTS :"name" WITH (FORCE);
CREATE DATABASE :"name";
END
# Roles come from the secrets, not from the backup; the migration gives them their rights.
timescale="$(docker exec -i $postgres pg_restore --list <"$folder/database.dump" | grep -c ' EXTENSION - timescaledb ' || true)"
if [ "$timescale" != 0 ]; then
    quietly sql -c "CREATE EXTENSION IF NOT EXISTS timescaledb" -c "SELECT timescaledb_pre_restore()"
fi
docker exec -i $postgres pg_restore -U "$user" -d "$database" --no-owner --no-privileges --exit-on-error \
    <"$folder/database.dump" >"$log" 2>&1 || { tail -n 20 "$log" >&2; fail "pg_restore failed." "see the lines above"; }
[ "$timescale" = 0 ] || quietly sql -c "SELECT timescaledb_post_restore()"
SQL_TIMEOUT=600 quietly sql -c ANALYZE
quietly compose up -d migrate
for _ in $(seq 120); do
    state="$(docker inspect -f '{{.State.Status}} {{.State.ExitCode}}' "$(compose ps -aq migrate 2>/dev/null || compose ps -q migrate)")"
    [[ "$state" != exited* ]] || break
    sleep 1
done
[ "$state" = "exited 0" ] || fail "The migration after the restore failed." "docker-compose -f docker-compose.processing.yml logs migrate"

if [ -f "$folder/redis.rdb" ]; then
    say "Restoring Redis ..."
    compose run --rm --no-deps -T --entrypoint /bin/sh redis -c 'cat >/data/dump.rdb' <"$folder/redis.rdb" >"$log" 2>&1 ||
        { tail -n 20 "$log" >&2; fail "Redis' data could not be put back." "see the lines above"; }
fi
quietly compose up -d redis
wait_for_health 60 redis || fail "Redis does not become healthy." "docker logs $redis"
if [ $stopped = yes ]; then
    echo "Restored; processing, API and Nginx are stopped. Start them: docker-compose -f docker-compose.processing.yml up -d"
    exit 0
fi
quietly compose up -d
wait_for_health 120 api nginx processing || fail "Not everything became healthy." "./scripts/monitor_processing.sh"
echo "Restored."
