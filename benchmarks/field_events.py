"""What is raised on readings as supervisory systems export them, with nothing known of any node: how often without a
cause, and whether what happened is among it.

Every case is a first load of a whole history, as on the day the service is installed; it is judged week by week, as it
would have been.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

import pandas as pd
from sqlalchemy import text

from benchmarks.field_folder import MONTH, made_readings
from benchmarks.system import database_of, system, worked_off

YEAR, ATTACKED = "pumped-town-year.csv.gz", "pumped-town-attacked.csv.gz"
MOST_SECONDS = 900
HOURS_PER_MONTH = 30.4375 * 24
# Per sensor and month: of a whole year, and after the first eight weeks of it.
MOST_CLEAN, MOST_CLEAN_LATER, LEARNING = 1.0, 0.5, timedelta(weeks=8)
MOST_IN_MONTH = 10
METRES_PER_BAR = 10.197
# What the maker's nodes do begins with their tenth week.
CHANGE = timedelta(weeks=9)
_EVENTS = text(
    """
    SELECT node_id, anomaly_type, measurement_type, severity, timestamp, "end", detected_at,
        coalesce(CAST(metadata ->> 'times' AS integer), 1) AS times
    FROM water_infrastructure.anomalies WHERE "end" IS NULL OR "end" > timestamp ORDER BY timestamp
    """
)


@dataclass(frozen=True)
class Outcome:
    """A line of the table: what was wanted of a case, what came, and whether that is within it."""

    case: str
    wanted: str
    got: str
    met: bool


def town(file: Path) -> pd.DataFrame:
    """Hourly readings of a town's wide export: flows (F_) as L/s, levels (L_) and pressures (P_) in metres as bar."""
    wide = pd.read_csv(file)
    wide.columns = [str(name).strip() for name in wide.columns]
    instants = _instants(wide)
    parts = []
    for name in wide.columns:
        if name.startswith("F_"):
            parts.append(pd.DataFrame({"timestamp": instants, "node_id": name, "flow_rate": wide[name].astype(float)}))
        elif name.startswith(("P_", "L_")):
            bar = wide[name].astype(float) / METRES_PER_BAR
            parts.append(pd.DataFrame({"timestamp": instants, "node_id": name, "pressure": bar}))
    return pd.concat(parts, ignore_index=True)


def attacks(file: Path) -> list[tuple[pd.Timestamp, pd.Timestamp]]:
    """The spans of hours that are labelled as attacked."""
    wide = pd.read_csv(file)
    wide.columns = [str(name).strip() for name in wide.columns]
    is_attacked, instants = wide["ATT_FLAG"] == 1, _instants(wide)
    spans = instants[is_attacked].groupby((is_attacked != is_attacked.shift()).cumsum()[is_attacked])
    return [(span.min(), span.max() + pd.Timedelta(hours=1)) for _, span in spans]


def _instants(wide: pd.DataFrame) -> pd.Series:
    return pd.to_datetime(wide[wide.columns[0]].astype(str).str.strip(), format="%d/%m/%y %H", utc=True)


def events_of(frame: pd.DataFrame) -> pd.DataFrame:
    """The events of a first load, without those that later readings took back.

    Returns:
        node_id, anomaly_type, measurement_type, severity, timestamp, end, detected_at, times.
    """
    now = frame["timestamp"].max().to_pydatetime()
    days = (now - frame["timestamp"].min().to_pydatetime()) // timedelta(days=1) + 2
    with system(frame, clock=f"frozen:{now.isoformat()}", retention_metrics_days=str(days)) as environment:
        worked_off(environment, MOST_SECONDS)
        database = database_of(environment)
        events = pd.read_sql(_EVENTS, database)
        database.dispose()
    return events


# --- what was wanted


def clean_year(folder: Path) -> tuple[list[Outcome], dict[str, float]]:
    """A year in which nothing happened."""
    frame = town(folder / YEAR)
    events, begun = events_of(frame), frame["timestamp"].min()
    sensors = frame["node_id"].nunique()

    def rate(since: datetime) -> float:
        months = (frame["timestamp"].max() - since) / timedelta(hours=HOURS_PER_MONTH)
        return float((events["timestamp"] >= since).sum() / sensors / months)

    whole, later = rate(begun), rate(begun + LEARNING)
    wanted = f"at most {MOST_CLEAN:g} event per sensor and month, {MOST_CLEAN_LATER:g} after eight weeks"
    met = whole <= MOST_CLEAN and later <= MOST_CLEAN_LATER
    outcome = Outcome("pumped town, clean year", wanted, f"{whole:.2f}, {later:.2f} ({len(events)} events)", met)
    return [outcome], {
        "clean_events_per_sensor_month": round(whole, 3),
        "clean_events_per_sensor_month_later": round(later, 3),
    }


def attacked_half_year(folder: Path) -> tuple[list[Outcome], dict[str, float]]:
    """Half a year with attacks: each is found by an event that begins within its hours."""
    file = folder / ATTACKED
    events, spans = events_of(town(file)), attacks(file)
    outcomes = []
    for begin, end in spans:
        within = events[(events["timestamp"] >= begin) & (events["timestamp"] < end)]
        got = ", ".join(f"{row.anomaly_type} {row.node_id}" for row in within.head(3).itertuples()) or "nothing"
        name = f"attack of {begin:%d %B}, {(end - begin) / timedelta(hours=1):.0f} h"
        outcomes.append(Outcome(name, "an event that begins within it", got, len(within) > 0))
    found = sum(outcome.met for outcome in outcomes)
    return outcomes, {"attacks_found": found, "attacks_labelled": len(spans), "attacked_events": len(events)}


def utility_month(folder: Path) -> tuple[list[Outcome], dict[str, float]]:
    """A real utility's month."""
    events = events_of(pd.read_csv(folder / MONTH, parse_dates=["timestamp"]))
    low = events["anomaly_type"].eq("low_pressure").sum()
    got = f"{len(events)}, {low} of them low pressure"
    wanted = f"at most {MOST_IN_MONTH} events, none of low pressure"
    met = len(events) <= MOST_IN_MONTH and not low
    return [Outcome("utility's month", wanted, got, met)], {"utility_events": len(events)}


def at_most(number: int, kind: str | None = None) -> Callable[[pd.DataFrame, pd.Timestamp], bool]:
    """Whether a node has no more events than that, of a kind (an anomaly type or a severity) where one is given."""

    def is_within(events: pd.DataFrame, changed: pd.Timestamp) -> bool:
        counted = events if kind is None else events[(events["anomaly_type"] == kind) | (events["severity"] == kind)]
        return len(counted) <= number

    return is_within


def found_within(hours: float) -> Callable[[pd.DataFrame, pd.Timestamp], bool]:
    """Whether a leak that began with the tenth week was found so soon."""

    def is_within(events: pd.DataFrame, changed: pd.Timestamp) -> bool:
        late = (events["detected_at"] - changed) / timedelta(hours=1)
        is_leak = events["anomaly_type"].isin(["burst", "slow_leak"])
        return bool((is_leak & late.between(0, hours)).any())

    return is_within


# Of the maker's nodes what its README wants, by the events that a node has in all of the sixteen weeks.
WANTED: dict[str, tuple[str, Callable[[pd.DataFrame, pd.Timestamp], bool]]] = {
    "01-control": ("at most 1 event", at_most(1)),
    "02-on-change": ("no silence", at_most(0, "silent")),
    "03-pulses-only": ("as any inflow: at most 1", at_most(1)),
    "04-sentinels": ("at most 1", at_most(1)),
    "05-rationing": ("at most 3", at_most(3)),
    "06-pump": ("none", at_most(0)),
    "07-two-way": ("none", at_most(0)),
    "08-catch-up": ("as any inflow: at most 1", at_most(1)),
    "09-jitter": ("as the control: at most 1", at_most(1)),
    "10-meter-replaced": ("at most 1", at_most(1)),
    "11-tourism": ("none critical", at_most(0, "critical")),
    "12-irrigation": ("one event", at_most(1)),
    "13-cadence": ("as the control: at most 1", at_most(1)),
    "14-night-prv": ("one event", at_most(1)),
    "15-dead-channel": ("no low pressure", at_most(0, "low_pressure")),
    "16-mirrored": ("as the control: at most 1", at_most(1)),
    "17-sparse": ("at most 3", at_most(3)),
    "18-coarse": ("at most 1 a month: 4", at_most(4)),
    "19-leak10pct": ("found within 24 h", found_within(24)),
    "20-metres-head": ("no pressure alarm", at_most(0, "high_pressure")),
    "21-new-node": ("as the control: at most 1", at_most(1)),
    "22-decommissioned": ("1 silence", at_most(1, "silent")),
}


def made_cases(folder: Path, seed: int) -> tuple[list[Outcome], dict[str, float]]:
    """Sixteen weeks of the maker's nodes, one habit each."""
    frame = made_readings(folder, seed)
    events = events_of(frame)
    changed = frame["timestamp"].min() + CHANGE
    outcomes = []
    for node_id, (wanted, is_within) in WANTED.items():
        of_node = events[events["node_id"] == node_id]
        counts = of_node["anomaly_type"].value_counts()
        got = ", ".join(f"{count} {kind}" for kind, count in counts.items()) or "nothing"
        outcomes.append(Outcome(f"{node_id}, seed {seed}", wanted, got, is_within(of_node, changed)))
    return outcomes, {"cases_within": sum(outcome.met for outcome in outcomes), "cases": len(outcomes)}


def all_cases(
    folder: Path, seeds: list[int]
) -> Iterator[tuple[str, Callable[[], tuple[list[Outcome], dict[str, float]]]]]:
    """What there is in a folder, each with the work of judging it."""
    for name, file, work in (
        ("pumped town, a clean year", YEAR, clean_year),
        ("pumped town, attacked", ATTACKED, attacked_half_year),
        ("a utility's month", MONTH, utility_month),
    ):
        if (folder / file).exists():
            yield name, lambda work=work: work(folder)  # type: ignore[misc]
    if (folder / "field_cases.py").exists():
        for seed in seeds:
            yield f"nodes with one habit each, seed {seed}", lambda seed=seed: made_cases(folder, seed)  # type: ignore[misc]


def summed(parts: list[dict[str, float]]) -> dict[str, float]:
    """The figures of all cases; those of several seeds are added up."""
    total: dict[str, float] = {}
    for part in parts:
        for name, value in part.items():
            total[name] = total[name] + value if name in ("cases_within", "cases") and name in total else value
    return total
