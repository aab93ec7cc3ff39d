"""What is older than the settings keep goes, and nothing else."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pandas as pd
import pytest
from sqlalchemy import Engine, text

from src.db.tables import ml_models, ml_predictions_cache
from src.processing.jobs.runtime import create_runtime
from src.processing.jobs.scheduled import Done, run_scheduled
from src.processing.modelling import registry
from src.processing.service import retention
from src.processing.service.actors import Queue
from src.processing.service.heartbeat import Heartbeat, Replica
from src.processing.service.retention import run_retention, thin_out_models
from src.processing.service.timetable import Every
from src.settings import Settings
from tests.system import metrics, put, readings_of, run_cycle, table


def test_old_rows_go_open_anomalies_stay_and_one_replica_does_it(stack: Settings, database: Engine):
    now = stack.running_clock.now()
    put(stack, readings_of(["n"], days=9, minutes=60))
    run_cycle(stack, now)
    insert = text(
        "INSERT INTO water_infrastructure.anomalies (timestamp, node_id, anomaly_type, severity, detection_method, "
        "resolved_at) VALUES (:at, 'n', 'burst', 'info', 'x', :resolved)"
    )
    old = now - timedelta(days=400)
    with database.begin() as connection:
        for resolved in (None, now, old):
            connection.execute(insert, {"at": old, "resolved": resolved})
    runtime = create_runtime(stack.model_copy(update={"retention_metrics_days": 4}))
    run_retention(runtime, now)
    assert metrics(database)["window_start"].min() >= now - timedelta(days=4)
    assert len(table(database, "anomalies").query("detection_method == 'x'")) == 2
    deleted = table(database, "processing_jobs").query("job_type == 'retention'")["result_summary"].iloc[0]["deleted"]
    assert deleted["anomalies"] == 1
    run_retention(runtime, now)
    assert len(table(database, "processing_jobs").query("job_type == 'retention'")) == 1
    runtime.database.dispose()


def test_days_of_balances_outlive_their_hours_so_that_a_year_can_be_balanced(stack: Settings, database: Engine):
    now = stack.running_clock.now()
    retained = {"time_window": "1day", "days": 500, "long": 1}, {"time_window": "365day", "days": 500, "long": 365}
    old = {"time_window": "1hour", "days": 100, "long": 0}, {"time_window": "1day", "days": 801, "long": 1}
    insert = (
        "INSERT INTO water_infrastructure.{} (time_window, window_start, window_end, {}) VALUES (:time_window, "
        "CAST(:now AS timestamptz) - (:days + :long) * interval '1 day', "
        "CAST(:now AS timestamptz) - :days * interval '1 day', {})"
    )
    of_districts = text(insert.format("district_balances", "district_id, balance", "'d', '{}'"))
    of_network = text(insert.format("network_efficiency", "computation_timestamp", "now()"))
    with database.begin() as connection:
        for row in (*retained, *old):
            for statement in (of_districts, of_network):
                connection.execute(statement, row | {"now": now})
    runtime = create_runtime(stack)
    run_retention(runtime, now)
    runtime.database.dispose()
    for name in ("district_balances", "network_efficiency"):
        assert sorted(table(database, name)["time_window"]) == ["1day", "365day"]


def test_works_stay_and_those_that_were_taken_back_go_once_events_know_it(stack: Settings, database: Engine):
    now = stack.running_clock.now()
    insert = text(
        "INSERT INTO water_infrastructure.works (kind, node_id, begin, created_by, note, deleted_at, attached_at) "
        "VALUES ('network_change', 'n', CAST(:now AS timestamptz) - interval '900 days', 'x', :note, "
        "CAST(:now AS timestamptz) - make_interval(days => :days), CASE WHEN :attached THEN now() END)"
    )
    rows = [("stated", None, True), ("long gone", 31, True), ("gone", 29, True), ("not attached", 31, False)]
    with database.begin() as connection:
        for note, days, attached in rows:
            connection.execute(insert, {"now": now, "note": note, "days": days, "attached": attached})
    runtime = create_runtime(stack)
    run_retention(runtime, now)
    runtime.database.dispose()
    assert sorted(table(database, "works")["note"]) == ["gone", "not attached", "stated"]


def test_of_checks_over_a_day_one_a_day_stays_and_of_habits_the_weeks_that_late_readings_reach(
    stack: Settings, database: Engine
):
    now = stack.running_clock.now()
    put(stack, readings_of(["n"], days=9, minutes=60))
    for hours in (150, 149, 148, 30, 1):
        run_cycle(stack, now - timedelta(hours=hours))
    with database.begin() as connection:
        connection.execute(
            text(
                "INSERT INTO water_infrastructure.node_habits (node_id, measurement, valid_from, history_days) "
                "VALUES ('n', 'pressure', :long_ago, 14), ('n', 'pressure', :lately, 14)"
            ),
            {"long_ago": now - timedelta(days=60), "lately": now - timedelta(days=20)},
        )
    runtime = create_runtime(stack)
    run_retention(runtime, now)
    runtime.database.dispose()
    left = table(database, "data_quality_metrics").query("time_window == '24h'")["check_timestamp"]
    assert sorted(left) == [now - timedelta(hours=hours) for hours in (150, 30, 1)]
    assert table(database, "node_habits")["valid_from"].min() == now - timedelta(days=20)


def test_replaced_far_forecasts_and_the_bytes_of_models_retired_long_ago_go(stack: Settings, database: Engine):
    now = stack.running_clock.now()
    day = timedelta(days=1)
    with database.begin() as connection:
        models = []
        for retired in (None, now - 6 * day, now - 40 * day):
            model = registry.add(connection, registry.FLOW, "all", b"bytes", now - 50 * day, now - 50 * day, {})
            if retired:
                registry.retire(connection, model, retired, "test", "worse")
            models.append(model)
        rows = [
            {
                "model_id": models[0],
                "node_id": "n",
                "prediction_timestamp": now - age * day,
                "target_timestamp": now + ahead * timedelta(hours=1),
                "prediction_horizon_hours": ahead,
            }
            for age in (0, 2)
            for ahead in (24, 25)
        ]
        connection.execute(ml_predictions_cache.insert(), rows)
    assert thin_out_models(database, now, 30 * day) == {"far_forecasts_deleted": 1, "artefacts_deleted": 1}
    assert thin_out_models(database, now, 30 * day) == {"far_forecasts_deleted": 0, "artefacts_deleted": 0}
    with database.begin() as connection:
        stored = {
            row.model_id for row in connection.execute(ml_models.select().where(ml_models.c.artefact.is_not(None)))
        }
        assert stored == set(models[:2])
        with pytest.raises(registry.NoSuchModel, match="no longer kept"):
            registry.promote(connection, models[2], now, "test", "again")
    left = table(database, "ml_predictions_cache")
    assert set(zip(now - left["prediction_timestamp"], left["prediction_horizon_hours"], strict=True)) == {
        (0 * day, 24),
        (0 * day, 25),
        (2 * day, 24),
    }


def test_a_retention_that_takes_long_is_vouched_for_and_deletes_in_parts(
    stack: Settings, database: Engine, monkeypatch: pytest.MonkeyPatch
):
    now = stack.running_clock.now()
    put(stack, readings_of(["a", "b"], days=9, minutes=5))
    run_cycle(stack, now)
    rows = metrics(database)
    expected = rows[rows["window_start"] >= now - timedelta(days=4)]
    monkeypatch.setattr(retention, "BATCH_BLOCKS", 3)
    runtime = create_runtime(stack.model_copy(update={"retention_metrics_days": 4}))
    original, parts = retention.delete_in_batches, []

    def slowly(*given: Any) -> int:
        # Nobody has vouched for an hour, as far as the database knows, when the next beat comes.
        with database.begin() as connection:
            connection.execute(
                text("UPDATE water_infrastructure.processing_jobs SET heartbeat_at = now() - interval '1 h'")
            )
        Heartbeat(runtime, Replica(Every(timedelta(hours=1)), Queue(runtime))).beat()
        parts.append(original(*given))
        return parts[-1]

    monkeypatch.setattr(retention, "delete_in_batches", slowly)
    run_retention(runtime, now)
    job = table(database, "processing_jobs").query("job_type == 'retention'").iloc[0]
    assert job["status"] == "completed"
    assert pd.isna(job["error_message"])
    assert len(parts) > 5
    assert job["result_summary"]["deleted"]["computed_metrics"] > 1000
    pd.testing.assert_frame_equal(metrics(database), expected.reset_index(drop=True))
    runtime.database.dispose()


def test_a_table_whose_rows_cannot_be_deleted_is_named_and_keeps_no_other_from_it(stack: Settings, database: Engine):
    now = stack.running_clock.now()
    put(stack, readings_of(["n"], days=9, minutes=60))
    run_cycle(stack, now)
    with database.begin() as connection:
        connection.execute(
            text(
                "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN "
                "RAISE EXCEPTION 'read only' USING ERRCODE = '25006'; END $$"
            )
        )
        connection.execute(
            text(
                "CREATE TRIGGER refuse BEFORE DELETE ON water_infrastructure.network_metrics FOR EACH STATEMENT "
                "EXECUTE FUNCTION refuse()"
            )
        )
    runtime = create_runtime(stack.model_copy(update={"retention_metrics_days": 4}))
    run_retention(runtime, now)
    job = table(database, "processing_jobs").query("job_type == 'retention'").iloc[0]
    assert job["status"] == "failed"
    assert job["error_message"].startswith("network_metrics: ")
    assert metrics(database)["window_start"].min() >= now - timedelta(days=4)
    runtime.database.dispose()


def test_a_job_of_the_timetable_that_raises_ends_with_its_reason(stack: Settings, database: Engine):
    runtime = create_runtime(stack)
    now = stack.running_clock.now()

    def work() -> Done:
        raise ValueError("no such thing")

    assert run_scheduled(runtime, "data_quality", "check", now, work) is None
    job = table(database, "processing_jobs").iloc[0]
    assert (job["status"], job["error_message"]) == ("failed", "ValueError: no such thing")
    assert run_scheduled(runtime, "data_quality", "check", now, lambda: Done({})) is None
    assert run_scheduled(runtime, "data_quality", "check", now + timedelta(hours=6), lambda: Done({})) == Done({})
    runtime.database.dispose()
