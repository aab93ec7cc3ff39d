"""The water balance of a network whose truth is known, from readings to rows."""

from __future__ import annotations

import itertools
from datetime import timedelta
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from sqlalchemy import Engine, text

from src.api.schemas.network import DistrictWindow
from src.api.schemas.nodes import QualityIssue
from src.processing.nodes import import_nodes
from src.quickstart import simulation
from src.quickstart.datasets import load, network
from src.settings import Settings
from tests.system import START, put, readings_of, run, run_cycle, table


@pytest.fixture
def balances(stack: Settings, database: Engine) -> pd.DataFrame:
    """The simulated network's balances, after one cycle over its four weeks."""
    dataset = network()
    load(stack, dataset)
    with database.begin() as connection:
        import_nodes(connection, dataset.nodes)
    job = run_cycle(stack, dataset.end)
    assert job["result_summary"]["balances"] > 28 * 24
    return table(database, "network_efficiency")


def test_input_consumption_and_leaks_are_those_of_the_simulation(balances: pd.DataFrame, database: Engine):
    daily = balances[balances["time_window"] == "1day"].set_index("window_start").sort_index()
    # The instant that the job stands for, never the real one.
    assert set(daily["computation_timestamp"]) == {pd.Timestamp(network().end)}
    # For an hour of this day the lake's meter showed ten times its flow.
    spikes = pd.Timestamp(simulation.FAULTS[2].begin).tz_convert("Europe/Rome").normalize()
    daily = daily[daily.index != spikes.tz_convert("UTC")].iloc[1:]
    assert len(daily) >= 25
    seconds = np.arange(0, 86400, 300)
    leaked = [
        sum(leak.at(start.timestamp() + np.floor(seconds / 3600) * 3600).sum() for leak in simulation.LEAKS) * 0.3
        for start in daily.index
    ]
    readings, _, _ = simulation.simulate()
    customers = readings[readings["node_id"].str.startswith("customers")]
    used = (
        customers.groupby(customers["timestamp"].dt.tz_convert("Europe/Rome").dt.normalize())["flow_rate"].sum() * 0.3
    )
    used.index = used.index.tz_convert("UTC")
    truth = pd.DataFrame({"used": used.reindex(daily.index), "leaked": leaked}, index=daily.index)
    assert (truth["leaked"] > 0).sum() >= 9
    assert daily["total_output_volume"].to_numpy() == pytest.approx(truth["used"].to_numpy(), rel=0.01)
    assert daily["total_input_volume"].to_numpy() == pytest.approx(truth.sum(axis=1).to_numpy(), rel=0.01)
    # A loss is a small difference of large volumes: within one percent of what flowed.
    error = np.abs(daily["total_loss_volume"] - truth["leaked"]) / daily["total_input_volume"]
    assert error.max() < 0.01
    assert set(daily["method"]) == {"metered"}
    assert daily["coverage"].min() == pytest.approx(1.0)
    with database.connect() as connection:
        query = "SELECT efficiency_percentage FROM water_infrastructure.network_metrics WHERE time_range = '7d'"
        last_week = connection.scalar(text(query))
    assert last_week == pytest.approx(100 * truth["used"].tail(7).sum() / truth.tail(7).to_numpy().sum(), abs=0.5)
    # What is stored of districts and their nodes matches the API's documentation of it.
    for zone in itertools.chain.from_iterable(zones.values() for zones in balances["zone_metrics"]):
        DistrictWindow.model_validate(zone)
    for issue in itertools.chain.from_iterable(table(database, "data_quality_metrics")["quality_issues"]):
        QualityIssue.model_validate(issue)
    # And hours add up to their day.
    hours = balances[balances["time_window"] == "1hour"]
    day = balances[balances["time_window"] == "1day"].sort_values("window_start").iloc[10]
    within = hours[(hours["window_start"] >= day["window_start"]) & (hours["window_end"] <= day["window_end"])]
    assert len(within) == 24
    for figure in ("total_input_volume", "total_output_volume", "total_loss_volume"):
        assert within[figure].sum() == pytest.approx(day[figure], rel=1e-6)


def test_a_district_without_customer_meters_is_estimated_from_its_nights(
    stack: Settings, database: Engine, tmp_path: Path
):
    readings = readings_of(["meter"], days=4, minutes=15)
    hour = readings["timestamp"].dt.tz_convert("Europe/Rome").dt.hour
    put(stack, readings.assign(flow_rate=np.where(hour.isin([2, 3]), 4.0, 9.0), pressure=3.0))
    (tmp_path / "nodes.csv").write_text("node_id,district_id,role\nmeter,d1,inlet\n")
    (tmp_path / "districts.csv").write_text("district_id,connections,mains_km,mean_pressure_metres\nd1,2000,40,30\n")
    run("src.processing.nodes", "import", str(tmp_path / "nodes.csv"), settings=stack)
    done = run("src.processing.districts", "import", str(tmp_path / "districts.csv"), settings=stack)
    assert done.stdout == "1 districts imported.\n"
    run_cycle(stack, START + timedelta(days=4))
    found = table(database, "network_efficiency")
    day = found[found["time_window"] == "1day"].sort_values("window_start").iloc[-1]
    # 4 L/s at night, of which 2,000 connections use 1 L/s: 3 L/s leak all day.
    assert day["method"] == "minimum_night_flow"
    assert day["total_loss_volume"] == pytest.approx(3 * 86.4, rel=1e-6)
    zone = day["zone_metrics"]["d1"]
    share_lost = 100 * 259.2 / (22 * 3600 * 9e-3 + 2 * 3600 * 4e-3)
    assert zone["non_revenue_water_percentage"] == pytest.approx(share_lost)


def test_where_neither_is_possible_there_is_no_loss_but_a_reason(stack: Settings, database: Engine, tmp_path: Path):
    put(stack, readings_of(["meter"], days=2, minutes=15))
    (tmp_path / "nodes.csv").write_text("node_id,district_id,role\nmeter,d1,inlet\ntank,d2,storage\n")
    run("src.processing.nodes", "import", str(tmp_path / "nodes.csv"), settings=stack)
    # A tank whose area is nonsense (no file that is imported may say so) stops nobody: it is one of another district's
    # unknowns.
    with database.begin() as connection:
        wide = """UPDATE water_infrastructure.nodes SET metadata = '{"tank_area_m2": "wide"}' WHERE node_id = 'tank'"""
        connection.execute(text(wide))
    job = run_cycle(stack, START + timedelta(days=2))
    assert job["status"] == "completed"
    rows = table(database, "network_efficiency")
    zones = rows[rows["time_window"].isin(["1hour", "1day"])]["zone_metrics"]
    assert {zone["d2"]["reason"] for zone in zones} == {"no node here is an inlet"}
    found = pd.DataFrame([zone["d1"] for zone in zones])
    assert found["loss_volume"].isna().all()
    assert found["input_volume"].notna().sum() >= 47
    measured = found[found["input_volume"].notna()]
    assert set(measured["reason"]) == {"no node here meters consumption"}
    # The hours of the first day before the first reading.
    assert set(found["reason"]) - set(measured["reason"]) == {"nothing is known of meter"}
