"""The calendar of works in the database: imported, attached to events by real cycles, taken back again."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path
from uuid import UUID
from zoneinfo import ZoneInfo

import pandas as pd
import pytest
from sqlalchemy import Engine, text

from src.domain.anomalies.events import Finding
from src.domain.anomalies.signals import LOSS
from src.processing.alerts.conditions import conditions
from src.processing.alerts.rules import Anomalies, Rules
from src.processing.conclusions import conclude, works
from src.processing.conclusions.quality import run_quality
from src.processing.imports.instants import instant_of
from src.processing.jobs.measures import OPEN_EVENTS, observe_state
from src.processing.jobs.runtime import Runtime
from src.processing.nodes import Node, import_nodes
from src.processing.works import Work, import_works
from src.settings import Settings
from tests.system import START, metrics, put, readings_of, run, run_cycle, table

HOUR, DAY = timedelta(hours=1), timedelta(days=1)
ROME = ZoneInfo("Europe/Rome")
LOW_FROM = START + 2 * DAY
AS_OF = START + 2 * DAY + 8 * HOUR
EVERY_EVENT = Rules(rules=(Anomalies(name="x", severity="critical", when="anomalies", at_least="info"),))


@pytest.fixture
def low(stack: Settings, database: Engine) -> pd.DataFrame:
    """Two nodes in two districts; the pressure of n1 is low for good from `LOW_FROM` on."""
    with database.begin() as connection:
        import_nodes(connection, [Node(node_id=f"n{n}", district_id=f"d{n}") for n in (1, 2)])
    readings = readings_of(["n1", "n2"], days=4, minutes=15)
    is_low = (readings["node_id"] == "n1") & (readings["timestamp"] >= pd.Timestamp(LOW_FROM))
    readings["pressure"] = readings["pressure"].clip(3, 6).where(~is_low, 1.0)
    put(stack, readings)
    return readings


def events(database: Engine) -> pd.DataFrame:
    return table(database, "anomalies").sort_values(["timestamp", "node_id"], ignore_index=True)


def closure(**changed: object) -> Work:
    values = {
        "kind": "closure",
        "district_id": "d1",
        "begin": LOW_FROM - HOUR,
        "end": LOW_FROM + DAY,
        "note": "via Roma",
    }
    return Work.model_validate(values | changed)


def state(database: Engine, *stated: Work) -> None:
    with database.begin() as connection:
        import_works(connection, list(stated))


def take_back(database: Engine) -> None:
    with database.begin() as connection:
        connection.execute(
            text(
                "UPDATE water_infrastructure.works SET deleted_at = now(), deleted_by = 'anna', "
                "changed_at = clock_timestamp()"
            )
        )


def counted(database: Engine) -> int:
    """How many windows lie under events, and the network's hours with them."""
    of_network = table(database, "network_efficiency")
    return int(metrics(database)["anomaly_count"].sum() + of_network["total_anomalies"].sum())


def fired(runtime: Runtime) -> int:
    with runtime.database.connect() as connection:
        return len(conditions(connection, runtime, EVERY_EVENT, AS_OF))


@pytest.mark.usefixtures("low")
def test_what_a_stated_work_explains_is_attached_and_not_raised(stack: Settings, database: Engine, runtime: Runtime):
    state(database, closure(), closure(district_id="d2"))
    run_cycle(stack, AS_OF)
    [event] = events(database).to_dict("records")
    assert (event["anomaly_type"], event["severity"], event["resolved_at"]) == ("low_pressure", "info", pd.NaT)
    stated = {work["district_id"]: str(work["work_id"]) for work in table(database, "works").to_dict("records")}
    by = {"work_id": stated["d1"], "kind": "closure", "note": "via Roma", "severity": "critical"}
    assert event["metadata"]["explained_by"] == by
    assert event["metadata"]["explanation"].endswith("; explained by closure of 2023-05-02 23:00 UTC: via Roma")
    assert counted(database) == fired(runtime) == 0
    assert set(table(database, "network_metrics")["anomaly_count"]) == {0}
    assert (table(database, "works")["attached_at"] == table(database, "works")["changed_at"]).all()


@pytest.mark.usefixtures("low")
def test_a_work_that_is_stated_afterwards_explains_and_one_that_is_taken_back_no_more(
    stack: Settings, database: Engine, runtime: Runtime
):
    run_cycle(stack, AS_OF)
    [raised] = events(database).to_dict("records")
    under = counted(database)
    assert (raised["severity"], fired(runtime)) == ("critical", 1)
    assert under > 8
    state(database, closure())
    run_cycle(stack, AS_OF)
    [explained] = events(database).to_dict("records")
    assert (explained["anomaly_id"], explained["severity"]) == (raised["anomaly_id"], "info")
    assert counted(database) == fired(runtime) == 0
    take_back(database)
    run_cycle(stack, AS_OF)
    [again] = events(database).to_dict("records")
    assert again["severity"] == "critical"
    assert again["metadata"] == raised["metadata"]
    assert (counted(database), fired(runtime)) == (under, 1)
    assert table(database, "works")["attached_at"].notna().all()


def test_events_that_are_over_are_explained_up_to_ninety_days_back(stack: Settings, database: Engine):
    since = START + DAY
    readings = readings_of(["n1", "n2"], days=100, minutes=60).assign(pressure=4.0, temperature=None)
    gap = (readings["node_id"] == "n1") & readings["timestamp"].between(since, since + 9 * HOUR, inclusive="left")
    put(stack, readings[~gap].iloc[::1])
    run_cycle(stack, START + 2 * DAY)
    [silent] = events(database).query("anomaly_type == 'silent'").to_dict("records")
    assert silent["resolved_at"] == since + 9 * HOUR
    state(database, closure(node_id="n1", district_id=None, begin=since, end=since + DAY))
    # Nobody wants to wait for ninety days of readings to be judged.
    late = since + 9 * HOUR + 90 * DAY
    for as_of, severity in ((late + HOUR, "warning"), (late - HOUR, "info")):
        with database.begin() as connection:
            network = pd.DataFrame({"district_id": [None]}, index=pd.Index(["n1"], name="node_id"))
            works.attach_works(connection, network, ["n1"], [], as_of, with_others=False)
        assert events(database).query("anomaly_type == 'silent'")["severity"].tolist() == [severity]


@pytest.mark.usefixtures("low")
def test_where_no_work_has_changed_no_event_is_read(stack: Settings, database: Engine, monkeypatch: pytest.MonkeyPatch):
    state(database, closure())
    run_cycle(stack, AS_OF)
    monkeypatch.setattr(works, "stored_events", None)
    job = run_cycle(stack, AS_OF + HOUR)
    assert job["error_message"] is None
    state(database, closure())
    assert run_cycle(stack, AS_OF + 2 * HOUR)["error_message"] is None
    state(database, closure(note="via Milano"))
    assert "not callable" in run_cycle(stack, AS_OF + 3 * HOUR)["error_message"]


@pytest.mark.usefixtures("low")
def test_a_work_whose_cycle_fails_is_attached_by_the_next(
    stack: Settings, database: Engine, monkeypatch: pytest.MonkeyPatch
):
    run_cycle(stack, AS_OF)
    state(database, closure())

    def broken(*arguments: object) -> Iterator[object]:
        raise ValueError("no luck today")

    with monkeypatch.context() as patched:
        patched.setattr(conclude, "STEPS", {**conclude.STEPS, "anomalies": broken})
        run_cycle(stack, AS_OF + HOUR)
    assert table(database, "works")["attached_at"].isna().all()
    run_cycle(stack, AS_OF + 2 * HOUR)
    assert events(database)["severity"].tolist() == ["info"]
    assert table(database, "works")["attached_at"].notna().all()


def test_a_file_of_works_is_imported_as_often_as_one_likes(stack: Settings, database: Engine, tmp_path: Path):
    with database.begin() as connection:
        import_nodes(connection, [Node(node_id="n1", district_id="hill")])
    file = tmp_path / "works.csv"

    def imported(*lines: str) -> list[str]:
        file.write_text("\n".join(["kind,node_id,district_id,begin,end,note,work_id", *lines]), "utf-8")
        done = run("src.processing.works", "import", str(file), settings=stack)
        assert done.returncode == 0, done.stderr[-2000:]
        return done.stdout.splitlines()

    lines = [
        "works,n1,hill,2023-05-04 08:30,2023-05-04T12:00:00+02:00,flushing,",
        "meter_exchange,n1,,2023-05-03,,,",
        f"closure,,hill,2023-11-04T08:30,2023-11-05,,{UUID(int=9)}",
    ]
    for _ in range(2):
        assert imported(*lines) == ["3 works imported."]
    stored = table(database, "works").sort_values("begin", ignore_index=True)
    assert stored["begin"].tolist() == [
        pd.Timestamp("2023-05-02T22:00Z"), pd.Timestamp("2023-05-04T06:30Z"), pd.Timestamp("2023-11-04T07:30Z"),
    ]  # fmt: skip
    assert stored["end"].tolist() == [pd.NaT, pd.Timestamp("2023-05-04T10:00Z"), pd.Timestamp("2023-11-04T23:00Z")]
    assert stored["work_id"].iloc[2] == UUID(int=9)
    assert set(stored["created_by"]) == {"works.csv"}
    # A work that is stated differently is changed, and one that was taken back is there again once it is stated again.
    take_back(database)
    assert imported(lines[1].replace(",,,", ",,new battery,")) == ["1 works imported."]
    now = table(database, "works").sort_values("begin", ignore_index=True)
    assert now["work_id"].tolist() == stored["work_id"].tolist()
    assert now["deleted_at"].isna().tolist() == [True, False, False]
    assert now["note"].iloc[0] == "new battery"
    assert now["changed_at"].iloc[0] > stored["changed_at"].iloc[0]


@pytest.mark.parametrize(
    ("lines", "problems"),
    [
        (
            ["closure,n1,,2023-05-04 08:00,", "works,,,2023-05-04 08:00,2023-05-05", "party,n1,,2023-05-04,"],
            [
                "line 2: end must say until when, of closure",
                "line 3: node_id or district_id must say where",
                "line 4: kind: Input should be 'works', 'meter_exchange', 'closure' or 'network_change'",
            ],
        ),
        (
            ["works,n1,,2023-03-26 02:30,2023-03-27", "works,n1,,2023-10-29 02:30,2023-10-30", "works,n1,,,2023-10-30"],
            [
                "line 2: begin: 2023-03-26 02:30 does not exist in Europe/Rome: clocks are put forward over it",
                "line 3: begin: 2023-10-29 02:30 comes twice in Europe/Rome, when clocks are put back: "
                "add an offset, such as +01:00",
                "line 4: begin must say when",
            ],
        ),
        (
            ["works,n1,,tomorrow,2023-03-27", "works,n1,,2023-03-27,2023-03-26", "works,n1,,0023-03-27,2023-03-26"],
            [
                "line 2: begin: must be an instant such as 2023-05-01 08:30 or 2023-05-01T08:30:00+02:00",
                "line 3: end must be later than begin",
                "line 4: begin: must lie between 1970 and 2200",
            ],
        ),
        (
            ["network_change,n1,,2023-05-04,", "network_change,nowhere,,2023-05-04,", "network_change,,no,2023-05-04,"],
            ["line 3: node_id: there is no node 'nowhere'", "line 4: district_id: there is no district 'no'"],
        ),
        (["network_change,n1,,2023-05-04,"] * 2, ["line 3: it stands in the file twice"]),
    ],
)
def test_a_file_with_anything_wrong_is_not_imported_at_all(
    stack: Settings, database: Engine, tmp_path: Path, lines: list[str], problems: list[str]
):
    with database.begin() as connection:
        import_nodes(connection, [Node(node_id="n1")])
    file = tmp_path / "works.csv"
    file.write_text("\n".join(["kind,node_id,district_id,begin,end", *lines]), "utf-8")
    done = run("src.processing.works", "import", str(file), settings=stack)
    assert done.returncode == 1
    assert done.stderr.splitlines() == [*problems, "Nothing was imported."]
    assert table(database, "works").empty


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("2023-05-01", datetime(2023, 5, 1, tzinfo=ROME)),
        ("2023-10-29T02:30:00+01:00", datetime(2023, 10, 29, 2, 30, tzinfo=ROME, fold=1)),
        ("2023-10-29T02:30:00+02:00", datetime(2023, 10, 29, 2, 30, tzinfo=ROME)),
        ("2023-05-01T08:30:00Z", datetime(2023, 5, 1, 10, 30, tzinfo=ROME)),
    ],
)
def test_an_instant_has_an_offset_or_is_in_local_time(written: str, meant: datetime):
    # By what it is on the clock of all: zones compare local times.
    assert instant_of(written, ROME).timestamp() == meant.timestamp()


def test_a_meter_between_two_districts_is_in_the_balance_of_both_wherever_they_are_concluded(database: Engine):
    with database.begin() as connection:
        import_nodes(
            connection,
            [
                Node(node_id="source", district_id="up", role="inlet"),
                Node(node_id="pass", district_id="down", role="inlet", metadata='{"feeding_district_id": "up"}'),
            ],
        )
        stated = Work(kind="meter_exchange", node_id="pass", begin=LOW_FROM)
        import_works(connection, [stated])
        found = {}
        for district, inlet in (("up", "source"), ("down", "pass"), ("else", "source")):
            network = pd.DataFrame({"district_id": [district]}, index=pd.Index([inlet], name="node_id"))
            leak = Finding(inlet, "burst", LOSS, "water_balance", LOW_FROM + HOUR, AS_OF, None, "info", 1, 2, {})
            calendar = works.calendar_of(connection, network, [district], [], LOW_FROM)
            found[district] = calendar.explanation_of(leak)
            # Of other hours nothing is read.
            assert works.calendar_of(connection, network, [district], [], LOW_FROM + 2 * DAY).works == []
    assert found["up"].work_id == found["down"].work_id == stated.identity
    assert found["else"] is None


def test_what_a_work_explains_lowers_no_score_and_is_no_open_event_of_the_measures(
    stack: Settings, database: Engine, runtime: Runtime
):
    put(stack, readings_of(["n1"], days=3, minutes=15).assign(pressure=4.0))
    run_cycle(stack, AS_OF)
    scores = []
    for why in ("{}", '{"explained_by": {"kind": "works"}}'):
        with database.begin() as connection:
            connection.execute(
                text(
                    "INSERT INTO water_infrastructure.anomalies (timestamp, node_id, anomaly_type, severity, "
                    "detection_method, metadata) VALUES (:at, 'n1', 'jump', 'warning', 'x', CAST(:why AS jsonb))"
                ),
                {"at": AS_OF - 4 * HOUR, "why": why},
            )
        run_quality(runtime, AS_OF + len(scores) * HOUR)
        with database.connect() as connection:
            observe_state(connection, runtime.redis, AS_OF, 60)
        rows = table(database, "data_quality_metrics").query("time_window == '7d'").sort_values("check_timestamp")
        latest = rows.iloc[-1]
        scores.append((latest["outliers_detected"], len(latest["quality_issues"]), _open_events()))
        with database.begin() as connection:
            connection.execute(text("TRUNCATE water_infrastructure.anomalies"))
    (outliers, issues, is_open), (none, fewer, is_still_open) = scores
    assert (outliers, is_open, none, is_still_open) == (4, 1, 0, 0)
    assert fewer < issues


def test_between_the_times_that_an_event_was_there_no_hour_lowers_a_score(
    stack: Settings, database: Engine, runtime: Runtime
):
    put(stack, readings_of(["n1"], days=3, minutes=15).assign(pressure=4.0))
    run_cycle(stack, AS_OF)
    begin, again = AS_OF - 30 * HOUR, AS_OF - 4 * HOUR
    episodes = [[begin.isoformat(), (begin + HOUR).isoformat()], [again.isoformat(), None]]
    with database.begin() as connection:
        connection.execute(
            text(
                "INSERT INTO water_infrastructure.anomalies (timestamp, node_id, anomaly_type, severity, "
                "detection_method, metadata) VALUES (:at, 'n1', 'unusual_flow', 'warning', 'x', CAST(:why AS jsonb))"
            ),
            {"at": begin, "why": json.dumps({"episodes": episodes})},
        )
    run_quality(runtime, AS_OF)
    [row] = table(database, "data_quality_metrics").query("time_window == '7d'").to_dict("records")
    assert row["outliers_detected"] == 1 + 4


def _open_events() -> float:
    [metric] = OPEN_EVENTS.collect()
    return next(sample.value for sample in metric.samples if sample.labels["severity"] == "warning")
