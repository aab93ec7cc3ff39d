#!/bin/sh
# Before the image's own entry point: what root alone can read, for the user who will run the server. With `reload`, the
# server that runs reads its certificate and who may connect again.
set -eu
for file in postgres_password server.crt server.key; do
    install -o postgres -g postgres -m 600 "/run/secrets/$file" "/run/abbanoa/$file"
done
chown postgres:postgres /run/abbanoa && chmod 700 /run/abbanoa
if [ "${1:-}" = reload ]; then
    wrong="$(psql -XAtq -U "$POSTGRES_USER" -d postgres -c "SELECT line_number || ': ' || error FROM pg_hba_file_rules WHERE error IS NOT NULL")"
    [ -z "$wrong" ] || { echo "pg_hba.conf is wrong, in line $wrong" >&2; exit 1; }
    psql -XAtq -U "$POSTGRES_USER" -d postgres -c "SELECT pg_reload_conf()" >/dev/null
    touch /tmp/loaded
    exit
fi
export POSTGRES_PASSWORD_FILE=/run/abbanoa/postgres_password
exec docker-entrypoint.sh "$@"
