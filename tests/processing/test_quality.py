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
    figures = {"reading_count": per_hour, "flow_count": per_hour, "cadence_seconds": 300.0, "avg_flow_rate": 10.0}
    figures |= {"pressure_count": 0, "temperature_count": 0}
    figures |= {"data_completeness": 100 * per_hour / 12, "total_volume": 36.0 * per_hour / 12}
    figures |= {"flow_coverage": per_hour / 12, "pressure_coverage": 0.0, "temperature_coverage": 0.0}
    return pd.DataFrame({"node_id": node_id, "window_start": starts} | figures | changed)


def checked(
    hours: pd.DataFrame,
    set_aside: dict[str, int] | None = None,
    events: list[tuple[str, int, int | None]] = (),
    faults: list[tuple[str, str | None]] | None = None,
) -> pd.Series:
    """The scores of node `n` over a day; events as type, first and last hour; channels as measurement and fault."""
    rejections = pd.DataFrame(
        [
            {"node_id": "n", "quarter_start": pd.Timestamp(START), "reason": reason, "readings": count}
            for reason, count in (set_aside or {}).items()
        ],
        columns=["node_id", "quarter_start", "reason", "readings"],
    )
    event_rows = pd.DataFrame(
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
        event_rows[edge] = pd.to_datetime(event_rows[edge], utc=True)
    nodes = pd.DataFrame({"cadence_seconds": [300.0]}, index=pd.Index(["n"], name="node_id"))
    channels = pd.DataFrame(faults or [], columns=["measurement", "fault"], dtype="object")
    channels = channels.assign(node_id="n", is_counted=channels["fault"].isna())
    return node_quality(nodes, hours, rejections, event_rows, channels, (START, END)).loc["n"]


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


def test_a_measurement_that_is_silent_beside_others_halves_what_is_complete_and_is_named():
    beside = {"pressure_count": 12, "pressure_coverage": 1.0, "flow_count": 0, "flow_coverage": 0.0}
    silent = checked(hours_of(**beside), faults=[("flow_rate", None)])
    assert silent["completeness_score"] == pytest.approx(0.5)
    assert [issue["type"] for issue in silent["quality_issues"]] == ["flow_rate_missing"]
    assert checked(hours_of(**beside))["completeness_score"] == 1


def test_of_a_channel_that_measures_nothing_no_value_is_valid():
    scores = checked(
        hours_of(pressure_count=12, pressure_coverage=1.0), faults=[("pressure", "not_connected"), ("flow_rate", None)]
    )
    assert (scores["validity_score"], scores["completeness_score"]) == (0.5, 1)
    assert [issue["type"] for issue in scores["quality_issues"]] == ["pressure_not_connected"]


def test_a_node_without_readings_is_not_complete_and_nothing_else_is_known_of_it():
    scores = checked(hours_of(count=0))
    assert (scores["completeness_score"], scores["overall_quality_score"]) == (0, 0)
    assert scores[["validity_score", "consistency_score"]].isna().all()
    assert (scores["missing_data_points"], scores["quality_issues"][0]["severity"]) == (288, "critical")


def test_validity_is_the_share_of_values_that_were_not_set_aside():
    scores = checked(hours_of(per_hour=10), {"flow_rate_negative": 48})
    assert (scores["validity_score"], scores["invalid_values"]) == (240 / 288, 48)
    assert [(issue["type"], issue["count"]) for issue in scores["quality_issues"][1:]] == [("flow_rate_negative", 48)]


@pytest.mark.parametrize("reason", ["duplicate", "interpolated", "timestamp_in_future"])
def test_what_is_no_fault_of_the_sensor_is_counted_and_lowers_no_validity(reason: str):
    scores = checked(hours_of(), {reason: 48})
    assert (scores["validity_score"], scores["invalid_values"]) == (1, 0)
    assert [(issue["type"], issue["count"]) for issue in scores["quality_issues"]] == [(reason, 48)]


def test_a_row_that_is_set_aside_as_a_whole_is_missing_from_each_of_its_measurements():
    hours = hours_of(per_hour=9, pressure_count=9)
    for reason in ("conflicting", "low_quality_score", "no_valid_measurement"):
        assert checked(hours, {reason: 72})["validity_score"] == 0.75


def test_a_bad_pressure_says_nothing_of_the_flow_beside_it():
    hours = hours_of(pressure_count=6)
    # The flow of every reading is valid, the pressure of every other.
    scores = checked(hours, {"pressure_too_high": 144})
    assert (scores["validity_score"], scores["invalid_values"]) == ((1 + 0.5) / 2, 144)
    assert checked(hours_of(), {"pressure_placeholder": 288})["validity_score"] == 0.5


def test_a_meter_that_sends_volumes_only_is_as_valid_as_these():
    hours = hours_of(per_hour=9, flow_count=0, avg_flow_rate=float("nan"))
    assert checked(hours, {"volume_negative": 72})["validity_score"] == 0.75
    # Beside flow, a counter that was reset four times has lost four values.
    assert checked(hours_of(), {"volume_negative": 4})["validity_score"] == (1 + 284 / 288) / 2


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
    scores = checked(hours, {"conflicting": set_aside} if set_aside else None, [("spikes", 0, last)])
    parts = {name: scores[f"{name}_score"] for name in WEIGHTS}
    known = {name: value for name, value in parts.items() if value == value}
    assert all(0 <= value <= 1 for value in known.values())
    expected = sum(WEIGHTS[name] * value for name, value in known.items()) / sum(WEIGHTS[name] for name in known)
    assert scores["overall_quality_score"] == pytest.approx(expected)


def windows_of(**changed: object) -> pd.DataFrame:
    return hours_of(count=2, **changed).assign(
        time_window=pd.Categorical(["1hour"] * 2), window_end=lambda f: f["window_start"] + pd.Timedelta(hours=1)
    )


def set_aside(reason: str, count: int, *, is_lost: bool = False, node_id: str = "n") -> pd.DataFrame:
    """Rows of the second hour, minute after minute."""
    instants = pd.Timestamp(START) + pd.Timedelta(minutes=65) + pd.to_timedelta(range(count), unit="min")
    return pd.DataFrame({"node_id": node_id, "timestamp": instants, "reason": reason, "is_lost": is_lost})


def test_a_window_is_worth_the_share_of_its_promised_readings_that_came_and_are_valid():
    nowhere = set_aside("missing_timestamp", 1).assign(timestamp=pd.to_datetime([None], utc=True))
    elsewhere = set_aside("conflicting", 1, node_id="other")
    listed = pd.concat([set_aside("conflicting", 4), elsewhere, nowhere], ignore_index=True)
    assert window_quality(windows_of(), listed).tolist() == [1.0, 0.75]
    assert window_quality(windows_of(), set_aside("duplicate", 12)).tolist() == [1.0, 1.0]


def test_a_reading_that_is_lost_counts_as_invalid_and_not_as_missing_besides():
    only_flow = windows_of(reading_count=[12, 6], flow_count=[12, 6], data_completeness=[100.0, 50.0])
    assert window_quality(only_flow, set_aside("flow_rate_negative", 6, is_lost=True)).tolist() == [1.0, 0.5]
    # Twice for one row: of both that it measures, six of twelve are valid.
    two = only_flow.assign(pressure_count=[12, 6])
    both = [set_aside(reason, 6, is_lost=True) for reason in ("flow_rate_infinite", "pressure_placeholder")]
    assert window_quality(two, pd.concat(both, ignore_index=True)).tolist() == [1.0, 0.5]
    # What was filled in never came.
    assert window_quality(only_flow, set_aside("interpolated", 6, is_lost=True)).tolist() == [1.0, 0.5]


def test_a_bad_pressure_costs_a_window_the_pressure_alone():
    windows = windows_of(pressure_count=[12, 0])
    assert window_quality(windows, set_aside("pressure_too_high", 12)).tolist() == [1.0, 0.5]


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
    # Half of the flow; pressure and temperature beside it are good.
    assert day.loc["bad", "validity_score"] == pytest.approx((0.5 + 1 + 1) / 3)
    assert (day.loc["silent", "completeness_score"], day.loc["silent", "quality_issues"][0]["type"]) == (
        0,
        "no_readings",
    )
    assert checks.loc[(WEEKLY[0], "good"), "completeness_score"] == pytest.approx(2 / 7)
    windows = metrics(database).query("time_window == '1hour' and node_id == 'bad'")
    assert windows["quality_score"].iloc[1:].tolist() == pytest.approx([5 / 6] * (len(windows) - 1))
