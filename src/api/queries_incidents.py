"""SQL of incidents: events of one district that belong together."""

from __future__ import annotations

from src.api.pages import bounded

_INCIDENT = """coalesce(incident_id, anomaly_id) AS incident_id, max(anomalies.district_id) AS district_id,
        (SELECT district_name FROM water_infrastructure.districts
            WHERE districts.district_id = max(anomalies.district_id)) AS district_name,
        min(timestamp) AS timestamp, CASE WHEN bool_and("end" IS NOT NULL) THEN max("end") END AS "end",
        CASE WHEN bool_and(resolved_at IS NOT NULL) THEN max(resolved_at) END AS resolved_at,
        (ARRAY['info', 'warning', 'critical'])[max(array_position(ARRAY['info', 'warning', 'critical'], severity))]
            AS severity,
        count(*) AS events, count(*) FILTER (WHERE resolved_at IS NULL) AS open_events,
        array_agg(DISTINCT anomalies.node_id) AS nodes, array_agg(DISTINCT anomaly_type) AS anomaly_types,
        bool_and(acknowledged_at IS NOT NULL) AS is_acknowledged,
        (array_agg(anomalies.metadata ->> 'explanation' ORDER BY {worst}))[1] AS explanation"""
_WORST = "array_position(ARRAY['critical', 'warning', 'info'], severity), timestamp"

# Newest first, from before the cursor ($5, $6).
INCIDENTS = bounded(
    f"""
    SELECT {_INCIDENT.format(worst=_WORST)}
    FROM water_infrastructure.anomalies
    WHERE (resolved_at IS NULL OR resolved_at >= $1) AND timestamp <= $2
        AND NOT metadata ? 'explained_by' AND ($4::text IS NULL OR district_id = $4)
    GROUP BY 1
    HAVING ($3 = 'all' OR ($3 = 'open') = bool_or(resolved_at IS NULL))
        AND ($5::timestamptz IS NULL OR (min(timestamp), coalesce(incident_id, anomaly_id)) < ($5, $6::uuid))
    ORDER BY timestamp DESC, incident_id DESC LIMIT $7
    """,  # noqa: S608 - built from this module's own text
    "timestamp DESC, incident_id DESC",
    "nodes",
)

# Those that are open, the most urgent first, with how many there are of each severity; $1 since when events that are
# over are counted to them, $2 now. Where several events of an incident are a leak they may be the same water.
OPEN_INCIDENTS = f"""
    SELECT *, count(*) OVER () AS open_incidents,
        count(*) FILTER (WHERE severity = 'critical') OVER () AS open_critical,
        count(*) FILTER (WHERE severity = 'warning') OVER () AS open_warning,
        count(*) FILTER (WHERE severity = 'info') OVER () AS open_info
    FROM (
        SELECT {_INCIDENT.format(worst=_WORST)},
            max(CASE WHEN jsonb_typeof(anomalies.metadata -> 'lost_m3_so_far') = 'number'
                THEN (anomalies.metadata ->> 'lost_m3_so_far')::double precision END) AS water_lost_m3,
            (array_agg(coalesce(location_name, node_name) ORDER BY {_WORST}))[1] AS place
        FROM water_infrastructure.anomalies LEFT JOIN water_infrastructure.nodes USING (node_id)
        WHERE (resolved_at IS NULL OR resolved_at >= $1) AND timestamp <= $2
            AND NOT anomalies.metadata ? 'explained_by'
        GROUP BY 1 HAVING bool_or(resolved_at IS NULL)
    ) AS incidents
    ORDER BY array_position(ARRAY['critical', 'warning', 'info'], severity), is_acknowledged, timestamp DESC,
        incident_id LIMIT $3
"""  # noqa: S608 - built from this module's own text
