"""The survey: what nodes are taken for and why, and what is lacking, by the figures that the code demands."""

from __future__ import annotations

import pandas as pd
import pytest
from sqlalchemy import Engine

from src.domain.efficiency import NO_INLET
from src.domain.pressure import NO_NIGHT_USE
from src.processing.nodes import import_nodes
from src.quickstart.datasets import load, network
from src.settings import Settings
from tests.system import run_cycle, table


@pytest.fixture
def surveyed(stack: Settings, database: Engine) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The simulated network's survey, of which nobody has stated a role or an area: nodes and districts, by id."""
    dataset = network()
    load(stack, dataset)
    with database.begin() as connection:
        bare = [node.model_copy(update={"role": None, "node_type": None, "metadata": None}) for node in dataset.nodes]
        import_nodes(connection, bare)
    job = run_cycle(stack, dataset.end)
    assert job["result_summary"]["survey"] == len(dataset.nodes), job["error_message"]
    found = table(database, "node_survey").set_index("node_id"), table(database, "district_survey")
    return found[0], found[1].set_index("district_id")


def test_tanks_and_pressure_sensors_are_known_by_how_they_behave(surveyed: tuple[pd.DataFrame, pd.DataFrame]):
    nodes, districts = surveyed
    believed = nodes["role_believed"].fillna("nothing").groupby(nodes.index.str.split("-").str[0]).agg(set)
    assert believed["tank"] == {"storage"}
    assert believed["pressure"] == {"monitoring"}
    # Readings do not say who brings water, and who takes it.
    assert believed["inlet"] == believed["customers"] == {"nothing"}
    assert nodes.loc["inlet-river", "why"] == [
        "5 nodes of its district measure flow: which of them bring water and which give it to customers, readings do "
        "not say"
    ]
    assert nodes.loc["tank-1", "channels"] == [
        {"measurement": "pressure", "taken_for": "the level of a tank", "unit": "bar", "why": []}
    ]
    # Its pump runs from one to three in the afternoon, at the lake.
    pump = nodes.loc["inlet-lake", "channels"][0]
    assert pump["taken_for"] == "the flow of a pump"
    assert pump["why"] == ["on 27 of 28 days it either stood still or ran at about 215 L/s"]
    assert nodes.loc["inlet-lake", ["days", "cadence_seconds"]].tolist() == [29, 300]
    assert nodes.loc["pressure-15", "lacking"]["balance"] == []
    assert "its role is not stated" in nodes.loc["tank-1", "lacking"]["balance"][0]
    assert nodes.loc["tank-1", "lacking"]["forecast"][0].startswith("no flow of it is recorded")
    net3 = districts.loc["net3"]
    assert net3["has"] == {"balance": False, "forecast": False, "detector": "none", "recommendation": "none"}
    assert net3["nodes"] == 18
    # Four weeks by UTC end two hours after the Monday of the utility's week.
    assert net3["lacking"]["detector"] == [
        "27 of 28 days are known before this week: it is learned on Monday 2024-04-08"
    ]
    assert [sentence.partition(":")[0] for sentence in net3["lacking"]["recommendation"]] == [NO_INLET, NO_NIGHT_USE]
