#!/usr/bin/env bash
# Whether the system works, and if not, what is wrong. Exit code: 0 healthy, 1 degraded, 2 down; 3 for a wrong call.
set -euo pipefail
usage() {
    cat <<END
Usage: ./scripts/monitor_processing.sh [--json] [--watch [SECONDS]]

Containers, last jobs, data freshness, queue, resources, models, alerts. For cron: the exit code is 0 where all is well,
1 where something is wrong but the API answers with recent data, 2 where the database or the API is down.

  --json           one JSON object
  --watch SECONDS  again and again, every 5 seconds unless told otherwise, until Ctrl-C
END
}
form=text watch=""
while [ $# -gt 0 ]; do
    case "$1" in
        --json) form=json ;;
        --watch)
            watch=5
            if [[ "${2:-}" =~ ^[1-9][0-9]*$ ]]; then watch="$2"; shift; fi
            ;;
        -h | --help) usage; exit 0 ;;
        *) usage >&2; exit 3 ;;
    esac
    shift
done
# shellcheck source=scripts/compose.sh
source "$(dirname "$0")/compose.sh"
need_engine
project="$(project_name)"
interval="$(setting CHECK_INTERVAL_MINUTES 30)" stale="$(setting STALE_AFTER_MINUTES 180)"
quiet="$(setting REPLICA_TIMEOUT_SECONDS 60)" ahead="$(setting EXPIRY_WARNING_DAYS 30)"

text() { # anything -> a JSON string
    printf '"%s"' "$(printf %s "$1" | tr -d '\000-\010\013\014\016-\037' | sed -e 's/\\/\\\\/g' -e 's/"/\\"/g' -e 's/\t/\\t/g' | sed -e ':a;N;$!ba;s/\n/\\n/g')"
}

days_left() { # of a certificate on standard input; nothing where there is none
    local end
    if command -v openssl >/dev/null 2>&1; then
        end="$(openssl x509 -noout -enddate 2>/dev/null)"
    else
        end="$(timeout 10 docker exec -i abbanoa-api openssl x509 -noout -enddate 2>/dev/null)"
    fi || return 0
    echo $((($(date -d "${end#notAfter=}" +%s) - $(date +%s)) / 86400))
}

fullness() { awk 'NR == 2 {print $5 + 0}'; } # the output of df -Pk -> percent

look() {
    reasons=() status=healthy
    degraded() { reasons+=("$1"); [ $status = down ] || status=degraded; }
    down() { reasons+=("$1"); status=down; }

    # --- containers
    services_json="" services_text="" api_healthy=0
    expected="postgres redis processing api nginx"
    [ "$(setting API_REPLICAS 1)" = 0 ] || expected="$expected api-replica"
    usage_of="$(timeout 20 docker stats --no-stream --format '{{.Name}} {{.CPUPerc}} {{.MemUsage}}' 2>/dev/null || true)"
    while IFS='|' read -r name service health restarts exit_code; do
        [ -n "$name" ] || continue
        resources="$(printf '%s\n' "$usage_of" | awk -v name="$name" '$1 == name {print $2 "|" $3}')"
        cpu="${resources%%|*}" memory="${resources##*|}"
        services_json="$services_json,{\"name\":$(text "$name"),\"service\":$(text "$service"),\"state\":$(text "$health"),\"restarts\":$restarts,\"cpu\":$(text "$cpu"),\"memory\":$(text "$memory")}"
        services_text="$services_text$(printf '  %-32s %-10s %8s %10s  restarts %s' "$name" "$health" "${cpu:--}" "${memory:--}" "$restarts")"$'\n'
        case "$service" in
            setup | migrate | demo-nodes) [ "$health $exit_code" != "exited 1" ] || degraded "$name failed: docker logs $name" ;;
            *)
                [ "$health" = healthy ] || [ "$health" = running ] || [ "$health" = starting ] || degraded "$name is $health"
                case "$service" in api | api-replica) [ "$health" != healthy ] || api_healthy=$((api_healthy + 1)) ;; esac
                ;;
        esac
        expected=" $expected "
        expected="${expected/ $service / }"
    done < <(docker ps -a --filter "label=com.docker.compose.project=$project" --filter "label=com.docker.compose.oneoff=False" -q |
        xargs -r docker inspect -f '{{slice .Name 1}}|{{index .Config.Labels "com.docker.compose.service"}}|{{if .State.Health}}{{if .State.Running}}{{.State.Health.Status}}{{else}}{{.State.Status}}{{end}}{{else}}{{.State.Status}}{{end}}|{{.RestartCount}}|{{if .State.ExitCode}}1{{else}}0{{end}}' | sort)
    for service in $expected; do degraded "there is no container of $service"; done

    # --- the API, asked as its health check does
    api=false
    if timeout 10 docker exec abbanoa-api python3 -m src.healthcheck http://127.0.0.1:8000/ready >/dev/null 2>&1; then
        api=true
    elif [ "$api_healthy" -eq 0 ]; then
        down "no replica of the API answers"
    else
        degraded "the API answers on a replica only, or without its database"
    fi

    # --- the database: jobs, data, and what later parts add
    database=false jobs=null data=null models=null anomalies=null alerts=null replicas=null jobs_text="" data_text=""
    if facts="$(sql -At -F '|' -v interval="$interval" -v stale="$stale" -v quiet="$quiet" 2>/dev/null <<'END'
SET search_path TO water_infrastructure;
WITH cycle AS (
    SELECT * FROM processing_jobs WHERE job_type = 'processing_cycle' AND status IN ('completed', 'failed')
        AND NOT result_summary ? 'skipped'
    ORDER BY created_at DESC LIMIT 1
), reading AS (SELECT max(last_reading) AS latest FROM ingestion_watermarks)
SELECT (SELECT status FROM cycle), (SELECT replace(left(error_message, 300), E'\n', ' ') FROM cycle),
    (SELECT extract(epoch FROM now() - scheduled_for)::bigint FROM cycle),
    (SELECT extract(epoch FROM now() - latest)::bigint FROM reading), (SELECT latest FROM reading),
    (SELECT count(*) FROM ingestion_watermarks WHERE last_reading > now() - make_interval(mins => :stale)),
    (SELECT count(*) FROM nodes WHERE is_active),
    (SELECT count(*) FROM processing_replicas WHERE heartbeat_at > now() - make_interval(secs => :quiet)),
    (SELECT count(*) FROM processing_jobs WHERE status = 'failed' AND created_at > now() - interval '24 h'),
    (SELECT count(*) FROM anomalies WHERE resolved_at IS NULL),
    (SELECT count(*) FROM anomalies WHERE resolved_at IS NULL AND severity = 'critical'),
    (SELECT count(*) FROM alerts WHERE state = 'firing'),
    (SELECT count(*) FROM ml_models WHERE is_active),
    pg_size_pretty(pg_database_size(current_database()));
END
    )"; then
        database=true
        IFS='|' read -r last error age lag latest reporting nodes replicas failures open critical firing active size <<<"$facts"
        jobs="$(sql -At <<'END'
SELECT replace(coalesce(json_agg(job), '[]')::text, E'\n', '') FROM (
    SELECT job_type, job_name, status, scheduled_for, duration_seconds, processed_items, failed_items, error_message
    FROM water_infrastructure.processing_jobs ORDER BY created_at DESC LIMIT 5
) AS job;
END
        )"
        jobs_text="$(sql -At -F ' ' <<'END'
SELECT '  ' || to_char(created_at, 'YYYY-MM-DD HH24:MI'), rpad(job_type, 17), rpad(status, 10),
    coalesce(round(duration_seconds::numeric, 1) || ' s', '-'), processed_items || ' nodes', coalesce(left(error_message, 90), '')
FROM water_infrastructure.processing_jobs ORDER BY created_at DESC LIMIT 5;
END
        )"
        data="{\"latest_reading\":$([ -n "$latest" ] && text "$latest" || echo null),\"lag_seconds\":${lag:-null},\"nodes_reporting\":$reporting,\"nodes\":$nodes,\"failed_jobs_24h\":$failures,\"database_size\":$(text "$size")}"
        data_text="  latest reading ${latest:-none} (${lag:-?} s ago); $reporting of $nodes nodes reporting; database $size"
        anomalies="{\"open\":$open,\"critical\":$critical}" alerts="{\"firing\":$firing}" models="{\"active\":$active}"
        [ "$replicas" -gt 0 ] || degraded "no processing replica is alive"
        [ "$last" != failed ] || degraded "the latest cycle failed: $error"
        [ -n "$last" ] || degraded "no processing cycle has ended yet"
        while IFS='|' read -r key_id key_name days; do
            [ -z "$key_id" ] || degraded "the API key $key_id ($key_name) runs out in $days days: ./scripts/create_api_key.sh makes another"
        done < <(sql -At -F '|' -v ahead="$ahead" 2>/dev/null <<'END'
SELECT key_id, translate(key_name, E'|\n\r', '   '), floor(extract(epoch FROM expires_at - now()) / 86400)
FROM water_infrastructure.api_keys
WHERE revoked_at IS NULL AND expires_at > now() AND expires_at < now() + make_interval(days => :ahead) ORDER BY expires_at;
END
        )
        [ -z "$age" ] || [ "$age" -le $((interval * 60 * 2 + 300)) ] || degraded "the latest cycle is $((age / 60)) minutes old"
        if [ -z "$lag" ]; then
            degraded "there are no readings yet"
        elif [ "$lag" -gt $((stale * 60)) ]; then
            degraded "the latest reading is $((lag / 60)) minutes old"
        fi
    else
        down "PostgreSQL does not answer"
    fi

    # --- Redis and the queue
    queue=null redis_memory="" redis_answers=false
    count="return redis.call('llen', KEYS[1]) + redis.call('llen', KEYS[2])"
    if depth="$(timeout 10 docker exec $redis redis-cli eval "$count" 2 abbanoa:queue:default abbanoa:queue:training 2>/dev/null)" && [[ "$depth" =~ ^[0-9]+$ ]]; then
        redis_answers=true queue="$depth"
        redis_memory="$(timeout 10 docker exec $redis redis-cli info memory | tr -d '\r' | sed -n 's/^used_memory_human://p')"
        [ "$queue" -lt 1000 ] || degraded "$queue chunks and trainings wait in the queues"
    else
        degraded "Redis does not answer"
    fi

    # --- disks: where the database grows, and where backups go
    disk="$(timeout 10 docker exec "$postgres" df -Pk /var/lib/postgresql/data 2>/dev/null | fullness)" || true
    [ "${disk:-0}" -lt 90 ] || degraded "the disk of the database is $disk % full"
    here="$(df -Pk . | fullness)"
    [ "$here" -lt 90 ] || degraded "the disk of $PWD is $here % full"

    # --- certificates: what is shown to callers, and what the services trust
    certificate="$(timeout 10 docker exec abbanoa-nginx cat /run/secrets/fullchain.pem 2>/dev/null | days_left)" || true
    [ -z "$certificate" ] || [ "$certificate" -ge "$ahead" ] ||
        degraded "the certificate of Nginx runs out in $certificate days: put another into nginx/certificates/, if it is yours, then ./scripts/update.sh"
    own="$(timeout 10 docker exec "$postgres" cat /run/secrets/server.crt 2>/dev/null | days_left)" || true
    [ -z "$own" ] || [ "$own" -ge "$ahead" ] || degraded "the certificate of PostgreSQL runs out in $own days: ./scripts/update.sh makes another"
}

show() {
    if [ $form = json ]; then
        told=""
        for reason in ${reasons[@]+"${reasons[@]}"}; do told="$told,$(text "$reason")"; done
        printf '{"status":"%s","reasons":[%s],"checked_at":"%s","services":[%s],"api":%s,"database":%s,"redis":{"connected":%s,"memory":%s},"queue_depth":%s,"processing_replicas":%s,"data":%s,"jobs":%s,"models":%s,"anomalies":%s,"alerts":%s,"disk_percent":%s,"disk_percent_here":%s,"certificate_days":%s}\n' \
            "$status" "${told#,}" "$(date -u +%Y-%m-%dT%H:%M:%SZ)" "${services_json#,}" "$api" "$database" "$redis_answers" \
            "$(text "$redis_memory")" "$queue" "${replicas:-null}" "$data" "$jobs" "$models" "$anomalies" "$alerts" "${disk:-null}" "$here" "${certificate:-null}"
        return
    fi
    echo "Status: $status   $(date -u +'%Y-%m-%d %H:%M:%S UTC')"
    for reason in ${reasons[@]+"${reasons[@]}"}; do echo "  - $reason"; done
    echo "Containers"
    printf '%s' "${services_text:-  none
}"
    echo "Last jobs"
    echo "${jobs_text:-  unknown}"
    echo "Data"
    echo "${data_text:-  unknown}"
    echo "Queue"
    echo "  $queue chunks and trainings waiting; ${replicas:-?} processing replicas; Redis ${redis_memory:-does not answer}; the database's disk is ${disk:-?} % full"
    echo "Certificate
  ${certificate:-?} days left"
    [ "$database" = false ] || echo "Models, anomalies, alerts
  $active active models; $open open anomalies, $critical critical; $firing alerts firing"
}

code() { case $status in healthy) echo 0 ;; degraded) echo 1 ;; *) echo 2 ;; esac; }

if [ -n "$watch" ]; then
    trap 'exit "$(code)"' INT TERM
    while :; do
        look
        if [ $form = text ] && [ -t 1 ]; then clear; fi
        show
        sleep "$watch"
    done
fi
look
show
exit "$(code)"
