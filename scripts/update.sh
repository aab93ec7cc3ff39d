#!/usr/bin/env bash
# From the files that lie here to running containers: backup, build, migrate, then one service after the other.
set -euo pipefail
usage() {
    cat <<END
Usage: ./scripts/update.sh [--no-backup]

After a git pull, or a change of settings, secrets, certificates or mounted files: saves the data, builds the images,
migrates the database and replaces what has changed, one container after the other. With API_REPLICAS of at least 1 (the
default) requests are answered throughout, but for seconds where Nginx or PostgreSQL themselves are replaced.

./scripts/rollback.sh goes back to the version, and the data, of before.
END
}
main() { # read as a whole, because an update may replace this file
    local backup=yes argument
    for argument in "$@"; do
        case "$argument" in
            --no-backup) backup=no ;;
            -h | --help) usage; exit 0 ;;
            *) usage >&2; exit 2 ;;
        esac
    done
    # shellcheck source=scripts/compose.sh
    source "$(dirname "$0")/compose.sh"
    # shellcheck source=scripts/versions.sh
    source scripts/versions.sh
    need_engine
    [ "$(health_of "$postgres")" = healthy ] || fail "The system is not running." "./scripts/start_processing_services.sh"
    use_demo_that_runs
    local before after saved="" keep
    before="$(version_of abbanoa-api)" after="$(version_here)"
    if [ $backup = yes ]; then
        say "Saving the data ..."
        # The default is for those who never said how many they want; nothing is dropped on its word here.
        keep="$(setting BACKUP_KEEP all)"
        saved="$("$PWD/scripts/backup.sh" --keep "$keep")"
        say "Saved in $saved"
    fi
    if [ -f .update ] && grep -qx finished=no .update && has_version "$(sed -n 's/^version=//p' .update)"; then
        say "Note: the update before did not come to its end; ./scripts/rollback.sh goes back to before that one."
    else
        keep_running "$before"
        printf 'version=%s\nbackup=%s\nfinished=no\n' "$before" "$saved" >.update
    fi
    trap '[ $? = 0 ] || say "To go back to the version and the data of before: ./scripts/rollback.sh"' EXIT

    say "Building ..."
    quietly compose build --build-arg "REVISION=$after"
    [ "$after" = unknown ] || keep_built "$after"
    replace_all
    sed -i 's/^finished=no$/finished=yes/' .update
    forget_versions_but "$after" "$(sed -n 's/^version=//p' .update)"
    echo "Updated from $before to $after."
    exit 0
}
main "$@"
