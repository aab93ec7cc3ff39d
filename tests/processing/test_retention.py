"""What is older than the settings keep goes, and nothing else."""

from __future__ import annotations

from datetime import timedelta

from sqlalchemy import Engine, text

from src.processing.retention import run_retention
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
