"""What is older than the settings keep goes, and nothing else."""

from __future__ import annotations

from datetime import timedelta

import pytest
from sqlalchemy import Engine, text

from src.db.tables import ml_models, ml_predictions_cache
from src.processing.models import registry
from src.processing.retention import run_retention, thin_out_models
from src.processing.runtime import create_runtime
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
        thinned = thin_out_models(connection, now, 30 * day)
        assert thinned == {"far_forecasts_deleted": 1, "artefacts_deleted": 1}
        assert thin_out_models(connection, now, 30 * day) == {"far_forecasts_deleted": 0, "artefacts_deleted": 0}
        kept = {row.model_id for row in connection.execute(ml_models.select().where(ml_models.c.artefact.is_not(None)))}
        assert kept == set(models[:2])
        with pytest.raises(registry.NoSuchModel, match="no longer kept"):
            registry.promote(connection, models[2], now, "test", "again")
    left = table(database, "ml_predictions_cache")
    assert set(zip(now - left["prediction_timestamp"], left["prediction_horizon_hours"], strict=True)) == {
        (0 * day, 24),
        (0 * day, 25),
        (2 * day, 24),
    }
