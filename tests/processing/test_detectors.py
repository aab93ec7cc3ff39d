"""Multivariate detectors of districts: from shadow to events of their own, and back where they cry wolf."""

from __future__ import annotations

from datetime import datetime, timedelta
from uuid import UUID, uuid4

import numpy as np
import pandas as pd
import pytest
from sqlalchemy import Connection, Engine, insert, text

from src.db.tables import anomalies, detector_alarms
from src.domain import lifecycle
from src.domain.anomalies.events import Finding
from src.domain.anomalies.relatives import learn
from src.domain.anomalies.signals import MEASURED, Floats, Signals, cells_of, signals_of
from src.domain.anomalies.together import (
    TOGETHER,
    Detector,
    beside_others,
    record_of,
    relations_of_district,
    unusual_together,
    worth_an_event,
)
from src.domain.lifecycle import Record, judge_active_detector, judge_detector
from src.processing.modelling import registry
from src.processing.modelling.detectors import keep_alarms, review_detectors
from src.processing.nodes import Node, import_nodes
from src.settings import Settings
from tests.signals import MONDAY, ROME, WEEK
from tests.system import put, run_cycle, table

HOUR, DAY = timedelta(hours=1), timedelta(days=1)
SENSORS = ["p1", "p2", "p3"]
LEARNED = MONDAY + 5 * WEEK


def district(days: float, seed: int = 1, leak: tuple[datetime, float] | None = None) -> pd.DataFrame:
    """Hourly readings of an inlet and three pressures that demand moves together, each with its own noise.

    Args:
        leak: from when on the inflow is higher and pressures are lower than demand explains, by so many of their usual
            deviations.
    """
    random = np.random.default_rng(seed)
    at = pd.date_range(MONDAY, periods=round(days * 24), freq="h")
    demand = np.zeros(len(at))
    for hour in range(1, len(at)):
        demand[hour] = 0.6 * demand[hour - 1] + 0.8 * random.normal()
    usual = 1 + 0.3 * np.sin(2 * np.pi * (at.hour.to_numpy() - 7) / 24)
    leaking = np.zeros(len(at)) if leak is None else np.where(at >= pd.Timestamp(leak[0]), leak[1], 0.0)

    def noise() -> np.ndarray:
        return 0.3 * random.normal(size=len(at))

    frames = [pd.DataFrame({"timestamp": at, "node_id": "inlet", "flow_rate": 50 * usual + demand + noise()})]
    frames += [
        pd.DataFrame({"timestamp": at, "node_id": name, "pressure": 4 - 0.02 * (demand + leaking + noise())})
        for name in SENSORS
    ]
    readings = pd.concat(frames, ignore_index=True)
    readings.loc[readings["node_id"] == "inlet", "flow_rate"] += 0.3 * leaking
    return readings


@pytest.fixture
def town(stack: Settings, database: Engine) -> Settings:
    """A district whose five weeks of hours are taken in, on the Monday on which its relations are learned."""
    with database.begin() as connection:
        roles = {"inlet": "inlet"} | dict.fromkeys(SENSORS, "monitoring")
        import_nodes(connection, [Node(node_id=name, district_id="d1", role=role) for name, role in roles.items()])
    put(stack, district(days=40, leak=(LEARNED + 3 * DAY, 3.0)))
    run_cycle(stack, LEARNED + 2 * HOUR)
    return stack


@pytest.fixture
def shadow(database: Engine) -> UUID:
    """A detector that went to shadow on that Monday; what it learned does not matter."""
    with database.begin() as connection:
        model_id = registry.add(connection, registry.ANOMALIES, "d1", b"{}", LEARNED, LEARNED, {})
        registry.send_to_shadow(connection, model_id, LEARNED, registry.SERVICE, "new")
    return model_id


def detectors(database: Engine) -> list[dict]:
    models = table(database, "ml_models").query("model_type == 'anomaly_detection'")
    return models.sort_values("training_data_end").to_dict("records")


def detector_events(database: Engine) -> pd.DataFrame:
    """Events of detectors since the leak began."""
    found = table(database, "anomalies").query("anomaly_type == @TOGETHER")
    return found[found["detected_at"] > pd.Timestamp(LEARNED + 3 * DAY)].reset_index(drop=True)


def test_a_detector_is_learned_on_mondays_and_in_shadow_its_alarms_are_stored_but_shown_to_nobody(
    town: Settings, database: Engine
):
    (model,) = detectors(database)
    assert (model["status"], model["scope"]) == ("shadow", "d1")
    assert model["training_data_end"] == LEARNED
    assert model["parameters"]["signals"] == ["flow_rate inlet", "pressure p1", "pressure p2", "pressure p3"]
    run_cycle(town, LEARNED + 3 * DAY + 12 * HOUR)
    alarms = table(database, "detector_alarms")
    (alarm,) = alarms[alarms["detected_at"] > pd.Timestamp(LEARNED + 3 * DAY)].to_dict("records")
    assert alarm["metadata"]["looks_like"] == "leak"
    assert {one["node_id"] for one in alarm["metadata"]["contributions"]} <= {"inlet", *SENSORS}
    assert detector_events(database).empty
    # A cycle that is repeated, or comes again in the week, learns and reports nothing twice.
    run_cycle(town, LEARNED + 3 * DAY + 12 * HOUR)
    assert len(detectors(database)) == 1
    pd.testing.assert_frame_equal(table(database, "detector_alarms"), alarms)


def test_what_an_active_detector_finds_is_an_event_with_its_reasons_until_it_retires(town: Settings, database: Engine):
    (model,) = detectors(database)
    now = LEARNED + DAY
    with database.begin() as connection:
        registry.promote(connection, model["model_id"], now, "anna", "tried by hand")
    at = LEARNED + 3 * DAY + 8 * HOUR
    run_cycle(town, at)
    (event,) = detector_events(database).to_dict("records")
    assert (event["node_id"], event["district_id"], event["severity"]) == ("inlet", "d1", "warning")
    assert event["detection_method"] == "multivariate"
    assert LEARNED + 3 * DAY < event["detected_at"] <= LEARNED + 3 * DAY + 6 * HOUR
    assert "as a leak would move them" in event["metadata"]["explanation"]
    assert event["metadata"]["contributions"][0]["share"] > 0.2
    run_cycle(town, at + 4 * HOUR)
    (same,) = detector_events(database).to_dict("records")
    assert (same["anomaly_id"], same["detected_at"]) == (event["anomaly_id"], event["detected_at"])
    with database.begin() as connection:
        registry.retire(connection, model["model_id"], at, "anna", "not needed")
    run_cycle(town, at + 5 * HOUR)
    (closed,) = detector_events(database).to_dict("records")
    assert pd.notna(closed["resolved_at"])
    assert "no longer active" in closed["metadata"]["closed_because"]


def test_a_tampered_detector_is_refused_and_the_cycle_goes_on(town: Settings, database: Engine):
    with database.begin() as connection:
        connection.execute(text("UPDATE water_infrastructure.ml_models SET artefact = '{}'"))
    job = run_cycle(town, LEARNED + DAY)
    assert (job["status"], job["error_message"]) == ("completed", None)
    (model,) = detectors(database)
    assert model["status"] == "retired"
    assert "SHA-256" in table(database, "model_decisions").query("decision == 'retired'")["reason"].iloc[0]


def alarm_of(connection: Connection, model_id: UUID, begin: datetime, hours: float = 3) -> None:
    row = {"model_id": model_id, "timestamp": begin, "detected_at": begin + 2 * HOUR, "end": begin + hours * HOUR}
    connection.execute(insert(detector_alarms), row | {"metadata": {"contributions": []}})


def test_an_alarm_that_new_habits_find_later_takes_the_place_of_the_one_that_was_stored(shadow: UUID, database: Engine):
    before, after = (finding(TOGETHER, 160, None, detected=detected) for detected in (162, 170))
    with database.begin() as connection:
        keep_alarms(connection, {str(shadow): [before]}, MONDAY)
        keep_alarms(connection, {str(shadow): [after]}, MONDAY + WEEK)
    stored = table(database, "detector_alarms").query("timestamp == @before.begin")
    assert stored["detected_at"].tolist() == [after.detected]


def leak_of(connection: Connection, begin: datetime, detected: datetime) -> None:
    anomaly_id = uuid4()
    row = {
        "anomaly_id": anomaly_id, "incident_id": anomaly_id, "node_id": "inlet", "district_id": "d1",
        "anomaly_type": "burst", "severity": "warning", "timestamp": begin, "detected_at": detected,
        "end": begin + DAY, "detection_method": "level_shift", "metadata": {},
    }  # fmt: skip
    connection.execute(insert(anomalies), row)


def test_one_that_saw_a_leak_before_anything_else_is_promoted_after_a_day_and_retires_when_it_cries_wolf(
    shadow: UUID, database: Engine
):
    begin = LEARNED + 6 * HOUR
    with database.begin() as connection:
        leak_of(connection, begin, begin + 9 * HOUR)
        alarm_of(connection, shadow, begin + HOUR)
        assert review_detectors(connection, LEARNED + 20 * HOUR) == []
        (decided,) = review_detectors(connection, LEARNED + 30 * HOUR)
        assert decided["decision"] == "promote"
        assert "1 of them before anything else did by a median of 6 h" in decided["reason"]
    (model,) = detectors(database)
    assert (model["status"], model["metrics"]["earlier"]) == ("active", 1)
    with database.begin() as connection:
        for day in range(3, 7):
            alarm_of(connection, shadow, LEARNED + day * DAY)
        (decided,) = review_detectors(connection, LEARNED + 8 * DAY)
    assert decided["decision"] == "retire"
    assert "raised 4 alarms beside which nothing else was reported" in decided["reason"]


# --- decisions and records, without a database


def record(**changed: float) -> Record:
    figures = {"days": 28, "leaks": 0, "seen": 0, "earlier": 0, "hours_earlier": np.nan, "alarms": 0, "alone": 0}
    return Record(**(figures | changed))


@pytest.mark.parametrize(
    ("changed", "has_active", "action"),
    [
        ({}, False, lifecycle.WAIT),
        ({}, True, lifecycle.PROMOTE),
        ({"leaks": 1, "earlier": 1}, False, lifecycle.PROMOTE),
        ({"leaks": 4, "seen": 2}, False, lifecycle.PROMOTE),
        ({"leaks": 4, "seen": 1}, False, lifecycle.WAIT),
        ({"leaks": 1, "seen": 1}, False, lifecycle.WAIT),
        ({"leaks": 4, "seen": 4, "earlier": 4, "alone": 9}, True, lifecycle.WAIT),
    ],
)
def test_a_detector_is_promoted_where_it_sees_leaks_and_seldom_errs(changed: dict, has_active: bool, action: str):
    assert judge_detector(record(**changed), MONDAY, MONDAY + DAY, has_active).action == action
    assert judge_detector(record(**changed), MONDAY, MONDAY + 23 * HOUR, has_active).action == lifecycle.WAIT


def test_the_budget_grows_with_the_days_and_allows_for_chance():
    allowed = [record(days=days).allowed for days in (1, 7, 28, 56)]
    assert allowed == sorted(allowed)
    assert allowed[0] == 0
    assert 1 <= allowed[-1] <= 4
    assert judge_active_detector(record(days=56, alone=allowed[-1])).action == lifecycle.KEEP
    assert judge_active_detector(record(days=56, alone=allowed[-1] + 1)).action == lifecycle.RETIRE


def finding(kind: str, begin: float, end: float | None, detected: float | None = None) -> Finding:
    """An event at these hours from `MONDAY` on."""
    at = [None if hour is None else MONDAY + hour * HOUR for hour in (begin, end)]
    found = MONDAY + (begin + 2 if detected is None else detected) * HOUR
    return Finding("inlet", kind, "flow_rate", "", at[0], found, at[1], "info", None, None, {"contributions": []})


def test_the_record_tells_leaks_seen_and_seen_earlier_from_lone_alarms():
    alarms = [
        finding(TOGETHER, 100, 103), finding(TOGETHER, 101, 104),  # two versions, one alarm
        finding(TOGETHER, 200, 206), finding(TOGETHER, 300, 303), finding(TOGETHER, 400, 402),
    ]  # fmt: skip
    events = [
        finding("burst", 100, 150, detected=110), finding("burst", 195, 230, detected=198),
        finding("burst", 350, 370), finding("silent", 395, 401),
        # What was withdrawn explains nothing.
        finding("silent", 300, 300),
    ]  # fmt: skip
    # Nobody knows yet whether the last one is alone.
    assert record_of(alarms, events, MONDAY, MONDAY + 320 * HOUR).alone == 0
    result = record_of(alarms, events, MONDAY, MONDAY + 500 * HOUR)
    assert (result.alarms, result.alone, result.leaks, result.seen, result.earlier) == (4, 1, 3, 2, 1)
    assert result.hours_earlier == 8
    assert result.days == pytest.approx(500 / 24)


def learned_detector(readings: pd.DataFrame) -> tuple[Signals, Floats, Detector]:
    """Signals of a district's readings, what habits do not explain of them, and a detector learned from five weeks."""
    rows = readings.rename(columns={"timestamp": "window_start"}).assign(cadence_seconds=3600.0)
    for name, columns in MEASURED.items():
        values = rows.get(name, pd.Series(np.nan, rows.index))
        rows = rows.assign(**{column: values if n < 3 else values * 0 for n, column in enumerate(columns)})
    nodes = pd.DataFrame({"district_id": "d1", "role": ["inlet", *["monitoring"] * 3]}, index=["inlet", *SENSORS])
    end = readings["timestamp"].max().to_pydatetime() + HOUR
    signals = signals_of(rows, nodes, MONDAY, end)
    history = signals.between(MONDAY, LEARNED)
    cells = cells_of(history.hours, ROME, "IT")
    usable = np.ones(history.mean.shape, dtype=bool)
    habits = learn(history, cells, usable)
    relations = relations_of_district(history, habits.unexplained(history.mean, cells), usable, cells, "d1")
    assert relations is not None
    scaled = habits.unexplained(signals.mean, cells_of(signals.hours, ROME, "IT"))
    return signals, scaled, Detector("m", "d1", relations, is_active=True)


def test_while_a_leak_is_known_nothing_more_is_reported_and_one_found_later_takes_over():
    since = LEARNED + 3 * DAY
    signals, scaled, detector = learned_detector(district(days=40, leak=(since, 3.0)))
    alarms = [alarm for alarm in unusual_together(signals, scaled, detector) if alarm.detected > since]
    assert len(alarms) == 1
    assert alarms[0].why["looks_like"] == "leak"

    def beside(*events: Finding) -> list[Finding]:
        return worth_an_event(beside_others(alarms, "d1", events, [], signals))

    hour = (since - MONDAY) / HOUR
    assert beside() == alarms
    assert beside(finding("burst", hour, None, detected=hour + 1)) == []
    (handed_over,) = beside(finding("burst", hour, None, detected=hour + 20))
    assert handed_over.end == since + 20 * HOUR
    assert "found_later" in handed_over.why
    # A leak long over explains nothing.
    assert beside(finding("burst", hour - 99, hour - 50)) == alarms


def test_what_is_all_about_one_signal_with_an_event_of_its_own_is_not_reported_twice():
    readings = district(days=40)
    since = LEARNED + 3 * DAY
    wrong = (readings["node_id"] == "p2") & (readings["timestamp"] >= pd.Timestamp(since))
    readings.loc[wrong, "pressure"] += 0.2
    signals, scaled, detector = learned_detector(readings)
    alarms = [alarm for alarm in unusual_together(signals, scaled, detector) if alarm.detected > since]
    assert alarms[0].why["contributions"][0]["node_id"] == "p2"
    assert alarms[0].why["looks_like"] is None
    event = Finding("p2", "jump", "pressure", "", since, since + HOUR, None, "info", None, None)
    assert worth_an_event(beside_others(alarms[:1], "d1", [event], [], signals)) == []
    assert worth_an_event(beside_others(alarms[:1], "d1", [], [], signals)) == alarms[:1]


def test_with_most_signals_gone_nothing_is_reported_of_them_together():
    signals, scaled, detector = learned_detector(district(days=40, leak=(LEARNED + DAY, 3.0)))
    gone = scaled.copy()
    gone[:, :3] = np.nan
    assert unusual_together(signals, gone, detector) == []
