#!/bin/sh
# Puts every secret where its users find it, and nobody else. A secret comes, in this order, from the folder secrets/,
# from a variable, from an earlier start, or is made at random.
set -eu
# shellcheck source=containers/setup/strength.sh
. /setup/strength.sh

secret() { # name -> its value
    name="$1"
    variable="$(printf %s "$name" | tr '[:lower:]' '[:upper:]')"
    value=""
    [ ! -f "/given/secrets/$name" ] || value="$(tr -d '\r\n' <"/given/secrets/$name")"
    [ -n "$value" ] || eval "value=\${$variable:-}"
    if [ -n "$value" ]; then
        if [ "$ENVIRONMENT" = production ] && ! why="$(weakness "$value")"; then
            echo "$variable $why: choose another, e.g. openssl rand -hex 24, or leave it out and one is made." >&2
            exit 1
        fi
    else
        value="$(cat "/secrets/migrate/$name" 2>/dev/null || cat "/secrets/redis/$name" 2>/dev/null ||
            cat "/secrets/observability/$name" 2>/dev/null || openssl rand -hex 24)"
    fi
    printf %s "$value"
}

put() { # owner folder/name, the content on standard input
    (umask 077 && cat >"/secrets/$2.new")
    chown "$1" "/secrets/$2.new"
    chmod 400 "/secrets/$2.new"
    mv "/secrets/$2.new" "/secrets/$2"
}

service=10001:10001 redis=10002:10002 nginx=10003:10003 grafana=472:0

owner="$(secret postgres_password)"
printf %s "$owner" | put 0:0 postgres/postgres_password
printf %s "$owner" | put $service migrate/postgres_password
for role in processing api readonly; do
    password="$(secret postgres_${role}_password)"
    printf %s "$password" | put $service migrate/postgres_${role}_password
    case $role in
        readonly) printf %s "$password" | put $grafana observability/postgres_readonly_password ;;
        *) printf %s "$password" | put $service $role/postgres_${role}_password ;;
    esac
done
password="$(secret redis_password)"
printf %s "$password" | put $redis redis/redis_password
for user in processing api; do printf %s "$password" | put $service $user/redis_password; done
password="$(secret grafana_password)"
printf %s "$password" | put $grafana observability/grafana_password
# A copy, because the service is not root and cannot read a key file that only its owner may.
put $service processing/google_application_credentials.json </given/google_application_credentials.json

# PostgreSQL's certificate: services check that they talk to the database and to nobody else.
if [ ! -s /secrets/postgres/server.crt ] || ! openssl x509 -checkend 2592000 -noout -in /secrets/postgres/server.crt >/dev/null; then
    openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 3650 -subj "/CN=postgres" \
        -addext "subjectAltName=DNS:postgres,DNS:localhost,DNS:abbanoa-postgres-processing,IP:127.0.0.1" \
        -keyout /tmp/server.key -out /tmp/server.crt 2>/dev/null
    put 0:0 postgres/server.key </tmp/server.key
    put 0:0 postgres/server.crt </tmp/server.crt
fi
for user in processing api; do put $service $user/postgres-ca.pem </secrets/postgres/server.crt; done

# Nginx's certificate: the given pair, or one signed by itself, for trials.
if [ -s /given/certificates/fullchain.pem ] && [ -s /given/certificates/privkey.pem ]; then
    put $nginx nginx/fullchain.pem </given/certificates/fullchain.pem
    put $nginx nginx/privkey.pem </given/certificates/privkey.pem
    rm -f /secrets/nginx/self-signed
elif [ ! -s /secrets/nginx/fullchain.pem ] || ! openssl x509 -checkend 604800 -noout -in /secrets/nginx/fullchain.pem >/dev/null; then
    openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 365 -subj "/CN=$SERVER_NAME" \
        -addext "subjectAltName=DNS:$SERVER_NAME,DNS:localhost,IP:127.0.0.1" \
        -keyout /tmp/privkey.pem -out /tmp/fullchain.pem 2>/dev/null
    put $nginx nginx/fullchain.pem </tmp/fullchain.pem
    put $nginx nginx/privkey.pem </tmp/privkey.pem
    touch /secrets/nginx/self-signed
    echo "Made a self-signed certificate for $SERVER_NAME: browsers will warn. Put fullchain.pem and privkey.pem into nginx/certificates/."
fi
chown 10002:10002 /data/redis
echo "Secrets and certificates are in place."
