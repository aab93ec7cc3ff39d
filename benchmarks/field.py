"""What the service makes of readings as utilities really have them: true volumes, balances, broken channels, events.

Meters that report on change, lose readings or catch up, districts of lossy inlets, and channels that are dead, copies
or in another unit, made by keyword, and where a folder of cases is there, its nodes as well: all go through the whole
service at once, and its figures are put beside what truly was.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path

import orjson
import pandas as pd
from rich.console import Console
from rich.progress import Progress
from rich.table import Table
from sqlalchemy import Engine, inspect, text

from benchmarks import field_events, field_folder
from benchmarks.field_readings import ZONE, Habit, Meter, Wrong, generated_meters
from benchmarks.system import database_of, system, worked_off
from src.db.tables import SCHEMA
from src.processing.nodes import Node, import_nodes

# The Monday before is the last that every case has seen.
NOW = datetime(2025, 6, 24, tzinfo=UTC)
MOST_SECONDS = 600
# What channels are judged to be: by node, measurement and kind, with further remarks.
Judged = dict[tuple[str, str, str], str]
GOALS: dict[Habit, float] = {"on change": 0.01, "sparse": 0.05, "catch-up": 0.01, "lost 10": 0.02, "lost 30": 0.02}
MOST_HOUR_RATIO = 1.1
# Bands of volumes are intervals at 95 %.
INSIDE = 0.95
FOUND: dict[Wrong, str] = {
    "dead": "dead_channels_found", "copy of flow_rate": "copies_found", "unit": "units_questioned"
}  # fmt: skip
console = Console(width=190)


@dataclass(frozen=True)
class Row:
    """A line of the table; `figure` is what the last line's sums and worst are made of."""

    case: str
    what: str
    wanted: str
    got: str
    goal: str
    met: bool
    figure: float


# --- the service


def serve(meters: Sequence[Meter], environment: dict[str, str], database: Engine) -> None:
    """Lets the service work off everything, as on the day it is installed."""
    with database.begin() as connection:
        known = [Node(node_id=one.node_id, district_id=one.district_id, role=one.role) for one in meters if one.role]
        import_nodes(connection, known)
    begun = time.perf_counter()
    job = worked_off(environment, MOST_SECONDS)
    console.print(
        f"{len(meters)} meters, {job['readings']:,} readings: the service took {time.perf_counter() - begun:.0f} s"
    )


def volumes_of(database: Engine) -> pd.DataFrame:
    """node_id, window_start and total_volume (m³) of every hour."""
    query = text(
        "SELECT node_id, window_start, total_volume FROM water_infrastructure.computed_metrics "
        "WHERE time_window = '1hour' AND total_volume IS NOT NULL"
    )
    return pd.read_sql(query, database)


def balances_of(database: Engine) -> pd.DataFrame:
    """district_id, window_start, input_volume, input_margin and loss_volume (m³) of every local day."""
    figures = ", ".join(
        f"CAST(balance ->> '{name}' AS float8) AS {name}" for name in ("input_volume", "input_margin", "loss_volume")
    )
    # Names of our own columns.
    query = f"SELECT district_id, window_start, {figures} FROM {SCHEMA}.district_balances WHERE time_window = '1day'"  # noqa: S608
    return pd.read_sql(text(query), database)


def judged_channels(database: Engine) -> Judged | None:
    """How the service judges channels; None where it has no table of them."""
    if not inspect(database).has_table("node_channels", SCHEMA):
        return None
    query = text(
        "SELECT node_id, measurement, is_connected IS FALSE AS is_dead, copy_of, unit_questioned IS TRUE AS is_odd, "
        "coalesce(likely_unit, '') AS likely_unit FROM water_infrastructure.node_channels"
    )
    judged: Judged = {}
    with database.connect() as connection:
        for row in connection.execute(query):
            if row.is_dead:
                judged[row.node_id, row.measurement, "dead"] = ""
            if row.copy_of is not None:
                judged[row.node_id, row.measurement, f"copy of {row.copy_of}"] = ""
            if row.is_odd:
                judged[row.node_id, row.measurement, "unit"] = row.likely_unit
    return judged


# --- the service's figures beside what was


def whole_days(hours: pd.Series) -> pd.Series:
    """m³ by local day (its first instant); without the first and the last, which hours may cover in part."""
    starts = pd.DatetimeIndex(hours.index).tz_convert(ZONE).normalize().tz_convert("UTC")
    return hours.groupby(starts).sum().iloc[1:-1]


def volume_row(meter: Meter, goal: float, hours: pd.DataFrame) -> Row:
    """The volume of all hours together, as it stands in the windows."""
    # What comes after the last reading is nobody's.
    truth = meter.hours.iloc[1:-24]
    served = hours[hours["node_id"] == meter.node_id].set_index("window_start")["total_volume"].reindex(truth.index)
    error = abs(served.sum() / truth.sum() - 1)
    got = f"{served.sum():,.0f} m³, {served.notna().sum()} of {len(truth)} hours"
    return _row(meter, "volume", f"{truth.sum():,.0f} m³", got, error, goal)


def largest_hour_row(meter: Meter, hours: pd.DataFrame) -> Row:
    """The largest hour, over the largest that truly flowed."""
    largest, true = hours.loc[hours["node_id"] == meter.node_id, "total_volume"].max(), meter.hours.max()
    ratio = largest / true
    goal = f"{ratio:.2f} times as much (at most {MOST_HOUR_RATIO})"
    wanted, got = f"{true:.0f} m³", f"{largest:.0f} m³"
    return Row(meter.node_id, "largest hour", wanted, got, goal, bool(ratio <= MOST_HOUR_RATIO), float(ratio))


def sparse_row(meter: Meter, goal: float, balances: pd.DataFrame) -> Row:
    """The volume that balances estimate, of all days together; a day without one counts as nothing."""
    truth = whole_days(meter.hours)
    served = balances[balances["district_id"] == meter.district_id].set_index("window_start").reindex(truth.index)
    error = abs(served["input_volume"].sum() / truth.sum() - 1)
    inside = (served["input_volume"] - truth).abs() <= served["input_margin"]
    known = served["input_volume"].notna().sum()
    got = f"{served['input_volume'].sum():,.0f} m³, {known} of {len(truth)} days known, {inside.sum()} inside the band"
    row = _row(meter, "volume, estimated", f"{truth.sum():,.0f} m³", got, error, goal)
    enough = bool(inside.mean() >= INSIDE)
    return replace(row, goal=f"{row.goal}, {100 * INSIDE:g} % of days inside", met=row.met and enough)


def balance_row(inlet: Meter, customers: Meter, goal: float, balances: pd.DataFrame) -> Row:
    """The worst day's loss, as a share of what came in; a day without one is wrong altogether."""
    came_in = whole_days(inlet.hours)
    lost = came_in - whole_days(customers.hours)
    served = balances[balances["district_id"] == inlet.district_id].set_index("window_start").reindex(lost.index)
    errors = (served["loss_volume"] - lost).abs() / came_in
    unknown, worst = errors.isna().sum(), int(errors.fillna(0).argmax())
    got = f"{served['loss_volume'].iloc[worst]:.0f} m³ on the worst day, {unknown} of {len(lost)} days unknown"
    row = _row(inlet, "loss of a day", f"{lost.iloc[worst]:.0f} m³", got, errors.max(), goal)
    return replace(row, goal=f"{row.goal}, no day unknown", met=False, figure=1.0) if unknown else row


def channel_rows(meters: Iterable[Meter], judged: Judged | None) -> list[Row]:
    """Every channel with which something is wrong."""
    rows = []
    for meter in meters:
        for measurement, wrong in meter.wrong.items():
            more = None if judged is None else judged.get((meter.node_id, measurement, wrong))
            got = "not available" if judged is None else "not found" if more is None else f"found {more}".strip()
            found = more is not None
            rows.append(Row(meter.node_id, f"{measurement}: {wrong}", "found", got, "", found, found))
    return rows


def wrongly_judged_rows(meters: Iterable[Meter], judged: Judged) -> list[Row]:
    """Judgements on channels that are as they should be, or that name another fault than the true one."""
    by_id = {meter.node_id: meter for meter in meters}
    rows = []
    for (node_id, measurement, what), more in sorted(judged.items()):
        meter = by_id[node_id]
        # A channel that a node does not have may well be judged not connected.
        if measurement in meter.open or measurement not in meter.measured or meter.wrong.get(measurement) == what:
            continue
        rows.append(Row(node_id, f"{measurement}: {what}", "nothing said", f"said {more}".strip(), "", False, 1))
    return rows


def _row(meter: Meter, what: str, wanted: str, got: str, error: float, goal: float) -> Row:
    beside = f"{100 * error:.2f} % (at most {100 * goal:g})"
    return Row(meter.node_id, what, wanted, got, beside, bool(error <= goal), float(error))


# --- report


def figures_of(meters: Sequence[Meter], database: Engine) -> tuple[list[Row], dict[str, float | int | None]]:
    """The table's rows and the last line's figures: of each kind of error the worst, of channels how many."""
    hours, balances, judged = volumes_of(database), balances_of(database), judged_channels(database)

    def of(habit: Habit) -> list[Meter]:
        return [meter for meter in meters if meter.habit == habit]

    changing = [volume_row(meter, GOALS["on change"], hours) for meter in of("on change")]
    sparse = [sparse_row(meter, GOALS["sparse"], balances) for meter in of("sparse")]
    caught_up = [volume_row(meter, GOALS["catch-up"], hours) for meter in of("catch-up")]
    largest = [largest_hour_row(meter, hours) for meter in of("catch-up")]
    customers = {meter.district_id: meter for meter in meters if meter.role == "consumption"}
    lossy: tuple[Habit, Habit] = "lost 10", "lost 30"
    lost_10, lost_30 = (
        [balance_row(inlet, customers[inlet.district_id], GOALS[habit], balances) for inlet in of(habit)]
        for habit in lossy
    )
    result: dict[str, float | int | None] = {
        "volume_error_on_change": _worst(changing),
        "volume_error_sparse": _worst(sparse),
        "catch_up_max_hour_ratio": _worst(largest),
    }
    channels = channel_rows(meters, judged)
    for wrong, name in FOUND.items():
        rows = [row for row in channels if row.what.endswith(f": {wrong}")]
        result[name] = None if judged is None else int(sum(row.figure for row in rows))
    wrongly = [] if judged is None else wrongly_judged_rows(meters, judged)
    result["channels_wrongly_questioned"] = None if judged is None else len(wrongly)
    result |= {"balance_error_lost_10": _worst(lost_10), "balance_error_lost_30": _worst(lost_30)}
    return [*changing, *sparse, *caught_up, *largest, *lost_10, *lost_30, *channels, *wrongly], result


def _worst(rows: Sequence[Row]) -> float:
    return round(max(row.figure for row in rows), 4)


def main() -> None:
    parser = argparse.ArgumentParser("./scripts/bench.sh field", description=__doc__)
    parser.add_argument("--cases", type=Path, default=Path("../shared/cases"), metavar="FOLDER", help="of more cases")
    parser.add_argument("--seed", type=int, default=7, help="of the folder's maker")
    parser.add_argument("--event-seeds", type=int, nargs="+", default=[1, 2, 7], help="of the maker, for events")
    parser.add_argument("--only-events", action="store_true", help="leave out volumes, balances and channels")
    options = parser.parse_args()
    result: dict[str, float | int | None] = {}
    if not options.only_events:
        result = volumes_and_channels(options.cases, options.seed)
    result |= events(options.cases, options.event_seeds)
    print(orjson.dumps(result).decode())


def events(folder: Path, seeds: list[int]) -> dict[str, float]:
    """What is raised, case by case; prints a table, and returns the last line's figures."""
    table = Table(title="What is raised, and what was wanted")
    for name in ("case", "wanted", "got", "within"):
        table.add_column(name)
    parts = []
    cases = list(field_events.all_cases(folder, seeds))
    with Progress(console=Console(stderr=True)) as progress:
        bar = progress.add_task("Judging events", total=len(cases))
        for name, judge in cases:
            progress.update(bar, description=f"Judging events: {name}")
            outcomes, figures = judge()
            parts.append(figures)
            for outcome in outcomes:
                table.add_row(outcome.case, outcome.wanted, outcome.got, "yes" if outcome.met else "no")
            progress.advance(bar)
    console.print(table)
    return field_events.summed(parts)


def volumes_and_channels(folder: Path, seed: int) -> dict[str, float | int | None]:
    """True volumes, balances and channels; prints a table, and returns the last line's figures."""
    meters = list(generated_meters())
    for name, meters_of in (
        (field_folder.MONTH, partial(field_folder.month, end=NOW)),
        (field_folder.MAKER, partial(field_folder.made, seed=seed)),
    ):
        if (folder / name).exists():
            meters += meters_of(folder)
        else:
            console.print(f"{folder / name} is not there: without its cases")
    frame = pd.concat([meter.readings for meter in meters], ignore_index=True)
    # The service would delete what is older than that.
    retention_days = (NOW - frame["timestamp"].min().to_pydatetime()) // timedelta(days=1) + 2
    with system(frame, clock=f"frozen:{NOW.isoformat()}", retention_metrics_days=str(retention_days)) as environment:
        database = database_of(environment)
        serve(meters, environment, database)
        rows, result = figures_of(meters, database)
        database.dispose()
    table = Table(title="What was, and what the service says")
    for name in ("case", "figure", "wanted", "got", "off (goal)", "met"):
        table.add_column(name)
    for row in rows:
        table.add_row(row.case, row.what, row.wanted, row.got, row.goal, "yes" if row.met else "no")
    console.print(table)
    console.print(f"met: {sum(row.met for row in rows)} of {len(rows)}")
    return result


if __name__ == "__main__":
    main()
