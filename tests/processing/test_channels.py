"""Units, ranges and the collector's remarks, from the warehouse to stored rows."""

from __future__ import annotations

import re
import shlex
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import numpy as np
import pandas as pd
import pytest
from google.cloud import bigquery
from sqlalchemy import Engine, bindparam, text
from sqlalchemy.dialects.postgresql import JSONB

from src.domain.channels import Conventions, channels_of, unusable
from src.processing.ingest.outdated import find_outdated
from src.processing.warehouse.client import WarehouseError, connect
from src.processing.warehouse.history import read_hourly_flow
from src.processing.warehouse.reader import Reader
from src.settings import Settings
from tests.system import START, metrics, once, put, readings_of, run, run_cycle, table

AS_OF = START + timedelta(days=2)
HOURS = "time_window == '1hour'"


def state(database: Engine, node_id: str, **metadata: object) -> None:
    """What the node file states of a node, without the checks of the file."""
    statement = text(
        "INSERT INTO water_infrastructure.nodes (node_id, node_name, metadata) VALUES (:node, :node, :metadata) "
        "ON CONFLICT (node_id) DO UPDATE SET metadata = excluded.metadata"
    ).bindparams(bindparam("metadata", type_=JSONB))
    with database.begin() as connection:
        connection.execute(statement, {"node": node_id, "metadata": metadata})


def hours_of(database: Engine, node_id: str) -> pd.DataFrame:
    return metrics(database).query(f"{HOURS} and node_id == '{node_id}'").set_index("window_start")


def steady(nodes: Sequence[str], **values: float) -> pd.DataFrame:
    return readings_of(list(nodes), days=2, minutes=15).drop(columns=["flow_rate", "pressure"]).assign(**values)


def test_what_is_stored_is_in_the_products_units_whatever_was_read(stack: Settings, database: Engine):
    foreign = {"units": {"flow_rate": "m³/h", "pressure": "m", "temperature": "°F", "volume": "L"}}
    state(database, "stated", **foreign)
    state(database, "in litres", units={"flow_rate": "L/s"})
    put(stack, steady(["stated", "in litres", "usual"], flow_rate=36.0, pressure=40.0, temperature=50.0, volume=9000.0))
    job = run_cycle(stack.model_copy(update={"unit_flow_rate": "L/min", "unit_pressure": "kPa"}), AS_OF)
    assert (job["status"], job["result_summary"]["rejected"]) == ("completed", {})
    means = ["avg_flow_rate", "avg_pressure", "avg_temperature", "total_volume"]
    stored = {node: hours_of(database, node).iloc[3] for node in ("stated", "in litres", "usual")}
    assert stored["stated"][means].tolist() == pytest.approx([10.0, 3.92266, 10.0, 36.0])
    assert stored["in litres"][means].tolist() == pytest.approx([36.0, 0.4, 50.0, 36_000.0])
    assert stored["usual"][means].tolist() == pytest.approx([0.6, 0.4, 50.0, 36_000.0])
    version = stored["stated"]["computation_version"]
    assert version.partition(" ")[2] == "flow_rate m³/h, pressure m, temperature °F, volume L"
    assert stored["in litres"]["computation_version"].partition(" ")[2] == "pressure kPa"
    assert stored["usual"]["computation_version"].partition(" ")[2] == "flow_rate L/min, pressure kPa"


def test_ranges_of_a_node_win_over_those_of_all(stack: Settings, database: Engine):
    state(database, "two-way", ranges={"flow_rate": {"low": -30}, "pressure": {"high": 40}})
    put(stack, steady(["two-way", "usual"], flow_rate=-20.0, pressure=30.0))
    settings = stack.model_copy(
        update={"valid_ranges": Settings(valid_ranges={"temperature": {"high": 14}}).valid_ranges}
    )
    job = run_cycle(settings, AS_OF)
    assert job["result_summary"]["rejected"] == {
        "flow_rate_negative": 192, "pressure_too_high": 192, "temperature_too_high": 384,
    }  # fmt: skip
    hour = hours_of(database, "two-way").iloc[3]
    assert hour[["avg_flow_rate", "avg_pressure", "total_volume"]].tolist() == [-20.0, 30.0, -72.0]
    assert metrics(database).query("node_id == 'usual'").empty


def test_windows_of_an_earlier_unit_are_named_until_one_command_has_made_them_right(
    stack: Settings, database: Engine, tmp_path: Path
):
    put(stack, steady(["n", "o'brien", "m"], flow_rate=36.0, pressure=4.0))
    run_cycle(stack, AS_OF)
    file = tmp_path / "nodes.csv"

    def imported(*lines: str) -> list[str]:
        file.write_text("\n".join(["node_id,metadata", *lines]), "utf-8")
        done = run("src.processing.nodes", "import", str(file), settings=stack)
        assert done.returncode == 0, done.stderr[-2000:]
        return done.stdout.splitlines()

    assert imported("n,", 'm,"{""length_km"": 3}"') == ["2 nodes imported."]
    stated = '"{""units"": {""flow_rate"": ""m3/h""}}"'
    remarks = imported(f"n,{stated}", f"o'brien,{stated}", "m,")
    assert remarks[0] == "3 nodes imported."
    assert remarks[1].startswith("Stored windows of 2 nodes were computed under other units or ranges than hold now.")
    command = re.search(r"python -m (src\.processing\.backfill .*)$", remarks[1])
    assert command is not None
    module, *arguments = shlex.split(command[1])
    assert arguments == ["--start", "2023-05-01", "--end", "2023-05-04", "--nodes", "n", "o'brien"]
    warned = once(stack)
    assert "stored windows are outdated" in warned.stdout + warned.stderr
    assert hours_of(database, "n")["avg_flow_rate"].iloc[3] == 36.0
    done = run(module, *arguments, settings=stack)
    assert done.returncode == 0, done.stderr[-2000:]
    for node, flow in (("n", 10.0), ("o'brien", 10.0), ("m", 36.0)):
        stored = metrics(database).set_index("node_id").loc[[node]]
        assert set(stored["avg_flow_rate"].round(9)) == {flow}
    assert imported(f"n,{stated}") == ["1 nodes imported."]
    silent = once(stack)
    assert "outdated" not in silent.stdout + silent.stderr
    # A setting that changes is noticed at the next start, and counts for those who state nothing.
    changed = once(stack, unit_flow_rate="L/min")
    assert "Stored windows of 1 nodes" in changed.stdout + changed.stderr


def test_a_node_whose_statement_cannot_be_used_is_named_and_the_others_are_processed(stack: Settings, database: Engine):
    state(database, "bad", units={"flow_rate": "furlong"})
    put(stack, steady(["bad", "good"], flow_rate=36.0))
    job = run_cycle(stack, AS_OF)
    assert (job["processed_items"], job["failed_items"]) == (1, 1)
    assert "'furlong' is no unit of flow rate" in job["error_message"]
    assert set(metrics(database)["node_id"]) == {"good"}
    # Units that have changed since are still looked for among the others.
    state(database, "good", units={"flow_rate": "m3/h"})
    with database.connect() as connection:
        outdated = find_outdated(connection, Conventions(), AS_OF, 100_000, ZoneInfo("Europe/Rome"))
    assert outdated is not None
    assert outdated.node_ids == ["good"]


def test_the_node_file_takes_units_and_ranges_that_mean_something_and_names_the_others(
    stack: Settings, database: Engine, tmp_path: Path
):
    file = tmp_path / "nodes.csv"
    wrong = {
        '{"units": {"pressure": "furlong"}}': "units: 'furlong' is no unit of pressure; write one such as bar, m, mH2O",
        '{"units": {"level": "m"}}': "units.level: Input should be 'flow_rate', 'pressure', 'temperature' or 'volume'",
        '{"ranges": {"pressure": {"low": 5, "high": 2}}}': "ranges.pressure: low 5 must be less than high 2",
        '{"ranges": {"pressure": {"low": 30}}}': "ranges: pressure: nothing lies between 30 and 25; name low and high",
        '{"ranges": {"pressure": {"most": 30}}}': "ranges.pressure.most: Extra inputs are not permitted",
    }
    lines = [f'n{n},"{metadata.replace(chr(34), chr(34) * 2)}"' for n, metadata in enumerate(wrong)]
    file.write_text("\n".join(["node_id,metadata", *lines]), "utf-8")
    refused = run("src.processing.nodes", "import", str(file), settings=stack)
    assert refused.returncode == 1
    remarks = refused.stderr.splitlines()
    assert [line.split(": ", 2)[:2] for line in remarks[:-1]] == [[f"line {n}", "metadata"] for n in range(2, 7)]
    for line, message in zip(remarks, wrong.values(), strict=False):
        assert line.split(": ", 2)[2].startswith(message)


@pytest.mark.parametrize(
    ("name", "value", "sentence"),
    [
        ("unit_pressure", "furlong", "UNIT_PRESSURE is wrong: 'furlong' is no unit of pressure; write one such as bar"),
        ("valid_ranges", {"pressure": {"low": 3, "high": 2}}, "VALID_RANGES.PRESSURE is wrong: low 3 must be less"),
        ("valid_ranges", {"level": {"low": 3}}, "VALID_RANGES.LEVEL.[KEY] is wrong: Input should be 'flow_rate'"),
    ],
)
def test_a_wrong_setting_stops_the_service_with_one_line(stack: Settings, name: str, value: Any, sentence: str):
    stopped = once(stack, **{name: value})
    assert stopped.returncode == 2
    assert len(stopped.stderr.splitlines()) == 1
    assert stopped.stderr.startswith(f"Setting {sentence}")


def test_what_the_collector_filled_in_leaves_a_gap(stack: Settings, database: Engine):
    readings = steady(["n", "plain"], flow_rate=36.0, pressure=4.0)
    hour = readings["timestamp"].dt.hour
    of_n = readings["node_id"] == "n"
    filled_in = (of_n & (hour == 10)).astype("boolean").mask(hour == 0)
    score = pd.Series(np.where(of_n & (hour == 14), 0.3, 0.9)).where(hour != 1)
    put(stack, readings.assign(is_interpolated=filled_in, data_quality_score=score))
    job = run_cycle(stack, AS_OF)
    assert job["result_summary"]["rejected"] == {"interpolated": 8, "low_quality_score": 8}
    assert set(range(24)) - set(hours_of(database, "n").index.hour) == {10, 14}
    assert set(hours_of(database, "plain").index.hour) == set(range(24))
    day = metrics(database).query("time_window == '1day' and node_id == 'n'").iloc[1]
    assert day["data_completeness"] == pytest.approx(100 * 22 / 24)
    quality = table(database, "data_quality_metrics").query("time_window == '24h'").set_index("node_id")
    # Filled in is missing; what the collector does not trust came, and is invalid.
    assert quality.loc["n", "validity_score"] == pytest.approx(88 / 92)
    assert {"interpolated", "low_quality_score"} <= {issue["type"] for issue in quality.loc["n", "quality_issues"]}
    all_taken = stack.model_copy(update={"minimum_quality_score": 0.0})
    flow = read_hourly_flow(connect(stack), stack, ["n"], START, AS_OF).of(["n"])["n"]
    assert flow.notna().sum() == 44
    flow = read_hourly_flow(connect(stack), all_taken, ["n"], START, AS_OF).of(["n"])["n"]
    assert flow.notna().sum() == 46


@pytest.mark.parametrize("name", ["sensor_readings_ml", "a_view"])
def test_columns_of_other_names_are_read_where_they_are_named(stack: Settings, name: str):
    put(stack, steady(["n"], flow_rate=36.0).assign(is_interpolated=True, data_quality_score=0.25))
    dataset = f"{stack.bigquery_project_id}.{stack.bigquery_dataset_id}"
    columns = "timestamp, node_id, flow_rate, pressure, temperature, volume, ingestion_timestamp, district_id"
    view = (
        f"SELECT {columns}, is_interpolated AS stimato, "  # noqa: S608
        f"data_quality_score AS voto FROM `{dataset}.sensor_readings_ml`"
    )
    client = connect(stack).queries
    made = bigquery.Table(f"{dataset}.{name}_renamed")
    client.delete_table(made, not_found_ok=True, timeout=30)
    if name == "a_view":
        made.view_query = view
        client.create_table(made, timeout=30)
    else:
        client.query(f"CREATE TABLE `{dataset}.{name}_renamed` AS {view}").result(timeout=60)

    def read(**names: str) -> pd.DataFrame:
        changed = stack.model_copy(update={"bigquery_table": f"{name}_renamed", "bigquery_columns": names})
        return Reader(connect(changed), changed).read(["n"], START, AS_OF).frame

    assert not {"is_interpolated", "data_quality_score"} & set(read())
    readings = read(is_interpolated="stimato", data_quality_score="voto")
    assert readings["is_interpolated"].all()
    assert set(readings["data_quality_score"]) == {0.25}
    if name != "a_view":
        with pytest.raises(WarehouseError, match="has no column nulla"):
            read(is_interpolated="nulla")


def test_models_learn_from_the_products_units_and_from_nothing_else(stack: Settings):
    readings = steady(["n", "two, way", "usual"], flow_rate=36.0)
    readings.loc[readings["timestamp"].dt.minute == 15, "flow_rate"] = -9999.0
    readings.loc[readings["timestamp"].dt.minute == 30, "flow_rate"] = -18.0
    put(stack, readings)
    nodes = ["n", "two, way", "usual"]
    stated = {"n": {"units": {"flow_rate": "m3/h"}}, "two, way": {"ranges": {"flow_rate": {"low": -20_000}}}}
    channels = channels_of(nodes, stated, Conventions())
    read = read_hourly_flow(connect(stack), stack, nodes, START, AS_OF, channels, left_out=["stated wrongly"])
    flow = read.of([*nodes, "stated wrongly"])
    assert [set(flow[node].round(9)) for node in nodes] == [{10.0}, {18.0}, {36.0}]
    assert flow["stated wrongly"].isna().all()
    wrong = {"n": {"ranges": {"flow_rate": "up to 40"}}, "usual": {"units": "m3/h"}}
    assert list(unusable(nodes, wrong, Conventions())) == ["n"]


def test_placeholders_raise_no_event_and_quality_names_them(stack: Settings, database: Engine):
    readings = readings_of(["n"], days=9, minutes=15)
    random = np.random.default_rng(4)
    readings["flow_rate"] = readings["flow_rate"].mask(random.random(len(readings)) < 0.3, -9999.0)
    measured = random.normal(14, 1, len(readings))
    readings["temperature"] = np.where(random.random(len(readings)) < 0.3, 99_999.0, measured)
    put(stack, readings)
    job = run_cycle(stack, START + timedelta(days=9))
    assert set(job["result_summary"]["rejected"]) == {"flow_rate_placeholder", "temperature_placeholder"}
    events = table(database, "anomalies")
    assert not set(events["anomaly_type"]) & {"negative_flow", "out_of_range"}
    quality = table(database, "data_quality_metrics").set_index("time_window").loc["24h"]
    named = {issue["type"]: issue["count"] for issue in quality["quality_issues"]}
    assert named["flow_rate_placeholder"] > 10
    assert quality["validity_score"] == pytest.approx((0.7 + 1 + 0.7) / 3, abs=0.08)
