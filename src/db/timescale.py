"""Hypertables, compression and retention where TimescaleDB is present; plain PostgreSQL does without."""

from __future__ import annotations

from sqlalchemy import Connection, text

from src.db.tables import HYPERTABLES, SCHEMA
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


def create_hypertables(connection: Connection) -> None:
    """Turns the (still empty) time-series tables into hypertables."""
    connection.execute(text("CREATE EXTENSION IF NOT EXISTS timescaledb"))
    for table, column in HYPERTABLES.items():
        connection.execute(
            # The primary keys serve every query; an index on time alone would only be written.
            text(
                "SELECT create_hypertable(CAST(:table AS regclass), CAST(:column AS name), if_not_exists => true, "
                "create_default_indexes => false)"
            ),
            {"table": f"{SCHEMA}.{table}", "column": column},
        )
    connection.execute(
        text(
            f"ALTER TABLE {SCHEMA}.computed_metrics SET (timescaledb.compress, "
            "timescaledb.compress_segmentby = 'node_id, time_window', timescaledb.compress_orderby = 'window_start')"
        )
    )


def apply_policies(connection: Connection, settings: Settings) -> None:
    """Chunk interval, compression and retention as the settings say, replacing what an earlier run set.

    Only chunks older than any late arrival are compressed: upserts into compressed chunks are slow.
    """
    retention = {
        "computed_metrics": settings.retention_metrics_days,
        "network_efficiency": settings.retention_metrics_days,
        "data_quality_metrics": settings.retention_metrics_days,
        "ml_predictions_cache": settings.retention_predictions_days,
    }
    for table in HYPERTABLES:
        connection.execute(
            text("SELECT set_chunk_time_interval(CAST(:table AS regclass), make_interval(days => :days))"),
            {"table": f"{SCHEMA}.{table}", "days": settings.timescale_chunk_days},
        )
    for table, days in retention.items():
        name = {"table": f"{SCHEMA}.{table}", "days": days}
        connection.execute(
            text("SELECT remove_retention_policy(CAST(:table AS regclass), if_exists => true)"),
            {"table": name["table"]},
        )
        connection.execute(
            text("SELECT add_retention_policy(CAST(:table AS regclass), make_interval(days => :days))"), name
        )
    compressed = {
        "table": f"{SCHEMA}.computed_metrics",
        "days": max(settings.timescale_compress_after_days, settings.late_arrival_lookback_days + 2),
    }
    connection.execute(
        text("SELECT remove_compression_policy(CAST(:table AS regclass), if_exists => true)"),
        {"table": compressed["table"]},
    )
    connection.execute(
        text("SELECT add_compression_policy(CAST(:table AS regclass), make_interval(days => :days))"), compressed
    )
