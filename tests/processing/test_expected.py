"""What was expected of the hours that detection judged: stored with them, by the same habits, and again the same."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import numpy as np
import pandas as pd
from sqlalchemy import Engine, delete, text

from src.db.tables import expected_values
from src.domain.anomalies.expected import expected_of
from src.domain.anomalies.habits import ENOUGH_HISTORY, habits_from
from src.domain.anomalies.signals import Signals, cells_of
from src.processing.conclusions.anomalies import judge_anomalies
from src.processing.conclusions.expected import write_expected
from src.processing.conclusions.extent import Extent
from src.processing.conclusions.share import shares_of
from src.processing.jobs.runtime import create_runtime
from src.settings import Settings
from tests.signals import MONDAY, ROME
from tests.system import START, put, run_cycle, table

HOUR, DAY = timedelta(hours=1), timedelta(days=1)
NOW = START + 17 * DAY


def daily(nodes: list[str], days: int) -> pd.DataFrame:
    """Flow that follows the local hour, with some noise; `noon` is known."""
    instants = pd.date_range(START, START + days * DAY, freq="30min", inclusive="left")
    random = np.random.default_rng(1)
    local = instants.tz_convert("Europe/Rome").hour.to_numpy()
    return pd.concat(
        pd.DataFrame(
            {
                "timestamp": instants,
                "node_id": node,
                "flow_rate": 10 + 5 * np.sin(local / 24 * 2 * np.pi) + random.normal(0, 0.2, len(instants)),
                "pressure": 3 + random.normal(0, 0.05, len(instants)),
            }
        )
        for node in nodes
    )


def stored(database: Engine) -> pd.DataFrame:
    return table(database, "expected_values").sort_values(["node_id", "window_start"], ignore_index=True)


def judged_again(stack: Settings, database: Engine) -> None:
    """Every hour of all nodes."""
    runtime = create_runtime(stack.model_copy(update={"clock": f"frozen:{NOW.isoformat()}"}))
    with database.connect() as connection:
        (share,) = shares_of(connection)
    list(judge_anomalies(runtime, share, Extent(START), NOW))
    runtime.database.dispose()


def test_hours_that_are_judged_have_what_was_usual_then_and_a_second_look_writes_nothing(
    stack: Settings, database: Engine
):
    put(stack, daily(["n1", "n2"], days=17))
    run_cycle(stack, NOW)
    found = stored(database)
    assert set(found["node_id"]) == {"n1", "n2"}
    assert set(found["measurement"]) == {"flow_rate"}
    # The first weeks have too little history; of the last all hours are judged.
    hours = found[found["node_id"] == "n1"]["window_start"]
    assert hours.max() == NOW - HOUR
    assert hours.min() >= START + timedelta(days=12)
    assert (np.diff(hours.to_numpy()) == np.timedelta64(1, "h")).all()
    local = found["window_start"].dt.tz_convert("Europe/Rome").dt.hour
    np.testing.assert_allclose(found["expected"], 10 + 5 * np.sin(local / 24 * 2 * np.pi), atol=0.5)
    assert (found["lower"] < found["expected"]).all()
    assert (found["expected"] < found["upper"]).all()
    places = _places(database)
    judged_again(stack, database)
    pd.testing.assert_frame_equal(stored(database), found)
    assert _places(database) == places
    with database.begin() as connection:
        connection.execute(delete(expected_values).where(expected_values.c.window_start < NOW - 30 * HOUR))
    # As a backfill judges: what was expected is what was known in each week.
    judged_again(stack, database)
    pd.testing.assert_frame_equal(stored(database), found)


def test_rows_are_replaced_added_and_deleted_to_be_what_is_expected_now(database: Engine):
    def rows(values: dict[int, float]) -> pd.DataFrame:
        return pd.DataFrame(
            {
                "node_id": "n", "measurement": "flow_rate",
                "window_start": [pd.Timestamp(START + hour * HOUR) for hour in values],
                "expected": list(values.values()), "lower": 0.0, "upper": 99.0,
            }
        )  # fmt: skip

    def write(values: dict[int, float], first: int, end: int) -> int:
        with database.begin() as connection:
            return write_expected(connection, rows(values), ["n"], START + first * HOUR, START + end * HOUR)

    assert write({0: 1.0, 1: 2.0, 2: 3.0}, 0, 3) == 3
    assert write({0: 1.0, 1: 2.0, 2: 3.0}, 0, 3) == 0
    # Outside of the span nothing is touched.
    assert write({1: 2.5, 3: 4.0}, 1, 4) == 3
    assert stored(database)["expected"].tolist() == [1.0, 2.5, 4.0]
    assert write({}, 1, 4) == 2
    assert stored(database)["expected"].tolist() == [1.0]


def test_the_band_is_of_flows_with_enough_history_and_not_below_zero_where_flow_never_is():
    hours = pd.date_range(MONDAY, periods=48, freq="h", tz="UTC")
    listed = pd.DataFrame(
        {"node_id": ["a", "b", "c", "d"], "measurement": ["flow_rate", "flow_rate", "flow_rate", "pressure"]}
    )
    nothing = np.full((48, 4), np.nan)
    known: dict[str, Any] = {"expected": [1.0] * 72, "swing": [2.0] * 24, "history": float(ENOUGH_HISTORY)}
    two_way = known | {"expected": [-1.0] * 36 + [1.0] * 36}
    habits = habits_from([known, two_way, known | {"history": 1.0}, known], ["a", "b", "c", "d"])
    found = expected_of(Signals(hours, listed, *[nothing] * 6), cells_of(hours, ROME, "IT"), habits, 40)
    assert found.groupby("node_id").size().to_dict() == {"a": 8, "b": 8}
    assert found[found["node_id"] == "a"]["lower"].tolist() == [0.0] * 8
    assert (found[found["node_id"] == "b"]["lower"] < 0).all()
    assert found["window_start"].min() == hours[40]


def _places(database: Engine) -> list[tuple[object, ...]]:
    """Where the rows lie: what is written again lies elsewhere."""
    with database.connect() as connection:
        return [
            tuple(row)
            for row in connection.execute(text("SELECT ctid FROM water_infrastructure.expected_values ORDER BY 1"))
        ]
