"""Hypertables, compression and retention where TimescaleDB is present; plain PostgreSQL does without."""

from __future__ import annotations

from collections.abc import Collection

from sqlalchemy import Connection, text

from src.db.tables import HYPERTABLES, SCHEMA
from src.observability import logger
from src.settings import Settings


def is_present(connection: Connection) -> bool:
    """Whether this database has, or its server offers, the extension."""
    return bool(connection.scalar(text("SELECT count(*) FROM pg_available_extensions WHERE name = 'timescaledb'")))


def allow_decompression(connection: Connection) -> None:
    """Lets the caller's transaction change as many compressed rows as it must; plain PostgreSQL ignores it.

    TimescaleDB refuses a transaction that must decompress more than 100 000 rows, so as to guard against statements
    without bounds. Those of the service name their nodes and their span.
    """
    connection.execute(text("SELECT set_config('timescaledb.max_tuples_decompressed_per_dml_transaction', '0', true)"))


def create_hypertables(connection: Connection, tables: Collection[str]) -> None:
    """Turns the (still empty) time-series tables named into hypertables."""
    connection.execute(text("CREATE EXTENSION IF NOT EXISTS timescaledb"))
    for table in tables:
        connection.execute(
            # The primary keys serve every query; an index on time alone would only be written.
            text(
                "SELECT create_hypertable(CAST(:table AS regclass), CAST(:column AS name), if_not_exists => true, "
                "create_default_indexes => false)"
            ),
            {"table": f"{SCHEMA}.{table}", "column": HYPERTABLES[table]},
        )


def has_community_features(connection: Connection) -> bool:
    """Whether the server may compress and run policies: under the Apache licence alone TimescaleDB does neither."""
    return bool(connection.scalar(text("SELECT current_setting('timescaledb.license', true) = 'timescale'")))


def apply_policies(connection: Connection, settings: Settings) -> None:
    """Chunk interval, compression and retention as the settings say, replacing what an earlier run set.

    Policies go by the server's own clock. Where another is injected they would delete by the wrong one, and at once:
    there are none then, and the daily retention deletes by the injected clock. Nothing is compressed there, which
    costs space and no rows.

    Only chunks older than any late arrival are compressed: upserts into compressed chunks are slow.

    A server under the Apache licence has no policies either: nothing is compressed, and the daily retention deletes.
    """
    retention = {
        "computed_metrics": settings.retention_metrics_days,
        # What is retained for less is deleted by the daily retention; a year's balance begins a year before its day.
        "network_efficiency": settings.retention_balances_days + 366,
        "data_quality_metrics": settings.retention_metrics_days,
        "ml_predictions_cache": settings.retention_predictions_days,
        "expected_values": settings.retention_metrics_days,
    }
    compression = {
        "computed_metrics": max(settings.timescale_compress_after_days, settings.late_arrival_lookback_days + 2)
    }
    for table in HYPERTABLES:
        connection.execute(
            text("SELECT set_chunk_time_interval(CAST(:table AS regclass), make_interval(days => :days))"),
            {"table": f"{SCHEMA}.{table}", "days": settings.timescale_chunk_days},
        )
    if not has_community_features(connection):
        logger(__name__).warning(
            "TimescaleDB runs under the Apache licence: nothing is compressed, and the daily retention deletes old rows"
        )
        return
    _enable_compression(connection)
    for kind, policies in (("retention", retention), ("compression", compression)):
        for table, days in policies.items():
            name = {"table": f"{SCHEMA}.{table}"}
            connection.execute(text(f"SELECT remove_{kind}_policy(CAST(:table AS regclass), if_exists => true)"), name)
            if settings.clock == "live":
                connection.execute(
                    text(f"SELECT add_{kind}_policy(CAST(:table AS regclass), make_interval(days => :days))"),
                    name | {"days": days},
                )


def _enable_compression(connection: Connection) -> None:
    enabled = text(
        "SELECT compression_enabled FROM timescaledb_information.hypertables "
        "WHERE hypertable_schema = :schema AND hypertable_name = 'computed_metrics'"
    )
    if connection.scalar(enabled, {"schema": SCHEMA}):
        return
    connection.execute(
        text(
            f"ALTER TABLE {SCHEMA}.computed_metrics SET (timescaledb.compress, "
            "timescaledb.compress_segmentby = 'node_id, time_window', timescaledb.compress_orderby = 'window_start')"
        )
    )


def retained_by_policy(connection: Connection) -> set[str]:
    """The tables whose old rows a policy of the database deletes; none without TimescaleDB, or under a licence with
    which policies that are there do not run."""
    # Only what this database has: a server may offer an extension that its schema was not made with.
    is_there = connection.scalar(text("SELECT count(*) FROM pg_extension WHERE extname = 'timescaledb'"))
    if not is_there or not has_community_features(connection):
        return set()
    tables = text(
        "SELECT hypertable_name FROM timescaledb_information.jobs "
        "WHERE proc_name = 'policy_retention' AND hypertable_schema = :schema"
    )
    return set(connection.execute(tables, {"schema": SCHEMA}).scalars())
