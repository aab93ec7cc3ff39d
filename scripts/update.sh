#!/usr/bin/env bash
# From the code that lies here to running containers: backup, build, migrate, then one service after the other.
set -euo pipefail
usage() {
    cat <<END
Usage: ./scripts/update.sh [--no-backup]

After a git pull: saves the data, builds the images, migrates the database and replaces the containers one by one. With
API_REPLICAS of at least 1 (the default) requests are answered throughout.
END
}
backup=yes
for argument in "$@"; do
    case "$argument" in
        --no-backup) backup=no ;;
        -h | --help) usage; exit 0 ;;
        *) usage >&2; exit 2 ;;
    esac
done
# shellcheck source=scripts/compose.sh
source "$(dirname "$0")/compose.sh"
need_engine
[ "$(health_of $postgres)" = healthy ] || fail "The system is not running." "./scripts/start_processing_services.sh"
log="$(mktemp)"
trap 'rm -f "$log"' EXIT
quietly() { "$@" >"$log" 2>&1 || { tail -n 20 "$log" >&2; fail "'$*' failed." "see the lines above"; }; }
if [ $backup = yes ]; then
    say "Saving the data ..."
    saved="$("$PWD/scripts/backup.sh")"
    say "Saved in $saved"
fi
say "Building ..."
revision="$(git rev-parse --short HEAD 2>/dev/null || echo unknown)"
quietly compose build --build-arg "REVISION=$revision"
say "Migrating ..."
# In the foreground, so that a migration that fails stops the update before any service is touched.
quietly compose run --rm --no-deps -T migrate </dev/null
for service in processing api-replica api nginx; do
    count="$(containers_of "$service" | wc -l)"
    [ "$count" -gt 0 ] || continue
    say "Replacing $service ..."
    # As many as there are, whatever the settings say.
    quietly compose up -d --no-deps --scale "$service=$count" "$service"
    wait_for_health 120 "$service" || fail "$service does not become healthy." "docker-compose -f docker-compose.processing.yml logs --tail 50 $service${saved:+; to go back: git checkout the version before, ./scripts/restore.sh $saved}"
done
echo "Updated to $revision."
