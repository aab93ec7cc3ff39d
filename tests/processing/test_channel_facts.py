"""What channels are: judged by their own readings, with the evidence, and left out where they measure nothing."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import Engine, text

from src.domain.anomalies.signals import signals_of
from src.domain.channel_facts import Facts, facts_of
from src.domain.counting import increments, registers, two_way_meters
from src.domain.metrics import window_metrics
from src.domain.readings import clean, measurement_of
from src.processing.nodes import Node, import_nodes
from src.settings import Settings
from tests.system import put, run_cycle, table

ROME = ZoneInfo("Europe/Rome")
MONDAY = datetime(2023, 5, 7, 22, tzinfo=UTC)
FIRST = MONDAY - timedelta(days=10)
COUNT = 10 * 96
STEPS = np.arange(COUNT)
# A day's swing, with the last digits of a real sensor.
SWING = np.round(10 + 4 * np.sin(STEPS * 2 * np.pi / 96) + np.random.default_rng(1).normal(0, 0.2, COUNT), 2)


def readings(node_id: str = "n", **values: object) -> pd.DataFrame:
    instants = pd.date_range(FIRST, periods=COUNT, freq="15min").astype("datetime64[us, UTC]")
    frame = pd.DataFrame({"node_id": node_id, "timestamp": instants, "ingestion_timestamp": instants})
    for name in ("flow_rate", "pressure", "temperature", "volume"):
        frame[name] = np.broadcast_to(np.asarray(values.get(name, np.nan), dtype="float64"), COUNT)
    return frame


def judged(**values: object) -> dict[str, Facts]:
    """The facts of a node's channels, by measurement."""
    cleaned = clean(readings(**values), datetime(2030, 1, 1, tzinfo=UTC))
    windows = window_metrics(cleaned.frame, FIRST, ROME)
    nodes = pd.DataFrame({"district_id": [None], "role": [None]}, index=["n"])
    signals = signals_of(windows[windows["time_window"] == "1hour"], nodes, FIRST, MONDAY)
    grouped = cleaned.rejections.groupby(["node_id", "reason"], observed=True)["value"]
    set_aside = grouped.agg(readings="size", lowest="min", highest="max").reset_index()
    set_aside["measurement"] = [measurement_of(reason) for reason in set_aside["reason"]]
    return {measurement: facts for (_, measurement), facts in facts_of(signals, set_aside, {}).items()}


def test_a_pressure_that_never_moved_while_flow_did_is_not_connected():
    facts = judged(flow_rate=SWING, pressure=0.0)
    assert (facts["pressure"].is_connected, facts["pressure"].is_counted) == (False, False)
    assert facts["pressure"].evidence == ("0 in every reading of 240 hours, while flow_rate moved",)
    assert (facts["flow_rate"].is_connected, facts["flow_rate"].is_counted) == (True, True)


def test_of_a_node_on_which_nothing_moves_a_pressure_of_nothing_is_no_pressure():
    facts = judged(flow_rate=0.0, pressure=0.0)
    assert [facts[name].is_connected for name in ("flow_rate", "pressure")] == [False, False]


def test_a_flow_that_never_changes_is_a_flow():
    facts = judged(flow_rate=10.0, pressure=SWING)["flow_rate"]
    assert (facts.is_connected, facts.is_counted) == (None, True)


def test_a_flow_meter_alone_may_stand_still():
    assert judged(flow_rate=0.0)["flow_rate"].is_connected is None


def test_of_a_few_hours_nothing_is_concluded():
    few = np.where(STEPS < 40 * 4, 0.0, np.nan)
    assert judged(flow_rate=SWING, pressure=few)["pressure"] == Facts(40)


def test_the_figure_of_another_measurement_is_a_copy_of_it():
    facts = judged(flow_rate=SWING, temperature=SWING)
    assert (facts["temperature"].copy_of, facts["flow_rate"].copy_of) == ("flow_rate", None)
    assert (facts["temperature"].is_counted, facts["flow_rate"].is_counted) == (False, True)


def test_a_pressure_that_is_a_multiple_of_the_flow_is_none():
    facts = judged(flow_rate=SWING, pressure=np.round(0.4 * SWING, 2))["pressure"]
    assert facts.unit_questioned
    assert facts.evidence[0].startswith("0.4 times flow_rate in every one of 240 hours")


@pytest.mark.parametrize(("unit", "per_bar"), [("m", 10.197), ("psi", 14.504), ("kPa", 100.0)])
def test_a_pressure_in_another_unit_is_questioned_with_the_unit_that_would_fit(unit: str, per_bar: float):
    pressure = 4 - 0.08 * (np.roll(SWING, 30) - 10)
    facts = judged(flow_rate=SWING, pressure=pressure * per_bar)["pressure"]
    assert (facts.unit_questioned, facts.likely_unit) == (True, unit)


@pytest.mark.parametrize(
    "pressure",
    [lambda swing: 12 - 0.05 * (swing - 10), lambda swing: 4 - 0.2 * (swing - 10)],
    ids=["a main under 12 bar in a hilly town", "a street"],
)
def test_a_pressure_in_bar_is_not_questioned(pressure: Callable[[np.ndarray], np.ndarray]):
    facts = judged(flow_rate=SWING, pressure=np.round(pressure(np.roll(SWING, 30)), 2))["pressure"]
    assert (facts.unit_questioned, facts.is_counted) == (False, True)


def test_degrees_fahrenheit_are_questioned():
    facts = judged(flow_rate=SWING, temperature=57 + 0.2 * np.roll(SWING, 20))["temperature"]
    assert (facts.unit_questioned, facts.likely_unit) == (True, "°F")


def test_steps_and_placeholders_of_a_channel_are_named():
    flow = np.where(STEPS % 100 == 7, -9999.0, np.round(SWING / 5) * 5)
    facts = judged(flow_rate=flow)["flow_rate"]
    assert (facts.resolution, facts.placeholders) == (5.0, (-9999.0,))
    assert facts.is_counted


@given(st.integers(0, 10**6), st.floats(0.5, 30), st.floats(0.01, 3))
def test_whatever_a_channel_measures_it_is_connected_and_no_copy(seed: int, level: float, spread: float):
    random = np.random.default_rng(seed)
    flow, pressure = random.gamma(2, level, COUNT), 3 + np.clip(random.normal(0, spread / 3, COUNT), -1, 1)
    for facts in judged(flow_rate=flow, pressure=pressure).values():
        assert (facts.is_connected, facts.copy_of) == (True, None)


def test_a_flow_that_turns_round_day_by_day_is_two_way_and_one_that_errs_for_a_day_is_not():
    to_and_fro = np.where(STEPS % 96 < 48, 5.0, -5.0)
    once = np.where((STEPS > 500) & (STEPS < 596), -5.0, 5.0)
    assert two_way_meters(pd.concat([readings("two", flow_rate=to_and_fro), readings("one", flow_rate=once)])) == [
        "two"
    ]


def test_zero_that_drifts_below_zero_is_no_reverse_flow():
    night = np.where(STEPS % 96 < 24, -0.01, SWING)
    assert two_way_meters(readings(flow_rate=night)) == []


def test_a_volume_that_only_grows_is_the_reading_of_a_register():
    amounts = SWING * 0.9
    frame = pd.concat([readings("counter", volume=34_000 + np.cumsum(amounts)), readings("amounts", volume=amounts)])
    assert registers(frame.sample(frac=1, random_state=1)) == ["counter"]


def grown(register: list[float], minutes: float = 15) -> list[float]:
    count = len(register)
    instants = (np.arange(count) * minutes * 60_000_000).astype(np.int64)
    zeros = np.zeros(count, dtype=np.int64)
    return increments(zeros, instants, zeros, np.array(register)).tolist()


def test_a_register_rolls_over_at_the_end_of_its_digits():
    assert grown([99_997.0, 99_999.0, 1.0, 3.0])[1:] == [2.0, 2.0, 2.0]


def test_nobody_knows_what_flowed_when_a_register_was_reset_or_exchanged():
    after = grown([1200.0, 1202.0, 0.0, 2.0, 4.0, 56_000.0, 56_002.0])
    assert np.isnan([after[0], after[2], after[5]]).all()
    assert [after[n] for n in (1, 3, 4, 6)] == [2.0] * 4


@given(st.lists(st.floats(0, 5), min_size=3, max_size=60), st.integers(0, 98_000))
def test_what_a_register_has_grown_by_adds_up_to_its_last_reading(amounts: list[float], begins: int):
    register = begins + np.cumsum([0.0, *amounts])
    assert np.nansum(grown(list(register))) == pytest.approx(register[-1] - register[0], abs=1e-6)


def of_nodes(*frames: pd.DataFrame) -> pd.DataFrame:
    return pd.concat(frames, ignore_index=True).drop(columns="ingestion_timestamp")


def test_what_measures_nothing_enters_no_average_and_is_named_in_the_quality(stack: Settings, database: Engine):
    pressure = np.round(4 - 0.1 * (np.roll(SWING, 30) - 10), 2)
    put(
        stack,
        of_nodes(
            readings("sound", flow_rate=SWING, pressure=pressure, temperature=np.roll(SWING, 9)),
            readings("dead", flow_rate=SWING, pressure=0.0, temperature=SWING),
        ),
    )
    job = run_cycle(stack, MONDAY)
    assert job["status"] == "completed"
    channels = table(database, "node_channels").set_index(["node_id", "measurement"])
    assert channels["is_counted"].loc["sound"].all()
    assert channels.loc[("dead", "pressure"), "is_connected"] == False  # noqa: E712 - null is neither
    assert channels.loc[("dead", "temperature"), "copy_of"] == "flow_rate"
    network = table(database, "network_metrics").set_index("time_range").loc["24h"]
    assert network["avg_pressure"] == pytest.approx(pressure[-96:].mean(), abs=0.001)
    assert network["reason"].startswith("left out: pressure of 1 node, ")
    quality = table(database, "data_quality_metrics").set_index("node_id")
    assert quality.loc["sound", "validity_score"] == 1
    assert quality.loc["dead", "validity_score"] == pytest.approx(1 / 3)
    issues = {issue["type"] for issue in quality.loc["dead", "quality_issues"]}
    assert {"pressure_not_connected", "temperature_repeats_another"} <= issues
    assert set(table(database, "anomalies").get("measurement_type", [])) & {"pressure"} == set()


def test_how_a_channel_reports_is_learned_from_its_last_week(stack: Settings, database: Engine):
    random = np.random.default_rng(2)
    everything = of_nodes(
        *(readings(node_id, flow_rate=SWING) for node_id in ("periodic", "irregular", "on_change", "daily"))
    )
    sent = {
        "periodic": np.ones(COUNT, bool),
        "irregular": random.random(COUNT) < 0.3,
        "on_change": np.isin(STEPS, _changing(SWING, 0.12)),
        "daily": STEPS % 96 == 0,
    }
    put(stack, everything[np.concatenate(list(sent[name] for name in everything["node_id"].unique()))])
    run_cycle(stack, MONDAY)
    channels = table(database, "node_channels").query("measurement == 'flow_rate'")
    assert dict(zip(channels["node_id"], channels["reporting"], strict=True)) == {name: name for name in sent}


def _changing(values: np.ndarray, share: float) -> list[int]:
    """The places of values that differ by such a share from the last one that did."""
    places = [0]
    for place, value in enumerate(values):
        if abs(value - values[places[-1]]) > share * values[places[-1]]:
            places.append(place)
    return places


def test_what_people_state_of_a_channel_wins_from_the_next_cycle_on(stack: Settings, database: Engine):
    put(stack, of_nodes(readings("n", flow_rate=SWING, pressure=0.0)))
    run_cycle(stack, MONDAY)
    with database.begin() as connection:
        import_nodes(connection, [Node(node_id="n", metadata='{"connected": {"pressure": true}}')])
    run_cycle(stack, MONDAY + timedelta(minutes=30))
    channel = table(database, "node_channels").set_index("measurement").loc["pressure"]
    assert (bool(channel["is_connected"]), bool(channel["is_counted"])) == (True, True)
    assert channel["evidence"][-1] == "stated in the node file: connected"


def test_a_unit_is_questioned_also_where_every_value_is_beyond_what_is_possible(stack: Settings, database: Engine):
    put(stack, of_nodes(readings("n", pressure=np.round(400 + 10 * np.sin(STEPS / 9), 1))))
    run_cycle(stack, MONDAY)
    channel = table(database, "node_channels").set_index("measurement").loc["pressure"]
    assert (bool(channel["unit_questioned"]), channel["likely_unit"]) == (True, "kPa")


def test_what_is_stated_of_a_node_of_this_week_counts_at_once(stack: Settings, database: Engine):
    with database.begin() as connection:
        import_nodes(connection, [Node(node_id="n", metadata='{"connected": {"pressure": false}}')])
    frames = [readings(name, flow_rate=SWING, pressure=value) for name, value in (("n", 0.0), ("m", 4.0))]
    put(stack, of_nodes(*(frame[frame["timestamp"] >= pd.Timestamp(MONDAY - timedelta(days=1))] for frame in frames)))
    run_cycle(stack, MONDAY - timedelta(hours=1))
    network = table(database, "network_metrics").set_index("time_range").loc["6h"]
    assert network["avg_pressure"] == pytest.approx(4.0)


def test_meters_that_count_otherwise_are_taken_for_what_they_are(stack: Settings, database: Engine):
    to_and_fro = np.where(STEPS % 96 < 48, 5.0, -5.0)
    register = 34_000_000 + np.cumsum(np.full(COUNT, 9.0))
    put(stack, of_nodes(readings("between", flow_rate=to_and_fro), readings("register", volume=register)))
    run_cycle(stack, MONDAY)
    windows = table(database, "computed_metrics")
    days = windows[(windows["time_window"] == "1day") & (windows["window_start"] < MONDAY - timedelta(days=1))]
    days = days[days["window_start"] > FIRST + timedelta(days=1)].groupby("node_id")["total_volume"]
    assert days.get_group("between").abs().max() == pytest.approx(0, abs=1e-6)
    assert days.get_group("register").tolist() == pytest.approx([864.0] * len(days.get_group("register")))
    found = table(database, "node_channels").set_index(["node_id", "measurement"])
    assert (found.loc[("between", "flow_rate"), "is_two_way"], found.loc[("register", "volume"), "is_counter"]) == (
        True,
        True,
    )


def test_a_register_counts_whatever_was_sampled_between_its_readings(stack: Settings, database: Engine):
    hourly = np.where(STEPS % 4 == 0, 34_000 + STEPS * 9.0, np.nan)
    put(stack, of_nodes(readings("n", flow_rate=10.0, volume=hourly)))
    with database.begin() as connection:
        import_nodes(connection, [Node(node_id="n", metadata='{"volume_is": "counter"}')])
    run_cycle(stack, MONDAY)
    windows = table(database, "computed_metrics").query("time_window == '1day'").sort_values("window_start")
    assert windows["total_volume"].iloc[1:-1].tolist() == pytest.approx([864.0] * (len(windows) - 2))


def test_a_meter_is_found_to_turn_round_also_where_readings_come_day_by_day(stack: Settings, database: Engine):
    put(stack, of_nodes(readings("between", flow_rate=np.where(STEPS % 96 < 48, 5.0, -5.0))))
    for day in range(1, 11):
        run_cycle(stack, FIRST + timedelta(days=day))
    run_cycle(stack, MONDAY + timedelta(minutes=30))
    found = table(database, "node_channels").set_index("measurement")
    assert found.loc["flow_rate", "is_two_way"] == True  # noqa: E712 - null is neither


def test_a_zero_that_trembles_once_is_no_reverse_flow_and_even_amounts_are_no_register():
    trembling = np.where(STEPS == 500, -0.01, 0.0)
    assert two_way_meters(readings(flow_rate=trembling)) == []
    even = np.where(STEPS % 100 == 7, 9.1, 9.0)
    assert registers(readings(volume=even)) == []


def test_whether_a_volume_is_an_amount_can_be_stated(stack: Settings, database: Engine):
    put(stack, of_nodes(readings("n", volume=500 + np.cumsum(np.full(COUNT, 0.5)))))
    with database.begin() as connection:
        import_nodes(connection, [Node(node_id="n", metadata='{"volume_is": "increment"}')])
    run_cycle(stack, MONDAY)
    windows = table(database, "computed_metrics")
    assert windows.loc[windows["time_window"] == "1day", "total_volume"].max() > 90_000
    with database.connect() as connection:
        assert not connection.scalar(text("SELECT count(*) FROM water_infrastructure.node_channels WHERE is_counter"))
