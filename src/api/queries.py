"""The API's SQL, with that of `queries_*`; each statement is served by an index, tested."""

from __future__ import annotations

from src.api.pages import bounded

_LATEST_WINDOW = """
    LEFT JOIN LATERAL (
        SELECT * FROM water_infrastructure.computed_metrics
        WHERE node_id = nodes.node_id AND time_window = {time_window}
            AND window_start <= {now} AND window_end <= {now}
        ORDER BY window_start DESC LIMIT 1
    ) AS latest ON true
"""

READY = "SELECT generation FROM water_infrastructure.data_generation"

NODE_EXISTS = "SELECT EXISTS (SELECT FROM water_infrastructure.nodes WHERE node_id = $1)"

_DISTRICT_NAME = """(SELECT district_name FROM water_infrastructure.districts
            WHERE districts.district_id = {table}.district_id) AS district_name"""
_NODE = f"""node_id, node_name, node_type, role, location_name, district_id,
        {_DISTRICT_NAME.format(table="nodes")}, latitude, longitude, is_active, last_reading, out_of_service_since,
        out_of_service_reason"""
NODES = f"""
    SELECT {_NODE}
    FROM water_infrastructure.nodes LEFT JOIN water_infrastructure.ingestion_watermarks USING (node_id)
    WHERE node_id > $1 AND ($2::boolean IS NULL OR is_active = $2) AND ($3::text IS NULL OR district_id = $3)
        AND ($4::text IS NULL OR node_type = $4)
    ORDER BY node_id LIMIT $5
"""  # noqa: S608 - built from this module's own text

NODE = f"""
    SELECT {_NODE}, installation_date::text, metadata, created_at, nodes.updated_at
    FROM water_infrastructure.nodes LEFT JOIN water_infrastructure.ingestion_watermarks USING (node_id)
    WHERE node_id = $1
"""  # noqa: S608 - built from this module's own text

CHANNELS = """
    SELECT measurement, hours, is_counted, is_connected, copy_of, unit_questioned, likely_unit, resolution, reporting,
        is_two_way, CASE WHEN measurement = 'volume' THEN CASE WHEN is_counter THEN 'counter' END END AS volume_is,
        placeholders, evidence, valid_from, learned_at,
        jsonb_strip_nulls(jsonb_build_object('unit', nodes.metadata -> 'units' -> measurement,
            'range', nodes.metadata -> 'ranges' -> measurement,
            'connected', nodes.metadata -> 'connected' -> measurement,
            'volume_is', CASE WHEN measurement = 'volume' THEN nodes.metadata -> 'volume_is' END)) AS stated
    FROM water_infrastructure.node_channels JOIN water_infrastructure.nodes USING (node_id)
    WHERE node_id = $1 AND (hours > 0 OR evidence <> '[]' OR is_two_way OR is_counter)
    ORDER BY array_position(ARRAY['flow_rate', 'pressure', 'temperature', 'volume'], measurement)
"""

# $3: windows that are still running then are not shown, they would pass for low flow.
NODE_METRICS = f"""
    SELECT nodes.node_id, node_name, window_end AS timestamp, avg_flow_rate AS flow_rate, avg_pressure AS pressure,
        avg_temperature AS temperature, balance.efficiency, anomaly_count, data_completeness, quality_score,
        window_start
    FROM water_infrastructure.nodes {_LATEST_WINDOW.format(time_window="$2", now="$3")}
    LEFT JOIN LATERAL (
        SELECT (zone_metrics -> coalesce(nodes.district_id, '-') ->> 'efficiency_percentage')::double precision
            AS efficiency
        FROM water_infrastructure.network_efficiency
        WHERE time_window = CASE $2 WHEN '1day' THEN '1day' ELSE '1hour' END
            AND window_start <= latest.window_start AND window_end >= latest.window_end
        ORDER BY network_efficiency.window_start DESC LIMIT 1
    ) AS balance ON true
    WHERE nodes.node_id = $1
"""  # noqa: S608 - built from this module's own text

HISTORY = """
    SELECT window_start, window_end, avg_flow_rate, min_flow_rate, max_flow_rate, avg_pressure, min_pressure,
        max_pressure, avg_temperature, min_temperature, max_temperature, total_volume, estimated_volume,
        anomaly_count, quality_score, data_completeness, flow_coverage, pressure_coverage, temperature_coverage
    FROM water_infrastructure.computed_metrics
    WHERE node_id = $1 AND time_window = $2 AND window_start >= $3 AND window_start < $4
    ORDER BY window_start LIMIT $5
"""

NETWORK_METRICS = """
    SELECT computation_timestamp AS timestamp, window_start, window_end, active_nodes, total_nodes, flow_basis,
        total_flow, avg_pressure, total_volume, efficiency_percentage, anomaly_count, reason
    FROM water_infrastructure.network_metrics
    WHERE time_range = $1 ORDER BY computation_timestamp DESC LIMIT 1
"""

# Newest first, from before the cursor ($4); of one district ($5) where one is named, with its description. The
# condition selects the windows of a span.
_NETWORK_EFFICIENCY = """
    SELECT computation_timestamp, window_start, window_end, total_input_volume, total_output_volume,
        total_loss_volume, efficiency_percentage, method, coverage, reason, active_nodes, total_nodes,
        network_availability, total_anomalies, input_margin, output_margin, loss_margin, estimated_share, indicators,
        CASE WHEN $5::text IS NULL THEN zone_metrics
            WHEN zone_metrics ? $5 THEN jsonb_build_object($5, zone_metrics -> $5) ELSE '{}' END AS zone_metrics
    FROM water_infrastructure.network_efficiency
    WHERE time_window = $1 AND {within}
    ORDER BY window_start DESC LIMIT {limit}
"""
NETWORK_EFFICIENCY, ROLLING_EFFICIENCY = (
    bounded(
        _NETWORK_EFFICIENCY.replace("{within}", within).replace("{limit}", limit), "window_start DESC", "zone_metrics"
    )
    for within, limit in (
        ("window_start >= $2 AND window_start < least($3, $4::timestamptz)", "$6"),
        # Those that end in the span; none is longer than $6, or shorter by more than clocks are set forward and back.
        (
            """window_start >= $2::timestamptz - $6::interval
            AND window_start < least($3::timestamptz - $6::interval + interval '3 hours', $4::timestamptz)
            AND window_end > $2 AND window_end <= $3""",
            "$7",
        ),
    )
)

_PREDICTION = """node_id, prediction_timestamp, target_timestamp, predicted_flow_rate AS predicted_value,
        flow_rate_lower AS lower_bound, flow_rate_upper AS upper_bound, confidence_score, $2::text AS model_type,
        version AS model_version, model_id"""
PREDICTIONS = f"""
    WITH latest AS (
        SELECT model_id, prediction_timestamp, version FROM water_infrastructure.ml_predictions_cache
        JOIN water_infrastructure.ml_models USING (model_id)
        WHERE node_id = $1 AND model_type = $2 AND is_active
        ORDER BY prediction_timestamp DESC LIMIT 1
    )
    SELECT {_PREDICTION}
    FROM latest JOIN water_infrastructure.ml_predictions_cache USING (model_id, prediction_timestamp)
    WHERE node_id = $1 AND prediction_horizon_hours <= $3
    ORDER BY target_timestamp
"""  # noqa: S608 - built from this module's own text

# Of each hour of a span the last forecast made before it, by models that were active or are.
PAST_PREDICTIONS = f"""
    SELECT DISTINCT ON (target_timestamp) {_PREDICTION}
    FROM water_infrastructure.ml_predictions_cache JOIN water_infrastructure.ml_models USING (model_id)
    WHERE node_id = $1 AND model_type = $2 AND activated_at IS NOT NULL AND prediction_horizon_hours <= $3
        AND target_timestamp >= $4 AND target_timestamp < $5 AND prediction_timestamp <= target_timestamp
        AND prediction_timestamp >= $4::timestamptz - interval '8 days' AND prediction_timestamp < $5
    ORDER BY target_timestamp, prediction_timestamp DESC LIMIT 10000
"""  # noqa: S608 - built from this module's own text

QUALITY = """
    SELECT node_id, check_timestamp, time_window, completeness_score, validity_score, consistency_score,
        overall_quality_score, missing_data_points, invalid_values, outliers_detected, quality_issues AS issues
    FROM water_infrastructure.data_quality_metrics
    WHERE node_id = $1 ORDER BY check_timestamp DESC, time_window LIMIT 1
"""

_EVENT = f"""anomaly_id, timestamp, "end", node_id, node_name, anomaly_type, severity, measurement_type, actual_value,
        expected_value, deviation_percentage, detection_method, resolved_at, resolved_by, is_confirmed, detected_at,
        acknowledged_at, acknowledged_by, note, {{table}}.district_id, {_DISTRICT_NAME},
        incident_id, {{table}}.metadata, {{table}}.metadata -> 'explained_by' AS explained_by"""
# Newest first, from before the cursor ($5, $6); what was going on since $1.
_ANOMALIES = """
    SELECT {event}
    FROM water_infrastructure.anomalies LEFT JOIN water_infrastructure.nodes USING (node_id)
    WHERE {status} AND timestamp <= $2 AND ($3::text IS NULL OR node_id = $3) AND ($4::text IS NULL OR severity = $4)
        AND ($5::timestamptz IS NULL OR (timestamp, anomaly_id) < ($5, $6::uuid))
        AND ($7::text IS NULL OR anomalies.district_id = $7) AND ($8::uuid IS NULL OR incident_id = $8)
    ORDER BY timestamp DESC, anomaly_id DESC LIMIT $9
"""
_STATUS = {
    "open": "resolved_at IS NULL AND $1::timestamptz IS NOT NULL",
    "resolved": "resolved_at >= $1",
    "all": "(resolved_at IS NULL OR resolved_at >= $1)",
}
ANOMALIES = {
    status: bounded(
        _ANOMALIES.format(status=condition, event=_EVENT.format(table="anomalies")),
        "timestamp DESC, anomaly_id DESC",
        "metadata, note",
    )
    for status, condition in _STATUS.items()
}

ANOMALY = f"""
    SELECT {_EVENT.format(table="anomalies")}
    FROM water_infrastructure.anomalies LEFT JOIN water_infrastructure.nodes USING (node_id) WHERE anomaly_id = $1
"""  # noqa: S608 - built from this module's own text

_DASHBOARD_EVENTS = """
    SELECT {event}
    FROM water_infrastructure.anomalies LEFT JOIN water_infrastructure.nodes USING (node_id)
    WHERE (resolved_at IS NULL OR resolved_at >= $1) AND timestamp <= $2
        AND NOT anomalies.metadata ? 'explained_by'
    ORDER BY resolved_at DESC NULLS FIRST, array_position(ARRAY['critical', 'warning', 'info'], severity),
        timestamp DESC, anomaly_id LIMIT $3
"""
# What a landing page shows: what is open, the worst first, then what was over last; not what a work explains.
DASHBOARD_EVENTS = bounded(
    _DASHBOARD_EVENTS.format(event=_EVENT.format(table="anomalies")),
    "resolved_at DESC NULLS FIRST, array_position(ARRAY['critical', 'warning', 'info'], severity), timestamp DESC, "
    "anomaly_id",
    "metadata, note",
)

# A district is one that nodes are in, or that somebody has described; from after the cursor ($1), or the one named $2.
DISTRICTS = """
    SELECT district_id, district_name, mains_km, connections, private_pipe_km, mean_pressure_metres, night_use_litres,
        leakage_exponent, coalesce(nodes, 0) AS nodes, coalesce(roles, '{}') AS roles,
        (
            SELECT count(*) FROM water_infrastructure.anomalies
            WHERE resolved_at IS NULL AND NOT metadata ? 'explained_by'
                AND anomalies.district_id = coalesce(counted.district_id, described.district_id)
        ) AS open_anomalies
    FROM (
        SELECT district_id, sum(of_role)::bigint AS nodes, jsonb_object_agg(coalesce(role, 'unknown'), of_role) AS roles
        FROM (
            SELECT district_id, role, count(*) AS of_role FROM water_infrastructure.nodes
            WHERE is_active AND district_id IS NOT NULL GROUP BY 1, 2
        ) AS by_role GROUP BY 1
    ) AS counted FULL JOIN water_infrastructure.districts AS described USING (district_id)
    WHERE district_id > $1 AND ($2::text IS NULL OR district_id = $2) ORDER BY district_id LIMIT $3
"""
# The latest balance of a district, of each of these windows ($3), of those that began not longer ago than $4.
DISTRICT_BALANCES = """
    SELECT DISTINCT ON (time_window) time_window, window_start, window_end, zone_metrics -> $1 AS balance
    FROM water_infrastructure.network_efficiency
    WHERE time_window = ANY($3) AND zone_metrics ? $1 AND window_end <= $2
        AND window_start >= $2::timestamptz - $4::interval
    ORDER BY time_window, window_start DESC
"""

ANOMALY_RESOLVED = "SELECT resolved_at IS NOT NULL FROM water_infrastructure.anomalies WHERE anomaly_id = $1"

# What is noted later stands below what was noted before; sent twice, it stands there once, and an empty note nowhere.
_NOTED = """CASE WHEN right(E'\\n' || note, length($4::text) + 1) = E'\\n' || $4 THEN note
                ELSE nullif(concat_ws(E'\\n', nullif(note, ''), nullif($4, '')), '') END"""
# $1 the event, $2 now, $3 who, $4 a note. Whoever acknowledges first has done it.
ACKNOWLEDGE = f"""
    WITH event AS (
        UPDATE water_infrastructure.anomalies
        SET acknowledged_at = coalesce(acknowledged_at, $2), acknowledged_by = coalesce(acknowledged_by, $3),
            note = {_NOTED}
        WHERE anomaly_id = $1 RETURNING *
    )
    SELECT {_EVENT.format(table="event")} FROM event LEFT JOIN water_infrastructure.nodes USING (node_id)
"""  # noqa: S608 - built from this module's own text

# $5 whether it was real.
RESOLVE = f"""
    WITH event AS (
        UPDATE water_infrastructure.anomalies
        SET resolved_at = $2, resolved_by = $3, note = {_NOTED}, is_confirmed = coalesce($5, is_confirmed),
            acknowledged_at = coalesce(acknowledged_at, $2), acknowledged_by = coalesce(acknowledged_by, $3)
        WHERE anomaly_id = $1 AND resolved_at IS NULL RETURNING *
    )
    SELECT {_EVENT.format(table="event")} FROM event LEFT JOIN water_infrastructure.nodes USING (node_id)
"""  # noqa: S608 - built from this module's own text

_WORK = 'work_id, kind, node_id, district_id, begin, "end", note, created_at, created_by'
# Those that begin last first, from before the cursor ($5, $6); those that touch [$1, $2).
_WORKS = """
    SELECT {columns} FROM water_infrastructure.works
    WHERE deleted_at IS NULL AND begin < $2 AND coalesce("end" > $1, begin >= $1)
        AND ($3::text IS NULL OR node_id = $3) AND ($4::text IS NULL OR district_id = $4)
        AND ($5::timestamptz IS NULL OR (begin, work_id) < ($5, $6::uuid))
    ORDER BY begin DESC, work_id DESC LIMIT $7
"""
WORKS = bounded(_WORKS.format(columns=_WORK), "begin DESC, work_id DESC", "note")
# A district is one that nodes are in, or that somebody has described.
PLACES_EXIST = """
    SELECT EXISTS (SELECT FROM water_infrastructure.nodes WHERE node_id = $1) AS node_id,
        EXISTS (SELECT FROM water_infrastructure.nodes WHERE district_id = $2)
            OR EXISTS (SELECT FROM water_infrastructure.districts WHERE district_id = $2) AS district_id
"""
STATE_WORK = f"""
    INSERT INTO water_infrastructure.works
        (work_id, kind, node_id, district_id, begin, "end", note, created_at, created_by)
    VALUES (gen_random_uuid(), $1, $2, $3, $4, $5, $6, $7, $8) RETURNING {_WORK}
"""  # noqa: S608 - built from this module's own text
# $1 the work, $2 now, $3 who.
TAKE_WORK_BACK = """
    UPDATE water_infrastructure.works SET deleted_at = $2, deleted_by = $3, changed_at = clock_timestamp()
    WHERE work_id = $1 AND deleted_at IS NULL RETURNING work_id
"""

ADVANCE_GENERATION = "UPDATE water_infrastructure.data_generation SET generation = generation + 1 RETURNING generation"

# Newest first, from before the cursor ($3, $4); those firing, or over since $1.
_ALERTS = """
    SELECT alert_id, rule, subject, severity, state, summary, details, since, fired_at, notified_at, resolved_at,
        (
            SELECT count(*) FROM water_infrastructure.alert_deliveries AS delivery
            WHERE delivery.alert_id = alerts.alert_id AND delivered_at IS NULL
        ) AS undelivered
    FROM water_infrastructure.alerts
    WHERE fired_at IS NOT NULL AND {state} AND ($2::text IS NULL OR severity = $2)
        AND ($3::timestamptz IS NULL OR (since, alert_id) < ($3, $4::uuid))
    ORDER BY since DESC, alert_id DESC LIMIT $5
"""
ALERTS = {
    state: bounded(_ALERTS.format(state=condition), "since DESC, alert_id DESC", "details, summary")
    for state, condition in (
        ("firing", "state = 'firing' AND $1::timestamptz IS NOT NULL"),
        ("resolved", "state = 'resolved' AND resolved_at >= $1"),
        ("all", "(state = 'firing' OR resolved_at >= $1)"),
    )
}

# A tick that was skipped because the cycle before it was still running is no cycle.
LAST_JOB = """
    SELECT job_id, status, scheduled_for, started_at, completed_at, duration_seconds, error_message
    FROM water_infrastructure.processing_jobs
    WHERE job_type = 'processing_cycle' AND NOT result_summary ? 'skipped' ORDER BY created_at DESC LIMIT 1
"""

# Newest first, from before the cursor ($3, $4).
JOBS = bounded(
    """
    SELECT job_id, job_type, job_name, status, scheduled_for, created_at, started_at, completed_at, duration_seconds,
        total_items, processed_items, failed_items, progress_percentage, result_summary, error_message, triggered_by
    FROM water_infrastructure.processing_jobs
    WHERE ($1::text IS NULL OR job_type = $1) AND ($2::text IS NULL OR status = $2)
        AND ($3::timestamptz IS NULL OR (created_at, job_id) < ($3, $4::uuid))
    ORDER BY created_at DESC, job_id DESC LIMIT $5
    """,
    "created_at DESC, job_id DESC",
    "result_summary, error_message",
)

REPLICAS = """
    SELECT count(*) AS replicas, min(next_run) AS next_run FROM water_infrastructure.processing_replicas
    WHERE heartbeat_at > now() - $1::interval
"""

# Of each type the model activated last, and how many pools of nodes have one.
ACTIVE_MODELS = """
    SELECT DISTINCT ON (model_type) model_type, version, created_at, validation_metrics AS performance,
        count(*) OVER (PARTITION BY model_type) AS pools
    FROM water_infrastructure.ml_models WHERE is_active ORDER BY model_type, activated_at DESC
"""

_MODEL = """
    SELECT model_id, model_name, model_type, scope, version, status, is_active, created_at, activated_at, retired_at,
        shadow_since, fallback_id, training_duration_seconds, training_data_start, training_data_end, training_samples,
        model_size_bytes, model_hash, library_versions, metrics, validation_metrics,
        (SELECT to_jsonb(latest) FROM (
            SELECT evaluation_timestamp, predictions_count, mae, rmse, mape, r2_score, feature_drift_score,
                prediction_drift_score, drift_detected, drift_reason
            FROM water_infrastructure.model_performance AS performance
            WHERE performance.model_id = ml_models.model_id ORDER BY evaluation_timestamp DESC LIMIT 1
        ) AS latest) AS latest_performance
    FROM water_infrastructure.ml_models
"""
# Newest first, from before the cursor ($3, $4).
MODELS = bounded(
    f"""{_MODEL}
    WHERE ($1::text IS NULL OR status = $1) AND ($2::text IS NULL OR model_type = $2)
        AND ($3::timestamptz IS NULL OR (created_at, model_id) < ($3, $4::uuid))
    ORDER BY created_at DESC, model_id DESC LIMIT $5
    """,
    "created_at DESC, model_id DESC",
    "metrics, validation_metrics, latest_performance, library_versions",
)
MODEL = f"{_MODEL} WHERE model_id = $1"
MODEL_DECISIONS = """
    SELECT decided_at, decision, decided_by, reason FROM water_infrastructure.model_decisions
    WHERE model_id = $1 ORDER BY decided_at, decision_id
"""
MODEL_PERFORMANCE = """
    SELECT evaluation_timestamp, evaluation_window, predictions_count, mae, rmse, mape, r2_score, feature_drift_score,
        prediction_drift_score, drift_detected, drift_reason, node_metrics
    FROM water_infrastructure.model_performance
    WHERE model_id = $1 ORDER BY evaluation_timestamp DESC LIMIT 30
"""

# The largest saving first, after as many rows as the cursor ($3) counts: there is one row a district.
RECOMMENDATIONS = bounded(
    """
    SELECT district_id, computed_at, outcome, reason, model_id, inlet_node_id, critical_node_id, minimum_pressure,
        schedule, leakage_volume, saving_volume, saving_volume_lower, saving_volume_upper
    FROM water_infrastructure.recommendations
    WHERE ($1::text IS NULL OR district_id = $1) AND ($2::text IS NULL OR outcome = $2)
    ORDER BY saving_volume DESC NULLS LAST, district_id OFFSET $3 LIMIT $4
    """,
    "saving_volume DESC NULLS LAST, district_id",
    "schedule",
)

SURVEYED_NODES = bounded(
    """
    SELECT node_id, node_name, district_id, district_believed, role, role_believed, why, channels, first_reading,
        last_reading, cadence_seconds, days, lacking
    FROM water_infrastructure.node_survey JOIN water_infrastructure.nodes USING (node_id)
    WHERE node_id > $1 ORDER BY node_id LIMIT $2
    """,
    "node_id",
    "why, channels, lacking",
)

SURVEYED_DISTRICTS = bounded(
    """
    SELECT district_id, district_name, nodes, lacking, has
    FROM water_infrastructure.district_survey LEFT JOIN water_infrastructure.districts USING (district_id)
    WHERE district_id > $1 ORDER BY district_id LIMIT $2
    """,
    "district_id",
    "lacking",
)

# Every row of a survey holds when it was made.
SURVEYED_AT = "SELECT surveyed_at FROM water_infrastructure.node_survey LIMIT 1"

FRESHNESS = """
    SELECT (SELECT max(last_reading) FROM water_infrastructure.ingestion_watermarks WHERE last_reading <= $1)
            AS latest_data,
        (SELECT count(*) FROM water_infrastructure.ingestion_watermarks WHERE last_reading > $2 AND last_reading <= $1)
            AS nodes_reporting
"""

DASHBOARD_NODES = f"""
    SELECT nodes.node_id, node_name, node_type, district_id, window_end AS timestamp, avg_flow_rate AS flow_rate,
        avg_pressure AS pressure, anomaly_count, quality_score, data_completeness
    FROM water_infrastructure.nodes {_LATEST_WINDOW.format(time_window="'1hour'", now="$1")}
    WHERE is_active ORDER BY nodes.node_id
"""  # noqa: S608 - built from this module's own text

LAST_UPDATE = """
    SELECT completed_at FROM water_infrastructure.processing_jobs
    WHERE job_type = 'processing_cycle' AND status = 'completed' AND NOT result_summary ? 'skipped'
    ORDER BY created_at DESC LIMIT 1
"""

API_KEY = """
    SELECT key_name, person, digest, scope, revoked_at IS NOT NULL AS revoked,
        coalesce(expires_at <= now(), false) AS expired
    FROM water_infrastructure.api_keys WHERE key_id = $1
"""

API_KEYS = """
    SELECT key_id, key_name, person, scope, created_at, created_by, expires_at, revoked_at, last_used_at, requests,
        refused
    FROM water_infrastructure.api_keys LEFT JOIN LATERAL (
        SELECT max(last_used_at) AS last_used_at, sum(requests)::bigint AS requests, sum(refused)::bigint AS refused
        FROM water_infrastructure.api_key_usage WHERE api_key_usage.key_id = api_keys.key_id
    ) AS used ON true
    ORDER BY created_at
"""

# $1 key, $2 address, $3 requests, $4 refused: of the hour that is running.
ADD_USAGE = """
    INSERT INTO water_infrastructure.api_key_usage (key_id, hour, address, requests, refused, last_used_at)
    VALUES ($1, date_trunc('hour', now()), $2, $3, $4, now())
    ON CONFLICT (key_id, hour, address) DO UPDATE SET requests = api_key_usage.requests + excluded.requests,
        refused = api_key_usage.refused + excluded.refused, last_used_at = excluded.last_used_at
"""
