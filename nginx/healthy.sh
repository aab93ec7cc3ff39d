#!/bin/sh
# Whether Nginx itself answers; the API has checks of its own.
if command -v curl >/dev/null; then
    exec curl -sf -o /dev/null http://127.0.0.1:8080/nginx-health
fi
exec wget -q -O /dev/null http://127.0.0.1:8080/nginx-health
