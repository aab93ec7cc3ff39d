#!/bin/sh
# The password goes into a file that only this user reads: arguments are seen by everybody.
set -eu
# What it holds is taken as it is: within quotation marks Redis gives a meaning to backslashes and to quotation marks.
password="$(sed 's/[\\"]/\\&/g' "${SECRETS:-/run/secrets}/redis_password")"
(umask 077 && printf 'requirepass "%s"\n' "$password" >"${WORK:-/tmp}/redis.conf")
exec redis-server "${WORK:-/tmp}/redis.conf" "$@"
