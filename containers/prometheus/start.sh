#!/bin/sh
# Tells Prometheus of the Alertmanager, where ALERT_ALERTMANAGER_URL names one, and becomes Prometheus.
set -eu
folder="${0%/*}"
{
    cat "$folder/prometheus.yml"
    url="${ALERT_ALERTMANAGER_URL:-}"
    if [ -n "$url" ]; then
        scheme="${url%%://*}"
        rest="${url#*://}"
        host="${rest%%/*}"
        path="${rest#"$host"}"
        if [ "$scheme" = "$url" ] || ! printf %s "$url" | grep -Eq '^https?://[A-Za-z0-9._:[-]+(]:?[0-9]*)?(/[A-Za-z0-9._~/-]*)?$'; then
            echo "ALERT_ALERTMANAGER_URL is not of the form http://host:9093: Prometheus does not start" >&2
            exit 1
        fi
        printf '\nalerting:\n  alertmanagers:\n    - scheme: %s\n      path_prefix: "%s"\n      static_configs: [{targets: ["%s"]}]\n' \
            "$scheme" "${path:-/}" "$host"
    fi
} >"${WORK:-/tmp}/prometheus.yml"
exec prometheus "$@"
