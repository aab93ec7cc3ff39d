#!/bin/sh
# Prints Nginx's directives that make it believe the X-Forwarded-For of the addresses or networks given, which may be
# separated by commas or spaces. Without any, nobody's is believed.
set -euf
for proxy in $(printf %s "$*" | tr ',\n\t' '   '); do
    if ! printf %s "$proxy" | grep -Eq '^([0-9]{1,3}(\.[0-9]{1,3}){3}|[0-9A-Fa-f]*:[0-9A-Fa-f:.]*)(/[0-9]{1,3})?$'; then
        echo "NGINX_TRUSTED_PROXIES has '$proxy', which is no address or network: write 192.0.2.10 or 192.0.2.0/24" >&2
        exit 1
    fi
    echo "set_real_ip_from $proxy;"
    trusted=yes
done
[ -z "${trusted:-}" ] || printf 'real_ip_header X-Forwarded-For;\nreal_ip_recursive on;\n'
