#!/bin/sh
# Puts every secret where its users find it, and nobody else. A secret comes, in this order, from the folder secrets/,
# from .env.processing, from an earlier start, or is made at random. Nothing is put before everything is known to be fit.
set -eu
given="${GIVEN:-/given}" secrets="${SECRETS:-/secrets}" data="${DATA:-/data}" work="${WORK:-/tmp}"
# shellcheck source=containers/setup/strength.sh
. "${0%/*}/strength.sh"
umask 077

settings="$given/.env.processing"
if [ -h "$settings" ] && [ ! -e "$settings" ]; then
    echo ".env.processing leads out of the project's folder, where it cannot be followed: put the file itself there." >&2
    exit 1
fi

given_secret() { # name -> the value that somebody chose, if anybody did
    name="$1"
    variable="$(printf %s "$name" | tr '[:lower:]' '[:upper:]')"
    value=""
    # With a mark at its end, which keeps the shell from cutting line breaks off: one, at the file's end, means nothing.
    if [ -f "$given/secrets/$name" ]; then
        value="$(cat "$given/secrets/$name" && echo .)"
        value="${value%.}"
        value="${value%
}"
        value="${value%"$(printf '\r')"}"
    fi
    if [ -z "$value" ] && [ -f "$settings" ]; then
        value="$(python3 "${0%/*}/given.py" "$settings" "$variable" && echo .)"
        value="${value%.}"
    fi
    [ -n "$value" ] || return 0
    if ! why="$(unusable "$value")"; then
        echo "$variable $why: choose another, e.g. openssl rand -hex 24." >&2
        exit 1
    fi
    printf %s "$value"
}

secret() { # name -> its value
    value="$(given_secret "$1")"
    if [ -n "$value" ]; then
        if [ "$ENVIRONMENT" = production ] && ! why="$(weakness "$value")"; then
            variable="$(printf %s "$1" | tr '[:lower:]' '[:upper:]')"
            echo "$variable $why: choose another, e.g. openssl rand -hex 24, or leave it out and one is made." >&2
            exit 1
        fi
    else
        value="$(cat "$secrets/migrate/$1" 2>/dev/null || cat "$secrets/redis/$1" 2>/dev/null ||
            cat "$secrets/observability/$1" 2>/dev/null || openssl rand -hex 24)"
    fi
    printf %s "$value"
}

put() { # owner folder/name, the content on standard input; what is there already stays as it is
    cat >"$work/content"
    if cmp -s "$work/content" "$secrets/$2"; then
        rm "$work/content"
        return
    fi
    cat "$work/content" >"$secrets/$2.new"
    rm "$work/content"
    chown "$1" "$secrets/$2.new"
    chmod 400 "$secrets/$2.new"
    mv "$secrets/$2.new" "$secrets/$2"
}

service=10001:10001 redis=10002:10002 nginx=10003:10003 grafana=472:0

owner="$(secret postgres_password)"
processing="$(secret postgres_processing_password)"
api="$(secret postgres_api_password)"
readonly="$(secret postgres_readonly_password)"
cache="$(secret redis_password)"
dashboards="$(secret grafana_password)"
# Of other people's services: no strength is asked of them, and nothing is made where there is none.
mail="$(given_secret alert_smtp_password)"
webhook="$(given_secret alert_webhook_url)"

printf %s "$owner" | put 0:0 postgres/postgres_password
printf %s "$owner" | put $service migrate/postgres_password
printf %s "$processing" | put $service migrate/postgres_processing_password
printf %s "$processing" | put $service processing/postgres_processing_password
printf %s "$api" | put $service migrate/postgres_api_password
printf %s "$api" | put $service api/postgres_api_password
printf %s "$readonly" | put $service migrate/postgres_readonly_password
printf %s "$readonly" | put $grafana observability/postgres_readonly_password
printf %s "$cache" | put $redis redis/redis_password
for user in processing api; do printf %s "$cache" | put $service $user/redis_password; done
printf %s "$dashboards" | put $grafana observability/grafana_password
printf %s "$mail" | put $service processing/alert_smtp_password
printf %s "$webhook" | put $service processing/alert_webhook_url
# A copy, because the service is not root and cannot read a key file that only its owner may.
put $service processing/google_application_credentials.json <"${GOOGLE:-/google/credentials.json}"

# PostgreSQL's certificate: services check that they talk to the database and to nobody else.
if [ ! -s "$secrets/postgres/server.crt" ] || ! openssl x509 -checkend 2592000 -noout -in "$secrets/postgres/server.crt" >/dev/null; then
    openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 3650 -subj "/CN=postgres" \
        -addext "subjectAltName=DNS:postgres,DNS:localhost,DNS:abbanoa-postgres-processing,IP:127.0.0.1" \
        -keyout "$work/server.key" -out "$work/server.crt" 2>/dev/null
    put 0:0 postgres/server.key <"$work/server.key"
    put 0:0 postgres/server.crt <"$work/server.crt"
fi
for user in processing api; do put $service $user/postgres-ca.pem <"$secrets/postgres/server.crt"; done

# Nginx's certificate: the given pair, or one signed by itself, for trials.
if [ -s "$given/nginx/certificates/fullchain.pem" ] && [ -s "$given/nginx/certificates/privkey.pem" ]; then
    put $nginx nginx/fullchain.pem <"$given/nginx/certificates/fullchain.pem"
    put $nginx nginx/privkey.pem <"$given/nginx/certificates/privkey.pem"
    rm -f "$secrets/nginx/self-signed"
elif [ ! -s "$secrets/nginx/fullchain.pem" ] || ! openssl x509 -checkend 2592000 -noout -in "$secrets/nginx/fullchain.pem" >/dev/null; then
    openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 365 -subj "/CN=$SERVER_NAME" \
        -addext "subjectAltName=DNS:$SERVER_NAME,DNS:localhost,IP:127.0.0.1" \
        -keyout "$work/privkey.pem" -out "$work/fullchain.pem" 2>/dev/null
    put $nginx nginx/fullchain.pem <"$work/fullchain.pem"
    put $nginx nginx/privkey.pem <"$work/privkey.pem"
    touch "$secrets/nginx/self-signed"
    echo "Made a self-signed certificate for $SERVER_NAME: browsers will warn. Put fullchain.pem and privkey.pem into nginx/certificates/."
fi
chown 10002:10002 "$data/redis"
echo "Secrets and certificates are in place."
