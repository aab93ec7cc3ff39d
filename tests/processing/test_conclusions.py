"""Conclusions: each by itself, in short transactions, of the nodes concerned; what fails is made up for."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta
from threading import Thread
from typing import Any
from uuid import UUID

import pandas as pd
import pytest
from sqlalchemy import Engine, text

from src.processing.conclusions import anomalies as detect
from src.processing.conclusions.anomalies import concerned_by, judge_anomalies, parts_of
from src.processing.conclusions.extent import Extent, extent_of, together
from src.processing.ingest.plan import plan_cycle
from src.processing.jobs import patience
from src.processing.jobs import records as jobs
from src.processing.jobs.runtime import Runtime, create_runtime
from src.processing.service.finish import finish as finish_job
from src.processing.service.work import work_off
from src.settings import Settings
from tests.system import START, eventually, put, readings_of, run_cycle, table
from tests.trouble import accepting, refusing

HOUR, DAY = timedelta(hours=1), timedelta(days=1)
AS_OF = START + 3 * DAY


@pytest.fixture(autouse=True)
def _short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(patience, "PAUSES", (0.01, 0.01))


@pytest.fixture
def runtime(stack: Settings) -> Iterator[Runtime]:
    made = create_runtime(stack)
    yield made
    made.database.dispose()
    made.redis.close()


def silent(readings: pd.DataFrame, node_id: str, first: datetime, last: datetime) -> pd.DataFrame:
    """The readings without those of a node within [first, last)."""
    at = readings["timestamp"]
    return readings[~((readings["node_id"] == node_id) & at.between(first, last, inclusive="left"))]


def ingested(runtime: Runtime, as_of: datetime) -> UUID:
    """A cycle whose chunks are all done, and which only needs finishing."""
    job_id = jobs.claim_by_hand(runtime.database, jobs.CYCLE, "cycle", as_of, "test")
    for number in plan_cycle(runtime, job_id, as_of):
        work_off(runtime, job_id, number)
    return job_id


def events(database: Engine, anomaly_type: str | None = None) -> pd.DataFrame:
    """What is stored of events, in order."""
    rows = table(database, "anomalies").sort_values(["timestamp", "node_id", "anomaly_type"], ignore_index=True)
    return rows if anomaly_type is None else rows[rows["anomaly_type"] == anomaly_type]


@pytest.mark.parametrize("state", ["53100", "53400", "57014", "25006"])
def test_a_conclusion_that_the_database_refuses_for_good_halts_nothing(stack: Settings, database: Engine, state: str):
    put(stack, silent(readings_of(["n1", "n2"], days=4, minutes=15), "n2", START + 2 * DAY, START + 9 * DAY))
    refusing(database, "anomalies", state, "INSERT OR UPDATE OR DELETE")
    for tick in range(2):
        job = run_cycle(stack, AS_OF + tick * HOUR)
        assert job["status"] == "completed"
        assert "The anomalies could not be computed" in job["error_message"]
        assert "no room" in job["error_message"]
    assert len(table(database, "data_quality_metrics")) == 4
    accepting(database, "anomalies")
    job = run_cycle(stack, AS_OF + 2 * HOUR)
    assert job["error_message"] is None
    assert events(database)["timestamp"].tolist() == [START + 2 * DAY]
    left = table(database, "processing_jobs")["result_summary"].map(lambda summary: "not_concluded" in summary)
    assert not left.any()


def test_what_passes_is_waited_for_by_a_conclusion_and_then_left_to_the_next_job(stack: Settings, database: Engine):
    put(stack, readings_of(["n1"], days=4, minutes=15))
    refusing(database, "data_quality_metrics", "40P01")
    job = run_cycle(stack, AS_OF)
    assert job["status"] == "completed"
    assert "The quality could not be computed" in job["error_message"]


def test_while_conclusions_are_drawn_nobody_waits_for_the_job(stack: Settings, database: Engine, runtime: Runtime):
    put(stack, readings_of(["n1"], days=4, minutes=15))
    job_id = ingested(runtime, AS_OF)
    with database.connect() as judging:
        # Somebody else judges anomalies.
        judging.execute(text("SELECT pg_advisory_lock(72652002)"))
        finishing = Thread(target=finish_job, args=(runtime, job_id))
        finishing.start()
        eventually(lambda: len(table(database, "job_chunks")) and _waits(database))
        with database.begin() as connection:
            connection.execute(text("SET LOCAL lock_timeout = 100"))
            connection.execute(text("SELECT FROM water_infrastructure.processing_jobs FOR UPDATE"))
        # Another replica that is offered the same does nothing.
        finish_job(runtime, job_id)
        assert jobs.describe(database, job_id)["status"] == "running"
        judging.execute(text("SELECT pg_advisory_unlock(72652002)"))
        finishing.join(60)
    assert jobs.describe(database, job_id)["status"] == "completed"


def _waits(database: Engine) -> bool:
    with database.connect() as connection:
        waiting = text("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted")
        return bool(connection.scalar(waiting))


def test_conclusions_go_on_where_they_failed_and_an_event_is_open_only_at_the_end(
    stack: Settings, database: Engine, monkeypatch: pytest.MonkeyPatch
):
    since = START + 2 * DAY
    put(stack, silent(readings_of(["n1", "n2"], days=18, minutes=60), "n2", since, START + 30 * DAY))
    original, judged = detect._judge_part, []

    def failing(*given: Any) -> int:
        judged.append(given[3])
        if len(judged) >= 3:
            raise ValueError("no luck today")
        return original(*given)

    monkeypatch.setattr(detect, "_judge_part", failing)
    as_of = START + 17 * DAY
    job = run_cycle(stack, as_of)
    left = job["result_summary"]["not_concluded"]["anomalies"]
    assert extent_of(left).first == judged[2].first > START + 6 * DAY
    found = events(database, "silent")
    # It was going on when the part before ended; nobody is woken for what is not known to go on.
    assert found["resolved_at"].tolist() == [judged[2].first]
    monkeypatch.setattr(detect, "_judge_part", original)
    assert run_cycle(stack, as_of + HOUR)["error_message"] is None
    followed = events(database, "silent")
    assert followed["anomaly_id"].tolist() == found["anomaly_id"].tolist()
    assert followed["timestamp"].tolist() == [since]
    assert followed["end"].isna().all()
    assert followed["resolved_at"].isna().all()
    assert "judged_until" not in followed["metadata"].iloc[0]


def test_a_past_that_cannot_be_concluded_hides_nothing_of_the_present(stack: Settings, database: Engine):
    readings = silent(readings_of(["n1", "n2"], days=14, minutes=15), "n2", START + 2 * DAY, START + 3 * DAY)
    put(stack, silent(readings, "n2", START + 12 * DAY, START + 99 * DAY))
    old = f"NEW.timestamp < '{(START + 7 * DAY).isoformat()}'"
    refusing(database, "anomalies", "53100", rows=old)
    job = run_cycle(stack, START + 12 * DAY + 6 * HOUR)
    assert "no room" in job["error_message"]
    assert extent_of(job["result_summary"]["not_concluded"]["anomalies"]).first < START + 7 * DAY
    known = events(database, "silent")
    assert known[["node_id", "timestamp"]].values.tolist() == [["n2", START + 12 * DAY]]
    assert known["resolved_at"].isna().all()
    accepting(database, "anomalies")
    assert run_cycle(stack, START + 12 * DAY + 7 * HOUR)["error_message"] is None
    followed = events(database, "silent")
    assert followed["timestamp"].tolist() == [START + 2 * DAY, START + 12 * DAY]
    assert followed["resolved_at"].isna().tolist() == [False, True]


def test_the_hours_of_a_cycle_that_failed_after_writing_are_concluded_by_the_next(stack: Settings, database: Engine):
    put(stack, silent(readings_of(["n1", "n2"], days=9, minutes=15), "n2", START + 2 * DAY, START + 3 * DAY))
    runtime = create_runtime(stack)
    job_id = ingested(runtime, START + 8 * DAY)
    jobs.fail(database, job_id, START + 8 * DAY, "its process ended")
    runtime.database.dispose()
    assert run_cycle(stack, START + 8 * DAY + HOUR)["error_message"] is None
    assert events(database)["timestamp"].tolist() == [START + 2 * DAY]


def test_a_late_row_has_the_nodes_of_its_district_and_of_those_it_feeds_judged_and_no_others(stack: Settings):
    network = pd.DataFrame(
        {
            "district_id": [f"d{n // 10}" for n in range(200)] + [None, None],
            "role": "monitoring",
            "metadata": [{"feeding_district_id": "d7"} if n == 25 else {} for n in range(202)],
        },
        index=pd.Index([f"n{n:03}" for n in range(202)], name="node_id"),
    )
    assert concerned_by(network, {"n014"}) == {f"n{n:03}" for n in range(10, 20)}
    assert concerned_by(network, {"n025"}) == {f"n{n:03}" for n in (*range(20, 30), *range(70, 80))}
    assert concerned_by(network, {"n200"}) == {"n200"}
    runtime = create_runtime(stack)
    start, until = START + 20 * DAY, START + 20 * DAY + 20 * HOUR
    parts = parts_of(runtime, network, Extent(start, {"n014": START + 4 * DAY, "n200": START + 15 * DAY}), until)
    of_nodes = [part for part in parts if part.node_ids is not None]
    assert [len(part.node_ids or ()) for part in of_nodes] == [10, 10, 11]
    assert of_nodes[0].first == START + 4 * DAY
    assert (parts[-1].first, parts[-1].end, parts[-1].node_ids) == (start, until, None)
    # Where much of the network is late, it is judged as a whole.
    many = Extent(start, {f"n{n:03}": START + 4 * DAY for n in range(0, 200, 10)})
    assert {part.node_ids for part in parts_of(runtime, network, many, until)} == {None}


def test_judging_the_nodes_concerned_finds_of_them_what_judging_all_would(
    stack: Settings, database: Engine, runtime: Runtime, monkeypatch: pytest.MonkeyPatch
):
    nodes = [f"n{n}" for n in range(8)]
    readings = readings_of(nodes, days=30, minutes=60)
    readings = readings.assign(district_id="d" + readings["node_id"].str[1], pressure=readings["pressure"].clip(3))
    gap = START + 18 * DAY
    put(stack, silent(silent(readings, "n3", gap, gap + DAY), "n5", gap, gap + DAY))
    as_of = START + 29 * DAY
    run_cycle(stack, as_of)
    assert set(events(database)["node_id"]) >= {"n3", "n5"}
    monkeypatch.setattr(detect, "SMALL", 4)
    judged: list[Any] = []
    original = detect._judge_part
    monkeypatch.setattr(detect, "_judge_part", lambda *given: judged.append(given[3]) or original(*given))
    late = (readings["node_id"] == "n3") & readings["timestamp"].between(gap, gap + DAY)
    arrived = readings["timestamp"].where(~late, pd.Timestamp(as_of + HOUR / 2))
    readings = readings.assign(ingestion_timestamp=arrived, pressure=readings["pressure"].where(~late, 0.5))
    put(stack, silent(readings, "n5", gap, gap + DAY))
    run_cycle(stack, as_of + HOUR)
    assert judged[0].node_ids == {"n3"}
    found = events(database)
    low = found[(found["node_id"] == "n3") & (found["anomaly_type"] == "low_pressure")]
    assert low["timestamp"].tolist() == [gap]
    assert low["severity"].tolist() == ["critical"]
    assert found[(found["node_id"] == "n5") & (found["anomaly_type"] == "silent")]["end"].tolist() == [gap + DAY]
    list(judge_anomalies(runtime, Extent(gap - DAY), as_of + HOUR))
    whole = events(database)
    pd.testing.assert_frame_equal(whole[whole["node_id"] == "n3"], found[found["node_id"] == "n3"])


def test_extents_put_together_hold_each_of_them_and_what_is_left_shrinks():
    one, other = Extent(AS_OF, {"a": START, "b": AS_OF - HOUR}), Extent(AS_OF - DAY, {"a": START + HOUR})
    both = together([one, other])
    assert both == Extent(AS_OF - DAY, {"a": START})
    assert both.first == START
    assert extent_of(both.plain()) == both
    assert both.after(AS_OF - 2 * DAY) == Extent(AS_OF - DAY, {"a": AS_OF - 2 * DAY})
    assert both.after(AS_OF) == Extent(AS_OF, {})
