"""Conclusions: each by itself, in short transactions, of the nodes concerned; what fails is made up for."""

from __future__ import annotations

from datetime import datetime, timedelta
from threading import Thread
from typing import Any
from uuid import UUID

import numpy as np
import pandas as pd
import pytest
from sqlalchemy import Engine, text

from src.db.tables import SCHEMA
from src.processing.conclusions import anomalies as detect
from src.processing.conclusions import share
from src.processing.conclusions.extent import Extent, extent_of, together
from src.processing.conclusions.share import extents_of, joined, shares_of
from src.processing.ingest.plan import plan_cycle
from src.processing.jobs import chunks
from src.processing.jobs import records as jobs
from src.processing.jobs.runtime import Runtime, create_runtime
from src.processing.nodes import Node, import_nodes
from src.processing.service import finish as finishing
from src.processing.service.finish import finish as finish_job
from src.processing.service.work import work_off
from src.settings import Settings
from tests.system import START, eventually, put, readings_of, run_cycle, silent, table
from tests.trouble import accepting, refusing

HOUR, DAY = timedelta(hours=1), timedelta(days=1)
AS_OF = START + 3 * DAY
pytestmark = pytest.mark.usefixtures("short_pauses")


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
        with database.connect() as connection:
            [everything] = shares_of(connection)
        judging.begin()
        everything.hold(judging, detect._JUDGING)
        finishing = Thread(target=finish_job, args=(runtime, job_id))
        finishing.start()
        eventually(lambda: len(table(database, "job_chunks")) and _waits(database))
        with database.begin() as connection:
            connection.execute(text("SET LOCAL lock_timeout = 100"))
            connection.execute(text("SELECT FROM water_infrastructure.processing_jobs FOR UPDATE"))
        # Another replica that is offered the same does nothing.
        finish_job(runtime, job_id)
        assert jobs.describe(database, job_id)["status"] == "running"
        judging.rollback()
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


def test_a_late_row_concerns_the_shares_of_its_district_and_of_those_it_feeds_and_no_others(
    database: Engine, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(share, "MOST_NODES", 10)
    known = [
        Node(
            node_id=f"n{n:03}", district_id=f"d{n // 10}", metadata='{"feeding_district_id": "d7"}' if n == 25 else "{}"
        )
        for n in range(80)
    ] + [Node(node_id=f"x{n}") for n in range(15)]
    with database.begin() as connection:
        import_nodes(connection, known)
        shares = shares_of(connection)
        late = {"n014": START, "n025": START + DAY, "gone": START, "x3": START + 2 * DAY}
        concerned = dict(zip(shares, extents_of(connection, shares, Extent(AS_OF, late)), strict=True))
    assert [one.districts for one in shares[:8]] == [(f"d{n}",) for n in range(8)]
    assert all(len(one.node_ids) <= 10 and not one.is_whole for one in shares)
    assert sorted(node for one in shares for node in one.node_ids) == sorted(node.node_id for node in known)
    assert [one.is_first for one in shares] == [True] + [False] * (len(shares) - 1)
    found = {one.districts: extent.nodes for one, extent in concerned.items() if extent.nodes and one.districts}
    # The first share draws the balance of those that belong to no district.
    assert found == {
        ("d0",): {"x3": START + 2 * DAY},
        ("d1",): {"n014": START},
        ("d2",): {"n025": START + DAY},
        ("d7",): {"n025": START + DAY},
    }
    # What is left of some shares is left of no others.
    left = joined([(shares[1], Extent(AS_OF - DAY, {"n014": START})), (shares[2], Extent(AS_OF))], shares, AS_OF)
    assert left.start == AS_OF
    assert left.nodes == {f"n{n:03}": AS_OF - DAY for n in range(10, 20)} | {"n014": START}
    assert joined([(shares[0], Extent(AS_OF - DAY))], shares, AS_OF).nodes.keys() >= {"n000", "x0", "x14"}


def _in_shares(readings: pd.DataFrame) -> pd.DataFrame:
    """Readings whose nodes lie in three districts; some nodes are of none."""
    district = readings["node_id"].map(lambda node: None if node == "n9" else f"d{int(node[1:]) // 3}")
    return readings.assign(district_id=district, pressure=readings["pressure"].clip(3))


def test_shares_concluded_by_themselves_find_what_the_whole_network_would(
    stack: Settings, database: Engine, runtime: Runtime, monkeypatch: pytest.MonkeyPatch
):
    readings = _in_shares(readings_of([f"n{n}" for n in range(10)], days=30, minutes=60))
    gap, as_of = START + 26 * DAY, START + 29 * DAY
    readings = silent(readings, "n5", gap, gap + DAY)
    # Nothing comes from most of the network for some hours.
    for node in ("n0", "n1", "n2", "n3", "n4", "n9"):
        readings = silent(readings, node, as_of - 9 * HOUR, as_of - 3 * HOUR)
    put(stack, readings)
    roles = [Node(node_id=f"n{n}", district_id=f"d{n // 3}", role="inlet") for n in (0, 3, 6)]
    with database.begin() as connection:
        import_nodes(connection, roles + [Node(node_id=f"n{n}", district_id="d0", role="consumption") for n in (1, 2)])
    finish_job(runtime, ingested(runtime, as_of))
    compared = ("anomalies", "network_efficiency", "data_quality_metrics", "district_balances", "computed_metrics")
    whole = {name: table(database, name) for name in compared}
    assert set(whole["anomalies"]["node_id"]) >= {"*", "n5"}
    assert whole["network_efficiency"]["total_input_volume"].notna().any()
    with database.begin() as connection:
        emptied = (*compared, "node_habits", "processing_jobs", "ingestion_watermarks")
        connection.execute(text(f"TRUNCATE {', '.join(f'{SCHEMA}.{name}' for name in emptied)} CASCADE"))
    monkeypatch.setattr(share, "MOST_NODES", 3)
    job_id = ingested(runtime, as_of)
    finish_job(runtime, job_id)
    job = jobs.describe(database, job_id)
    assert (job["status"], job["error_message"]) == ("completed", None)
    assert table(database, "job_chunks")["conclusions"].notna().sum() == 4
    for name in compared:
        found, expected = (_comparable(frame) for frame in (table(database, name), whole[name]))
        pd.testing.assert_frame_equal(found, expected, check_exact=name != "anomalies", rtol=0.05, obj=name)


def _comparable(rows: pd.DataFrame) -> pd.DataFrame:
    """Rows in order, without what chance gave them, and without evidence that names last digits of habits: a share
    learns from every hour of others, the network as a whole from those that no event lies over."""
    keys = {"timestamp", "anomaly_type", "window_start", "node_id", "district_id", "time_window"} & set(rows)
    by_chance = ["anomaly_id", "incident_id", "created_at", "metadata"]
    if "node_id" in keys:
        keys.discard("district_id")
    return rows.drop(columns=by_chance, errors="ignore").fillna(np.nan).sort_values(sorted(keys), ignore_index=True)


def test_a_share_that_fails_is_named_and_made_up_for_and_the_others_are_done(
    stack: Settings, database: Engine, runtime: Runtime, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(share, "MOST_NODES", 3)
    readings = _in_shares(readings_of([f"n{n}" for n in range(9)], days=4, minutes=15))
    put(stack, silent(silent(readings, "n1", START + 2 * DAY, START + 9 * DAY), "n7", START + 2 * DAY, START + 9 * DAY))
    refusing(database, "anomalies", "53100", rows="NEW.node_id = 'n1'")
    job_id = ingested(runtime, AS_OF)
    finish_job(runtime, job_id)
    job = jobs.describe(database, job_id)
    assert job["status"] == "completed"
    assert "The anomalies could not be computed" in job["error_message"]
    assert "(d0)" in job["error_message"]
    assert events(database, "silent")["node_id"].tolist() == ["n7"]
    assert set(job["result_summary"]["not_concluded"]["anomalies"]["nodes"]) == {"n0", "n1", "n2"}
    accepting(database, "anomalies")
    finish_job(runtime, ingested(runtime, AS_OF + HOUR))
    assert events(database, "silent")["node_id"].tolist() == ["n1", "n7"]
    left = table(database, "processing_jobs")["result_summary"].map(lambda summary: "not_concluded" in summary)
    assert not left.any()


def test_a_network_of_which_a_district_is_not_balanced_has_no_sum_and_the_reason(
    stack: Settings, database: Engine, runtime: Runtime, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(share, "MOST_NODES", 3)
    put(stack, _in_shares(readings_of([f"n{n}" for n in range(9)], days=4, minutes=15)))
    with database.begin() as connection:
        import_nodes(connection, [Node(node_id=f"n{n}", district_id=f"d{n // 3}", role="inlet") for n in (0, 3, 6)])
    refusing(database, "district_balances", "53100", rows="NEW.district_id = 'd1'")
    finish_job(runtime, ingested(runtime, AS_OF))
    sums = table(database, "network_efficiency")
    assert sums["total_input_volume"].isna().all()
    assert sums["reason"].str.contains("d1 is not balanced yet").all()
    assert set(sums["zone_metrics"].iloc[0]) == {"d0", "d2"}
    accepting(database, "district_balances")
    finish_job(runtime, ingested(runtime, AS_OF + HOUR))
    sums = table(database, "network_efficiency")
    assert sums["total_input_volume"].notna().any()
    assert not sums["reason"].str.contains("not balanced yet").any()
    assert all(set(zones) == {"d0", "d1", "d2"} for zones in sums["zone_metrics"])


def test_nodes_whose_readings_could_not_be_taken_in_are_not_silent(stack: Settings, database: Engine):
    def silences() -> list[str]:
        rows = events(database)
        return rows[rows["anomaly_type"].isin(["silent", "collection_outage"])]["node_id"].tolist()

    readings = readings_of([f"n{n}" for n in range(1, 6)], days=5, minutes=60)
    put(stack, silent(readings, "n2", AS_OF, AS_OF + 9 * DAY))
    run_cycle(stack, AS_OF)
    refusing(database, "computed_metrics", "23514", "INSERT", rows="NEW.node_id IN ('n1', 'n3', 'n4')")
    for hours in (12, 24):
        job = run_cycle(stack, AS_OF + hours * HOUR)
        assert job["failed_items"] == 3, job["error_message"]
        assert silences() == ["n2"]
    accepting(database, "computed_metrics")
    assert run_cycle(stack, AS_OF + 25 * HOUR)["failed_items"] == 0
    assert silences() == ["n2"]


def test_a_chunk_of_conclusions_that_was_taken_for_readings_ends_no_cycles(
    stack: Settings, database: Engine, runtime: Runtime
):
    put(stack, readings_of(["n1"], days=4, minutes=15))
    job_id = ingested(runtime, AS_OF)
    finishing._plan(runtime, job_id, AS_OF, jobs.CYCLE)
    with database.begin() as connection:
        [chunk] = chunks.of_conclusions(connection, job_id)
        # As a replica of an earlier version does, which knows no conclusions.
        chunks.end(connection, job_id, chunk.chunk_number, AS_OF, "old", {"readings": 0}, {})
    finish_job(runtime, job_id)
    job = jobs.describe(database, job_id)
    assert job["status"] == "completed"
    assert "earlier version" in job["error_message"]
    assert extent_of(job["result_summary"]["not_concluded"]["balances"]).first <= START
    finish_job(runtime, ingested(runtime, AS_OF + HOUR))
    assert "not_concluded" not in jobs.describe(database, job_id)["result_summary"]


def test_what_is_concluded_while_it_is_offered_is_finished_all_the_same(
    stack: Settings, database: Engine, runtime: Runtime
):
    put(stack, readings_of(["n1"], days=4, minutes=15))
    job_id = ingested(runtime, AS_OF)
    finish_job(runtime, job_id, lambda job, number: work_off(runtime, job, number) and None)
    assert jobs.describe(database, job_id)["status"] == "completed"


def test_extents_put_together_hold_each_of_them_and_what_is_left_shrinks():
    one, other = Extent(AS_OF, {"a": START, "b": AS_OF - HOUR}), Extent(AS_OF - DAY, {"a": START + HOUR})
    both = together([one, other])
    assert both == Extent(AS_OF - DAY, {"a": START})
    assert both.first == START
    assert extent_of(both.plain()) == both
    assert both.after(AS_OF - 2 * DAY) == Extent(AS_OF - DAY, {"a": AS_OF - 2 * DAY})
    assert both.after(AS_OF) == Extent(AS_OF, {})


def test_districts_of_any_size_and_nodes_that_change_theirs_are_concluded(
    stack: Settings, database: Engine, runtime: Runtime, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(share, "MOST_NODES", 3)
    sizes = {"alone": 1, "large": 7, None: 4}
    members = {f"{district or 'none'}-{n}": district for district, size in sizes.items() for n in range(size)}
    readings = readings_of(list(members), days=4, minutes=60)
    readings = readings.assign(pressure=readings["pressure"].clip(3))
    put(stack, readings)
    with database.begin() as connection:
        # A district that nobody belongs to is one that nodes feed and no readings name.
        import_nodes(
            connection,
            [
                Node(
                    node_id=node,
                    district_id=district,
                    role="inlet" if node.endswith("-0") and district else None,
                    metadata='{"feeding_district_id": "nobody"}' if node == "none-1" else "{}",
                )
                for node, district in members.items()
            ],
        )
    finish_job(runtime, ingested(runtime, AS_OF))
    balances = table(database, "district_balances")
    assert set(balances["district_id"]) >= {"alone", "large"}
    with database.begin() as connection:
        import_nodes(connection, [Node(node_id="large-0", district_id="alone", role="inlet")])
        import_nodes(connection, [Node(node_id="none-2", district_id="new", role="inlet")])
    job_id = ingested(runtime, AS_OF + HOUR)
    finish_job(runtime, job_id)
    job = jobs.describe(database, job_id)
    assert (job["status"], job["error_message"]) == ("completed", None)
    hour = table(database, "network_efficiency").query("time_window == '1hour'").set_index("window_start")
    now = hour.loc[pd.Timestamp(AS_OF)]
    inlets = readings[readings["node_id"].isin(["alone-0", "large-0", "none-2"])]
    flow = inlets[inlets["timestamp"] == pd.Timestamp(AS_OF)]["flow_rate"].sum()
    assert now["total_input_volume"] == pytest.approx(flow * 3.6)
    flows = readings[readings["timestamp"] == pd.Timestamp(AS_OF)].set_index("node_id")["flow_rate"] * 3.6
    balances = table(database, "district_balances").query("time_window == '1hour'")
    of_hour = balances[balances["window_start"] == pd.Timestamp(AS_OF)].set_index("district_id")["balance"]
    assert of_hour["alone"]["input_volume"] == pytest.approx(flows["alone-0"] + flows["large-0"])
    assert of_hour["new"]["input_volume"] == pytest.approx(flows["none-2"])
    assert set(table(database, "data_quality_metrics")["node_id"]) == set(members)
