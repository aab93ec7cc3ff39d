#!/usr/bin/env bash
# Sourced by backup.sh and restore.sh, after compose.sh: how a backup is made, known again, and removed.
# shellcheck disable=SC2154 # what compose.sh has set

# The files that a backup may have; what has any other is not removed.
backup_files=(database.dump redis.rdb secrets.tar.enc about SHA256SUMS)

seen_from_caller() { # a path -> as it is from the root, whatever it begins with
    case "$1" in
        /*) printf %s "$1" ;;
        *) printf %s "$called_from/$1" ;;
    esac
}

remove_backup() { # a folder: those of its files that we wrote, and the folder where nothing else is in it
    local file
    for file in "${backup_files[@]}"; do rm -f -- "$1/$file" 2>/dev/null || true; done
    rmdir -- "$1" 2>/dev/null || say "Note: $1 is left, for there is something in it that is no part of a backup."
}

is_our_backup() { # a folder -> whether backup.sh wrote it, for this project
    local file line
    [[ "${1##*/}" =~ ^[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{6}Z$ ]] && [ -d "$1" ] && [ ! -L "$1" ] &&
        [ -f "$1/database.dump" ] && [ -f "$1/SHA256SUMS" ] || return 1
    # Every line a checksum of one of our files, and the dump among them.
    while IFS= read -r line; do
        [[ "$line" =~ ^[0-9a-f]{64}\ [\ *](database\.dump|redis\.rdb|secrets\.tar\.enc|about)$ ]] || return 1
    done <"$1/SHA256SUMS"
    grep -q 'database\.dump$' "$1/SHA256SUMS" || return 1
    for file in "$1"/* "$1"/.[!.]*; do
        case "${file##*/}" in
            database.dump | redis.rdb | secrets.tar.enc | about | SHA256SUMS | '*' | '.[!.]*') ;;
            *) return 1 ;;
        esac
    done
    # Those of earlier versions do not say whose they are.
    [ ! -f "$1/about" ] || grep -qxF "project=$(project_name)" "$1/about"
}

rotate() { # a folder, how many are kept: the newest, by their names
    local entry entries=() number
    for entry in "$1"/20*Z; do
        ! is_our_backup "$entry" || entries+=("$entry")
    done
    # A pattern's matches come sorted.
    for ((number = 0; number < ${#entries[@]} - $2; number++)); do remove_backup "${entries[number]}"; done
    # What a backup that was killed has left; the one that runs is younger.
    for entry in "$1"/.20*Z.unfinished; do
        [[ "${entry##*/}" =~ ^\.[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{6}Z\.unfinished$ ]] && [ -d "$entry" ] && [ ! -L "$entry" ] || continue
        [ -z "$(find "$entry" -maxdepth 0 -mmin +1440)" ] || remove_backup "$entry"
    done
}

redis_says() { # a field of `info persistence`
    timeout 20 docker exec "$redis" redis-cli info persistence | tr -d '\r' | sed -n "s/^$1://p"
}

wait_for_redis_save() { # where one runs
    for _ in $(seq 240); do
        [ "$(redis_says rdb_bgsave_in_progress)" = 1 ] || break
        sleep 0.5
    done
}

save_redis() { # a file: everything that Redis holds now
    local before answer
    # Redis saves by itself now and then; one that runs already began before now, so that another follows it.
    for _ in $(seq 10); do
        wait_for_redis_save
        before="$(redis_says rdb_last_save_time)"
        # In the second of an earlier save, its time would not tell the new one from it.
        sleep 1
        answer="$(timeout 20 docker exec "$redis" redis-cli bgsave 2>&1)" || true
        [[ "$answer" == *"in progress"* ]] || break
    done
    [[ "$answer" == *started* || "$answer" == *scheduled* ]] || fail "Redis does not save: $answer." "docker logs $redis"
    wait_for_redis_save
    if [ "$(redis_says rdb_last_bgsave_status)" != ok ] || [ "$(redis_says rdb_last_save_time)" = "$before" ]; then
        fail "Redis could not save what it holds (BGSAVE failed), so there is no backup." "docker logs $redis; mostly its disk is full"
    fi
    docker exec "$redis" cat /data/dump.rdb >"$1" || fail "What Redis saved cannot be read." "docker logs $redis"
}

decryption() { echo "openssl enc -d -aes-256-cbc -pbkdf2 -iter 600000 -pass file:PASSPHRASE_FILE"; }

save_secrets() { # a file, a file with a passphrase: what is given to the system, encrypted
    local key parts=() part
    for part in .env.processing secrets nginx/certificates; do [ ! -e "$part" ] || parts+=("./$part"); done
    key="$(setting GOOGLE_APPLICATION_CREDENTIALS)"
    if [ -n "$key" ]; then
        [ -f "$key" ] || fail "The Google key $key is not there." "see GOOGLE_APPLICATION_CREDENTIALS"
        parts+=(-C "$(dirname -- "$key")" "./$(basename -- "$key")")
    fi
    tar -ch "${parts[@]}" | openssl enc -aes-256-cbc -pbkdf2 -iter 600000 -salt -pass "file:$2" -out "$1" ||
        fail "The secrets could not be saved." "see the lines above"
    openssl enc -d -aes-256-cbc -pbkdf2 -iter 600000 -pass "file:$2" -in "$1" | tar -t >/dev/null ||
        fail "The encrypted secrets cannot be read back." "try again; is the disk full?"
}
