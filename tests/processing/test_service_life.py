"""The life of a node: out of service by hand or after long silence, back with its readings; no events between."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from itertools import zip_longest
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import Engine

from src.domain.anomalies.detection import Circumstances
from src.domain.anomalies.events import Finding
from src.domain.anomalies.limits import limits_of
from src.domain.anomalies.signals import INFLOW, LOSS, Signals
from src.domain.anomalies.watch import LEAD, Watch, habits_of_week, weeks
from src.domain.service_life import BY_HAND, SILENT, OutOfService, in_service, silent_times
from src.processing.conclusions.quality import run_quality
from src.processing.jobs.runtime import Runtime, create_runtime
from src.processing.nodes import Node, import_nodes
from src.settings import Settings
from tests.signals import MONDAY, NOTHING_SET_ASIDE, ROME, signal, together, without
from tests.system import START, put, readings_of, run, run_cycle, silent, table

HOUR, DAY = timedelta(hours=1), timedelta(days=1)
MONTH = 30 * DAY


def silences(*hours: int) -> list:
    """What follows each of the hours with a reading."""
    reported = [START + hour * HOUR for hour in hours]
    return list(zip_longest(reported, reported[1:]))


@pytest.mark.parametrize(
    ("hours", "until", "times"),
    [
        ([0, 1, 2], 700, []),
        ([0, 1, 2], 3 + 720, [(3 + 720, None)]),
        ([0, 1, 2], 2 + 720, []),
        ([0, 1000], 1100, [(721, 1000)]),
        ([0, 721], 1100, [(721, 721)]),
        ([0, 720], 1100, []),
        ([0, 1000], 1000 + 721, [(721, 1000), (1721, None)]),
        ([], 5000, []),
    ],
)
def test_silence_ends_a_service_after_thirty_days_and_a_reading_begins_it_again(hours, until, times):
    found = list(silent_times(silences(*hours), START + until * HOUR, MONTH))
    edges = [(time.begin, time.end) for time in found]
    assert edges == [(START + b * HOUR, None if e is None else START + e * HOUR) for b, e in times]
    assert list(silent_times(silences(*hours), START + until * HOUR, 0 * DAY)) == []


@given(st.lists(st.integers(0, 3000), unique=True, min_size=1).map(sorted), st.integers(0, 3000))
def test_when_a_node_is_out_of_service_follows_from_what_came_before_alone(hours: list[int], at: int):
    """What comes later changes no more than when it is back."""
    now = START + at * HOUR
    everything = silent_times(silences(*hours), START + 9999 * HOUR, MONTH)
    so_far = silent_times(silences(*(hour for hour in hours if hour < at)), now, MONTH)
    assert [time.begin for time in everything if time.begin <= now and time.begin != time.end] == [
        time.begin for time in so_far if time.begin != time.end
    ]


def finding(begin: float, end: float | None) -> Finding:
    over = None if end is None else START + end * HOUR
    first = START + begin * HOUR
    return Finding("n", "silent", None, "sensor_faults", first, first + HOUR, over, "warning", None, None, {})


@pytest.mark.parametrize(
    ("begin", "end", "seen"),
    [
        (0, 5, (0, 5)),
        (0, None, (0, 10)),
        (0, 12, (0, 10)),
        (10, None, None),
        (15, 30, None),
        (20, None, (20, None)),
    ],
)
def test_nothing_is_found_of_a_node_while_it_is_out_of_service(begin, end, seen):
    time = OutOfService(START + 10 * HOUR, START + 20 * HOUR, SILENT)
    found = in_service([finding(begin, end), replace(finding(begin, end), node_id="other")], {"n": [time]})
    assert found[-1] == replace(finding(begin, end), node_id="other")
    assert len(found) == (1 if seen is None else 2)
    if seen is not None:
        assert (found[0].begin, found[0].end) == (finding(*seen).begin, finding(*seen).end)
        is_cut = seen[1] != end
        assert found[0].why.get("closed_because") == (
            "out of service since 2023-05-01 10:00 UTC (silent)" if is_cut else None
        )


def test_what_is_found_of_a_district_is_no_matter_of_the_node_it_lives_under():
    time = OutOfService(START, None, BY_HAND)
    of_district = [
        replace(finding(1, None), measurement=LOSS),
        replace(finding(1, None), measurement=INFLOW),
        replace(finding(1, None), method="multivariate"),
    ]
    assert in_service([finding(1, None), *of_district], {"n": [time]}) == of_district


def judged(signals: Signals, until, start=None, watched: Watch | None = None) -> Watch:
    """As `tests.signals.watch`, with nodes that leave service."""
    listed = signals.listed
    watched = watched or Watch([], dict(zip(listed["node_id"], listed["district_id"], strict=True)))
    known = signals.between(MONDAY, until)
    lives = {
        node: list(silent_times(zip_longest(hours, hours[1:]), until, MONTH))
        for column, node in enumerate(listed["node_id"])
        if (hours := list(known.hours[np.isfinite(known.mean[:, column])].to_pydatetime()))
    }
    for monday, first, end in weeks(start or MONDAY, until, ROME):
        # Of what has sent nothing in these weeks nothing is at hand.
        recent = known.between(monday - LEAD, end)
        seen = known.of(np.flatnonzero(np.isfinite(recent.mean).any(axis=0)))
        limits = [limits_of("flow_rate", "inlet", {})] * len(seen.listed)
        habits = habits_of_week(seen, monday, watched.stored, ROME, "IT")
        circumstances = Circumstances(limits, NOTHING_SET_ASIDE, lives=lives)
        watched.judge(seen, habits, circumstances, ROME, "IT", (first, end))
    return watched


@pytest.mark.parametrize("step", [7, 24 * 7 + 5])
def test_history_is_judged_alike_at_once_and_as_it_comes(step: int):
    gone, back = MONDAY + 20 * DAY, MONDAY + 20 * DAY + 40 * DAY
    signals = together(
        signal("a", weeks=10, district="a"), without(signal("b", weeks=10, district="b", seed=2), gone, back, "b")
    )

    def events_of(watched: Watch) -> list[tuple]:
        return sorted((e.finding.node_id, e.finding.begin, e.finding.end, e.resolved_at) for e in watched.stored)

    until = back + 5 * DAY
    at_once = events_of(judged(signals, until))
    assert at_once == [("b", gone, gone + MONTH, gone + MONTH)]
    now = gone - DAY
    watched = judged(signals, now)
    while now < until:
        before, now = now, min(now + step * HOUR, until)
        watched = judged(signals, now, before - 30 * HOUR, watched)
        going_on = [e for e in watched.stored if e.resolved_at is None]
        assert len(going_on) == (gone + 2 * HOUR <= now < gone + MONTH)
    assert events_of(watched) == at_once


@pytest.fixture
def runtime(stack: Settings) -> Iterator[Runtime]:
    made = create_runtime(stack.model_copy(update={"out_of_service_after_days": 3}))
    yield made
    made.database.dispose()
    made.redis.close()


def node(database: Engine, node_id: str) -> pd.Series:
    return table(database, "nodes").set_index("node_id").loc[node_id]


def events(database: Engine) -> pd.DataFrame:
    return table(database, "anomalies").sort_values(["timestamp", "node_id"], ignore_index=True)


def checked(database: Engine, as_of) -> list[str]:
    rows = table(database, "data_quality_metrics")
    return sorted(rows[rows["check_timestamp"] == as_of]["node_id"])


@pytest.mark.parametrize("first_load", [False, True])
def test_a_node_that_falls_silent_leaves_service_and_comes_back_with_its_readings(
    stack: Settings, database: Engine, runtime: Runtime, first_load: bool
):
    gone, back = START + 2 * DAY, START + 8 * DAY
    readings = readings_of(["n1", "n2", "n3"], days=9, minutes=30)
    put(stack, silent(readings.assign(pressure=readings["pressure"].clip(3, 6)), "n2", gone, back))
    settings = runtime.settings

    def closed() -> list:
        return events(database).query("anomaly_type == 'silent'")[["timestamp", "end", "resolved_at"]].values.tolist()

    if not first_load:
        run_cycle(settings, gone + DAY)
        assert closed() == [[gone, pd.NaT, pd.NaT]]
        assert checked(database, gone + DAY) == ["n1", "n2", "n3"]
        assert pd.isna(node(database, "n2")["out_of_service_since"])
        assert table(database, "network_metrics")["total_nodes"].max() == 3
    as_of = gone + 4 * DAY + HOUR / 2
    run_cycle(settings, as_of)
    out = node(database, "n2")
    assert (out["out_of_service_since"], out["out_of_service_reason"]) == (gone + 3 * DAY, SILENT)
    assert closed() == [[gone, gone + 3 * DAY, gone + 3 * DAY]]
    [event] = events(database).to_dict("records")
    assert event["metadata"]["closed_because"] == f"out of service since {gone + 3 * DAY:%Y-%m-%d %H:%M} UTC (silent)"
    assert checked(database, as_of) == ["n1", "n3"]
    run_quality(runtime, as_of)
    weekly = table(database, "data_quality_metrics").query("time_window == '7d'")
    assert sorted(weekly["node_id"]) == ["n1", "n3"]
    latest = table(database, "network_metrics").sort_values("computation_timestamp")["total_nodes"].iloc[-1]
    assert latest == 2
    run_cycle(settings, back + HOUR)
    assert node(database, "n2")[["out_of_service_since", "out_of_service_reason"]].isna().all()
    assert closed() == [[gone, gone + 3 * DAY, gone + 3 * DAY]]
    assert checked(database, back + HOUR) == ["n1", "n2", "n3"]
    # The same hours again: the same.
    before = events(database)
    run_cycle(settings, back + 2 * HOUR)
    pd.testing.assert_frame_equal(events(database), before)


def test_with_zero_no_node_leaves_service_by_itself(stack: Settings, database: Engine):
    gone = START + 2 * DAY
    put(stack, silent(readings_of(["n1", "n2"], days=9, minutes=60), "n2", gone, START + 99 * DAY))
    run_cycle(stack.model_copy(update={"out_of_service_after_days": 0}), START + 8 * DAY)
    assert pd.isna(node(database, "n2")["out_of_service_since"])
    assert events(database).query("anomaly_type == 'silent'")["resolved_at"].isna().tolist() == [True]


def test_a_node_that_is_taken_out_by_hand_stays_out_whatever_it_sends(
    stack: Settings, database: Engine, tmp_path: Path
):
    gone, now = START + 2 * DAY, START + 4 * DAY
    readings = readings_of(["n1", "n2", "n3"], days=9, minutes=30)
    low = (readings["node_id"] == "n3") & (readings["timestamp"] >= pd.Timestamp(gone))
    readings["pressure"] = readings["pressure"].clip(3, 6).where(~low, 1 + readings["flow_rate"] / 100)
    put(stack, silent(readings, "n2", gone, now + 2 * HOUR))
    run_cycle(stack, now)
    assert events(database)["resolved_at"].isna().tolist() == [True, True]
    file = tmp_path / "nodes.csv"

    def imported(*lines: str) -> str:
        file.write_text("\n".join(["node_id,out_of_service,out_of_service_since", *lines]), "utf-8")
        done = run("src.processing.nodes", "import", str(file), settings=stack, clock=f"frozen:{now.isoformat()}")
        return done.stdout if done.returncode == 0 else done.stderr

    since = now - 5 * HOUR
    assert imported("n2,true,", f"n3,true,{since.isoformat()}") == "2 nodes imported.\n"
    assert node(database, "n2")["out_of_service_since"] == now
    run_cycle(stack, now + 4 * HOUR)
    found = events(database)
    ends = dict(zip(found["node_id"], found["end"], strict=True))
    assert ends == {"n2": now, "n3": since}
    assert [metadata["closed_because"][:20] for metadata in found["metadata"]] == ["out of service since"] * 2
    assert found["resolved_at"].notna().all()
    assert checked(database, now + 4 * HOUR) == ["n1"]
    assert node(database, "n2")["out_of_service_reason"] == BY_HAND
    day = table(database, "network_metrics").query("time_range == '1h'").sort_values("computation_timestamp")
    assert day["total_nodes"].tolist() == [3, 1]
    assert day["active_nodes"].tolist()[-1] == 1
    assert day["avg_pressure"].iloc[-1] >= 3
    # Stated again, the node is out since the first statement; an empty field changes nothing, only `false` ends it.
    assert imported("n2,true,", "n3,,", "n1,,") == "3 nodes imported.\n"
    assert node(database, "n2")["out_of_service_since"] == now
    assert node(database, "n3")["out_of_service_since"] == since
    assert imported(f"n2,,{since.isoformat()}").startswith("line 2: out_of_service_since is of a node that is out")
    assert imported("n2,false,", "n3,false,") == "2 nodes imported.\n"
    run_cycle(stack, now + 6 * HOUR)
    assert checked(database, now + 6 * HOUR) == ["n1", "n2", "n3"]
    assert events(database).query("resolved_at.isnull()")[["node_id", "anomaly_type"]].values.tolist() == [
        ["n3", "low_pressure"]
    ]


def test_a_meter_that_is_taken_out_leaves_its_districts_balance_from_that_day_on(stack: Settings, database: Engine):
    roles = {"in": "inlet", "c1": "consumption", "c2": "consumption"}
    with database.begin() as connection:
        import_nodes(connection, [Node(node_id=name, district_id="d", role=role) for name, role in roles.items()])
    readings = readings_of(list(roles), days=5, minutes=30).assign(pressure=4.0)
    readings["flow_rate"] = readings["node_id"].map({"in": 10.0, "c1": 6.0, "c2": 3.0})
    put(stack, readings)
    run_cycle(stack, START + 3 * DAY)
    with database.begin() as connection:
        out = Node.model_validate(
            {"node_id": "c2", "out_of_service": True, "out_of_service_since": START + 3 * DAY + HOUR}
        )
        import_nodes(connection, [out])
    run_cycle(stack, START + 5 * DAY)
    balances = table(database, "district_balances").query("time_window == '1hour'").set_index("window_start")
    losses = balances["balance"].map(lambda balance: balance["loss_volume"]).dropna()
    hours = (losses / 3.6).round(6)
    left = START + 3 * DAY - 2 * HOUR
    assert set(hours[hours.index < left]) == {1.0}
    assert set(hours[hours.index >= left]) == {4.0}
    assert set(balances["total_nodes"][balances.index >= left]) == {2}


def test_a_meter_that_fell_silent_is_not_counted_as_missing_and_its_districts_balance_stays_unknown(
    stack: Settings, database: Engine
):
    roles = {"in": "inlet", "c1": "consumption", "c2": "consumption"}
    with database.begin() as connection:
        import_nodes(connection, [Node(node_id=name, district_id="d", role=role) for name, role in roles.items()])
    gone = START + DAY
    put(stack, silent(readings_of(list(roles), days=6, minutes=30), "c2", gone, START + 99 * DAY))
    run_cycle(stack.model_copy(update={"out_of_service_after_days": 3}), START + 6 * DAY)
    hours = table(database, "district_balances").query("time_window == '1hour'").set_index("window_start")
    since = gone + 3 * DAY
    late = hours[hours.index >= since]
    assert set(late["total_nodes"]) == {2}
    assert set(hours["total_nodes"][hours.index < since]) == {3}
    assert all(balance["loss_volume"] is None and "c2" in balance["reason"] for balance in late["balance"])


@pytest.mark.parametrize(("flow", "is_out"), [(-5.0, False), (-9999.0, True)])
def test_a_node_that_sends_what_cannot_be_is_not_silent_and_one_that_says_it_measured_nothing_is(
    stack: Settings, database: Engine, flow: float, is_out: bool
):
    readings = readings_of(["n1", "n2"], days=9, minutes=30)
    wrong = (readings["node_id"] == "n2") & (readings["timestamp"] >= pd.Timestamp(START + 2 * DAY))
    readings["flow_rate"] = readings["flow_rate"].where(~wrong, flow)
    for name in ("pressure", "temperature"):
        readings[name] = readings[name].clip(3).where(~wrong)
    put(stack, readings)
    settings = stack.model_copy(update={"out_of_service_after_days": 3})
    for days in (8, 8.5):
        as_of = START + days * DAY
        run_cycle(settings, as_of)
        assert pd.notna(node(database, "n2")["out_of_service_since"]) is is_out
        assert ("n2" in checked(database, as_of)) is not is_out
    if not is_out:
        assert events(database).query("anomaly_type == 'negative_flow'")["end"].isna().tolist() == [True]
