"""Chunks that TimescaleDB's own policy has compressed: late data, long events and backfills get through."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pandas as pd
import pytest
from sqlalchemy import Engine, text

from src.db.migrate import migrate
from src.db.tables import computed_metrics
from src.processing.backfill import backfill
from src.processing.ingest.plan import plan_backfill
from src.processing.jobs import records as jobs
from src.processing.jobs.runtime import Runtime, create_runtime
from src.processing.service.retention import run_retention
from src.processing.service.work import work_off
from src.settings import Settings
from tests.system import metrics, put, readings_of, run_cycle, table

DAY, HOUR = timedelta(days=1), timedelta(hours=1)
# Policies go by the server's clock: what they compress is 35 days older than now.
NOW = datetime.now(UTC).replace(minute=0, second=0, microsecond=0)
BEGIN = NOW - 50 * DAY
NODES = ["a", "b", "c", "impossible"]


@pytest.fixture
def compressing(licensed: Engine, redis_address: dict[str, str], bigquery_address: dict[str, str]) -> Settings:
    """A system on TimescaleDB that refuses early to decompress: a hundredth of its usual limit makes small data do."""
    url = licensed.url
    address = {"postgres_host": url.host, "postgres_port": url.port, "postgres_user": url.username}
    settings = Settings(**address, postgres_db=url.database, **redis_address, **bigquery_address)
    migrate(licensed, settings)
    with licensed.begin() as connection:
        connection.execute(
            text(f"ALTER DATABASE {url.database} SET timescaledb.max_tuples_decompressed_per_dml_transaction = 1000")
        )
    return settings.model_copy(update={"clock": f"frozen:{NOW.isoformat()}"})


@pytest.fixture
def readings() -> pd.DataFrame:
    """Fifty days until now; one node sends impossible flows for the last 45."""
    rows = readings_of(NODES, days=50, minutes=30, start=BEGIN)
    wrong = (rows["node_id"] == "impossible") & (rows["timestamp"] >= pd.Timestamp(BEGIN + 5 * DAY))
    return rows.assign(
        flow_rate=rows["flow_rate"].mask(wrong, -5.0),
        pressure=rows["pressure"].clip(3).mask(wrong),
        temperature=rows["temperature"].mask(wrong),
    )


@pytest.fixture
def runtime(compressing: Settings) -> Iterator[Runtime]:
    made = create_runtime(compressing.model_copy(update={"chunk_readings": 600, "worker_threads": 1}))
    yield made
    made.database.dispose()
    made.redis.close()


def compressed(database: Engine) -> set[str]:
    """Lets the policy do its work; the names of the chunks that are wholly compressed."""
    with database.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        policy = connection.scalar(
            text(
                "SELECT job_id FROM timescaledb_information.jobs WHERE hypertable_name = 'computed_metrics' "
                "AND (proc_name LIKE '%compression%' OR proc_name LIKE '%columnstore%')"
            )
        )
        connection.execute(text("CALL run_job(:policy)"), {"policy": policy})
    return wholly_compressed(database)


def wholly_compressed(database: Engine) -> set[str]:
    with database.connect() as connection:
        # The status shows a chunk some of whose rows were decompressed.
        query = text(
            "SELECT chunk.table_name FROM _timescaledb_catalog.chunk JOIN _timescaledb_catalog.hypertable "
            "ON hypertable.id = chunk.hypertable_id "
            "WHERE hypertable.table_name = 'computed_metrics' AND chunk.status = 1"
        )
        return set(connection.execute(query).scalars())


def test_an_event_that_began_in_compressed_chunks_goes_on_without_touching_them(
    compressing: Settings, timescale: Engine, readings: pd.DataFrame
):
    put(compressing, readings[readings["timestamp"] < pd.Timestamp(NOW - 3 * HOUR)])
    assert run_cycle(compressing, NOW - 3 * HOUR)["error_message"] is None
    chunks = compressed(timescale)
    assert chunks
    put(compressing, readings)
    for hours in (2, 1, 0):
        job = run_cycle(compressing, NOW - hours * HOUR)
        assert (job["status"], job["error_message"]) == ("completed", None)
    event = table(timescale, "anomalies").query("anomaly_type == 'negative_flow'")
    assert event["timestamp"].min() <= pd.Timestamp(BEGIN + 5 * DAY + HOUR)
    assert event["end"].isna().any()
    assert wholly_compressed(timescale) == chunks


def test_a_backfill_over_compressed_chunks_rewrites_them_and_is_resumed(
    compressing: Settings, timescale: Engine, readings: pd.DataFrame, runtime: Runtime
):
    put(compressing, readings)
    run_cycle(compressing, NOW)
    assert compressed(timescale)
    before = metrics(timescale)
    doubled = readings["timestamp"] < pd.Timestamp(BEGIN + 12 * DAY)
    flow = readings["flow_rate"].where(~doubled, readings["flow_rate"] * 2)
    put(compressing, readings.assign(flow_rate=flow))
    start, end = BEGIN, BEGIN + 12 * DAY
    name = f"Backfill {start:%Y-%m-%dT%H:%MZ} - {end:%Y-%m-%dT%H:%MZ} of every node"
    job_id = jobs.claim_by_hand(timescale, jobs.BACKFILL, name, NOW, "test")
    plan_backfill(runtime, job_id, start, end, [], NOW)
    work_off(runtime, job_id, 0)
    jobs.fail(timescale, job_id, NOW, "interrupted")
    assert backfill(runtime, start, end, []) == 0
    assert jobs.describe(timescale, job_id)["error_message"] is None
    assert jobs.describe(timescale, job_id)["result_summary"]["rows_changed"] > 2 * 1000
    key = ["node_id", "time_window", "window_start"]
    changed = metrics(timescale).merge(before, on=key, suffixes=("", "_before"))
    changed = changed[changed["time_window"] == "1hour"].dropna(subset=["avg_flow_rate"])
    of_span = changed["window_start"] < pd.Timestamp(end)
    ratio = changed["avg_flow_rate"] / changed["avg_flow_rate_before"]
    assert ratio[of_span].to_numpy() == pytest.approx(2)
    assert ratio[~of_span].to_numpy() == pytest.approx(1)
    compressed(timescale)
    assert backfill(runtime, start, end, ["a"]) == 0


def test_a_late_row_in_a_compressed_chunk_changes_its_windows_and_the_events_over_them(
    compressing: Settings, timescale: Engine, readings: pd.DataFrame
):
    gap = BEGIN + 2 * DAY
    late = (readings["node_id"] == "b") & readings["timestamp"].between(gap, gap + 6 * HOUR, inclusive="left")
    put(compressing, readings[~late])
    run_cycle(compressing, NOW - HOUR)
    assert compressed(timescale)
    arrived = readings["timestamp"].where(~late, pd.Timestamp(NOW - HOUR / 2))
    put(compressing, readings.assign(ingestion_timestamp=arrived, pressure=readings["pressure"].where(~late, 0.5)))
    settings = compressing.model_copy(update={"late_arrival_lookback_days": 60})
    job = run_cycle(settings, NOW)
    assert (job["status"], job["error_message"]) == ("completed", None)
    low = table(timescale, "anomalies").query("anomaly_type == 'low_pressure' and node_id == 'b'")
    assert low["timestamp"].tolist() == [pd.Timestamp(gap)]
    windows = metrics(timescale).query("node_id == 'b' and time_window == '1hour'").set_index("window_start")
    assert (windows.loc[gap : gap + 5 * HOUR, "anomaly_count"] >= 1).all()


def every_chunk(database: Engine, function: str) -> None:
    """What an operator does by hand to each chunk of windows, the one of today among them."""
    with database.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        chunks = f"show_chunks('{computed_metrics.fullname}')"
        connection.execute(text(f"SELECT {function}(chunk) FROM {chunks} AS chunk"))  # noqa: S608


def test_chunks_compressed_by_hand_change_nothing_of_what_cycles_and_retention_do(
    compressing: Settings, timescale: Engine, readings: pd.DataFrame
):
    put(compressing, readings[readings["timestamp"] < pd.Timestamp(NOW - 3 * HOUR)])
    run_cycle(compressing, NOW - 3 * HOUR)
    before = metrics(timescale)
    every_chunk(timescale, "compress_chunk")
    put(compressing, readings)
    job = run_cycle(compressing, NOW)
    assert (job["status"], job["error_message"]) == ("completed", None)
    key = ["node_id", "time_window", "window_start"]
    after = metrics(timescale)
    # Counts of events follow from what is known now.
    finished = before[before["window_end"] <= pd.Timestamp(NOW - 3 * HOUR)].drop(columns="anomaly_count")
    same = finished[key].merge(after.drop(columns="anomaly_count"), on=key)
    pd.testing.assert_frame_equal(same[finished.columns].reset_index(drop=True), finished.reset_index(drop=True))
    fine = after.query("time_window == '5min'")
    assert fine.groupby("node_id")["window_start"].max().max() == pd.Timestamp(NOW) - HOUR / 2
    # Where no policy deletes, the service does.
    migrate(timescale, compressing)
    every_chunk(timescale, "compress_chunk")
    before = metrics(timescale)
    short = create_runtime(compressing.model_copy(update={"retention_metrics_days": 30}))
    run_retention(short, NOW)
    short.database.dispose()
    jobs_of_it = table(timescale, "processing_jobs").query("job_type == 'retention'")
    remaining = before[before["window_start"] >= pd.Timestamp(NOW - 30 * DAY)].reset_index(drop=True)
    assert jobs_of_it["status"].tolist() == ["completed"]
    assert jobs_of_it["result_summary"].iloc[0]["deleted"]["computed_metrics"] == len(before) - len(remaining)
    pd.testing.assert_frame_equal(metrics(timescale), remaining)


def test_chunks_dropped_by_hand_stop_no_cycle_and_a_backfill_brings_them_back(
    compressing: Settings, timescale: Engine, readings: pd.DataFrame, runtime: Runtime
):
    put(compressing, readings[readings["timestamp"] < pd.Timestamp(NOW - HOUR)])
    run_cycle(compressing, NOW - HOUR)
    whole = metrics(timescale)
    with timescale.begin() as connection:
        connection.execute(text(f"SELECT drop_chunks('{computed_metrics.fullname}', now() + interval '1 year')"))
    assert metrics(timescale).empty
    put(compressing, readings)
    job = run_cycle(compressing, NOW)
    assert (job["status"], job["error_message"]) == ("completed", None)
    assert set(metrics(timescale)["node_id"]) == {"a", "b", "c"}
    assert backfill(runtime, BEGIN, NOW, []) == 0
    key = ["node_id", "time_window", "window_start"]
    back = metrics(timescale).merge(whole[key], on=key)
    assert len(back) == len(whole)


def test_a_server_without_the_community_licence_does_without_compression_and_policies(
    unlicensed: Engine, redis_address: dict[str, str], bigquery_address: dict[str, str], readings: pd.DataFrame
):
    url = unlicensed.url
    address = {"postgres_host": url.host, "postgres_port": url.port, "postgres_user": url.username}
    settings = Settings(**address, postgres_db=url.database, **redis_address, **bigquery_address)
    migrate(unlicensed, settings)
    migrate(unlicensed, settings)
    with unlicensed.connect() as connection:
        assert connection.scalar(text("SELECT count(*) FROM timescaledb_information.hypertables")) > 0
    settings = settings.model_copy(update={"clock": f"frozen:{NOW.isoformat()}"})
    put(settings, readings)
    job = run_cycle(settings, NOW)
    assert (job["status"], job["error_message"]) == ("completed", None)
    before = metrics(unlicensed)
    runtime = create_runtime(settings.model_copy(update={"retention_metrics_days": 10}))
    run_retention(runtime, NOW)
    runtime.database.dispose()
    remaining = before[before["window_start"] >= pd.Timestamp(NOW - 10 * DAY)].reset_index(drop=True)
    assert 0 < len(remaining) < len(before)
    pd.testing.assert_frame_equal(metrics(unlicensed), remaining)
