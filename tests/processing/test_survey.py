"""The survey: what nodes are taken for and why, and what is lacking, by the figures that the code demands."""

from __future__ import annotations

import math
import re
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import Engine, insert, text

from src.db import tables
from src.domain.efficiency import NO_INLET
from src.domain.lacking import District, Today
from src.domain.pressure import NO_NIGHT_USE
from src.domain.roles import Belief, Channel, Node
from src.domain.survey import DistrictSurvey, NodeSurvey, survey
from src.domain.units import UNITS
from src.processing.conclusions.survey import write_survey
from src.processing.districts import District as StatedDistrict
from src.processing.districts import import_districts
from src.processing.jobs.runtime import Runtime
from src.processing.nodes import Node as StatedNode
from src.processing.nodes import import_nodes
from src.processing.survey import DISTRICT_COLUMNS, NODE_COLUMNS, NOT_YET
from src.quickstart.datasets import load, network
from src.settings import Settings
from tests.signals import ROME
from tests.system import run, run_cycle, table

AS_OF = datetime(2023, 5, 10, 12, tzinfo=UTC)
TODAY = Today(AS_OF, date(2023, 5, 9), 24, ROME, {})
LONG_AGO = AS_OF - timedelta(days=80)
ENOUGH = {"days": 80, "recent_days": 21, "last_day": AS_OF - timedelta(days=1), "hours": 1300, "looked_at": 28}


def channel(measurement: str = "flow_rate", **known: Any) -> Channel:
    return Channel(UNITS[measurement], **ENOUGH | known)


def node(node_id: str = "n1", *measurements: str, **known: Any) -> Node:
    """A node of district d that lacks nothing; its role is not stated."""
    defaults: dict[str, Any] = {
        "district_id": "d",
        "channels": {name: channel(name) for name in measurements},
        "first_reading": LONG_AGO,
        "days": 80,
        "vouched_hours": 24.0,
        "pool": "inlet",
        "has_forecast": True,
    }
    return Node(node_id, **defaults | known)


INLET = node("inlet", "flow_rate", "pressure", role="inlet")
CUSTOMERS = node("customers", "flow_rate", role="consumption")
SENSOR = node("sensor", "pressure", role="monitoring")
DISTRICT = District(
    "d", has_day=True, day=date(2023, 5, 9), known_days=30, detector="active", recommendation="recommended"
)


def surveyed_node(one: Node, *others: Node, today: Today = TODAY) -> NodeSurvey:
    return survey([one, *others], [], today)[0][0]


def surveyed_district(district: District, *nodes: Node) -> DistrictSurvey:
    return survey(nodes, [district], TODAY)[1][0]


def test_a_district_that_has_everything_lacks_nothing():
    nodes, districts = survey([INLET, CUSTOMERS, SENSOR], [DISTRICT], TODAY)
    assert {sentences for one in [*nodes, *districts] for purpose, sentences in one.lacking.items()} <= {
        (),
        ("no flow of it is recorded, and flow is what is forecast: connect its flow or its volume",),
    }
    assert districts[0].has == {
        "balance": True, "forecast": True, "detector": "active", "recommendation": "recommended"
    }  # fmt: skip
    assert nodes[0].why == ("the role inlet is stated",)
    assert nodes[0].role_believed is None


@pytest.mark.parametrize(
    ("one", "others", "believed", "because"),
    [
        (node("n1", "flow_rate"), [SENSOR], "inlet", "the only one of the 2 nodes of its district that measures flow"),
        (node("n1", "flow_rate"), [], "inlet", "the only node of its district that measures flow"),
        (node("n1", "flow_rate"), [CUSTOMERS], None, "2 nodes of its district measure flow: which of them"),
        (node("n1", "flow_rate"), [INLET], None, "2 nodes of its district measure flow, of which inlet is stated"),
        (node("n1", "flow_rate", district_id=None), [], None, "it measures flow, and is in no district"),
        (node("n1", "flow_rate", node_type="Customer"), [INLET], "consumption", "its type is 'Customer'"),
        (node("n1", "flow_rate", node_type="reservoir"), [INLET], None, "2 nodes of its district measure flow"),
        (
            node("n1", "pressure", node_type="reservoir"),
            [],
            "storage",
            "its type is 'reservoir', and it measures no flow",
        ),
        (node("n1", "pressure"), [INLET], "monitoring", "it measures pressure and no flow"),
        (node("n1", "temperature"), [INLET], None, "no water was seen to pass it, and no pressure"),
        (node("n1"), [INLET], None, "nothing is recorded of it"),
        (node("n1", channels={"flow_rate": channel(is_connected=False)}), [], None, "no water was seen to pass it"),
        (node("n1", channels={"flow_rate": channel(is_moving=False)}), [], None, "no water was seen to pass it"),
    ],
)
def test_a_role_is_believed_only_where_something_speaks_for_it(
    one: Node, others: list[Node], believed: str | None, because: str
):
    found = surveyed_node(one, *others)
    assert (found.role_believed, len(found.why)) == (believed, 1)
    assert because in found.why[0]


@pytest.mark.parametrize(
    ("days", "looked_at", "is_level"), [(28, 28, True), (4, 4, False), (23, 28, True), (22, 28, False)]
)
def test_a_level_is_one_by_its_habit(days: int, looked_at: int, is_level: bool):
    level = channel("pressure", level_days=days, looked_at=looked_at)
    found = surveyed_node(node("n1", channels={"pressure": level}))
    assert found.role_believed == ("storage" if is_level else "monitoring")
    assert found.channels[0].taken_for == ("the level of a tank" if is_level else "pressure")


@pytest.mark.parametrize(
    ("measurement", "known", "taken_for", "why"),
    [
        ("pressure", {"is_connected": False, "evidence": ("it stood",)}, "nothing: it is not connected", "it stood"),
        ("pressure", {"copy_of": "flow_rate", "evidence": ("the same",)}, "a copy of flow", "the same"),
        ("pressure", {"unit_questioned": True, "evidence": ("40",)}, "pressure in a unit that does not fit", "40"),
        ("flow_rate", {"days": 0, "is_unit_stated": True}, "flow, of which nothing is recorded", "is stated"),
        ("flow_rate", {"pump_days": 27, "pump_flow": 12.345}, "the flow of a pump", "on 27 of 28 days it either stood"),
        ("volume", {"counts_as": "counter", "evidence": ("x",)}, "a register's reading", "x"),
        ("volume", {"counts_as": "increment", "evidence": ("x",)}, "volume since the reading before", "x"),
    ],
)
def test_a_channel_is_taken_for_what_its_evidence_says(
    measurement: str, known: dict[str, Any], taken_for: str, why: str
):
    found = surveyed_node(node("n1", channels={measurement: channel(measurement, **known)})).channels[0]
    assert (found.measurement, found.taken_for, found.unit) == (measurement, taken_for, UNITS[measurement])
    assert any(why in sentence for sentence in found.why)


def test_a_district_is_believed_by_name_or_by_place():
    placed = [
        node(f"p{n}", "pressure", latitude=39.2 + n * 0.001, longitude=9.1, district_id="dma-1") for n in range(3)
    ]
    near = node("near", "pressure", district_id=None, latitude=39.2, longitude=9.101)
    far = node("far", "pressure", district_id=None, latitude=39.3, longitude=9.1)
    named = node("dma-1-p7", "pressure", district_id=None)
    other = node("dma-10", "pressure", district_id=None)
    found = {
        one.node.node_id: one.district_believed for one in survey([near, far, named, other, *placed], [], TODAY)[0]
    }
    assert found["near"] is not None
    assert (found["near"].value, found["far"], found["dma-10"]) == ("dma-1", None, None)
    # 222 m to the north and 86 m to the west.
    assert found["near"].why == ("its 3 nearest neighbours, within 239 m, are of district dma-1",)
    assert found["dma-1-p7"] == Belief("dma-1", ("its name begins with that of district dma-1",))


@pytest.mark.parametrize(
    ("purpose", "one", "sentence"),
    [
        ("balance", replace(INLET, role=None), "its role is not stated, so that it counts in no balance: state inlet,"),
        ("balance", replace(INLET, district_id=None), "it is in no district, and is balanced only with others"),
        (
            "balance",
            replace(INLET, vouched_hours=12.0),
            "of 2023-05-09 12 of 24 hours are vouched for by readings, more",
        ),
        ("balance", replace(INLET, vouched_hours=math.nan), "of 2023-05-09 0 of 24 hours are vouched for"),
        ("balance", replace(INLET, channels={}), "neither flow nor volume of it is recorded: connect"),
        ("balance", node("t", "pressure", role="storage"), "its area is not known, by which a level is"),
        ("balance", node("t", role="storage", has_tank_area=True), "no level is recorded of it: send"),
        ("balance", replace(INLET, is_active=False), "it is not active: state is_active true"),
        (
            "forecast",
            replace(INLET, pool=None),
            "its last day with flow is 2023-05-09, and only what had flow within 28",
        ),
        ("forecast", replace(INLET, has_forecast=False), "no model of its pool 'inlet' forecasts it: it is trained"),
        ("forecast", node("n1", channels={"flow_rate": channel(recent_days=17)}), "17 of the last 21 days have flow"),
        ("detector", replace(INLET, district_id=None), "it is in no district, and detectors are of districts"),
        ("detector", node("n1", channels={"flow_rate": channel(hours=900)}), "its flow_rate has 900 of 941 hours that"),
        ("detector", node("n1", channels={"flow_rate": channel(copy_of="pressure")}), "its flow_rate is left out"),
    ],
)
def test_what_a_node_lacks_is_stated_with_figures_and_the_next_step(purpose: str, one: Node, sentence: str):
    found = surveyed_node(one, SENSOR, CUSTOMERS)
    assert [stated for stated in found.lacking[purpose] if stated.startswith(sentence)], found.lacking


def test_an_only_inlet_that_stands_at_nothing_lacks_a_meter_and_one_of_two_does_not():
    dead = node("dead", channels={"flow_rate": channel(is_connected=False, is_moving=False)}, role="inlet")
    assert surveyed_node(dead, CUSTOMERS).lacking["balance"][0].startswith("its flow stands at nothing")
    assert not surveyed_node(dead, INLET, CUSTOMERS).lacking["balance"]


@pytest.mark.parametrize(
    ("purpose", "district", "nodes", "sentence"),
    [
        (
            "balance",
            {},
            [CUSTOMERS],
            "no node here is an inlet: state the role inlet of the node that brings its water",
        ),
        ("balance", {}, [node("n1", "flow_rate")], "no node here is an inlet: state the role inlet of n1 in nodes.csv"),
        ("balance", {}, [INLET], "no node here meters consumption, and its service connections are not known"),
        (
            "balance",
            {"known_days": 26},
            [INLET, CUSTOMERS],
            "for a month's balance 26 of the last 30 days are balanced, 27",
        ),
        ("balance", {"has_day": False, "day": None}, [INLET, CUSTOMERS], "no whole local day is balanced yet"),
        ("balance", {"has_day": False, "reason": "x"}, [INLET, CUSTOMERS], "the balance of 2023-05-09 is not known: x"),
        ("balance", {"reason": "x"}, [INLET, CUSTOMERS], "the balance of 2023-05-09 cannot be: x"),
        ("forecast", {}, [replace(INLET, has_forecast=False)], "inlet inlet: no model of its pool"),
        ("detector", {"detector": None}, [INLET, SENSOR], "enough is measured, and none could be learned"),
        ("detector", {"detector": None}, [CUSTOMERS], "1 of 2 signals that a detector compares are measured in it"),
        (
            "detector",
            {"detector": "shadow", "shadow_since": LONG_AGO},
            [INLET],
            "its detector has been in shadow since 2023-02-19, and its alarms are no events yet: it becomes active",
        ),
        (
            "detector",
            {"detector": None},
            [replace(INLET, first_reading=datetime(2023, 4, 10, tzinfo=UTC)), replace(SENSOR, first_reading=None)],
            "27 of 28 days are known before this week: it is learned on Monday 2023-05-15",
        ),
        (
            "detector",
            {"detector": None},
            [CUSTOMERS, node("n2", channels={"pressure": channel("pressure", hours=500)})],
            "1 of 2 signals were measured for 70 % of the hours before this week",
        ),
        ("recommendation", {}, [INLET, replace(INLET, node_id="second")], "2 inlets feed the district (inlet, second)"),
        ("recommendation", {}, [CUSTOMERS], "no node here is an inlet"),
        ("recommendation", {}, [node("i", "flow_rate", role="inlet")], "no pressure of its only inlet is recorded"),
        ("recommendation", {}, [INLET], "no node within the district tells its pressure: add"),
        ("recommendation", {}, [INLET, SENSOR], "neither customer meters nor the number of connections are known"),
        ("recommendation", {"nights": 20}, [INLET, SENSOR, CUSTOMERS], "20 of 21 nights with flow and pressure"),
        ("recommendation", {"nights": 21}, [INLET, SENSOR, CUSTOMERS], "what is needed is there"),
        (
            "recommendation",
            {"nights": 21, "recommendation": "refused", "recommendation_reason": "nothing to lower"},
            [INLET, SENSOR, CUSTOMERS],
            "nothing to lower: it is looked at again",
        ),
    ],
)
def test_what_a_district_lacks_is_stated_with_figures_and_the_next_step(
    purpose: str, district: dict[str, Any], nodes: list[Node], sentence: str
):
    if purpose == "recommendation":
        district = {"recommendation": None} | district
    found = surveyed_district(replace(DISTRICT, **district), *nodes)
    assert [stated for stated in found.lacking[purpose] if stated.startswith(sentence)], found.lacking[purpose]


channels = st.builds(
    Channel,
    unit=st.just("L/s"),
    days=st.integers(0, 90),
    recent_days=st.integers(0, 21),
    last_day=st.just(LONG_AGO),
    hours=st.integers(0, 56 * 24),
    is_connected=st.sampled_from([None, True, False]),
    is_moving=st.booleans(),
    looked_at=st.integers(0, 28),
    level_days=st.integers(0, 28),
)
some_nodes = st.lists(
    st.builds(
        Node,
        node_id=st.text("ab-", min_size=1, max_size=4),
        district_id=st.sampled_from([None, "a", "d"]),
        role=st.sampled_from([None, "inlet", "outlet", "consumption", "storage", "monitoring"]),
        is_active=st.booleans(),
        has_tank_area=st.booleans(),
        channels=st.dictionaries(st.sampled_from(["flow_rate", "pressure"]), channels),
        first_reading=st.integers(0, 90).map(lambda days: AS_OF - timedelta(days=days)),
        vouched_hours=st.floats(0, 24),
        pool=st.sampled_from([None, "inlet"]),
        has_forecast=st.booleans(),
    ),
    max_size=5,
    unique_by=lambda one: one.node_id,
)
some_district = st.builds(
    District,
    district_id=st.just("d"),
    connections=st.sampled_from([None, 100]),
    has_day=st.booleans(),
    day=st.just(date(2023, 5, 9)),
    known_days=st.integers(0, 30),
    detector=st.sampled_from([None, "active", "shadow"]),
    shadow_since=st.just(LONG_AGO),
    recommendation=st.sampled_from([None, "recommended"]),
    nights=st.integers(0, 40),
)


@given(some_nodes, some_district)
def test_no_sentence_says_that_there_is_enough_and_each_names_a_next_step(nodes: list[Node], district: District):
    of_nodes, of_districts = survey(nodes, [district], TODAY)
    sentences = [
        sentence for one in [*of_nodes, *of_districts] for lacking in one.lacking.values() for sentence in lacking
    ]
    for sentence in sentences:
        assert ": " in sentence
        for known, needed in re.findall(r"(\d+) of (?:the last )?(\d+)", sentence.partition(": wait")[0]):
            assert int(known) < int(needed), sentence
    found = of_districts[0]
    # What is there in full lacks nothing, and what is not there lacks something.
    assert (found.has["detector"] == "active") == (not found.lacking["detector"])
    assert (found.has["recommendation"] == "recommended") == (not found.lacking["recommendation"])
    assert found.has["balance"] or found.lacking["balance"]
    assert found.has["forecast"] or found.lacking["forecast"]
    for one in of_nodes:
        assert one.why
        assert one.node.role is None or one.role_believed is None


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
    # Readings do not show who brings water, and who takes it.
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


def days_of(node_id: str, days: int, **figures: float) -> list[dict[str, Any]]:
    """Windows of the days before `AS_OF`'s, by the utility's time."""
    end = datetime(2023, 5, 9, 22, tzinfo=UTC)
    counts = dict.fromkeys(("reading_count", "flow_count", "pressure_count", "temperature_count"), 96)
    return [
        {
            "node_id": node_id,
            "time_window": "1day",
            "window_start": end - timedelta(days=n + 1),
            "window_end": end - timedelta(days=n),
            "computed_at": AS_OF,
            "computation_version": "1",
            "cadence_seconds": 900.0,
            **counts,
            **figures,
        }
        for n in range(days)
    ]


METER = {"avg_flow_rate": 5.0, "min_flow_rate": 1.0, "max_flow_rate": 9.0, "flow_variance": 4.0, "flow_coverage": 1.0}
TANK = {"avg_pressure": 0.4, "min_pressure": 0.3, "max_pressure": 0.5, "max_pressure_change": 0.019}


def test_it_is_made_once_an_hour_and_at_once_when_what_is_stated_has_changed(runtime: Runtime, database: Engine):
    def at(minutes: int) -> int | None:
        return write_survey(runtime, AS_OF + timedelta(minutes=minutes))

    def stated(**known: Any) -> None:
        with database.begin() as connection:
            import_nodes(connection, [StatedNode(**known)])

    stated(node_id="n1")
    stated(node_id="n2")
    assert [at(0), at(30), at(60), at(90)] == [2, None, 2, None]
    stated(node_id="n2", district_id="d")
    assert [at(91), at(92)] == [2, None]
    with database.begin() as connection:
        import_districts(connection, [StatedDistrict(district_id="d", connections=10)])
    assert [at(93), at(94)] == [2, None]
    with database.begin() as connection:
        connection.execute(text("DELETE FROM water_infrastructure.nodes WHERE node_id = 'n1'"))
    assert [at(95), at(96)] == [1, None]
    assert list(table(database, "node_survey")["node_id"]) == ["n2"]
    # A clock that was put back.
    assert at(-300) == 1
    assert set(table(database, "district_survey")["surveyed_at"]) == {pd.Timestamp(AS_OF - timedelta(minutes=300))}


def test_figures_are_those_of_the_days_that_are_stored(runtime: Runtime, database: Engine):
    with database.begin() as connection:
        import_nodes(connection, [StatedNode(node_id=name, district_id="d") for name in ("meter", "tank", "mute")])
        connection.execute(insert(tables.computed_metrics), days_of("meter", 17, **METER))
        connection.execute(insert(tables.computed_metrics), days_of("tank", 40, **TANK))
    write_survey(runtime, AS_OF)
    found = table(database, "node_survey").set_index("node_id")
    assert found["days"].to_dict() == {"meter": 17, "tank": 40, "mute": 0}
    assert found["role_believed"].fillna("nothing").to_dict() == {
        "meter": "inlet", "tank": "storage", "mute": "nothing"
    }  # fmt: skip
    assert found.loc["meter", "lacking"]["forecast"] == [
        "17 of the last 21 days have flow, and all are needed to forecast it by what is learned: until 4 more are "
        "there, only its usual flow can be",
        "no model of its pool 'monitoring' forecasts it: it is trained on Sunday, or now with `python -m "
        "src.processing.models train`",
    ]


@pytest.fixture
def believed(stack: Settings, runtime: Runtime, database: Engine) -> Settings:
    """A surveyed network with names that need care, of which somebody has stated some."""
    full = {"node_name": 'A "tank", in città', "latitude": 39.25, "installation_date": "2019-02-28"}
    metadata = '{"tank_area_m2": 12.5, "units": {"pressure": "m"}}'
    with database.begin() as connection:
        import_nodes(
            connection,
            [
                StatedNode(node_id="a\nb,c", district_id="d", **full, role="storage", metadata=metadata),
                StatedNode(node_id="[bold]=1+1", district_id="d", is_active="true"),
                StatedNode(node_id="off", district_id="d", is_active="false"),
                StatedNode(node_id="d-7"),
            ],
        )
        import_districts(connection, [StatedDistrict(district_id="e", connections=7, mains_km=1.5)])
        connection.execute(insert(tables.computed_metrics), days_of("[bold]=1+1", 28, **METER))
    write_survey(runtime, AS_OF)
    return stack


def test_what_is_written_is_imported_as_it_was_with_what_is_believed(
    believed: Settings, database: Engine, tmp_path: Path
):
    columns = [*(name for name in NODE_COLUMNS if name != "node_id"), "out_of_service_since"]
    before, districts = table(database, "nodes").set_index("node_id"), table(database, "districts")
    shown = run("src.processing.survey", "--write", str(tmp_path / "new"), settings=believed, COLUMNS="300")
    assert shown.returncode == 0, shown.stderr
    assert "4 nodes are in" in shown.stdout
    assert "1 roles and 1 districts of nodes are believed" in shown.stdout
    for noun in ("nodes", "districts"):
        done = run(f"src.processing.{noun}", "import", str(tmp_path / "new" / f"{noun}.csv"), settings=believed)
        assert done.returncode == 0, done.stderr
    after = table(database, "nodes").set_index("node_id")
    expected = before.copy()
    expected.loc["[bold]=1+1", "role"] = "inlet"
    expected.loc["d-7", "district_id"] = "d"
    pd.testing.assert_frame_equal(after[columns].sort_index(), expected[columns].sort_index())
    again = table(database, "districts").set_index("district_id")
    assert set(again.index) == {"d", "e"}
    pd.testing.assert_series_equal(
        again.loc["e"].drop("updated_at"), districts.set_index("district_id").loc["e"].drop("updated_at")
    )
    # What somebody may have edited is not written over.
    refused = run("src.processing.survey", "--write", str(tmp_path / "new"), settings=believed)
    assert refused.returncode == 1
    assert "nodes.csv is there already: name another folder" in refused.stderr


def test_it_prints_names_as_they_are_and_every_sentence_once(believed: Settings, database: Engine):
    shown = run("src.processing.survey", settings=believed, COLUMNS="300").stdout
    assert "Survey of 2023-05-10 12:00 UTC; * believed, not stated" in shown
    assert "[bold]=1+1" in shown
    assert "a\N{REPLACEMENT CHARACTER}b,c" in shown
    assert "inlet *" in shown
    assert "- forecast: a\N{REPLACEMENT CHARACTER}b,c, d-7: no flow of it is recorded" in shown
    assert shown.count("no flow of it is recorded") == 1


def test_without_a_survey_the_command_says_so(stack: Settings, database: Engine):
    shown = run("src.processing.survey", settings=stack)
    assert (shown.returncode, shown.stdout.strip()) == (1, NOT_YET)
    assert "--write DIR" in run("src.processing.survey", "--help", settings=stack).stdout


def test_every_column_that_is_written_is_one_that_the_imports_know():
    assert set(NODE_COLUMNS) <= set(StatedNode.model_fields)
    assert set(DISTRICT_COLUMNS) == set(StatedDistrict.model_fields)
