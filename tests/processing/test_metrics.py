"""Window metrics against a brute-force computation that shares nothing with the product's own."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from zoneinfo import ZoneInfo

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from src.domain.days import day_start
from src.domain.metrics import COLUMNS, window_metrics
from src.domain.readings import clean
from src.domain.vouching import LAG_DAYS, LEAD_DAYS
from tests.data import raw_readings

ROME = ZoneInfo("Europe/Rome")
AS_OF = datetime(2030, 1, 1, tzinfo=UTC)


def computed(rows: list[dict], start: datetime | None = None) -> pd.DataFrame:
    readings = clean(raw_readings(rows), AS_OF).frame
    first = start or day_start(min(r["timestamp"] for r in rows), ROME)
    return window_metrics(readings, first, ROME)


def brute_force(rows: list[dict]) -> dict[tuple, dict]:
    """The definitions, spelled out one reading at a time with exact sums."""
    best: dict[tuple, tuple] = {}
    for row in rows:
        rank = tuple(
            -math.inf if (v := row.get(k)) is None or v != v else v
            for k in ("flow_rate", "pressure", "temperature", "volume")
        )
        rank = (row["ingestion_timestamp"], *rank)
        key = (row["node_id"], row["timestamp"])
        if key not in best or rank > best[key][0]:
            best[key] = (rank, row)
    limits = {"flow_rate": 1e4, "pressure": 25, "temperature": 60, "volume": math.inf}
    lows = {"temperature": -30}
    per_node: dict[str, list[dict]] = defaultdict(list)
    for (node, instant), (_, row) in sorted(best.items(), key=lambda item: item[0]):
        values = {}
        for name, high in limits.items():
            value = row.get(name)
            ok = value is not None and math.isfinite(value) and lows.get(name, 0) <= value <= high
            values[name] = value if ok else None
        if any(v is not None for v in values.values()):
            per_node[node].append({"t": instant, **values})

    windows: dict[tuple, dict] = {}
    for node, readings in per_node.items():
        by_day = defaultdict(list)
        for r in readings:
            r["day"] = r["t"].astimezone(ROME).date()
            by_day[r["day"]].append(r["t"])
        cadence = {day: _cadence(by_day, day) for day in by_day}
        for r in readings:
            r["cadence"] = cadence[r["day"]]
        spans = {
            stem: _spans(readings, by_day, name)
            for name, stem in (("flow_rate", "flow"), ("pressure", "pressure"), ("temperature", "temperature"))
        }
        counts_only = {r["day"] for r in readings} - {r["day"] for r in readings if r["flow_rate"] is not None}
        for span in spans["flow"]:
            r = span["reading"]
            r["m3"] = span["m3"] * min(1, r["cadence"] / span["seconds"]) if span["stretched"] else span["m3"]
            if r["volume"] is not None and r["day"] in counts_only:
                r["flow_rate"] = span["value"]

        def window(name: str, instant: datetime, day, cadence: float | None, node=node, spans=spans) -> dict:
            begin, end = _edges(name, instant, day)
            made = {"window_end": end, "begin": begin, "readings": [], "cadence_seconds": cadence, "spans": spans}
            there = windows.setdefault((node, name, begin), made)
            if there["cadence_seconds"] is None and not there["readings"]:
                there["cadence_seconds"] = cadence
            return there

        for index, r in enumerate(readings):
            r["steps"] = _steps(readings[max(0, index - 2) : index + 1], cadence[r["day"]])
            for name in ("5min", "1hour", "1day"):
                window(name, r["t"], r["day"], cadence[r["day"]])["readings"].append(r)
        for of_stem in spans.values():
            for span in of_stem:
                instant = span["begin"].replace(minute=0, second=0, microsecond=0)
                while instant < span["end"]:
                    for name in ("1hour", "1day"):
                        day = max(instant, span["begin"]).astimezone(ROME).date()
                        # Only local days on which something was read, and those between them, are computed.
                        if min(by_day) <= day <= max(by_day):
                            window(name, instant, day, span["reading"]["cadence"])
                    instant += timedelta(hours=1)
    for (_, name, begin), w in windows.items():
        readings, spans = w.pop("readings"), w.pop("spans")
        w["reading_count"] = len(readings)
        length = (w["window_end"] - begin).total_seconds()
        pieces = {
            stem: [
                (inside, span)
                for span in of_stem
                if (inside := (min(span["end"], w["window_end"]) - max(span["begin"], begin)).total_seconds()) > 0
            ]
            for stem, of_stem in spans.items()
        }
        if name == "5min":
            known = [r["m3"] for r in readings if r.get("m3") is not None]
        else:
            known = [span["m3"] * inside / span["seconds"] for inside, span in pieces["flow"]]
            w["estimated_volume"] = math.fsum(
                span["m3"] * inside / span["seconds"]
                for inside, span in pieces["flow"]
                if span["stretched"] and inside < span["seconds"]
            ) if known else None  # fmt: skip
        w["total_volume"] = math.fsum(known) if known else None
        for measured, stem in (("flow_rate", "flow"), ("pressure", "pressure"), ("temperature", "temperature")):
            values = [r[measured] for r in readings if r[measured] is not None]
            n = len(values)
            mean = math.fsum(values) / n if n else None
            w[f"{stem}_count"], w[f"avg_{measured}"] = n, mean
            w[f"min_{measured}"], w[f"max_{measured}"] = (min(values), max(values)) if n else (None, None)
            w[f"{stem}_variance"] = math.fsum((v - mean) ** 2 for v in values) / (n - 1) if n > 1 else None
            w[f"{stem}_coverage"] = min(1.0, math.fsum(inside for inside, _ in pieces[stem]) / length)
            if name != "5min" and any(span["weighted"] for _, span in pieces[stem]):
                total = math.fsum(inside for inside, _ in pieces[stem])
                w[f"avg_{measured}"] = math.fsum(span["value"] * inside for inside, span in pieces[stem]) / total
                w[f"min_{measured}"] = min(span["value"] for _, span in pieces[stem])
                w[f"max_{measured}"] = max(span["value"] for _, span in pieces[stem])
            long = w["window_end"] - w["begin"] > timedelta(minutes=5)
            for kind in ("change", "spike"):
                known = [s for r in readings if long and (s := r["steps"].get((measured, kind))) is not None]
                w[f"max_{stem}_{kind}"] = max(known) if known else None
        del w["begin"]
    return windows


def _edges(name: str, instant: datetime, day) -> tuple[datetime, datetime]:
    if name == "1day":
        following = day + timedelta(days=1)
        edges = (datetime(d.year, d.month, d.day, tzinfo=ROME).astimezone(UTC) for d in (day, following))
        return next(edges), next(edges)
    seconds = 300 if name == "5min" else 3600
    begin = datetime.fromtimestamp(instant.timestamp() // seconds * seconds, UTC)
    return begin, begin + timedelta(seconds=seconds)


def _spans(readings: list[dict], all_by_day: dict, measurement: str) -> list[dict]:
    """The time that each reading vouches for, by the definitions: samples hold on, amounts were counted before."""
    is_water = measurement == "flow_rate"

    def amount(r: dict) -> float | None:
        return r["volume"] if is_water else None

    def sample(r: dict) -> float | None:
        return r[measurement] if amount(r) is None else None

    there = [r for r in readings if sample(r) is not None or amount(r) is not None]
    by_day = defaultdict(list)
    for r in there:
        by_day[r["day"]].append(r["t"])
    spans = []
    for index, r in enumerate(there):
        cadence, limit, irregular = _pace(by_day, r["day"])
        if cadence is None:
            cadence, limit, _ = _pace(all_by_day, r["day"])
        after = there[index + 1] if index + 1 < len(there) else None
        if after and (after["day"] - r["day"]).days > 2:
            after = None
        before = there[index - 1] if index else None
        if before and (r["day"] - before["day"]).days > 2:
            before = None
        span = {"reading": r, "weighted": irregular, "stretched": False}
        if sample(r) is not None:
            ahead = (after["t"] - r["t"]).total_seconds() if after else None
            near = ahead is not None and limit is not None and ahead <= limit
            seconds = ahead if near else cadence
            if seconds is None:
                continue
            span |= {"begin": r["t"], "value": sample(r), "m3": sample(r) * seconds / 1000 if is_water else 0.0}
        else:
            since = (r["t"] - before["t"]).total_seconds() if before else None
            if since is None:
                continue
            stretched = cadence is not None and since > 1.5 * cadence
            alone = False
            if stretched:
                usual = r["flow_rate"] if r["flow_rate"] is not None else _usual(there, r["day"], by_day, all_by_day)
                over_all, over_one = r["volume"] * 1000 / since, r["volume"] * 1000 / cadence
                alone = usual is not None and abs(over_one - usual) < abs(over_all - usual)
            seconds = cadence if alone else since
            span |= {"begin": r["t"] - timedelta(seconds=seconds), "value": r["volume"] * 1000 / seconds}
            span |= {"m3": r["volume"], "weighted": irregular or stretched or r["flow_rate"] is None}
            span["stretched"] = limit is not None and since > limit and not alone
            if spans and spans[-1]["reading"] is before and amount(before) is None:
                # What was counted since is known better than how long a sample held.
                held = spans.pop()
                held["end"] = min(held["end"], span["begin"])
                held["seconds"] = (held["end"] - held["begin"]).total_seconds()
                held["m3"] = held["value"] * held["seconds"] / 1000
                spans += [held] if held["seconds"] > 0 else []
        spans.append(span | {"seconds": seconds, "end": span["begin"] + timedelta(seconds=seconds)})
    return spans


def _usual(there: list[dict], day, by_day: dict, all_by_day: dict) -> float | None:
    """The rate over a day's amounts that follow the reading before."""
    amounts, times = [], []
    for before, r in pairwise(there):
        cadence = _pace(by_day, day)[0] or _pace(all_by_day, day)[0]
        since = (r["t"] - before["t"]).total_seconds()
        near = cadence is None or since <= 1.5 * cadence
        if r["day"] == day and r["volume"] is not None and near and (r["day"] - before["day"]).days <= 2:
            amounts.append(r["volume"])
            times.append(since)
    return 1000 * math.fsum(amounts) / math.fsum(times) if times else None


def _gaps(times: list[datetime]) -> list[float]:
    return [(b - a).total_seconds() for a, b in pairwise(times)]


def _pace(by_day: dict, day) -> tuple[float | None, float | None, bool]:
    """Cadence, how long a value holds, and whether a node reports irregularly on a day."""
    cadence = _cadence(by_day, day)
    if cadence is None:
        return None, None, False
    limit = min(3 * cadence, 23 * 3600)
    intervals = _gaps(by_day[day])

    def share(gaps: list[float]) -> float:
        bins = Counter(round(math.log(g) / math.log(1.05)) for g in gaps)
        return max(bins.values()) / len(gaps)

    if len(intervals) >= 6 and share(intervals) >= 0.7:
        return cadence, limit, False
    earlier = day - timedelta(days=1)
    # Every interval that ends on one of both days and began no earlier than the day before its own.
    both = [
        (b - a).total_seconds()
        for a, b in pairwise(sorted(t for times in by_day.values() for t in times))
        if b.astimezone(ROME).date() in (earlier, day)
        and (b.astimezone(ROME).date() - a.astimezone(ROME).date()).days <= 1
    ]
    if len(both) < 6 or share(both) >= 0.7:
        return cadence, limit, False
    # For how long a value holds, that counts which begins on the day, too.
    overnight = [
        (b - a).total_seconds()
        for a, b in pairwise(sorted(t for times in by_day.values() for t in times))
        if (a.astimezone(ROME).date(), b.astimezone(ROME).date()) == (day, day + timedelta(days=1))
    ]
    *_, second, longest = sorted(both + overnight)
    return cadence, min(max(limit, 1.1 * (longest if longest <= 2 * second else second)), 23 * 3600), True


def _steps(last_three: list[dict], cadence: float | None) -> dict:
    """Per measurement the step to the newest of up to three readings, and how much of it took the one before back."""
    new = last_three[-1]
    floor = new["day"] - timedelta(days=1)

    def step(before: dict, after: dict, name: str, cadence: float | None) -> float | None:
        elapsed = (after["t"] - before["t"]).total_seconds()
        near = cadence is not None and elapsed <= min(3 * cadence, 23 * 3600)
        if not near or before["day"] < floor or before[name] is None or after[name] is None:
            return None
        return after[name] - before[name]

    steps: dict = {}
    for name in ("flow_rate", "pressure", "temperature"):
        if len(last_three) < 2 or (change := step(*last_three[-2:], name, cadence)) is None:
            continue
        steps[name, "change"] = abs(change)
        if len(last_three) == 3 and (earlier := step(*last_three[:2], name, last_three[1]["cadence"])) is not None:
            steps[name, "spike"] = min(abs(change), abs(earlier)) if change * earlier < 0 else 0.0
    return steps


def _cadence(by_day: dict, day) -> float | None:
    def gaps(times):
        return [(b - a).total_seconds() for a, b in pairwise(times)]

    intervals = gaps(by_day[day])
    if len(intervals) < 6:
        intervals = gaps(by_day.get(day - timedelta(days=1), []) + by_day[day])
        if len(intervals) < 2:
            return None
    bins = Counter(round(math.log(g) / math.log(1.05)) for g in intervals)
    fullest = min(b for b, n in bins.items() if n == max(bins.values()))
    inside = sorted(g for g in intervals if round(math.log(g) / math.log(1.05)) == fullest)
    return inside[(len(inside) - 1) // 2]


def assert_equals_brute_force(frame: pd.DataFrame, rows: list[dict]) -> None:
    expected = brute_force(rows)
    actual = {(r["node_id"], r["time_window"], r["window_start"].to_pydatetime()): r for r in frame.to_dict("records")}
    assert actual.keys() == expected.keys()
    for key, row in expected.items():
        for name, value in row.items():
            got = actual[key][name]
            if value is None:
                assert got != got, (key, name, got)
            elif isinstance(value, datetime):
                assert got.to_pydatetime() == value
            elif name.endswith("variance"):
                # Squares of rounding errors are all that may remain where every value is the same.
                assert got == pytest.approx(value, rel=1e-9, abs=1e-22), (key, name)
            else:
                assert got == pytest.approx(value, rel=1e-12), (key, name)
        cadence = row["cadence_seconds"]
        if cadence is not None:
            seconds = (row["window_end"] - key[2]).total_seconds()
            promised = max(1.0, seconds / cadence)
            completeness = actual[key]["data_completeness"]
            assert completeness == pytest.approx(min(100, 100 * row["reading_count"] / promised), rel=1e-12)


values = st.one_of(
    st.none(),
    st.floats(0, 100, allow_subnormal=False).map(lambda x: round(x, 3)),
    st.sampled_from([-1.0, math.nan, math.inf, 20_000.0]),
)


@st.composite
def irregular_readings(draw: st.DrawFn) -> list[dict]:
    """Up to three nodes over DST days: several cadences, gaps, duplicates that disagree, arrivals in any order."""
    first = draw(st.sampled_from([datetime(2023, 3, 25, 20, tzinfo=UTC), datetime(2023, 10, 28, 20, tzinfo=UTC)]))
    rows = []
    for node in draw(st.lists(st.sampled_from(["a", "o'brien", "città-7"]), min_size=1, max_size=3, unique=True)):
        instant = first + timedelta(seconds=draw(st.integers(0, 7200)))
        for _ in range(draw(st.integers(1, 4))):
            cadence = draw(st.sampled_from([15, 300, 900, 1800, 3600]))
            for _ in range(draw(st.integers(1, 12))):
                for version in range(draw(st.sampled_from([1, 1, 1, 2, 3]))):
                    rows.append(
                        {
                            "node_id": node,
                            "timestamp": instant,
                            "ingestion_timestamp": instant + timedelta(minutes=draw(st.integers(0, 3)), hours=version),
                            "flow_rate": draw(values),
                            "pressure": draw(values),
                            "temperature": draw(values),
                            "volume": draw(st.one_of(st.none(), st.none(), values)),
                        }
                    )
                instant += timedelta(seconds=cadence)
            instant += timedelta(hours=draw(st.sampled_from([0, 1, 5, 26, 50])))
    return rows


@settings(max_examples=60)
@given(rows=irregular_readings(), seed=st.randoms(use_true_random=False))
def test_any_readings_in_any_order_give_the_brute_force_windows(rows, seed):
    assert_equals_brute_force(computed(rows), rows)
    shuffled = rows.copy()
    seed.shuffle(shuffled)
    pd.testing.assert_frame_equal(computed(shuffled), computed(rows), check_exact=True)


@settings(max_examples=60)
@given(rows=irregular_readings(), days=st.integers(0, 8), length=st.integers(1, 4))
def test_reading_only_the_days_around_gives_the_same_bits(rows, days, length):
    whole = computed(rows)
    start = day_start(min(r["timestamp"] for r in rows), ROME, days)
    end = day_start(start, ROME, length)
    read_from, read_until = day_start(start, ROME, -LEAD_DAYS), day_start(end, ROME, LAG_DAYS)
    part = [r for r in rows if read_from <= r["timestamp"] < read_until]
    if not part:
        return

    def within(frame: pd.DataFrame) -> pd.DataFrame:
        selected = frame[(frame["window_end"] > start) & (frame["window_start"] < end)]
        key = ["time_window", "node_id", "window_start"]
        return selected.astype({"node_id": str}).sort_values(key, ignore_index=True)

    pd.testing.assert_frame_equal(within(computed(part, start)), within(whole), check_exact=True)


def test_no_readings_give_no_windows_of_the_same_kinds_of_columns():
    start = datetime(2023, 5, 1, 22, tzinfo=UTC)
    row = {"node_id": "n", "timestamp": start, "flow_rate": 1.0, "ingestion_timestamp": start}
    some, none = computed([row]), computed([row | {"timestamp": AS_OF + timedelta(days=1)}])
    assert len(none) == 0
    assert list(none.columns) == list(some.columns)
    pd.testing.assert_series_equal(none.dtypes.drop("node_id"), some.dtypes.drop("node_id"))


def test_one_node_computed_alone_gives_the_same_bits_as_among_others():
    rng = np.random.default_rng(7)
    start = datetime(2023, 5, 1, 22, tzinfo=UTC)
    rows = [
        {"node_id": f"n{n}", "timestamp": start + timedelta(seconds=15 * k), "flow_rate": float(rng.gamma(9)),
         "ingestion_timestamp": start}
        for n in range(3) for k in range(5760)
    ]  # fmt: skip
    together = computed(rows)
    alone = computed([r for r in rows if r["node_id"] == "n1"])
    chosen = together[together["node_id"] == "n1"]
    for name in COLUMNS[2:]:
        np.testing.assert_array_equal(chosen[name].to_numpy(), alone[name].to_numpy(), err_msg=name)


def test_hourly_variance_survives_a_large_offset():
    rng = np.random.default_rng(3)
    start = datetime(2023, 5, 1, 22, tzinfo=UTC)
    flows = 9000 + rng.normal(0, 1e-3, 240)
    rows = [
        {
            "node_id": "n",
            "timestamp": start + timedelta(seconds=15 * k),
            "flow_rate": float(f),
            "ingestion_timestamp": start,
        }
        for k, f in enumerate(flows)
    ]
    hour = computed(rows).query("time_window == '1hour'").iloc[0]
    assert hour["flow_variance"] == pytest.approx(float(np.var(flows, ddof=1)), rel=1e-9)


@pytest.mark.parametrize(
    ("midday", "hours"), [(datetime(2023, 3, 26, 10, tzinfo=UTC), 23), (datetime(2023, 10, 29, 10, tzinfo=UTC), 25)]
)
def test_a_full_local_day_is_complete_at_23_and_25_hours(midday, hours):
    start = day_start(midday, ROME)
    rows = [
        {"node_id": "n", "timestamp": start + timedelta(hours=k), "flow_rate": 2.0, "ingestion_timestamp": start}
        for k in range(hours)
    ]
    day = computed(rows).query("time_window == '1day'").iloc[0]
    assert (day["window_end"] - day["window_start"]) == timedelta(hours=hours)
    assert day["data_completeness"] == 100
    assert day["total_volume"] == pytest.approx(2.0 * hours * 3.6)


def test_an_outage_is_not_filled_with_water():
    start = datetime(2023, 5, 1, 22, tzinfo=UTC)
    instants = [start + timedelta(minutes=5 * k) for k in range(288) if not 60 <= k < 132]
    rows = [{"node_id": "n", "timestamp": t, "flow_rate": 10.0, "ingestion_timestamp": t} for t in instants]
    day = computed(rows).query("time_window == '1day'").iloc[0]
    assert day["data_completeness"] == pytest.approx(75)
    assert day["total_volume"] == pytest.approx(216 * 300 * 10 / 1000)


def test_impossible_input_is_counted_by_reason_and_the_rest_is_used():
    t = datetime(2023, 5, 1, 12, tzinfo=UTC)
    good = {"node_id": "n", "timestamp": t, "flow_rate": 1.0, "pressure": 3.0, "ingestion_timestamp": t}
    rows = [
        good,
        good | {"node_id": " "},
        good | {"node_id": None},
        good | {"timestamp": datetime(1970, 1, 1, tzinfo=UTC)},
        good | {"timestamp": AS_OF + timedelta(seconds=1)},
        good | {"timestamp": t + timedelta(minutes=1), "flow_rate": math.inf},
        good | {"timestamp": t + timedelta(minutes=2), "flow_rate": -0.1},
        good | {"timestamp": t + timedelta(minutes=3), "pressure": 25.1},
        good | {"timestamp": t + timedelta(minutes=4), "flow_rate": None, "pressure": math.nan},
        good | {"flow_rate": 9.0, "ingestion_timestamp": t + timedelta(hours=1)},
        good | {"flow_rate": 9.0, "ingestion_timestamp": t + timedelta(minutes=30)},
    ]
    cleaned = clean(raw_readings(rows), AS_OF)
    assert cleaned.rejected == {
        "empty_node_id": 2, "timestamp_before_2000": 1, "timestamp_in_future": 1, "flow_rate_infinite": 1,
        "flow_rate_negative": 1, "pressure_too_high": 1, "no_valid_measurement": 1, "conflicting": 1, "duplicate": 1,
    }  # fmt: skip
    assert cleaned.frame["flow_rate"].tolist()[0] == 9.0
    assert len(cleaned.frame) == 4
