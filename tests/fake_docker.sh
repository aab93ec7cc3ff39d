#!/usr/bin/env bash
# Stands for the engine where the real one would take minutes: notes what it is asked in $FAKE/asked, a line each with
# what came on standard input to psql, and answers from files in $FAKE.
line="$*"
printf '%s\n' "${line//$'\n'/ }" >>"$FAKE/asked"
answer() { if [ -f "$FAKE/$1" ]; then cat "$FAKE/$1"; else printf '%s\n' "$2"; fi; }
# A file named like a command of a container makes that command fail.
fails() { [ ! -f "$FAKE/fails-$1" ] || { cat "$FAKE/fails-$1" >&2; exit 1; }; }
case "$line" in
    info* | "compose version"*) ;;
    "ps -aq"*)
        service="${line##*com.docker.compose.service=}"
        if grep -qx "$service" "$FAKE/services" 2>/dev/null; then echo "id-of-$service"; fi
        ;;
    ps*) ;;
    inspect*Mounts*) answer "mounts-${line##*id-of-}" "" ;;
    inspect*StartedAt*) answer started 2020-01-01T00:00:00.5Z ;;
    inspect*revision*) answer revision unknown ;;
    inspect*Health*) answer "health-${line##* }" healthy ;;
    inspect*.Image*) echo sha256:0123456789abcdef ;;
    inspect*) echo 0 ;;
    wait*) echo 0 ;;
    "image inspect"*title*) echo "Abbanoa REST API" ;;
    "image inspect"*) [ ! -f "$FAKE/no-images" ] ;;
    images*) answer tags "" ;;
    exec*pg_dump*) fails pg_dump && echo "a dump" ;;
    exec*"pg_restore --list"*) cat >/dev/null ;;
    exec*pg_restore*) cat >/dev/null && fails pg_restore ;;
    exec*"redis-cli info persistence"*) answer persistence "" ;;
    exec*"redis-cli bgsave"*)
        if [ -f "$FAKE/busy-once" ]; then
            rm "$FAKE/busy-once"
            echo "ERR Background save already in progress"
            exit 1
        fi
        answer bgsave "Background saving started"
        [ ! -f "$FAKE/persistence-then" ] || mv "$FAKE/persistence-then" "$FAKE/persistence"
        ;;
    exec*/data/dump.rdb*) echo "redis' data" ;;
    exec*"df -Pk"*) answer df "" ;;
    exec*fullchain.pem*) answer certificate "" ;;
    exec*"stat -c %Y /tmp/loaded"*) exit 1 ;;
    exec*"/run/secrets/*"*) answer secrets-changed "" ;;
    exec*psql*)
        statement="$line"$'\n'"$(cat)"
        printf '%s\n' "${statement#*$'\n'}" | sed '/^$/d; s/^/    /' >>"$FAKE/asked"
        database="${line#* -d }"
        case "$statement" in
            *"revoked_at IS NOT NULL"*) answer "revoked-${database%% *}" "" ;;
            *make_interval\(days*) answer expiring "" ;;
            *"SELECT key_id"*) answer "keys-${database%% *}" "" ;;
            *pg_database_size*) answer facts "" ;;
            *json_agg*) echo "[]" ;;
        esac
        ;;
    compose*" migrate"*) fails migrate ;;
esac
exit 0
