#!/usr/bin/env bash
# Saves the database and Redis into a new folder of backups/, with checksums, and drops the oldest.
set -euo pipefail
usage() {
    cat <<END
Usage: ./scripts/backup.sh [--to FOLDER] [--keep NUMBER|all] [--with-secrets PASSPHRASE_FILE]

Writes database.dump (pg_dump's own format), redis.rdb, about and SHA256SUMS into FOLDER/<instant> (default: backups),
while everything runs, checks them, and keeps the newest BACKUP_KEEP of .env.processing (default: 7) of its own. Prints
the new folder.

  --keep          another number for this once; all: drops none
  --with-secrets  saves .env.processing, secrets/, nginx/certificates/ and the Google key as well, encrypted with the
                  passphrase in the first line of that file
END
}
to="" keep="" passphrase=""
while [ $# -gt 0 ]; do
    case "$1" in
        --to | --keep | --with-secrets)
            [ -n "${2:-}" ] || { usage >&2; exit 2; }
            case "$1" in --to) to="$2" ;; --keep) keep="$2" ;; *) passphrase="$2" ;; esac
            shift
            ;;
        -h | --help) usage; exit 0 ;;
        *) usage >&2; exit 2 ;;
    esac
    shift
done
# shellcheck source=scripts/compose.sh
source "$(dirname "$0")/compose.sh"
# shellcheck source=scripts/versions.sh
source scripts/versions.sh
# shellcheck source=scripts/backups.sh
source scripts/backups.sh
# shellcheck source=containers/setup/strength.sh
source containers/setup/strength.sh
keep="${keep:-$(setting BACKUP_KEEP 7)}"
[[ "$keep" =~ ^([1-9][0-9]*|all)$ ]] || fail "'$keep' is no number of backups to keep." "set BACKUP_KEEP in .env.processing, or give --keep, a whole number of at least 1"
to="$(seen_from_caller "${to:-$PWD/backups}" && echo .)" && to="${to%.}"
if [ -n "$passphrase" ]; then
    passphrase="$(seen_from_caller "$passphrase" && echo .)" && passphrase="${passphrase%.}"
    [ -f "$passphrase" ] || fail "$passphrase is no file." "write a passphrase into it: openssl rand -hex 24"
    command -v openssl >/dev/null 2>&1 || fail "openssl is not installed, which encrypts." "apt-get install openssl"
    why="$(weakness "$(head -n 1 -- "$passphrase")")" || fail "The passphrase in $passphrase $why." "choose another: openssl rand -hex 24"
fi
need_engine
[ "$(health_of $postgres)" = healthy ] || fail "PostgreSQL is not running, so there is nothing to save." "./scripts/start_processing_services.sh"
umask 077
mkdir -p "$to"
name="$(date -u +%Y-%m-%dT%H%M%SZ)"
work="$to/.$name.unfinished"
mkdir "$work" || fail "The backup cannot be written." "see the line above"
trap 'remove_backup "$work"' EXIT

docker exec $postgres pg_dump -U "$(setting POSTGRES_USER abbanoa_user)" -Fc "$(setting POSTGRES_DB abbanoa_processing)" \
    >"$work/database.dump" 2>"$work/about" || { cat "$work/about" >&2; fail "pg_dump failed." "see the lines above"; }
docker exec -i $postgres pg_restore --list <"$work/database.dump" >/dev/null || fail "The dump cannot be read back." "try again; is the disk full?"

holds="database"
if [ "$(health_of $redis)" = healthy ]; then
    save_redis "$work/redis.rdb"
    holds="$holds, redis"
else
    say "Note: Redis is not running; only the database is saved."
fi
lacks="settings (.env.processing), secrets/, nginx/certificates/ and the Google key"
if [ -n "$passphrase" ]; then
    save_secrets "$work/secrets.tar.enc" "$passphrase"
    holds="$holds, secrets" lacks=""
fi
{
    echo "project=$(project_name)"
    echo "made=$name"
    echo "version=$(version_of abbanoa-api)"
    echo "holds=$holds"
    [ -z "$lacks" ] || echo "lacks=$lacks"
    [ -z "$passphrase" ] || echo "secrets=$(decryption) -in secrets.tar.enc | tar -x"
} >"$work/about"
(cd "$work" && sha256sum -- * >SHA256SUMS && sha256sum --quiet -c SHA256SUMS)
mv "$work" "$to/$name"
trap - EXIT
[ -z "$lacks" ] || say "Note: not in this backup: $lacks; keep them elsewhere, or see --with-secrets."
[ "$keep" = all ] || rotate "$to" "$keep"
printf '%s\n' "$to/$name"
