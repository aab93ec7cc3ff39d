"""Rows of every kind that the API shows, under names that need care, with identifiers that tests know."""

from __future__ import annotations

from datetime import timedelta
from typing import Any
from uuid import UUID

from sqlalchemy import Connection, insert

from src.api.parameters import cursor_of
from src.db import tables
from tests.api.conftest import NOW

# Of nodes and districts alike, in every script; no node can have a blank name or a NUL in it.
NAMES = [
    "Sant’Anna", "Überlauf/1?x=2#3", "漢字", "Ελληνικά", "عربي", "🚰 💧", "o'brien", '"città"', "a\\b<c>&d", "100 %",
    "%41%2F", " blanks  around ", "x" * 300, "../..", ".", "/", "a//b/", ";v=1", "a+b=c", "a\tb\nc", "\u202eleftwards",
    "e\u0301", "\U0010ffff", "metrics", "null", "0", "{node_id}", "a,b|c", "'; DROP TABLE nodes; --",
]  # fmt: skip


def _identifiers(kind: int) -> list[UUID]:
    return [UUID(int=(kind << 64) + number) for number in range(1, len(NAMES) + 1)]


ANOMALIES, INCIDENTS, MODELS, JOBS, ALERTS, WORKS = (_identifiers(kind) for kind in range(1, 7))
# Parameter -> values that lead to rows.
KNOWN: dict[str, list[str]] = {
    "node_id": NAMES,
    "district_id": NAMES,
    "anomaly_id": [str(identifier) for identifier in ANOMALIES],
    "incident_id": [str(identifier) for identifier in INCIDENTS],
    "work_id": [str(identifier) for identifier in WORKS],
    "model_id": [str(identifier) for identifier in MODELS],
    "node_type": NAMES,
    "job_type": ["processing_cycle", "backfill"],
    "start_time": ["2023-05-05T00:00:00Z", "2023-05-08T01:00:00+02:00"],
    "end_time": ["2023-05-09T00:00:00Z", "2023-05-08T23:59:59.999999-01:00"],
    # In lists by name, by instant and by number.
    "cursor": [cursor_of(NAMES[0]), cursor_of("2023-05-08T00:00:00Z", str(ANOMALIES[0])), cursor_of("3")],
}


def add(connection: Connection) -> None:
    """Puts the rows in, a node and a district for each name with all that can be known of them."""
    hour, day = timedelta(hours=1), timedelta(days=1)

    def put(table: Any, *rows: dict[str, Any]) -> None:
        connection.execute(insert(table), list(rows))

    each = list(enumerate(NAMES))
    put(
        tables.nodes,
        *(
            {
                "node_id": name,
                "node_name": name,
                "node_type": name,
                "district_id": name,
                "location_name": name,
                "role": ("inlet", "outlet", "consumption", "storage", "monitoring", None)[number % 6],
                "latitude": number / 7,
                "longitude": 9.0 if number % 2 else None,
                "installation_date": NOW.date(),
                "is_active": number % 5 > 0,
                "out_of_service_since": NOW if number % 6 == 1 else None,
                "out_of_service_reason": "by hand" if number % 6 == 1 else None,
                "metadata": {"limits": {"pressure": {"low": 2.0}}},
            }
            for number, name in each
        ),
    )
    put(
        tables.districts,
        *({"district_id": name, "district_name": name, "connections": n, "mains_km": n / 3} for n, name in each),
    )
    put(
        tables.ingestion_watermarks,
        *({"node_id": name, "last_reading": NOW - hour, "last_row": NOW - hour, "updated_at": NOW} for name in NAMES),
    )
    counts = {
        f"{counted}_count": number for number, counted in enumerate(("reading", "flow", "pressure", "temperature"))
    }
    put(
        tables.computed_metrics,
        *(
            {
                "node_id": name,
                "time_window": window,
                "window_start": NOW - (back + 1) * length,
                "window_end": NOW - back * length,
                "computed_at": NOW,
                "computation_version": "1",
                # What is not known is null in the answer, whether it is null or no number in the database.
                "avg_flow_rate": (8.25, None, float("nan"), float("inf"))[number % 4],
                "total_volume": 1e300,
                **counts,
            }
            for number, name in each
            for window, length in (("5min", hour / 12), ("1hour", hour), ("1day", day))
            for back in range(3)
        ),
    )
    figures = ("input_volume", "output_volume", "loss_volume", "efficiency_percentage", "coverage", "method", "reason")
    balance: dict[str, Any] = dict.fromkeys(figures) | {"is_complete": False}
    compared = {"m1a": 3.5, "m1_class": "A", "m1_class_year": 2017, "real_loss_volume": 8.0}
    put(
        tables.network_efficiency,
        *(
            {
                "time_window": window,
                "window_start": NOW - (back + 1) * length,
                "window_end": NOW - back * length,
                "computation_timestamp": NOW,
                "zone_metrics": dict.fromkeys(NAMES, balance),
            }
            for window, length in (("1hour", hour), ("1day", day))
            for back in range(-1, 3)
        ),
    )
    put(
        tables.network_efficiency,
        *(
            {
                "time_window": f"{days}day",
                "window_start": NOW - (back + days) * day,
                "window_end": NOW - back * day,
                "computation_timestamp": NOW,
                "zone_metrics": dict.fromkeys(NAMES, balance | compared | {"known_days": days - 1}),
                "indicators": compared,
            }
            for days in (30, 365)
            for back in range(3)
        ),
    )
    explained = {"work_id": str(WORKS[0]), "kind": "works", "note": None, "severity": "critical"}
    put(
        tables.anomalies,
        *(
            {
                "anomaly_id": ANOMALIES[number],
                "incident_id": INCIDENTS[number // 2] if number % 3 else None,
                "timestamp": NOW - number * hour,
                "detected_at": NOW,
                "end": NOW if number % 2 else None,
                "resolved_at": NOW if number % 4 == 3 else None,
                "node_id": name,
                "district_id": name,
                "anomaly_type": "burst",
                "severity": ("info", "warning", "critical")[number % 3],
                "detection_method": "level_shift",
                "note": name,
                "metadata": {"explanation": name} | ({"explained_by": explained} if number % 7 == 0 else {}),
            }
            for number, name in each
        ),
    )
    put(
        tables.works,
        *(
            {
                "work_id": WORKS[number],
                "kind": ("works", "meter_exchange", "closure", "network_change")[number % 4],
                "node_id": name if number % 3 else None,
                "district_id": name if number % 3 != 1 else None,
                "begin": NOW - number * hour,
                "end": NOW + hour if number % 2 == 0 else None,
                "note": name,
                "created_by": name,
                "deleted_at": NOW if number % 5 == 4 else None,
            }
            for number, name in each
        ),
    )
    put(
        tables.ml_models,
        *(
            {
                "model_id": MODELS[number],
                "model_name": name,
                "model_type": "flow_prediction",
                "scope": name,
                "version": name,
                "status": "active",
                "is_active": True,
                "created_at": NOW - number * hour,
                "activated_at": NOW,
            }
            for number, name in each
        ),
    )
    put(
        tables.model_decisions,
        *(
            {"model_id": model, "decided_at": NOW, "decision": "promoted", "decided_by": name, "reason": name}
            for model, name in zip(MODELS, NAMES, strict=True)
        ),
    )
    put(
        tables.model_requests,
        *(
            {
                "action": ("train", "promote", "roll_back")[number % 3],
                "model_type": "flow_prediction",
                "scope": name,
                "model_id": MODELS[number],
                "requested_at": NOW - number * hour,
                "requested_by": name,
                "note": name,
                "status": ("queued", "running", "done", "refused", "failed")[number % 5],
                "outcome": name,
            }
            for number, name in each
        ),
    )
    put(
        tables.model_performance,
        *({"model_id": model, "evaluation_timestamp": NOW, "evaluation_window": "24h", "mae": 1.5} for model in MODELS),
    )
    put(
        tables.ml_predictions_cache,
        *(
            {
                "model_id": model,
                "node_id": name,
                "prediction_timestamp": NOW,
                "target_timestamp": NOW + ahead * hour,
                "prediction_horizon_hours": ahead,
                "predicted_flow_rate": 1.5,
            }
            for model, name in zip(MODELS, NAMES, strict=True)
            for ahead in (1, 168)
        ),
    )
    put(
        tables.data_quality_metrics,
        *({"node_id": name, "check_timestamp": NOW, "time_window": "24h"} for name in NAMES),
    )
    put(
        tables.node_channels,
        *(
            {
                "node_id": name,
                "measurement": ("flow_rate", "pressure", "temperature", "volume")[number % 4],
                "valid_from": NOW,
                "learned_at": NOW,
                "hours": 672,
                "is_counted": number % 3 > 0,
                "is_connected": (True, False, None)[number % 3],
                "copy_of": "flow_rate" if number % 5 == 2 else None,
                "unit_questioned": number % 7 == 1,
                "reporting": ("periodic", "daily", None)[number % 3],
                "placeholders": [-9999.0],
                "evidence": [name],
                "is_two_way": True if number % 4 == 0 else None,
                "is_counter": True if number % 4 == 3 else None,
            }
            for number, name in each
        ),
    )
    sentences = {"balance": ["no role: state one"], "forecast": [], "detector": []}
    put(
        tables.node_survey,
        *(
            {
                "node_id": name,
                "surveyed_at": NOW,
                "described_at": NOW,
                "district_believed": {"value": name, "why": name} if number % 3 == 1 else None,
                "role_believed": ("inlet", "storage", None)[number % 3],
                "why": [name],
                "channels": [{"measurement": "flow_rate", "taken_for": "flow", "unit": "L/s", "why": [name]}],
                "first_reading": NOW - day if number % 2 else None,
                "cadence_seconds": 300.0 if number % 2 else None,
                "days": number,
                "lacking": sentences,
            }
            for number, name in each
        ),
    )
    put(
        tables.district_survey,
        *(
            {
                "district_id": name,
                "surveyed_at": NOW,
                "nodes": number,
                "lacking": sentences | {"recommendation": [name]},
                "has": {
                    "balance": number % 2 == 0,
                    "forecast": number % 2 == 1,
                    "detector": ("active", "shadow", "none")[number % 3],
                    "recommendation": ("recommended", "refused", "none")[number % 3],
                },
            }
            for number, name in each
        ),
    )
    put(
        tables.rejected_readings,
        *(
            {
                "node_id": name,
                "quarter_start": NOW - hour,
                "reason": reason,
                "readings": 3,
                "lowest": 99.0,
                "highest": None,
            }
            for name in NAMES
            for reason in ("pressure_too_high", "volume_placeholder", "conflicting")
        ),
    )
    put(
        tables.expected_values,
        *(
            {
                "node_id": name,
                "measurement": "flow_rate",
                "window_start": NOW - hour,
                "expected": 8.0,
                "lower": 7.0,
                "upper": 9.0,
            }
            for name in NAMES[::2]
        ),
    )
    put(
        tables.district_balances,
        *(
            {
                "district_id": name,
                "time_window": window,
                "window_start": NOW - length,
                "window_end": NOW,
                "balance": balance | {"input_volume": 36.0, "loss_volume": 9.0},
            }
            for name in NAMES
            for window, length in (("1hour", hour), ("30day", 30 * day))
        ),
    )
    put(
        tables.recommendations,
        *(
            {"district_id": name, "computed_at": NOW, "outcome": "refused", "reason": name, "saving_volume": number}
            for number, name in each
        ),
    )
    put(
        tables.alerts,
        *(
            {
                "alert_id": ALERTS[number],
                "rule": name,
                "subject": name,
                "severity": "warning",
                "state": ("firing", "resolved", "pending")[number % 3],
                "summary": name,
                "since": NOW - number * hour,
                "fired_at": NOW,
                "resolved_at": NOW if number % 3 == 1 else None,
            }
            for number, name in each
        ),
    )
    put(
        tables.processing_jobs,
        *(
            {
                "job_id": JOBS[number],
                "job_type": "backfill",
                "job_name": name,
                "status": "failed",
                "scheduled_for": NOW - number * hour,
                "created_at": NOW - number * hour,
                "error_message": name,
                "triggered_by": name,
            }
            for number, name in each
        ),
    )
