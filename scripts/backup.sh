#!/usr/bin/env bash
# Saves the database and Redis into a new folder of backups/, with checksums, and drops the oldest.
set -euo pipefail
usage() {
    cat <<END
Usage: ./scripts/backup.sh [--to FOLDER] [--keep NUMBER]

Writes database.dump (pg_dump's own format), redis.rdb and SHA256SUMS into FOLDER/<instant> (default: backups), while
everything runs, checks them, and keeps the newest NUMBER (default: 7). Prints the new folder.
END
}
to=backups keep=7
while [ $# -gt 0 ]; do
    case "$1" in
        --to) to="${2:?$(usage)}"; shift ;;
        --keep) keep="${2:?$(usage)}"; shift ;;
        -h | --help) usage; exit 0 ;;
        *) usage >&2; exit 2 ;;
    esac
    shift
done
[[ "$keep" =~ ^[1-9][0-9]*$ ]] || { usage >&2; exit 2; }
# shellcheck source=scripts/compose.sh
source "$(dirname "$0")/compose.sh"
need_engine
[ "$(health_of $postgres)" = healthy ] || fail "PostgreSQL is not running, so there is nothing to save." "./scripts/start_processing_services.sh"
umask 077
mkdir -p "$to"
name="$(date -u +%Y-%m-%dT%H%M%SZ)"
work="$to/.$name.unfinished"
mkdir "$work"
trap 'rm -rf "$work"' EXIT

docker exec $postgres pg_dump -U "$(setting POSTGRES_USER abbanoa_user)" -Fc "$(setting POSTGRES_DB abbanoa_processing)" \
    >"$work/database.dump" 2>"$work/log" || { cat "$work/log" >&2; fail "pg_dump failed." "see the lines above"; }
rm "$work/log"
docker exec -i $postgres pg_restore --list <"$work/database.dump" >/dev/null || fail "The dump cannot be read back." "try again; is the disk full?"

if [ "$(health_of $redis)" = healthy ]; then
    before="$(docker exec $redis redis-cli lastsave)"
    # In the second of an earlier save, lastsave would not tell the new one from it.
    sleep 1
    docker exec $redis redis-cli bgsave >/dev/null
    for _ in $(seq 120); do
        [ "$(docker exec $redis redis-cli lastsave)" = "$before" ] || break
        sleep 0.5
    done
    docker exec $redis cat /data/dump.rdb >"$work/redis.rdb"
else
    say "Note: Redis is not running; only the database is saved."
fi
(cd "$work" && sha256sum -- * >SHA256SUMS && sha256sum --quiet -c SHA256SUMS)
mv "$work" "$to/$name"
trap - EXIT
find "$to" -mindepth 1 -maxdepth 1 -type d -name '20*Z' | sort -r | tail -n "+$((keep + 1))" | xargs -r rm -rf
echo "$to/$name"
