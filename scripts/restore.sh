#!/usr/bin/env bash
# Puts a backup back: the database and Redis then hold what they held. What they hold now is lost, once all is in place.
set -euo pipefail
usage() {
    cat <<END
Usage: ./scripts/restore.sh FOLDER [--yes] [--stopped] [--revoke-again] [--with-version]

FOLDER is one that ./scripts/backup.sh wrote. Works on an empty server as well. The dump is read into a database beside
the live one, and migrated there; only then do services stop, the two change names, and services start again.

  --yes           do not ask
  --stopped       leave processing, API and Nginx stopped, to look at the data first
  --revoke-again  keys that were revoked since the backup stay revoked
  --with-version  go back to the version, too, that ran when the backup was made
END
}
# shellcheck disable=SC2329 # the trap calls it
undo() { # whatever was begun and did not come to its end
    [ "$phase" != finished ] || return 0
    if [ "$phase" = swapped ]; then
        say "The restored data are in place; what was there before is still in the database $aside."
        return
    fi
    say "The database is as it was."
    administer -v name="$beside" <<<'DROP DATABASE IF EXISTS :"name" WITH (FORCE);' >/dev/null 2>&1 || true
    administer -v name="$database" <<<'ALTER DATABASE :"name" ALLOW_CONNECTIONS true;' >/dev/null 2>&1 || true
    [ -z "$files_before" ] || git checkout -q "$files_before" || true
    [ -z "$images_before" ] || use_version "$images_before"
    [ "$phase" != stopped ] || compose up -d >/dev/null 2>&1 || say "Start it again: docker-compose -f docker-compose.processing.yml up -d"
}

administer() { docker exec -i -e PGOPTIONS=-cclient_min_messages=warning "$postgres" psql -X -q -At -v ON_ERROR_STOP=1 -U "$user" -d postgres "$@"; }

of_keys() { # condition, database -> ids of its API keys, none where it has no such table
    DATABASE="$2" sql -At -c "SELECT key_id FROM water_infrastructure.api_keys WHERE $1 ORDER BY 1" 2>/dev/null || true
}

load() { # the dump, into the database beside
    local timescale
    administer -v name="$beside" >/dev/null <<'END' || fail "The database for the restore cannot be made." "see the lines above"
DROP DATABASE IF EXISTS :"name" WITH (FORCE);
CREATE DATABASE :"name";
END
    # Roles come from the secrets, not from the backup; the migration gives them their rights.
    timescale="$(docker exec -i "$postgres" pg_restore --list <"$folder/database.dump" | grep -c ' EXTENSION - timescaledb ' || true)"
    export DATABASE="$beside"
    [ "$timescale" = 0 ] || quietly sql -c "CREATE EXTENSION IF NOT EXISTS timescaledb" -c "SELECT timescaledb_pre_restore()"
    quietly docker exec -i "$postgres" pg_restore -U "$user" -d "$beside" --no-owner --no-privileges --exit-on-error <"$folder/database.dump"
    [ "$timescale" = 0 ] || quietly sql -c "SELECT timescaledb_post_restore()"
    SQL_TIMEOUT=600 quietly sql -c ANALYZE
    unset DATABASE
}

tell_of_keys() { # what a restore makes good again, and what it forgets
    local revoked again lost
    revoked="$(of_keys "revoked_at IS NOT NULL" "$database")"
    again="$(comm -12 <(printf '%s\n' "$revoked") <(of_keys "revoked_at IS NULL" "$beside") | grep . | paste -sd' ' || true)"
    lost="$(comm -23 <(of_keys "revoked_at IS NULL" "$database") <(of_keys true "$beside") | grep . | paste -sd' ' || true)"
    if [ -n "$again" ] && [ $revoke = yes ]; then
        DATABASE="$beside" quietly sql -v ids="$again" <<'END'
UPDATE water_infrastructure.api_keys SET revoked_at = now() WHERE key_id = ANY(string_to_array(:'ids', ' '));
END
        say "Revoked since the backup, and revoked again: $again"
    elif [ -n "$again" ]; then
        say "Note: these API keys were revoked since the backup and are good again: $again. To revoke one: ./scripts/create_api_key.sh --revoke KEY_ID"
    fi
    [ -z "$lost" ] || say "Note: these API keys were made since the backup and are no longer known: $lost"
    [ -n "$(of_keys true "$database")" ] || [ -z "$(of_keys true "$beside")" ] ||
        say "Note: keys that were revoked since the backup are good again; which, is not known here. See ./scripts/create_api_key.sh --list"
}

switch_version() { # to that of the backup: images, and the files in this folder
    local revision="${version%%-*}"
    has_version "$version" || fail "The images of version $version are not here any more." "git checkout $revision && ./scripts/start_processing_services.sh, then restore without --with-version"
    if [[ "$version" == image-* ]] || ! git cat-file -e "$revision^{commit}" 2>/dev/null; then
        say "Note: which files in this folder belong to version $version is not known, so they stay as they are."
    else
        before="$(git symbolic-ref -q --short HEAD || git rev-parse HEAD)"
        git checkout -q --detach "$revision" ||
            fail "The files of version $version cannot be put here." "see the lines above; commit or stash what you have changed"
        files_before="$before"
        say "The files here are those of $revision now; forward again: git checkout $before && ./scripts/update.sh"
    fi
    images_before="$(version_of abbanoa-api)"
    keep_running "$images_before"
    use_version "$version"
}

swap() { # the two databases change names; whoever is connected is cut off
    administer -v live="$database" -v aside="$aside" -v beside="$beside" >/dev/null <<'END'
-- TimescaleDB warns that its workers must be started again, which is done below.
SET client_min_messages = error;
DROP DATABASE IF EXISTS :"aside" WITH (FORCE);
SELECT format('ALTER DATABASE %I ALLOW_CONNECTIONS false', datname) FROM pg_database WHERE datname IN (:'live', :'beside') \gexec
SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE datname IN (:'live', :'beside');
BEGIN;
SELECT format('ALTER DATABASE %I RENAME TO %I', :'live', :'aside') FROM pg_database WHERE datname = :'live' \gexec
ALTER DATABASE :"beside" RENAME TO :"live";
SELECT format('ALTER DATABASE %I ALLOW_CONNECTIONS true', datname) FROM pg_database WHERE datname IN (:'live', :'aside') \gexec
COMMIT;
END
    # Without them no policy runs: nothing is compressed any more, and nothing old goes.
    DATABASE="$database" quietly sql <<'SQL'
DO $$ BEGIN
    IF EXISTS (SELECT FROM pg_extension WHERE extname = 'timescaledb') THEN
        PERFORM _timescaledb_functions.start_background_workers();
    END IF;
END $$;
SQL
}

main() { # read as a whole, because the version that it goes back to has another
    local folder="" yes=no stopped=no with_version=no version answer
    revoke=no phase=loading files_before="" images_before=""
    while [ $# -gt 0 ]; do
        case "$1" in
            --yes) yes=yes ;;
            --stopped) stopped=yes ;;
            --revoke-again) revoke=yes ;;
            --with-version) with_version=yes ;;
            -h | --help) usage; exit 0 ;;
            --) shift; folder="${1:-}" ;;
            -*) usage >&2; exit 2 ;;
            *) folder="$1" ;;
        esac
        [ $# = 0 ] || shift
    done
    [ -n "$folder" ] || { usage >&2; exit 2; }
    # shellcheck source=scripts/compose.sh
    source "$(dirname "$0")/compose.sh"
    # shellcheck source=scripts/versions.sh
    source scripts/versions.sh
    # shellcheck source=scripts/backups.sh
    source scripts/backups.sh
    need_engine
    folder="$(seen_from_caller "$folder" && echo .)" && folder="${folder%.}"
    [ -f "$folder/SHA256SUMS" ] || fail "$folder is no backup: it has no SHA256SUMS." "choose a folder of backups/"
    [ -f "$folder/database.dump" ] || fail "$folder is no backup: it has no database.dump." "choose a folder of backups/"
    (cd "$folder" && sha256sum --quiet -c SHA256SUMS) || fail "The backup is damaged: a checksum does not match." "choose another"
    version="$(sed -n 's/^version=//p' "$folder/about" 2>/dev/null || true)"
    [ $with_version = no ] || [ -n "$version" ] || fail "The backup does not say which version made it." "restore it without --with-version"
    if [ $yes = no ]; then
        read -r -p "What the database and Redis hold now will be lost. Restore $folder? [y/N] " answer
        [ "$answer" = y ] || exit 1
    fi
    user="$(setting POSTGRES_USER abbanoa_user)" database="$(setting POSTGRES_DB abbanoa_processing)"
    beside="${database}_restoring" aside="${database}_before_restore"
    use_demo_that_runs
    trap undo EXIT

    if [ "$(health_of "$postgres")" != healthy ]; then
        quietly compose up -d setup postgres
        wait_for_health 120 postgres || fail "PostgreSQL does not become healthy." "docker logs $postgres"
    fi
    say "Restoring the database beside the one that is there ..."
    load
    tell_of_keys
    [ $with_version = no ] || switch_version
    say "Migrating it ..."
    quietly compose run --rm --no-deps -T -e "POSTGRES_DB=$beside" migrate </dev/null

    say "Stopping what uses the data ..."
    phase=stopped
    quietly compose stop nginx api api-replica processing redis
    if [ -f "$folder/redis.rdb" ]; then
        say "Restoring Redis ..."
        # It was stopped before, so that it writes nothing over this.
        quietly compose run --rm --no-deps -T --entrypoint /bin/sh redis -c 'cat >/data/restored.rdb && mv /data/restored.rdb /data/dump.rdb' <"$folder/redis.rdb"
        say "Note: sessions opened since the backup have ended; those it holds are open again until they run out."
    fi
    swap || fail "The databases could not change names." "see the lines above"
    phase=swapped
    quietly compose up -d redis
    wait_for_health 60 redis || fail "Redis does not become healthy." "docker logs $redis"
    if [ $stopped = yes ]; then
        phase=finished
        say "What was there before is kept as the database $aside until the next restore."
        echo "Restored; processing, API and Nginx are stopped. Start them: docker-compose -f docker-compose.processing.yml up -d"
        exit 0
    fi
    if [ -n "$(containers_of api)" ]; then
        replace_all
    else
        quietly compose up -d
        wait_for_health 180 api nginx processing || fail "Not everything became healthy." "./scripts/monitor_processing.sh"
    fi
    phase=finished
    administer -v name="$aside" <<<'DROP DATABASE IF EXISTS :"name" WITH (FORCE);' >/dev/null || true
    echo "Restored."
    exit 0
}
main "$@"
