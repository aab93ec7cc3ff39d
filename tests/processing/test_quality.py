"""Scores of data quality: each computed from what is there, none invented."""

from __future__ import annotations

from datetime import timedelta

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import Engine, text

from src.domain.quality import WEIGHTS, node_quality, window_quality
from src.processing.conclusions.quality import WEEKLY, run_quality
from src.processing.jobs.runtime import create_runtime
from src.settings import Settings
from tests.system import START, metrics, put, readings_of, run_cycle, table

END = START + timedelta(hours=24)


def hours_of(node_id: str = "n", count: int = 24, per_hour: int = 12, **changed: object) -> pd.DataFrame:
    """Hours of a node that reports every five minutes at 10 L/s."""
    starts = pd.date_range(START, periods=count, freq="h")
    told = {"reading_count": per_hour, "flow_count": per_hour, "cadence_seconds": 300.0, "avg_flow_rate": 10.0}
    told |= {"data_completeness": 100 * per_hour / 12, "total_volume": 36.0 * per_hour / 12}
    return pd.DataFrame({"node_id": node_id, "window_start": starts} | told | changed)


def checked(
    hours: pd.DataFrame, set_aside: dict[str, int] | None = None, events: list[tuple[str, int, int | None]] = ()
) -> pd.Series:
    """The scores of node `n` over a day; events as type, first and last hour."""
    rejections = pd.DataFrame(
        [
            {"node_id": "n", "quarter_start": pd.Timestamp(START), "reason": reason, "readings": count}
            for reason, count in (set_aside or {}).items()
        ],
        columns=["node_id", "quarter_start", "reason", "readings"],
    )
    told = pd.DataFrame(
        [
            {
                "node_id": "n",
                "anomaly_type": kind,
                "severity": "warning",
                "begin": pd.Timestamp(START + timedelta(hours=first)),
                "end": pd.NaT if last is None else pd.Timestamp(START + timedelta(hours=last)),
            }
            for kind, first, last in events
        ],
        columns=["node_id", "anomaly_type", "severity", "begin", "end"],
    )
    for edge in ("begin", "end"):
        told[edge] = pd.to_datetime(told[edge], utc=True)
    nodes = pd.DataFrame({"cadence_seconds": [300.0]}, index=pd.Index(["n"], name="node_id"))
    return node_quality(nodes, hours, rejections, told, (START, END)).loc["n"]


def test_a_node_that_tells_everything_has_full_scores_and_no_issues():
    scores = checked(hours_of())
    assert scores[[f"{name}_score" for name in WEIGHTS]].tolist() == [1, 1, 1]
    assert (scores["overall_quality_score"], scores["missing_data_points"], scores["quality_issues"]) == (1, 0, [])


def test_completeness_is_the_share_of_promised_readings_also_of_hours_that_are_missing():
    assert checked(hours_of(per_hour=9))["completeness_score"] == pytest.approx(0.75)
    half = checked(hours_of(count=12))
    assert (half["completeness_score"], half["missing_data_points"]) == (0.5, 144)
    assert half["quality_issues"][0] | {"first": 0, "last": 0} == {
        "type": "missing_readings", "severity": "warning", "count": 144, "first": 0, "last": 0,
    }  # fmt: skip


def test_a_node_without_readings_is_not_complete_and_nothing_else_is_said_of_it():
    scores = checked(hours_of(count=0))
    assert (scores["completeness_score"], scores["overall_quality_score"]) == (0, 0)
    assert scores[["validity_score", "consistency_score"]].isna().all()
    assert (scores["missing_data_points"], scores["quality_issues"][0]["severity"]) == (288, "critical")


def test_validity_is_the_share_of_readings_that_were_not_set_aside():
    scores = checked(hours_of(), {"flow_rate_negative": 48, "duplicate": 48})
    assert (scores["validity_score"], scores["invalid_values"]) == (0.75, 96)
    assert {issue["type"]: issue["count"] for issue in scores["quality_issues"]} == {
        "flow_rate_negative": 48, "duplicate": 48,
    }  # fmt: skip


def test_consistency_is_the_share_of_hours_that_contradict_neither_the_pattern_nor_the_volume():
    scores = checked(hours_of(), events=[("flat_line", -5, 6), ("burst", 0, 24)])
    assert scores["consistency_score"] == 0.75
    assert scores["outliers_detected"] == 0
    volume = [36.0] * 18 + [50.0] * 6
    wrong = checked(hours_of(total_volume=volume), events=[("unusual_flow", 20, None)])
    assert (wrong["consistency_score"], wrong["outliers_detected"]) == (0.75, 4)
    issue = next(issue for issue in wrong["quality_issues"] if issue["type"] == "volume_against_flow")
    assert (issue["count"], issue["first"]) == (6, "2023-05-01T18:00:00Z")


@given(
    per_hour=st.integers(0, 12),
    count=st.integers(0, 24),
    set_aside=st.integers(0, 400),
    last=st.integers(1, 24),
)
def test_scores_are_shares_and_the_whole_is_their_weighted_mean(per_hour, count, set_aside, last):
    hours = hours_of(count=count if per_hour else 0, per_hour=per_hour)
    scores = checked(hours, {"duplicate": set_aside} if set_aside else None, [("spikes", 0, last)])
    parts = {name: scores[f"{name}_score"] for name in WEIGHTS}
    known = {name: value for name, value in parts.items() if value == value}
    assert all(0 <= value <= 1 for value in known.values())
    expected = sum(WEIGHTS[name] * value for name, value in known.items()) / sum(WEIGHTS[name] for name in known)
    assert scores["overall_quality_score"] == pytest.approx(expected)


def test_a_window_is_worth_the_share_of_its_promised_readings_that_are_there_and_valid():
    windows = hours_of(count=2).assign(
        time_window=pd.Categorical(["1hour"] * 2), window_end=lambda f: f["window_start"] + pd.Timedelta(hours=1)
    )
    at = pd.Timestamp(START) + pd.Timedelta(minutes=65)
    elsewhere = {"node_id": "other", "timestamp": at, "reason": "duplicate"}
    own = [{"node_id": "n", "timestamp": at, "reason": "duplicate"}] * 4
    nowhere = {"node_id": "n", "timestamp": pd.NaT, "reason": "missing_timestamp"}
    scores = window_quality(windows, pd.DataFrame([*own, elsewhere, nowhere]))
    assert scores.tolist() == [1.0, 0.75]


def test_every_cycle_and_every_six_hours_each_active_node_is_checked(stack: Settings, database: Engine):
    readings = readings_of(["good", "bad"], days=2)
    readings.loc[(readings["node_id"] == "bad") & (readings.index % 2 == 0), "flow_rate"] = -1.0
    put(stack, readings)
    with database.begin() as connection:
        connection.execute(
            text("INSERT INTO water_infrastructure.nodes (node_id, node_name) VALUES ('silent', 'Silent')")
        )
    now = START + timedelta(days=2)
    run_cycle(stack, now)
    runtime = create_runtime(stack)
    for _ in range(2):
        run_quality(runtime, now)
    runtime.database.dispose()
    checks = table(database, "data_quality_metrics").set_index(["time_window", "node_id"])
    assert len(checks) == 6
    day = checks.loc["24h"]
    assert day.loc["good", "overall_quality_score"] == 1
    assert day.loc["bad", "validity_score"] == pytest.approx(2 / 3)
    assert (day.loc["silent", "completeness_score"], day.loc["silent", "quality_issues"][0]["type"]) == (
        0,
        "no_readings",
    )
    assert checks.loc[(WEEKLY[0], "good"), "completeness_score"] == pytest.approx(2 / 7)
    windows = metrics(database).query("time_window == '1hour' and node_id == 'bad'")
    assert windows["quality_score"].iloc[1:].tolist() == pytest.approx([2 / 3] * (len(windows) - 1))
