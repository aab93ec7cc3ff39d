"""SQL of the dashboard's overview: what stands in stored rows now, added up by district and for the plan."""

from __future__ import annotations

# Nodes in use as they are now: $1 now, $2 since when a window or a reading is of now, $3 the least pressure where a
# node has none itself. A tank's pressure is its level, and a channel that is not counted measures no pressure.
_PRESENT = """
    WITH latest AS MATERIALIZED (
        SELECT DISTINCT ON (node_id COLLATE "C") node_id, window_end, avg_pressure, quality_score
        FROM water_infrastructure.computed_metrics
        WHERE time_window = '1hour' AND window_start >= $2::timestamptz - interval '1 hour' AND window_start <= $1
            AND window_end > $2 AND window_end <= $1
        ORDER BY node_id COLLATE "C", window_start DESC
    ),
    uncounted AS (
        SELECT node_id, is_counted FROM water_infrastructure.node_channels
        WHERE measurement = 'pressure' AND NOT is_counted
    ),
    stated AS (
        SELECT *, CASE WHEN jsonb_typeof(metadata #> '{limits,pressure,low}') = 'number'
            THEN (metadata #>> '{limits,pressure,low}')::double precision ELSE $3::double precision END AS minimum
        FROM water_infrastructure.nodes WHERE is_active
    ),
    present AS (
        SELECT stated.node_id, node_name, district_id, latitude, longitude, window_end, minimum, quality_score,
            out_of_service_since IS NOT NULL AS is_out,
            CASE WHEN role IS DISTINCT FROM 'storage' AND out_of_service_since IS NULL AND is_counted IS NULL
                THEN avg_pressure END AS pressure
        FROM stated LEFT JOIN latest USING (node_id) LEFT JOIN uncounted USING (node_id)
    )
"""

# Where least is left first; $4 as many as are shown.
PRESSURE_BELOW = f"""{_PRESENT}
    SELECT node_id, node_name, district_id, pressure, minimum, window_end, count(*) OVER () AS below
    FROM present WHERE pressure < minimum ORDER BY pressure - minimum, node_id LIMIT $4
"""  # noqa: S608 - built from this module's own text

# Districts that nodes are in or that somebody has described, and first of all nodes without one; each with its latest
# balance of 30 days and of an hour, and with its nodes whose place is known, to a metre, a column each. The counts of
# all nodes stand in every row.
NETWORK_NOW = f"""{_PRESENT},
    open_events AS MATERIALIZED (
        SELECT node_id, district_id, anomaly_type,
            array_position(ARRAY['info', 'warning', 'critical'], severity) AS rank
        FROM water_infrastructure.anomalies WHERE resolved_at IS NULL AND NOT metadata ? 'explained_by'
    ),
    troubled AS (
        SELECT node_id, max(rank) AS rank, bool_or(anomaly_type = 'silent') AS is_silent
        FROM open_events GROUP BY node_id
    ),
    judged AS (
        SELECT *, latitude IS NOT NULL AND longitude IS NOT NULL AS is_placed, CASE WHEN is_out THEN 'out_of_service'
            WHEN rank = 3 THEN 'critical' WHEN is_quiet THEN 'silent' WHEN pressure < minimum THEN 'low_pressure'
            WHEN rank = 2 THEN 'warning' ELSE 'ok' END AS state
        FROM (
            SELECT present.*, rank, last_reading, NOT is_out AND (
                coalesce(is_silent, false) OR coalesce(last_reading <= $1::timestamptz - interval '1 day', true)
            ) AS is_quiet
            FROM present LEFT JOIN troubled USING (node_id)
            LEFT JOIN water_infrastructure.ingestion_watermarks USING (node_id)
        ) AS known
    ),
    counted AS (
        SELECT district_id, count(*) AS nodes, min(pressure) AS pressure_min, avg(quality_score) AS quality,
            avg(latitude) AS latitude, avg(longitude) AS longitude,
            max(last_reading) FILTER (WHERE last_reading <= $1) AS latest_data,
            count(*) FILTER (WHERE last_reading > $2 AND last_reading <= $1) AS reporting,
            count(*) FILTER (WHERE is_quiet) AS silent,
            array_agg(node_id ORDER BY node_id COLLATE "C") FILTER (WHERE is_placed) AS plan_nodes,
            array_agg(round(latitude * 1e5) / 1e5 ORDER BY node_id COLLATE "C")
                FILTER (WHERE is_placed) AS plan_latitudes,
            array_agg(round(longitude * 1e5) / 1e5 ORDER BY node_id COLLATE "C")
                FILTER (WHERE is_placed) AS plan_longitudes,
            array_agg(state ORDER BY node_id COLLATE "C") FILTER (WHERE is_placed) AS plan_states
        FROM judged GROUP BY district_id
    )
    SELECT district_id, district_name, coalesce(nodes, 0) AS nodes, coalesce(open_anomalies, 0) AS open_anomalies,
        severity, hour.flow, month.loss_share, month.efficiency_percentage, pressure_min, quality, latitude, longitude,
        CASE WHEN month.loss_share IS NULL THEN coalesce(month.reason, 'there is no balance of 30 days yet') END
            AS reason,
        plan_nodes, plan_latitudes, plan_longitudes, plan_states,
        max(latest_data) OVER () AS latest_data, sum(reporting) OVER ()::bigint AS nodes_reporting,
        sum(nodes) OVER ()::bigint AS nodes_active, sum(silent) OVER ()::bigint AS nodes_silent
    FROM counted FULL JOIN water_infrastructure.districts AS described USING (district_id)
    LEFT JOIN (
        SELECT district_id, count(*) AS open_anomalies, (ARRAY['info', 'warning', 'critical'])[max(rank)] AS severity
        FROM open_events GROUP BY district_id
    ) AS events USING (district_id)
    LEFT JOIN LATERAL (
        SELECT (balance ->> 'loss_volume')::double precision
                / nullif((balance ->> 'input_volume')::double precision, 0) AS loss_share,
            (balance ->> 'efficiency_percentage')::double precision AS efficiency_percentage,
            balance ->> 'reason' AS reason
        FROM water_infrastructure.district_balances AS balances
        WHERE balances.district_id = coalesce(counted.district_id, described.district_id) AND time_window = '30day'
            AND window_start >= $1::timestamptz - interval '38 days' AND window_end <= $1
        ORDER BY window_start DESC LIMIT 1
    ) AS month ON true
    LEFT JOIN LATERAL (
        SELECT (balance ->> 'input_volume')::double precision / 3.6 AS flow
        FROM water_infrastructure.district_balances AS balances
        WHERE balances.district_id = coalesce(counted.district_id, described.district_id) AND time_window = '1hour'
            AND window_start >= $2::timestamptz - interval '1 hour' AND window_end > $2 AND window_end <= $1
        ORDER BY window_start DESC LIMIT 1
    ) AS hour ON true
    ORDER BY district_id NULLS FIRST
"""  # noqa: S608 - built from this module's own text

# The latest balance of a window ($1) that has ended by now ($2), and as many before it as are shown ($3).
NETWORK_BALANCES = """
    SELECT window_start, window_end, total_input_volume, total_loss_volume, loss_margin, efficiency_percentage, method,
        coverage, reason
    FROM water_infrastructure.network_efficiency
    WHERE time_window = $1 AND window_start <= $2 AND window_end <= $2
    ORDER BY window_start DESC LIMIT $3
"""

# The flow of today by all inlets in use: the forecast made last before the day ($2 to $3) began, or else first within
# it; and from now ($1) to the day's end by the latest, where these have every hour of every inlet. What fell silent may
# still let water pass; what somebody took out of service does not. L/s over an hour are 3.6 m³.
TODAY = """
    WITH inlets AS (
        SELECT node_id FROM water_infrastructure.nodes
        WHERE is_active AND role = 'inlet' AND out_of_service_reason IS DISTINCT FROM 'by hand'
    )
    SELECT count(*) AS inlets, count(hours) FILTER (WHERE hours > 0) AS nodes,
        count(*) FILTER (WHERE hours = extract(epoch FROM $3::timestamptz - $2::timestamptz) / 3600) AS whole,
        sum(volume) AS today_volume, sum(lower) AS lower, sum(upper) AS upper,
        CASE WHEN bool_and(
            coming_hours = extract(epoch FROM $3::timestamptz - date_trunc('hour', $1::timestamptz)) / 3600
        ) THEN sum(coming) END AS coming_volume,
        max(prediction_timestamp) AS made_at,
        (array_agg(version ORDER BY prediction_timestamp DESC NULLS LAST, version DESC))[1] AS model_version
    FROM inlets LEFT JOIN LATERAL (
        (
            SELECT model_id, version, prediction_timestamp
            FROM water_infrastructure.ml_predictions_cache JOIN water_infrastructure.ml_models USING (model_id)
            WHERE ml_predictions_cache.node_id = inlets.node_id AND model_type = 'flow_prediction'
                AND activated_at IS NOT NULL AND prediction_timestamp <= $2
                AND prediction_timestamp > $2::timestamptz - interval '6 days'
            ORDER BY prediction_timestamp DESC, is_active DESC LIMIT 1
        ) UNION ALL (
            SELECT model_id, version, prediction_timestamp
            FROM water_infrastructure.ml_predictions_cache JOIN water_infrastructure.ml_models USING (model_id)
            WHERE ml_predictions_cache.node_id = inlets.node_id AND model_type = 'flow_prediction'
                AND activated_at IS NOT NULL AND prediction_timestamp > $2 AND prediction_timestamp <= $1
            ORDER BY prediction_timestamp, is_active DESC LIMIT 1
        ) LIMIT 1
    ) AS run ON true
    LEFT JOIN LATERAL (
        SELECT count(predicted_flow_rate) AS hours, sum(predicted_flow_rate) * 3.6 AS volume,
            sum(flow_rate_lower) * 3.6 AS lower, sum(flow_rate_upper) * 3.6 AS upper
        FROM water_infrastructure.ml_predictions_cache AS forecast
        WHERE forecast.model_id = run.model_id AND forecast.node_id = inlets.node_id
            AND forecast.prediction_timestamp = run.prediction_timestamp
            AND target_timestamp >= $2 AND target_timestamp < $3
    ) AS today ON true
    LEFT JOIN LATERAL (
        SELECT model_id, prediction_timestamp AS latest_timestamp
        FROM water_infrastructure.ml_predictions_cache JOIN water_infrastructure.ml_models USING (model_id)
        WHERE ml_predictions_cache.node_id = inlets.node_id AND model_type = 'flow_prediction' AND is_active
            AND prediction_timestamp <= $1 AND prediction_timestamp > $1::timestamptz - interval '6 days'
        ORDER BY prediction_timestamp DESC LIMIT 1
    ) AS newest ON true
    LEFT JOIN LATERAL (
        SELECT count(predicted_flow_rate) AS coming_hours, sum(predicted_flow_rate) * 3.6 AS coming
        FROM water_infrastructure.ml_predictions_cache AS forecast
        WHERE forecast.model_id = newest.model_id AND forecast.node_id = inlets.node_id
            AND forecast.prediction_timestamp = newest.latest_timestamp
            AND target_timestamp >= date_trunc('hour', $1::timestamptz) AND target_timestamp < $3
    ) AS rest ON true
"""

ALERTS_FIRING = "SELECT count(*) FROM water_infrastructure.alerts WHERE state = 'firing' AND fired_at IS NOT NULL"
