"""Every query of the API is served by an index, at a size where it matters."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Any
from uuid import UUID

import asyncpg
import orjson
from sqlalchemy import Engine, text

from src.api import queries, queries_incidents, queries_models, queries_overview, queries_series
from src.settings import Settings
from tests.system import START

# As many rows as two months of a small utility.
FILL = (
    "INSERT INTO nodes (node_id, node_name) SELECT 'n' || n, 'node' FROM generate_series(1, 200) n",
    "INSERT INTO ingestion_watermarks (node_id, last_row, last_reading, updated_at) "
    "SELECT 'n' || n, TIMESTAMPTZ '2023-05-01', TIMESTAMPTZ '2023-05-01', now() FROM generate_series(1, 200) n",
    "INSERT INTO computed_metrics (node_id, time_window, window_start, window_end, reading_count, flow_count, "
    "pressure_count, temperature_count, computed_at, computation_version) SELECT 'n' || n, '1hour', at, "
    "at + interval '1 h', 1, 1, 1, 1, now(), '1' FROM generate_series(1, 200) n, "
    "generate_series(TIMESTAMPTZ '2023-03-01', TIMESTAMPTZ '2023-05-01', '1 h') at",
    "INSERT INTO network_metrics (time_range, computation_timestamp, window_start, window_end, active_nodes, "
    "total_nodes, flow_basis) SELECT range, at, at, at, 1, 1, 'inlets' FROM unnest(ARRAY['1h', '24h', '7d']) range, "
    "generate_series(TIMESTAMPTZ '2023-03-01', TIMESTAMPTZ '2023-05-01', '30 min') at",
    "INSERT INTO network_efficiency (time_window, window_start, window_end, computation_timestamp) "
    "SELECT '1hour', at, at, at FROM generate_series(TIMESTAMPTZ '2021-03-01', TIMESTAMPTZ '2023-05-01', '1 h') at",
    "INSERT INTO ml_models (model_name, model_type, version, status, is_active) "
    "SELECT 'flow', 'flow_prediction', n::text, 'retired', n = 100 FROM generate_series(1, 100) n",
    "INSERT INTO ml_predictions_cache (model_id, node_id, prediction_timestamp, target_timestamp, "
    "prediction_horizon_hours) SELECT model_id, 'n' || n, at, at + h * interval '1 h', h FROM ml_models, "
    "generate_series(1, 50) n, generate_series(TIMESTAMPTZ '2023-04-30', TIMESTAMPTZ '2023-05-01', '1 h') at, "
    "generate_series(1, 24) h WHERE is_active",
    "INSERT INTO model_performance (model_id, evaluation_timestamp, evaluation_window) SELECT model_id, at, '24h' "
    "FROM ml_models, generate_series(TIMESTAMPTZ '2021-03-01', TIMESTAMPTZ '2023-05-01', '1 day') at",
    "INSERT INTO model_decisions (model_id, decided_at, decision, decided_by, reason) SELECT model_id, at, 'x', 'x', "
    "'x' FROM ml_models, generate_series(TIMESTAMPTZ '2023-01-01', TIMESTAMPTZ '2023-05-01', '1 day') at",
    "INSERT INTO model_requests (action, model_type, requested_at, requested_by, status) SELECT 'train', "
    "'flow_prediction', at, 'x', 'done' FROM generate_series(TIMESTAMPTZ '2021-03-01', TIMESTAMPTZ '2023-05-01', "
    "'1 h') at",
    "INSERT INTO data_quality_metrics (node_id, check_timestamp, time_window) SELECT 'n' || n, at, '1day' "
    "FROM generate_series(1, 200) n, generate_series(TIMESTAMPTZ '2023-04-01', TIMESTAMPTZ '2023-05-01', '6 h') at",
    "INSERT INTO node_channels (node_id, measurement, hours) SELECT 'n' || n, m, 672 FROM generate_series(1, 2000) n, "
    "unnest(ARRAY['flow_rate', 'pressure', 'temperature', 'volume']) m",
    "INSERT INTO expected_values (node_id, measurement, window_start, expected, lower, upper) SELECT 'n' || n, "
    "'flow_rate', at, 1, 0, 2 FROM generate_series(1, 200) n, generate_series(TIMESTAMPTZ '2023-03-01', "
    "TIMESTAMPTZ '2023-05-01', '1 h') at",
    "INSERT INTO node_habits (node_id, measurement, valid_from, history_days) SELECT 'n' || n, m, at, 56 "
    "FROM generate_series(1, 1000) n, unnest(ARRAY['flow_rate', 'pressure']) m, generate_series("
    "TIMESTAMPTZ '2023-04-01', TIMESTAMPTZ '2023-05-01', '7 days') at",
    "INSERT INTO rejected_readings (node_id, quarter_start, reason, readings) SELECT 'n' || n, at, 'conflicting', 1 "
    "FROM generate_series(1, 200) n, generate_series(TIMESTAMPTZ '2023-04-01', TIMESTAMPTZ '2023-05-01', '1 h') at",
    "INSERT INTO district_balances (district_id, time_window, window_start, window_end, balance) SELECT 'd' || n, w, "
    "at, at + interval '1 h', '{}' FROM generate_series(1, 20) n, unnest(ARRAY['1hour', '30day']) w, "
    "generate_series(TIMESTAMPTZ '2023-03-01', TIMESTAMPTZ '2023-05-01', '1 h') at",
    "INSERT INTO node_survey (node_id, surveyed_at, described_at, days) SELECT 'n' || n, now(), now(), 28 "
    "FROM generate_series(1, 5000) n",
    "INSERT INTO district_survey (district_id, surveyed_at, nodes) SELECT 'd' || n, now(), 28 "
    "FROM generate_series(1, 500) n",
    "INSERT INTO anomalies (timestamp, node_id, anomaly_type, severity, detection_method, resolved_at) "
    "SELECT at, 'n1', 'burst', 'info', 'x', at FROM generate_series(TIMESTAMPTZ '2021-03-01', "
    "TIMESTAMPTZ '2023-05-01', '20 min') at",
    "INSERT INTO works (kind, node_id, begin, created_by, attached_at) SELECT 'meter_exchange', 'n1', at, 'x', now() "
    "FROM generate_series(TIMESTAMPTZ '2021-03-01', TIMESTAMPTZ '2023-05-01', '20 min') at",
    "INSERT INTO alerts (rule, subject, severity, state, summary, since, fired_at, resolved_at) SELECT 'x', n::text, "
    "'info', 'resolved', 'x', at, at, at FROM generate_series(1, 5) n, generate_series(TIMESTAMPTZ '2021-03-01', "
    "TIMESTAMPTZ '2023-05-01', '1 h') at",
    "INSERT INTO alert_deliveries (alert_id, channel, message, delivered_at) "
    "SELECT alert_id, 'webhook', '{}', since FROM alerts",
    "INSERT INTO processing_jobs (job_type, job_name, status, scheduled_for, created_at, completed_at, triggered_by) "
    "SELECT 'processing_cycle', 'x', 'completed', at, at, at, 'x' FROM generate_series(TIMESTAMPTZ '2022-03-01', "
    "TIMESTAMPTZ '2023-05-01', '30 min') at",
    "INSERT INTO api_keys (key_id, key_name, digest, scope, created_at, created_by) "
    "SELECT 'k' || n, 'x', '', 'read', now(), 'x' FROM generate_series(1, 50) n",
    "INSERT INTO api_key_usage (key_id, hour, address, last_used_at) SELECT 'k' || n, at, '127.0.0.1', at "
    "FROM generate_series(1, 50) n, generate_series(TIMESTAMPTZ '2023-03-01', TIMESTAMPTZ '2023-05-01', '1 h') at",
)
# Tables with a row per node, district, replica or model, which are read whole.
SMALL = {
    *("nodes", "ingestion_watermarks", "processing_replicas", "ml_models", "data_generation", "api_keys"),
    "recommendations",
    "districts",
    "node_survey",
    "district_survey",
}
NOW = START
DAY, RECENT = NOW - timedelta(days=1), NOW - timedelta(hours=3)
ANYTHING = UUID(int=1)
EVENTS = (DAY, NOW, None, None, None, None, None, None, 20)
EXPLAINED: list[tuple[str, str, tuple[Any, ...]]] = [
    ("ready", queries.READY, ()),
    ("node exists", queries.NODE_EXISTS, ("n1",)),
    ("nodes", queries.NODES, ("", None, None, None, 100)),
    ("node metrics", queries.NODE_METRICS, ("n1", "1hour", NOW)),
    ("history", queries.HISTORY, ("n1", "1hour", NOW - timedelta(days=7), NOW, 5000)),
    ("network metrics", queries.NETWORK_METRICS, ("24h",)),
    ("network efficiency", queries.NETWORK_EFFICIENCY, ("1hour", DAY, NOW, None, None, 100)),
    (
        "rolling efficiency",
        queries.ROLLING_EFFICIENCY,
        ("30day", DAY, NOW, None, None, timedelta(days=30, hours=1), 100),
    ),
    ("node", queries.NODE, ("n1",)),
    ("districts", queries.DISTRICTS, ("", None, 100)),
    ("district balances", queries.DISTRICT_BALANCES, ("d1", NOW, ["1hour", "1day"], timedelta(days=7))),
    ("predictions", queries.PREDICTIONS, ("n1", "flow_prediction", 24)),
    ("past predictions", queries.PAST_PREDICTIONS, ("n1", "flow_prediction", 24, DAY, NOW)),
    ("quality", queries.QUALITY, ("n1",)),
    ("channels", queries.CHANNELS, ("n1",)),
    ("recommendations", queries.RECOMMENDATIONS, (None, None, 0, 100)),
    ("surveyed nodes", queries.SURVEYED_NODES, ("", 500)),
    ("surveyed districts", queries.SURVEYED_DISTRICTS, ("", 500)),
    ("surveyed at", queries.SURVEYED_AT, ()),
    ("anomaly", queries.ANOMALY, (ANYTHING,)),
    ("incidents", queries_incidents.INCIDENTS, (DAY, NOW, "open", None, None, None, 20)),
    ("open incidents", queries_incidents.OPEN_INCIDENTS, (DAY, NOW, 20)),
    ("dashboard events", queries.DASHBOARD_EVENTS, (DAY, NOW, 20)),
    ("anomalies open", queries.ANOMALIES["open"], EVENTS),
    ("anomalies resolved", queries.ANOMALIES["resolved"], EVENTS),
    ("anomalies all", queries.ANOMALIES["all"], EVENTS),
    ("anomaly resolved", queries.ANOMALY_RESOLVED, (ANYTHING,)),
    ("acknowledge", queries.ACKNOWLEDGE, (ANYTHING, NOW, "somebody", "a note")),
    ("resolve", queries.RESOLVE, (ANYTHING, NOW, "somebody", "a note", True)),
    ("works", queries.WORKS, (DAY, NOW, None, None, None, None, 20)),
    ("places exist", queries.PLACES_EXIST, ("n1", "d1")),
    ("state work", queries.STATE_WORK, ("closure", "n1", None, NOW, NOW + timedelta(hours=1), None, NOW, "somebody")),
    ("take work back", queries.TAKE_WORK_BACK, (ANYTHING, NOW, "somebody")),
    ("advance generation", queries.ADVANCE_GENERATION, ()),
    ("alerts firing", queries.ALERTS["firing"], (DAY, None, None, None, 20)),
    ("alerts resolved", queries.ALERTS["resolved"], (DAY, None, None, None, 20)),
    ("alerts all", queries.ALERTS["all"], (DAY, None, None, None, 20)),
    ("last job", queries.LAST_JOB, ()),
    ("jobs", queries.JOBS, (None, None, None, None, 20)),
    ("replicas", queries.REPLICAS, (timedelta(minutes=1),)),
    ("active models", queries.ACTIVE_MODELS, ()),
    ("models", queries.MODELS, (None, None, None, None, 100)),
    ("model", queries.MODEL, (ANYTHING,)),
    ("model decisions", queries.MODEL_DECISIONS, (ANYTHING,)),
    ("model performance", queries.MODEL_PERFORMANCE, (ANYTHING,)),
    ("model requests", queries_models.MODEL_REQUESTS, (None, None, 100)),
    ("model's place", queries_models.MODEL_PLACE, (ANYTHING,)),
    ("same request", queries_models.SAME_REQUEST, ("promote", "flow_prediction", "inlet", ANYTHING)),
    ("one request at a time", queries_models.ONE_REQUEST_AT_A_TIME, ()),
    (
        "request of a model",
        queries_models.REQUEST_OF_MODEL,
        ("promote", "flow_prediction", "inlet", ANYTHING, NOW, "somebody", "a note"),
    ),
    ("freshness", queries.FRESHNESS, (NOW, DAY)),
    ("dashboard nodes", queries.DASHBOARD_NODES, (NOW,)),
    ("pressure below", queries_overview.PRESSURE_BELOW, (NOW, RECENT, 2.0, 20)),
    ("network now", queries_overview.NETWORK_NOW, (NOW, RECENT, 2.0)),
    ("network balances", queries_overview.NETWORK_BALANCES, ("1day", NOW, 30)),
    ("today", queries_overview.TODAY, (NOW, DAY, NOW)),
    ("alerts that fire", queries_overview.ALERTS_FIRING, ()),
    ("nodes of series", queries_series.SERIES_NODES, (["n1", "n2"],)),
    *(
        (f"history of {measurement}", query, (["n1", "n2"], "1hour", NOW - timedelta(days=7), NOW))
        for measurement, query in queries_series.HISTORY.items()
    ),
    ("forecast", queries_series.FORECAST, (["n1", "n2"], DAY, NOW)),
    ("expected", queries_series.EXPECTED, (["n1", "n2"], "flow_rate", DAY, NOW)),
    ("learned days", queries_series.LEARNED_DAYS, (["n1", "n2"], "flow_rate", NOW)),
    ("events of series", queries_series.SERIES_EVENTS, (["n1", "n2"], DAY, NOW, 500)),
    ("rejected", queries_series.REJECTED, ("n1", DAY, NOW, None, None, 100)),
    ("last update", queries.LAST_UPDATE, ()),
    ("api key", queries.API_KEY, ("k1",)),
    ("api keys", queries.API_KEYS, ()),
    ("add usage", queries.ADD_USAGE, ("k1", "127.0.0.1", 1, 0)),
]


def scans(plan: dict[str, Any]) -> set[str]:
    scanned = {plan["Relation Name"]} if plan["Node Type"] == "Seq Scan" else set()
    return scanned.union(*(scans(child) for child in plan.get("Plans", [])))


def _unbounded(scanned: set[str]) -> set[str]:
    """What is read whole though it grows: of a hypertable a chunk or two, which time has picked, do not."""
    parts = {name for name in scanned if name.startswith("_hyper_")}
    return scanned - SMALL - (parts if len(parts) <= 2 else set())


def test_every_query_is_served_by_an_index(database: Engine, settings: Settings):
    with database.begin() as connection:
        connection.execute(text("SET search_path TO water_infrastructure"))
        for statement in FILL:
            connection.execute(text(statement))
    with database.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.execute(text("ANALYZE"))

    async def plans() -> dict[str, dict[str, Any]]:
        address = {"host": settings.postgres_host, "user": settings.postgres_user, "database": settings.postgres_db}
        client = await asyncpg.connect(**address, port=settings.postgres_port)
        try:
            return {
                name: orjson.loads(await client.fetchval(f"EXPLAIN (FORMAT JSON) {query}", *arguments))[0]["Plan"]
                for name, query, arguments in EXPLAINED
            }
        finally:
            await client.close()

    read_whole = {name: _unbounded(scans(plan)) for name, plan in asyncio.run(plans()).items()}
    assert {name: tables for name, tables in read_whole.items() if tables} == {}


def test_every_query_is_among_those_explained():
    known = {query for _, query, _ in EXPLAINED}
    modules = (queries, queries_incidents, queries_models, queries_overview, queries_series)
    named = [item for module in modules for item in vars(module).items()]
    defined = [value for name, value in named if name.isupper() and not name.startswith("_")]
    flat = [query for value in defined for query in (value.values() if isinstance(value, dict) else [value])]
    assert flat
    assert set(flat) == known


def test_a_skipped_tick_is_neither_the_last_cycle_nor_an_update(database: Engine):
    insert = text(
        "INSERT INTO water_infrastructure.processing_jobs (job_type, job_name, status, scheduled_for, created_at, "
        "completed_at, triggered_by, result_summary) VALUES ('processing_cycle', 'x', :status, :at, :at, :at, 'x', "
        "CAST(:summary AS jsonb))"
    )
    ticks = [("completed", "{}"), ("failed", "{}"), ("completed", '{"skipped": "another is running"}')]
    with database.begin() as connection:
        for number, (status, summary) in enumerate(ticks):
            at = START + timedelta(minutes=30 * number)
            connection.execute(insert, {"status": status, "at": at, "summary": summary})
        assert connection.execute(text(queries.LAST_JOB)).one().status == "failed"
        assert connection.scalar(text(queries.LAST_UPDATE)) == START
