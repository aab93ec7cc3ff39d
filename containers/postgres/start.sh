#!/bin/sh
# Before the image's own entry point: what root alone can read, for the user who will run the server.
set -eu
for file in postgres_password server.crt server.key; do
    install -o postgres -g postgres -m 600 "/run/secrets/$file" "/run/abbanoa/$file"
done
chown postgres:postgres /run/abbanoa && chmod 700 /run/abbanoa
export POSTGRES_PASSWORD_FILE=/run/abbanoa/postgres_password
exec docker-entrypoint.sh "$@"
