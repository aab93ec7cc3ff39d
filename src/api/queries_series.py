"""SQL of series for charts: many nodes' windows as arrays in order of time, with what was forecast and expected."""

from __future__ import annotations

SERIES_NODES = """
    SELECT node_id, node_name, district_id FROM water_infrastructure.nodes
    WHERE node_id = ANY($1::text[]) ORDER BY array_position($1::text[], node_id)
"""

# Windows ($2) of nodes ($1) that begin in [$3, $4); `at` in seconds since 1970.
_HISTORY = """
    SELECT node_id, array_agg(at) AS at, array_agg(value) AS value, array_agg(low) AS low, array_agg(high) AS high,
        array_agg(coverage) AS coverage, array_agg(estimated) AS estimated, array_agg(quality_score) AS quality
    FROM (
        SELECT node_id, extract(epoch FROM window_start)::bigint AS at, {value} AS value, {low} AS low, {high} AS high,
            {coverage} AS coverage, {estimated} AS estimated, quality_score
        FROM water_infrastructure.computed_metrics
        WHERE node_id = ANY($1) AND time_window = $2 AND window_start >= $3 AND window_start < $4
        ORDER BY node_id, window_start
    ) AS windows GROUP BY node_id
"""
_ESTIMATED = "estimated_volume / nullif(total_volume, 0)"
_NONE = "NULL::double precision"
HISTORY = {
    measurement: _HISTORY.format(
        value=value,
        low=_NONE if measurement == "volume" else value.replace("avg", "min"),
        high=_NONE if measurement == "volume" else value.replace("avg", "max"),
        coverage=f"{coverage}_coverage",
        estimated=_ESTIMATED if coverage == "flow" else _NONE,
    )
    for measurement, value, coverage in (
        ("flow_rate", "avg_flow_rate", "flow"),
        ("pressure", "avg_pressure", "pressure"),
        ("temperature", "avg_temperature", "temperature"),
        ("volume", "total_volume", "flow"),
    )
}

# Of each hour in [$2, $3) the last forecast that was made before it, by models that were active or are.
FORECAST = """
    SELECT node_id, array_agg(at) AS at, array_agg(value) AS value, array_agg(low) AS low, array_agg(high) AS high,
        max(prediction_timestamp) AS made_at,
        (array_agg(model_id ORDER BY prediction_timestamp DESC, at DESC))[1] AS model_id,
        (array_agg(version ORDER BY prediction_timestamp DESC, at DESC))[1] AS model_version
    FROM (
        SELECT DISTINCT ON (node_id, target_timestamp) node_id, extract(epoch FROM target_timestamp)::bigint AS at,
            predicted_flow_rate AS value, flow_rate_lower AS low, flow_rate_upper AS high, prediction_timestamp,
            model_id, version
        FROM water_infrastructure.ml_predictions_cache JOIN water_infrastructure.ml_models USING (model_id)
        WHERE node_id = ANY($1) AND model_type = 'flow_prediction' AND activated_at IS NOT NULL
            AND target_timestamp >= $2 AND target_timestamp < $3 AND prediction_timestamp <= target_timestamp
            AND prediction_timestamp >= $2::timestamptz - interval '8 days' AND prediction_timestamp < $3
        ORDER BY node_id, target_timestamp, prediction_timestamp DESC, is_active DESC, model_id
    ) AS hours GROUP BY node_id
"""

# What detection expected of the hours in [$3, $4) of a measurement ($2).
EXPECTED = """
    SELECT node_id, array_agg(at) AS at, array_agg(expected) AS value, array_agg(lower) AS low, array_agg(upper) AS high
    FROM (
        SELECT node_id, extract(epoch FROM window_start)::bigint AS at, expected, lower, upper
        FROM water_infrastructure.expected_values
        WHERE node_id = ANY($1) AND measurement = $2 AND window_start >= $3 AND window_start < $4
        ORDER BY node_id, window_start
    ) AS hours GROUP BY node_id
"""

# Of how many days what is usual was last learned, by $3.
LEARNED_DAYS = """
    SELECT DISTINCT ON (node_id) node_id, history_days FROM water_infrastructure.node_habits
    WHERE node_id = ANY($1) AND measurement = $2 AND valid_from < $3 ORDER BY node_id, valid_from DESC
"""

# What was going on at nodes in [$2, $3), newest first; $4 as many as are shown.
SERIES_EVENTS = """
    SELECT anomaly_id, incident_id, node_id, anomaly_type, severity, measurement_type, timestamp, "end", resolved_at,
        metadata ->> 'explanation' AS explanation
    FROM water_infrastructure.anomalies
    WHERE node_id = ANY($1) AND timestamp < $3 AND coalesce("end" > $2, true)
    ORDER BY timestamp DESC, anomaly_id LIMIT $4
"""

# Readings set aside in [$2, $3), newest first, from before the cursor ($4, $5). A placeholder is shown as it came, in
# no unit of ours.
REJECTED = """
    SELECT quarter_start, reason, readings, lowest, highest,
        CASE WHEN reason LIKE '%placeholder' THEN NULL WHEN reason LIKE 'flow\\_rate\\_%' THEN 'L/s'
            WHEN reason LIKE 'pressure\\_%' THEN 'bar' WHEN reason LIKE 'temperature\\_%' THEN '°C'
            WHEN reason LIKE 'volume\\_%' THEN 'm³' END AS unit
    FROM water_infrastructure.rejected_readings
    WHERE node_id = $1 AND quarter_start >= $2 AND quarter_start < $3
        AND ($4::timestamptz IS NULL OR (quarter_start, reason) < ($4, $5::text))
    ORDER BY quarter_start DESC, reason DESC LIMIT $6
"""
