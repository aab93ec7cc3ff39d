"""Shows what was understood of files to whoever imports them, and asks whether it is right."""

from __future__ import annotations

import math
import sys
from collections.abc import Sequence
from zoneinfo import ZoneInfo

import pandas as pd
from rich.console import Console
from rich.markup import escape
from rich.prompt import Confirm, Prompt
from rich.table import Table

from src.domain.readings import MEASUREMENTS
from src.domain.tables.mapping import Section
from src.domain.tables.table import Refusal
from src.domain.units import UNITS, UnknownUnit, conversion
from src.processing.imports.plans import Plan, Portion

_MOST_CHANNELS = 60
_MOST_PROBLEMS = 40
_FIRST_ROWS = 3


def show(console: Console, portion: Portion, zone: ZoneInfo) -> None:
    """What one table is taken for, what was left out of it, and its first rows."""
    section, frame = portion.section, portion.frame
    first, last = frame["timestamp"].min(), frame["timestamp"].max()
    span = " - ".join(f"{at.tz_convert(zone):%Y-%m-%d %H:%M}" for at in (first, last))
    instant = " + ".join(section.instant.columns) + (f" ({section.instant.order})" if section.instant.order else "")
    title = (
        f"{portion.source}: {len(frame):,} readings, {frame['node_id'].nunique()} nodes, {span} ({zone.key}); "
        f"instants from {instant}, zone {section.instant.zone} where they do not say theirs"
    )
    console.print(escape(title), highlight=False, soft_wrap=True)
    table = Table()
    for heading in ("column", "node", "measurement", "unit", "values", "first values"):
        table.add_column(heading, justify="right" if heading == "values" else "left")
    node_of_rows = section.node or f"from {section.node_column}"
    for channel, count in list(zip(section.channels, portion.values, strict=True))[:_MOST_CHANNELS]:
        rows = frame if channel.node is None else frame[frame["node_id"] == channel.node]
        shown = "  ".join(f"{value:.4g}" for value in rows[channel.measurement].dropna().head(_FIRST_ROWS))
        unit = (
            channel.unit
            if channel.unit == UNITS[channel.measurement]
            else f"{channel.unit} → {UNITS[channel.measurement]}"
        )
        what = channel.measurement + (f" ({channel.volume_is})" if channel.volume_is else "")
        table.add_row(
            escape(channel.place), escape(channel.node or node_of_rows), what, escape(unit), f"{count:,}", shown
        )
    console.print(table)
    if len(section.channels) > _MOST_CHANNELS:
        console.print(
            f"... and {len(section.channels) - _MOST_CHANNELS} more columns, in the mapping.", highlight=False
        )
    columns_by_reason: dict[str, list[str]] = {}
    for skipped in section.skipped:
        columns_by_reason.setdefault(skipped.reason, []).append(skipped.column)
    for reason, columns in columns_by_reason.items():
        console.print(f"Not taken: {escape(', '.join(columns))} ({escape(reason)})", highlight=False, soft_wrap=True)
    _show_problems(console, portion)
    _show_first_rows(console, frame, zone)


def _show_problems(console: Console, portion: Portion) -> None:
    for problem in portion.problems[:_MOST_PROBLEMS]:
        where = "; ".join(f"line {line}" + (f" '{text}'" if text else "") for line, text in problem.places)
        column = f", column {problem.column}" if problem.column else ""
        more = ", ..." if problem.count > len(problem.places) else ""
        places = f" ({where}{more})" if where else ""
        sentence = f"Left out of {portion.source}{column}: {problem.count:,} × {problem.reason}{places}"
        console.print(escape(sentence), highlight=False, soft_wrap=True)
    if len(portion.problems) > _MOST_PROBLEMS:
        rest = portion.problems[_MOST_PROBLEMS:]
        console.print(f"... and {sum(one.count for one in rest):,} cells more in {len(rest)} columns.", highlight=False)


def _show_first_rows(console: Console, frame: pd.DataFrame, zone: ZoneInfo) -> None:
    table = Table(title="First readings", title_justify="left")
    measured = [name for name in MEASUREMENTS if frame[name].notna().any()]
    for heading in (f"instant ({zone.key})", "node", *(f"{name} {UNITS[name]}" for name in measured)):
        table.add_column(heading, justify="left" if heading.startswith(("instant", "node")) else "right")
    first = frame.sort_values("timestamp", kind="stable").head(_FIRST_ROWS)
    instants = first["timestamp"].dt.tz_convert(zone).dt.strftime("%Y-%m-%d %H:%M:%S")
    for place, (instant, node) in enumerate(zip(instants, first["node_id"], strict=True)):
        values = [float(first[name].iloc[place]) for name in measured]
        table.add_row(instant, escape(str(node)), *("-" if math.isnan(value) else f"{value:.4g}" for value in values))
    console.print(table)


def show_assumptions(console: Console, assumptions: Sequence[str]) -> None:
    """What the files do not show themselves."""
    for sentence in dict.fromkeys(assumptions):
        console.print(f"Assumed: {escape(sentence)}", highlight=False, soft_wrap=True)


def refuse_without_terminal(assume_yes: bool) -> None:
    """There must be somebody to ask, or `--yes`.

    Raises:
        Refusal: which names --yes.
    """
    if not assume_yes and not sys.stdin.isatty():
        raise Refusal("There is no terminal to ask whether this is right: look at the table above and give --yes")


def ask_units(console: Console, plan: Plan) -> bool:
    """Asks for the units that are assumed, once for each measurement; whether any was changed."""
    changed = False
    for place, assumed in enumerate(plan.units_assumed):
        for measurement, unit in assumed.items():
            answer = _unit(console, measurement, unit)
            if answer != unit:
                plan.sections[place] = _with_unit(plan.sections[place], measurement, unit, answer)
                changed = True
    return changed


def _unit(console: Console, measurement: str, unit: str) -> str:
    while True:
        answer = Prompt.ask(f"Unit of {measurement}", console=console, default=unit).strip()
        try:
            conversion(measurement, answer)
        except UnknownUnit as error:
            console.print(escape(str(error)), highlight=False)
        else:
            return answer


def _with_unit(section: Section, measurement: str, old: str, new: str) -> Section:
    channels = [
        channel.model_copy(update={"unit": new})
        if (channel.measurement, channel.unit) == (measurement, old)
        else channel
        for channel in section.channels
    ]
    return section.model_copy(update={"channels": channels})


def agreed(console: Console) -> bool:
    """Whether who gave the files finds that right."""
    return Confirm.ask("Is this right?", console=console, default=True)
