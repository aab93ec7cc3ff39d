#!/bin/sh
# Makes the configuration of this container and becomes Nginx; with `reload`, gives it to the one that runs.
set -eu
nameserver="$(sed -n 's/^nameserver //p' /etc/resolv.conf | head -n 1)"
# In production the plain port only leads to the encrypted one; in a trial it serves as well.
if [ "$ENVIRONMENT" = production ]; then
    cat >/tmp/plain.conf <<END
location = /nginx-health { access_log off; return 200 '{"status":"healthy"}'; }
location / { return 308 https://\$host:$HTTPS_PORT\$request_uri; }
END
else
    echo "include /tmp/api.conf;" >/tmp/plain.conf
fi
sh /etc/abbanoa/trusted_proxies.sh "${TRUSTED_PROXIES:-}" >/tmp/trusted_proxies.conf
cp /etc/abbanoa/api.conf /tmp/api.conf
sed -e "s|@NAMESERVER@|$nameserver|" -e "s|@ENVIRONMENT@|$ENVIRONMENT|" -e "s|@PLAIN@|include /tmp/plain.conf;|" \
    -e "s|@REQUESTS_PER_SECOND@|$REQUESTS_PER_SECOND|" -e "s|@BURST@|$((REQUESTS_PER_SECOND * 2))|" \
    /etc/abbanoa/nginx.conf >/tmp/nginx.conf
# Older releases say it on the line that listens.
if ! nginx -t -q -c /tmp/nginx.conf 2>/tmp/problem && grep -q 'unknown directive "http2"' /tmp/problem; then
    sed -i -e '/^ *http2 on;$/d' -e 's/listen 8443 ssl;/listen 8443 ssl http2;/' /tmp/nginx.conf
fi
if [ "${1:-}" = reload ]; then
    # What is wrong is said here, and the old configuration goes on.
    nginx -t -q -c /tmp/nginx.conf
    nginx -s reload -c /tmp/nginx.conf
    touch /tmp/loaded
    exit
fi
exec nginx -c /tmp/nginx.conf -g 'daemon off;'
