"""What charts and the pages of nodes, districts and incidents are made of: figures, words, and what they ask for."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any, get_args

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from src import vocabulary
from src.api import dashboard
from src.api.schemas.events import Evidence, Limits

JS = dashboard.FOLDER / "js"
PAGES = [JS / "pages" / f"{name}.js" for name in ("node", "district", "incident", "incidents", "evidence", "common")]
needs_node = pytest.mark.skipif(shutil.which("node") is None, reason="there is no node to run the charts' functions")
# A value of a series, or none.
VALUE = st.none() | st.integers(-1000, 1000)


def run(module: str, script: str, *arguments: object) -> Any:
    """What a script answers that may use all that a module without imports exports."""
    names = re.findall(r"^export function (\w+)", (JS / module).read_text(), re.MULTILINE)
    body = (
        f"import {{ {', '.join(names)} }} from {json.dumps((JS / module).resolve().as_uri())};\n"
        f"const values = {json.dumps(arguments)};\nconst answer = ((...values) => {script})(...values);\n"
        "console.log(JSON.stringify(answer));"
    )
    # Files end in .js and no package.json says that they are modules.
    command = ["node", "--experimental-default-type=module", "--no-warnings", "--input-type=module"]
    finished = subprocess.run(command, input=body, capture_output=True, text=True, timeout=60)
    assert finished.returncode == 0, finished.stderr
    return json.loads(finished.stdout)


def figures(script: str, *arguments: object) -> Any:
    return run("charts/figures.js", script, *arguments)


@needs_node
def test_series_of_different_instants_are_put_on_one_axis() -> None:
    answer = figures(
        "aligned([1, 2, 3], [{values: [10, 20, 30]}, {timestamps: [2, 4], lower: [1, null], upper: [5, 6]}])"
    )
    assert answer["timestamps"] == [1, 2, 3, 4]
    assert answer["series"][0]["values"] == [10, 20, 30, None]
    assert answer["series"][1]["lower"] == [None, 1, None, None]
    assert answer["series"][1]["upper"] == [None, 5, None, 6]


@needs_node
def test_gaps_reach_from_the_first_missing_window_to_the_next_known_one() -> None:
    assert figures("gaps_of([0, 10, 20, 30, 40], [1, null, null, 4, null], 10)") == [
        {"from": 10, "to": 30},
        {"from": 40, "to": 50},
    ]


@needs_node
def test_what_is_still_to_come_is_no_gap() -> None:
    assert figures("gaps_of([0, 10, 20, 30], [1, 2, null, null], 10, 20)") == []
    assert figures("gaps_of([0, 10, 20, 30], [1, null, null, null], 10, 25)") == [{"from": 10, "to": 25}]


@needs_node
@settings(max_examples=1, deadline=None)
@given(st.lists(st.lists(VALUE, min_size=1, max_size=30), min_size=40, max_size=40))
def test_every_missing_window_lies_in_exactly_one_gap_and_no_known_one_does(columns: list[list[int | None]]) -> None:
    script = "values[0].map((values) => gaps_of(values.map((_, n) => 10 * n), values, 10))"
    for values, gaps in zip(columns, figures(script, columns), strict=True):
        for n, value in enumerate(values):
            around = [gap for gap in gaps if gap["from"] <= 10 * n < gap["to"]]
            assert len(around) == (1 if value is None else 0)


@needs_node
def test_a_single_known_window_between_gaps_is_drawn_as_a_point() -> None:
    assert figures("lonely([null, 1, null, 2, 3, null, 4])") == [1, 6]


@needs_node
def test_a_band_is_filled_only_where_both_bounds_are_known() -> None:
    assert figures("known_runs([1, 1, null, 1, 1], [2, 2, 2, 2, null])") == [[0, 1], [3, 3]]


@needs_node
def test_zoom_keeps_the_instant_under_the_hand_and_stays_within_what_there_is() -> None:
    assert figures("zoomed({from: 0, to: 100}, 0.5, 50, {from: 0, to: 100}, 1)") == {"from": 25, "to": 75}
    assert figures("zoomed({from: 0, to: 100}, 0.5, 0, {from: 0, to: 100}, 1)") == {"from": 0, "to": 50}
    assert figures("zoomed({from: 10, to: 20}, 9, 15, {from: 0, to: 50}, 1)") == {"from": 0, "to": 50}
    assert figures("zoomed({from: 10, to: 20}, 0.01, 15, {from: 0, to: 50}, 4)") == {"from": 13, "to": 17}


@needs_node
def test_panning_keeps_the_span_and_stops_at_the_ends() -> None:
    assert figures("panned({from: 10, to: 20}, 0.5, {from: 0, to: 100})") == {"from": 15, "to": 25}
    assert figures("panned({from: 90, to: 100}, 0.5, {from: 0, to: 100})") == {"from": 90, "to": 100}


@needs_node
def test_a_view_is_summed_up_by_what_is_known_of_it() -> None:
    answer = figures("figures_of([0, 10, 20, 30], [9, 1, null, 3], {from: 10, to: 30})")
    assert answer == {"count": 2, "lowest": 1, "highest": 3, "latest": 3, "latest_at": 30}
    assert figures("figures_of([0, 10], [null, null], {from: 0, to: 10})") is None


@needs_node
def test_a_csv_file_holds_names_as_text_and_values_as_they_are() -> None:
    answer = figures("csv(['time', 'a \"b\", c'], [['2024-01-01T00:00:00Z', 1.25], ['=1+1', null], ['-x', -2]])")
    assert answer == 'time,"a ""b"", c"\r\n2024-01-01T00:00:00Z,1.25\r\n\'=1+1,\r\n\'-x,-2\r\n'


@needs_node
def test_a_file_is_named_without_anything_that_a_disk_refuses() -> None:
    assert figures("file_name('Portata · ../<b>Nodo 1</b>', 'csv')") == "portata-b-nodo-1-b.csv"
    assert figures("file_name('···', 'csv')") == "chart.csv"


@needs_node
def test_single_values_far_outside_do_not_press_the_others_flat_but_those_of_the_event_count() -> None:
    calm = [float(n % 5) for n in range(200)]
    assert figures("usual_range(values[0])", calm) is None
    assert figures("usual_range(values[0])", [*calm, 500]) == {"low": 0, "high": 4}
    assert figures("usual_range(values[0], [200, 201])", [*calm, 500]) is None
    assert figures("usual_range([1, null, 900])") is None


@needs_node
def test_what_flows_in_is_unknown_where_one_meter_is() -> None:
    assert figures("sum_of([[1, 2, null], [10, null, 30]])") == [11, None, None]
    assert figures("sum_of([[5, 6], [1, 2]], [1, -1])") == [4, 4]


@needs_node
def test_a_night_is_the_mean_of_its_two_hours_and_unknown_where_one_is_missing() -> None:
    day = 24
    script = (
        "nights_of(values[0], values[0].map((n) => n === 26 ? null : n), (n) => n % 24)"
        ".map((night) => [night.timestamp, night.value])"
    )
    assert figures(script, list(range(3 * day))) == [[2, 2.5], [26, None], [50, 50.5]]


@needs_node
@pytest.mark.parametrize(
    ("ticks", "digits"), [([0, 50, 100], 0), ([4, 4.2, 4.4], 1), ([4, 4.05], 2), ([0, 1e-9], 4), ([7], 0)]
)
def test_an_axis_has_as_many_decimals_as_tell_its_ticks_apart(ticks: list[float], digits: int) -> None:
    assert run("charts/shape.js", "decimals(values[0])", ticks) == digits


@needs_node
def test_what_is_never_negative_is_not_drawn_as_if_it_were_and_levels_are_always_seen() -> None:
    line = {"marks": [], "series": [{"kind": "line"}]}
    low, high = run("charts/shape.js", "y_range(0.1, 10, values[0])", line)
    assert low == 0
    assert high > 10
    low, high = run("charts/shape.js", "y_range(3, 4, values[0])", line | {"marks": [{"value": 1.5}, {"value": 9}]})
    assert low < 1.5
    assert high > 9
    assert run("charts/shape.js", "y_range(null, null, values[0])", line) == [0, 1]


@needs_node
def test_hours_of_the_day_are_those_of_the_zone_on_both_sides_of_summer_time() -> None:
    # 2024-03-31: at 01:00 UTC the clocks go from 02:00 to 03:00.
    assert run("charts/axis.js", "[1711843200, 1711846800, 1711850400].map((at) => hour_of(at, 'Europe/Rome'))") == [
        1, 3, 4,
    ]  # fmt: skip


@needs_node
def test_an_axis_names_the_day_where_it_changes() -> None:
    at_midnight = 1711839600
    labels = run(
        "charts/axis.js",
        "tick_labels([-6, 0, 6].map((h) => values[0] + 3600 * h), 21600, 'en-GB', 'Europe/Rome')",
        at_midnight,
    )
    assert labels == ["18:00\n30 Mar", "00:00\n31 Mar", "07:00"]


def words_of_pages() -> set[str]:
    return set(re.findall(r'^  "([^"]+)":', (JS / "words_pages.js").read_text(), re.MULTILINE))


def test_every_kind_of_event_says_what_it_means_in_words() -> None:
    assert {f"why.{kind}" for kind in get_args(vocabulary.AnomalyType)} <= words_of_pages()


def test_every_figure_that_an_event_rests_on_is_shown_with_a_word() -> None:
    shown = (JS / "pages" / "evidence.js").read_text() + (JS / "pages" / "incident.js").read_text()
    # The works that explain it are words of the incident's; margins stand beside what they are of.
    elsewhere = {"explanation", "explained_by", "limits", "usual", "lost_m3_margin"}
    for name in Evidence.model_fields.keys() - elsewhere:
        assert f"evidence.{name}" in words_of_pages(), name
        assert name in shown, name
    assert {f"limit.{name}" for name in Limits.model_fields} <= words_of_pages()


def test_no_word_of_the_pages_is_left_over() -> None:
    # Words that are put together of a group and a name of the API's.
    groups = ("why.", "reason.", "limit.", "reporting.", "quality_window.", "out_of_service.", "evidence.", "chart.")
    scripts = "".join(path.read_text() for path in [*PAGES, *(JS / "charts").glob("*.js")])
    unused = {
        word for word in words_of_pages()
        if not word.startswith(groups) and f'"{word}"' not in scripts and not word.startswith("node.span_")
    }  # fmt: skip
    assert unused == set()


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.name)
def test_identifiers_are_encoded_in_every_address(path: Path) -> None:
    # What is put into an address is encoded, a query made by URLSearchParams, or an identifier of the API's making.
    harmless = {
        "path",
        "query",
        "span",
        "instants",
        "request",
        "of_place",
        "id",
        "YEAR_HOURS",
        "event.anomaly_id",
        "kind",
    }
    for address in re.findall(r"`(/(?:api|dashboard)/[^`]*)`", path.read_text()):
        holes = re.findall(r"\$\{([^}]+)\}", address)
        assert [hole for hole in holes if hole not in harmless and not hole.startswith("encodeURIComponent(")] == []
