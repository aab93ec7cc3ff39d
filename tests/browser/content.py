"""What is concluded and done on the small network: events, works, models, forecasts, alerts, jobs."""

from __future__ import annotations

from datetime import timedelta
from typing import Any
from uuid import UUID

import numpy as np
import pandas as pd
from sqlalchemy import Connection, func, insert

from src.db import tables
from src.db.bulk_write import copy_rows
from tests.browser.rows import DAY, DISTRICTS, HOUR, LAST_HOUR, LONG, LOW, MIDNIGHT, NOW, SILENT, nodes, usual_windows


def _identifier(kind: int, number: int) -> UUID:
    return UUID(int=(kind << 64) + number)


BURST, LEAK, SILENCE, LOW_PRESSURE, EXPLAINED, OVER = (_identifier(1, number) for number in range(1, 7))
BURST_INCIDENT, LEAK_INCIDENT = _identifier(2, 1), _identifier(2, 2)
FORECAST, SHADOW, DETECTOR, RELATION, RETIRED = (_identifier(3, number) for number in range(1, 6))
MINUTE = timedelta(minutes=1)
WORK = _identifier(4, 1)


def add_content(connection: Connection) -> None:
    """Puts in everything that the pages show beside measurements and balances."""
    _add_events(connection)
    _add_models(connection)
    _add_forecasts(connection)
    _add_knowledge_of_nodes(connection)
    _add_survey(connection)
    _add_operation(connection)


def _put(connection: Connection, table: Any, *rows: dict[str, Any]) -> None:
    connection.execute(insert(table), list(rows))


def _add_events(connection: Connection) -> None:
    work = {"work_id": str(WORK), "kind": "works", "note": "Flushing of mains", "severity": "warning"}
    leak = {
        "size": 3.1, "size_now": 3.4, "share_percent": 11.2, "level_before": 0.2, "lost_m3_so_far": 420.0,
        "lost_m3_margin": 60.0, "night_flow_before": 12.1, "night_flow": 15.4, "hours": 38.0,
        "kinds": {"leak": 0.91, "demand_growth": 0.05, "meter": 0.03, "moved": 0.01},
        "sensors": [
            {"node_id": "upper-pirri", "measurement": "pressure", "spreads": -6.1, "distance_m": 0.0},
            {"node_id": "lower-pirri", "measurement": "pressure", "spreads": -2.3, "distance_m": 1200.0},
        ],
    }  # fmt: skip

    burst = leak | {
        "size": 8.2, "size_now": 8.2, "share_percent": 38.2, "lost_m3_so_far": 148.0, "lost_m3_margin": 22.0,
        "night_flow": 21.4, "night_flow_before": 13.2, "hours": 5.0,
    }  # fmt: skip

    def event(number: UUID, node_id: str, kind: str, severity: str, hours: float, **more: Any) -> dict[str, Any]:
        begin = NOW - hours * HOUR
        empty = dict.fromkeys(
            ("end", "resolved_at", "incident_id", "actual_value", "expected_value", "deviation_percentage", "note")
        )
        measured = {"measurement_type": "flow_rate", "detection_method": "level_shift"}
        place = {"node_id": node_id, "district_id": node_id.split("-", 1)[1]}
        what = {"anomaly_type": kind, "severity": severity, "timestamp": begin, "detected_at": begin + HOUR}
        return {"anomaly_id": number} | empty | measured | place | what | more

    _put_each(
        connection,
        tables.anomalies,
        event(
            BURST, "inlet-pirri", "burst", "critical", 5, incident_id=BURST_INCIDENT, actual_value=21.4,
            expected_value=13.2, deviation_percentage=62.1,
            metadata=burst | {"explanation": "a lasting step of inflow that habits do not explain: 8.2 L/s, 38.2 % of "
                             "the mean inflow"},
        ),
        event(
            LOW_PRESSURE, "upper-pirri", "low_pressure", "warning", 4.5, incident_id=BURST_INCIDENT,
            measurement_type="pressure", detection_method="limits", actual_value=1.7, expected_value=4.1,
            metadata={"explanation": "below the alert limit of 2 bar for 3 hours", "limits": {"low": 2.0},
                      "hours_beyond": 3, "worst_hour": (LAST_HOUR - HOUR).isoformat()},
        ),
        event(
            LEAK, "inlet-selargius", "slow_leak", "warning", 38, incident_id=LEAK_INCIDENT, actual_value=15.4,
            expected_value=12.3, note="Crew looks at it on Friday", acknowledged_at=NOW - DAY,
            acknowledged_by="A. Melis", metadata=leak | {"explanation": "growing inflow that habits do not explain: "
                                                         "3.1 L/s, 11.2 % of the mean inflow"},
        ),
        event(
            SILENCE, SILENT, "silent", "warning", 9, measurement_type=None, detection_method="sensor_faults",
            metadata={"explanation": "nothing has come for 9 hours; it usually reports every 5 minutes",
                      "hours": 9.0, "tolerated_hours": 2.0, "longest_usual_hours": 0.5},
        ),
        event(
            EXPLAINED, "inlet-quartu", "high_flow", "info", 30, end=NOW - 26 * HOUR, detection_method="pattern",
            metadata={"explanation": "much higher than at this hour of the week", "explained_by": work},
        ),
        event(
            OVER, LOW, "low_pressure", "warning", 80, end=NOW - 70 * HOUR, resolved_at=NOW - 60 * HOUR,
            measurement_type="pressure", detection_method="limits", is_confirmed=True, resolved_by="A. Melis",
            metadata={"explanation": "below the alert limit of 2 bar for 10 hours", "limits": {"low": 2.0}},
        ),
    )  # fmt: skip


def _put_each(connection: Connection, table: Any, *rows: dict[str, Any]) -> None:
    """Rows that do not name the same columns."""
    for row in rows:
        connection.execute(insert(table).values(**row))


def _add_models(connection: Connection) -> None:
    def model(number: UUID, kind: str, status: str, scope: str, **more: Any) -> dict[str, Any]:
        trained = {"training_data_start": NOW - 120 * DAY, "training_data_end": NOW - 10 * DAY}
        stood = {"created_at": NOW - 10 * DAY, "training_duration_seconds": 41.2, "training_samples": 81_000}
        named = {"model_id": number, "model_name": f"{kind} of {scope}", "model_type": kind, "version": "2023.06.05"}
        artefact = {
            "model_size_bytes": 420_000,
            "model_hash": "0" * 64,
            "metrics": {"days": 110.0, "rows_read": 81_000},
        }
        return named | trained | stood | artefact | {"scope": scope, "status": status} | more

    _put_each(
        connection,
        tables.ml_models,
        model(
            FORECAST, "flow_prediction", "active", "all", is_active=True, activated_at=NOW - 9 * DAY,
            fallback_id=RETIRED, validation_metrics={"mae": 0.8, "usual_mae": 1.1, "coverage": 0.91, "hours": 672},
        ),
        model(
            SHADOW, "flow_prediction", "shadow", "all", shadow_since=NOW - 2 * DAY, version="2023.06.12",
            validation_metrics={"mae": 0.75, "usual_mae": 1.1, "coverage": 0.9, "hours": 672},
        ),
        model(DETECTOR, "anomaly_detection", "shadow", "pirri", shadow_since=NOW - 8 * DAY,
              validation_metrics={"limit": 9.4}),
        model(
            RELATION, "efficiency_optimization", "active", "pirri", is_active=True, activated_at=NOW - 9 * DAY,
            validation_metrics={"exponent": 1.1, "lower": 0.8, "upper": 1.4, "nights": 41},
        ),
        model(RETIRED, "flow_prediction", "retired", "all", version="2023.05.01", retired_at=NOW - 9 * DAY,
              activated_at=NOW - 40 * DAY),
    )  # fmt: skip
    _put(
        connection,
        tables.model_decisions,
        *(
            {"model_id": number, "decided_at": NOW - back * DAY, "decision": decision, "decided_by": by, "reason": why}
            for number, back, decision, by, why in (
                (FORECAST, 10, "trained", "timetable", "Sunday's training"),
                (FORECAST, 9, "promoted", "review", "a mean error of 0.8 L/s; that of the active one was 1.0 L/s"),
                (SHADOW, 2, "shadow", "review", "it runs beside the active one for a week"),
                (DETECTOR, 8, "shadow", "review", "its alarms are watched for eight weeks"),
                (RETIRED, 9, "retired", "review", "another took its place"),
            )
        ),
    )
    request = {"requested_by": "A. Melis", "scope": None, "model_id": None, "note": None}
    _put(
        connection,
        tables.model_requests,
        request
        | {"action": "train", "model_type": "flow_prediction", "requested_at": NOW - HOUR, "status": "running",
           "decided_at": None, "outcome": None},
        request
        | {"action": "promote", "model_type": "anomaly_detection", "model_id": DETECTOR, "requested_at": NOW - DAY,
           "note": "It saw the leak of May first", "status": "refused", "decided_at": NOW - DAY,
           "outcome": "it has been in shadow for 8 of 56 days"},
    )  # fmt: skip
    random = np.random.default_rng(3)
    _put(
        connection,
        tables.model_performance,
        *(
            {
                "model_id": number,
                "evaluation_timestamp": LAST_HOUR - back * DAY,
                "evaluation_window": "24h",
                "predictions_count": 96,
                "mae": float(random.uniform(0.6, 1.0)),
                "rmse": 1.2,
                "mape": 6.1,
                "r2_score": 0.94,
                "node_metrics": {LONG: {"mae": 0.8, "rmse": 1.2, "mape": 6.1, "r2_score": 0.94}},
                "feature_drift_score": 0.3 if back else 1.2,
                "prediction_drift_score": 0.2,
                "drift_detected": back == 0,
                "drift_reason": "temperature" if back == 0 else None,
            }
            for number in (FORECAST, SHADOW)
            for back in range(9)
        ),
    )
    schedule = [
        {"from": "00:00", "to": "05:00", "set_point": 2.6, "present_set_point": 3.2},
        {"from": "05:00", "to": "24:00", "set_point": 3.1, "present_set_point": 3.2},
    ]
    _put_each(
        connection,
        tables.recommendations,
        {
            "district_id": "pirri", "computed_at": LAST_HOUR, "outcome": "recommended", "model_id": RELATION,
            "reason": "41 nights: leakage follows pressure with N1 1.1", "inlet_node_id": LONG,
            "critical_node_id": "upper-pirri", "minimum_pressure": 2.0, "schedule": schedule, "leakage_volume": 310.0,
            "saving_volume": 42.0, "saving_volume_lower": 28.0, "saving_volume_upper": 57.0,
        },
        {
            "district_id": "selargius", "computed_at": LAST_HOUR, "outcome": "refused",
            "reason": "the set-point has not varied in the last 90 days",
        },
    )  # fmt: skip


def _add_forecasts(connection: Connection) -> None:
    """Of every inlet two days of forecasts each midnight of the last days, and by the last hour."""
    for node in nodes().query("role == 'inlet'").itertuples():
        real = usual_windows(str(node.node_id), "1hour", LAST_HOUR + 2 * DAY, 7 * 24, node.flow)
        for made in [*(MIDNIGHT - back * DAY for back in range(4)), LAST_HOUR]:
            coming = real[(real["window_start"] >= made) & (real["window_start"] < made + 2 * DAY)]
            frame = pd.DataFrame(
                {
                    "model_id": FORECAST,
                    "node_id": node.node_id,
                    "prediction_timestamp": made,
                    "target_timestamp": coming["window_start"],
                    "prediction_horizon_hours": np.arange(len(coming)) + 1,
                    "predicted_flow_rate": coming["avg_flow_rate"] * 1.01,
                    "flow_rate_lower": coming["avg_flow_rate"] * 0.9,
                    "flow_rate_upper": coming["avg_flow_rate"] * 1.12,
                    "confidence_score": 0.9,
                }
            )
            copy_rows(connection, tables.ml_predictions_cache, frame)
        usual = usual_windows(str(node.node_id), "1hour", LAST_HOUR, 14 * 24, node.flow)
        expected = usual["avg_flow_rate"].rolling(3, min_periods=1, center=True).mean()
        frame = usual[["node_id", "window_start"]].assign(
            measurement="flow_rate", expected=expected, lower=0.85 * expected, upper=1.15 * expected
        )
        copy_rows(connection, tables.expected_values, frame)


def _add_knowledge_of_nodes(connection: Connection) -> None:
    names = list(nodes()["node_id"])
    issue = {"type": "missing_data", "message": "nothing came from 16:00 to 01:00"}
    _put(
        connection,
        tables.data_quality_metrics,
        *(
            {
                "node_id": name, "check_timestamp": LAST_HOUR, "time_window": "24h",
                "completeness_score": 0.6 if name == SILENT else 0.99, "validity_score": 0.98,
                "consistency_score": 0.97, "overall_quality_score": 0.7 if name == SILENT else 0.98,
                "missing_data_points": 108 if name == SILENT else 2, "invalid_values": 3, "outliers_detected": 1,
                "quality_issues": [issue] if name == SILENT else [],
            }
            for name in names
        ),
    )  # fmt: skip
    _put(
        connection,
        tables.node_channels,
        *(
            {
                "node_id": name, "measurement": measurement, "valid_from": NOW - 30 * DAY, "learned_at": NOW - DAY,
                "hours": 672, "is_counted": True, "is_connected": True, "reporting": "periodic", "resolution": 0.1,
                "evidence": ["672 hours looked at", "a reading every 5 minutes"],
            }
            for name in names
            for measurement in ("flow_rate", "pressure")
        ),
    )  # fmt: skip
    _put(
        connection,
        tables.rejected_readings,
        *(
            {"node_id": LONG, "quarter_start": LAST_HOUR - back * HOUR, "reason": "placeholder", "readings": 3,
             "lowest": -9999.0, "highest": -9999.0}
            for back in range(1, 6)
        ),
    )  # fmt: skip


def _add_survey(connection: Connection) -> None:
    short = "45 days of readings: forecasts need 56; it has them in 11 days"
    _put(
        connection,
        tables.node_survey,
        *(
            {
                "node_id": node.node_id, "surveyed_at": LAST_HOUR, "described_at": NOW - 30 * DAY,
                "role_believed": None, "why": [f"stated as {node.role}"], "first_reading": NOW - 45 * DAY,
                "last_reading": NOW - 5 * MINUTE, "cadence_seconds": 300.0, "days": 45,
                "channels": [
                    {"measurement": "pressure", "taken_for": "the pressure of the network", "unit": "bar",
                     "why": ["between 2.9 and 4.5 on 99 of 100 hours"]},
                ],
                "lacking": {"balance": [], "forecast": [short], "detector": []},
            }
            for node in nodes().itertuples()
        ),
    )  # fmt: skip
    _put(
        connection,
        tables.district_survey,
        *(
            {
                "district_id": district, "surveyed_at": LAST_HOUR, "described_at": NOW - 30 * DAY, "nodes": 5,
                "lacking": {"balance": [], "forecast": [short], "detector": [], "recommendation": []},
                "has": {"balance": True, "forecast": True, "detector": "shadow" if district == "pirri" else "none",
                        "recommendation": "recommended" if district == "pirri" else "none"},
            }
            for district in DISTRICTS
        ),
    )  # fmt: skip


def _add_operation(connection: Connection) -> None:
    _put(
        connection,
        tables.works,
        *(
            {
                "work_id": _identifier(4, number), "kind": kind, "district_id": district, "node_id": node,
                "begin": NOW - begin * HOUR, "end": None if lasts is None else NOW - (begin - lasts) * HOUR,
                "note": note, "created_by": "A. Melis", "created_at": NOW - begin * HOUR,
            }
            for number, (kind, district, node, begin, lasts, note) in enumerate(
                [
                    ("works", "quartu", None, 31, 6, "Flushing of mains"),
                    ("meter_exchange", None, "inlet-su-planu", 200, None, "New ultrasonic meter"),
                    ("closure", "su-planu", None, -20, 4, "Valve of Via Roma"),
                    ("network_change", "pirri", None, 500, None, "Set-point by night 3.2 bar"),
                ],
                1,
            )
        ),
    )  # fmt: skip
    _put(
        connection,
        tables.alerts,
        *(
            {
                "alert_id": _identifier(5, number), "rule": rule, "subject": subject, "severity": severity,
                "state": state, "summary": summary, "since": NOW - number * HOUR, "fired_at": NOW - number * HOUR,
                "resolved_at": NOW if state == "resolved" else None,
            }
            for number, (rule, subject, severity, state, summary) in enumerate(
                [
                    ("a burst or leak is open", "pirri", "critical", "firing", "Pirri: a burst of 8.2 L/s since 22:12"),
                    ("data quality is low", SILENT, "warning", "firing", "Lower street Quartu Nord: quality 0.70"),
                    ("a job failed", "backfill", "warning", "resolved", "A backfill failed: the warehouse was away"),
                ],
                1,
            )
        ),
    )  # fmt: skip
    _put(
        connection,
        tables.processing_jobs,
        *(
            {
                "job_id": _identifier(6, number + 1), "job_type": "backfill" if number == 3 else "processing_cycle",
                "job_name": "backfill" if number == 3 else "cycle", "triggered_by": "timetable",
                "status": "failed" if number == 3 else "completed", "scheduled_for": NOW - (number * 30 + 12) * MINUTE,
                "created_at": NOW - (number * 30 + 12) * MINUTE, "started_at": NOW - (number * 30 + 12) * MINUTE,
                "completed_at": NOW - (number * 30 + 11) * MINUTE, "duration_seconds": 42.0, "total_items": 21,
                "processed_items": 21, "progress_percentage": 100.0,
                "error_message": "the warehouse did not answer for 60 seconds" if number == 3 else None,
            }
            for number in range(12)
        ),
    )  # fmt: skip
    _put_each(
        connection,
        tables.processing_replicas,
        # Alive by the world's clock, for as long as tests may take.
        {"replica": "one", "started_at": NOW - DAY, "next_run": NOW + 18 * MINUTE, "heartbeat_at": func.now() + HOUR},
    )
