#!/bin/sh
# The password goes into a file that only this user reads: arguments are seen by everybody.
set -eu
(umask 077 && printf 'requirepass "%s"\n' "$(cat /run/secrets/redis_password)" >/tmp/redis.conf)
exec redis-server /tmp/redis.conf "$@"
