"""Files of others: each is read right, or refused with a sentence; nothing is dropped in silence."""

from __future__ import annotations

import gzip
from collections import Counter
from pathlib import Path
from zoneinfo import ZoneInfo

import pandas as pd
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from src.domain.readings import MEASUREMENTS
from src.domain.tables.headings import read_heading
from src.domain.tables.table import Problem, Refusal
from src.processing.imports.mappings import write_mapping
from src.processing.imports.opening import open_tables
from src.processing.imports.plans import plan_of, portions, together
from tests.foreign_files import READ_RIGHT, REFUSED, Foreign, written

ROME = ZoneInfo("Europe/Rome")


def read(*files: Path, mapping: Path | None = None) -> tuple[pd.DataFrame, list[Problem]]:
    """The readings of the files, and what was left out."""
    plan = plan_of(files, mapping, ROME, lambda _: None)
    found = list(portions(files, plan))
    return together([one.frame for one in found]), [problem for one in found for problem in one.problems]


@pytest.mark.parametrize("foreign", READ_RIGHT, ids=lambda foreign: foreign.name)
def test_a_file_is_read_as_a_person_would(tmp_path: Path, foreign: Foreign):
    frame, problems = read(written(tmp_path, foreign))
    for instant, node, measurement, value in foreign.readings:
        rows = frame[(frame["timestamp"] == pd.Timestamp(instant, tz="UTC")) & (frame["node_id"] == node)]
        assert rows[measurement].to_list() == [pytest.approx(value)], (instant, node, measurement)
    if foreign.count is not None:
        assert int(frame[list(MEASUREMENTS)].notna().sum().sum()) == foreign.count
    counts: Counter[str] = Counter()
    for problem in problems:
        counts["placeholder" if problem.reason.startswith("placeholder") else problem.reason] += problem.count
    assert counts == foreign.left_out


@pytest.mark.parametrize("foreign", REFUSED, ids=lambda foreign: foreign.name)
def test_what_cannot_be_read_is_refused_with_file_place_and_next_step(tmp_path: Path, foreign: Foreign):
    with pytest.raises(Refusal) as refusal:
        read(written(tmp_path, foreign))
    for part in foreign.refused:
        assert part in str(refusal.value)


def test_a_utilitys_month_is_understood_without_a_mapping():
    frame, problems = read(Path(__file__).parent / "data" / "utility-month.csv.gz")
    assert len(frame) == 7794
    assert set(frame["node_id"]) == {f"node-{letter}" for letter in "abcdefg"}
    assert set(frame["district_id"]) == {"town"}
    assert frame["timestamp"].min() == pd.Timestamp("2025-03-02T00:00Z")
    assert problems == []


def test_a_wide_table_of_a_control_system_is_understood_without_a_mapping(tmp_path: Path):
    hours = pd.date_range("2014-01-06", "2015-01-06", freq="h")
    heading = "DATETIME,L_T1,F_PU1,S_PU1,P_J280,ATT_FLAG\n"
    rows = [f"{hour:%d/%m/%y %H},2.44,98.9984436,1,87.6,0" for hour in hours]
    path = tmp_path / "year.csv"
    path.write_text(heading + "\n".join(rows) + "\n")
    plan = plan_of([path], None, ROME, lambda _: None)
    (portion,) = portions([path], plan)
    taken = {channel.column: (channel.node, channel.measurement, channel.unit) for channel in portion.section.channels}
    assert taken == {
        "L_T1": ("T1", "pressure", "m"),
        "F_PU1": ("PU1", "flow_rate", "L/s"),
        "P_J280": ("J280", "pressure", "m"),
    }
    assert {one.column for one in portion.section.skipped} == {"S_PU1", "ATT_FLAG"}
    assert all(one.reason for one in portion.section.skipped)
    # Its clock shows the hour that Rome's skips, and just once the one that comes twice.
    assert portion.section.instant.zone == "UTC"
    assert portion.frame["timestamp"].min() == pd.Timestamp("2014-01-06T00:00Z")
    assert any("87.6" in sentence and "metres" in sentence for sentence in plan.assumptions)
    assert plan.units_assumed == [{"flow_rate": "L/s", "pressure": "m"}]


def test_a_mapping_that_was_stored_reads_the_same(tmp_path: Path):
    for foreign in READ_RIGHT:
        path = written(tmp_path, foreign)
        plan = plan_of([path], None, ROME, lambda _: None)
        mapping = write_mapping(tmp_path, foreign.name, plan.sections)
        pd.testing.assert_frame_equal(read(path)[0], read(path, mapping=mapping)[0])


def test_a_mapping_may_say_what_the_file_does_not(tmp_path: Path):
    path = tmp_path / "odd.csv"
    path.write_text("wann;x1;x2\n13/07/2025 10:00;3,6;888\n13/07/2025 11:00;888;7\n")
    mapping = tmp_path / "odd.yaml"
    mapping.write_text(
        """
        tables:
        - instant: {columns: [wann], zone: "+01:00"}
          channels:
          - {column: x1, node: north, measurement: flow_rate, unit: m3/h}
          no_value: [888]
        """
    )
    frame, problems = read(path, mapping=mapping)
    assert frame[["node_id", "timestamp", "flow_rate"]].to_numpy().tolist() == [
        ["north", pd.Timestamp("2025-07-13T09:00Z"), 1.0]
    ]
    assert [(one.reason, one.column, one.count, one.places) for one in problems] == [
        ("a column of numbers that the mapping does not name", "x2", 1, ()),
        ("placeholder 888", "x1", 1, ((3, "888"),)),
    ]


def _mapping_with(zone: str = "UTC", unit: str = "L/s", more: str = "") -> str:
    channel = f"{{column: Q, node: a, measurement: flow_rate, unit: {unit}}}"
    return f"tables:\n- instant: {{columns: [data], zone: {zone}}}\n  channels: [{channel}]\n{more}"


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        (_mapping_with(), ("file.csv", "'Q'", "not there", "Portata A [l/s]")),
        ("tables: [\n", ("mapping.yaml, line 2", "no YAML")),
        ("tables: []\n", ("mapping.yaml, tables", "Correct it")),
        (_mapping_with(zone="Mars"), ("mapping.yaml, tables.1.instant", "'Mars' is no time zone")),
        (_mapping_with(unit="bar"), ("mapping.yaml, tables.1.channels.1", "'bar' is no unit of flow rate")),
        (_mapping_with(more="  files: [other.csv]\n"), ("file.csv", "the mapping is of other.csv only")),
    ],
)
def test_a_mapping_that_does_not_fit_is_refused_with_a_sentence(tmp_path: Path, text: str, parts: tuple[str, ...]):
    path, mapping = tmp_path / "file.csv", tmp_path / "mapping.yaml"
    path.write_text("data;Portata A [l/s]\n13/01/2025 10:00;3,6\n")
    mapping.write_text(text)
    with pytest.raises(Refusal) as refusal:
        read(path, mapping=mapping)
    for part in parts:
        assert part in str(refusal.value)


def test_files_with_the_same_headings_are_understood_together(tmp_path: Path):
    first, later = tmp_path / "a.csv", tmp_path / "b.csv"
    # Alone, the first would not show which is the month, and be taken as the second of January.
    first.write_text("data;Portata A [l/s]\n02/01/2025 10:00;1\n")
    later.write_text("data;Portata A [l/s]\n02/13/2025 10:00;2\n02/14/2025 10:00;3\n")
    frame, _ = read(first, later)
    assert frame["timestamp"].to_list() == [pd.Timestamp(f"2025-02-{day}T09:00Z") for day in ("01", "13", "14")]


def test_of_a_reading_in_two_files_the_later_file_has_the_last_word(tmp_path: Path):
    flow, pressure = tmp_path / "flow.csv", tmp_path / "pressure.csv"
    flow.write_text("timestamp,node_id,flow_rate\n2025-01-13T00:00:00Z,a,1\n2025-01-13T01:00:00Z,a,2\n")
    pressure.write_text("timestamp,node_id,flow_rate,pressure\n2025-01-13T00:00:00Z,a,5,3\n2025-01-13T01:00:00Z,a,,4\n")
    frame, _ = read(flow, pressure)
    assert frame[["flow_rate", "pressure"]].to_numpy().tolist() == [[5.0, 3.0], [2.0, 4.0]]


def test_a_file_given_twice_is_refused(tmp_path: Path):
    path = tmp_path / "a.csv"
    path.write_text("timestamp,node_id,flow_rate\n2025-01-13T00:00:00Z,a,1\n")
    with pytest.raises(Refusal, match=r"a\.csv is given twice. Name it once"):
        read(path, tmp_path / "." / "a.csv")


def test_a_parameter_that_the_mapping_does_not_name_is_counted(tmp_path: Path):
    first, later = tmp_path / "first.csv", tmp_path / "later.csv"
    first.write_text("timestamp,tag,value\n2025-01-13T00:00:00Z,F_A,1\n")
    later.write_text("timestamp,tag,value\n2025-01-14T00:00:00Z,F_A,2\n2025-01-14T00:00:00Z,F_B,3\n")
    mapping = write_mapping(tmp_path, "first", plan_of([first], None, ROME, lambda _: None).sections)
    frame, problems = read(later, mapping=mapping)
    assert frame["node_id"].to_list() == ["A"]
    assert [(one.reason, one.column, one.count, one.places) for one in problems] == [
        ("a parameter that the mapping does not name", "tag", 1, ((3, "F_B"),))
    ]
    # Without a mapping, a parameter of the shorter file alone is read too.
    assert set(read(later, first)[0]["node_id"]) == set(read(first, later)[0]["node_id"]) == {"A", "B"}


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("data;Portata A [l/s]\n01/02/2025;1\n01/03/2025;2\n01/04/2025;3\n", "taken as month first, as its rows"),
        ("data;Portata A [l/s]\n13/01/2025;1.234\n14/01/2025;12.345\n", "'1.234' as 1.234"),
        (
            "data;Portata A [l/s]\n30/03/2025 01:00;1\n30/03/2025 03:00;2\n26/10/2025 02:00;3\n",
            "has one only (line 4): taken as the first",
        ),
    ],
)
def test_what_a_file_leaves_open_is_stated(tmp_path: Path, text: str, sentence: str):
    path = tmp_path / "open.csv"
    path.write_text(text)
    assert any(sentence in one for one in plan_of([path], None, ROME, lambda _: None).assumptions)


def test_a_register_in_rows_is_one(tmp_path: Path):
    path = tmp_path / "rows.csv"
    lines = [f"2025-01-13T{h:02d}:00:00Z,{n},{v + h}\n" for h in range(20) for n, v in (("a", 9000), ("b", 5))]
    path.write_text("timestamp,node_id,volume\n" + "".join(lines))
    (section,) = plan_of([path], None, ROME, lambda _: None).sections
    assert section.channels[0].volume_is == "counter"


def test_a_second_value_for_the_same_instant_is_counted_and_named(tmp_path: Path):
    path = tmp_path / "twice.csv"
    path.write_text(
        "timestamp,node_id,flow_rate\n2025-01-13T00:00:00Z,a,1\n2025-01-13T00:00:00Z,a,2\n2025-01-13T00:00:00Z,a,2\n"
    )
    frame, problems = read(path)
    assert frame["flow_rate"].to_list() == [2.0]
    assert {(one.reason, one.count, one.places[0][0]) for one in problems} == {
        ("another value follows for the same instant", 1, 2),
        ("repeated, with the same value", 1, 3),
    }


def test_a_file_that_is_too_large_is_refused_before_it_fills_the_memory(tmp_path: Path):
    large = tmp_path / "large.csv"
    with large.open("wb") as file:
        file.write(b"timestamp,node_id,flow_rate\n2025-01-13T00:00:00Z,a,1\n")
        file.truncate(2_000_000_000)
    packed = tmp_path / "packed.csv.gz"
    packed.write_bytes(gzip.compress(b"timestamp,node_id,flow_rate\n" + b"2025-01-13T00:00:00Z,a,1\n" * 100_000))
    with pytest.raises(Refusal, match=r"large.csv holds 2,000 MB, and a file may hold 500. Part it"):
        open_tables(large)
    with pytest.raises(Refusal, match=r"packed.csv.gz holds more than 1 MB unpacked"):
        open_tables(packed, most_bytes=1_000_000)


def test_a_folder_and_a_file_that_is_not_there_get_a_sentence(tmp_path: Path):
    with pytest.raises(Refusal, match=r"is a folder. Name the files in it"):
        open_tables(tmp_path)
    with pytest.raises(Refusal, match=r"cannot be read: No such file"):
        open_tables(tmp_path / "nothing.csv")


@pytest.mark.parametrize(
    ("heading", "measurement", "unit", "node"),
    [
        ("Portata ingresso Monte Urpinu [L/s]", "flow_rate", "L/s", "ingresso Monte Urpinu"),
        ("Durchfluss Hochbehälter in m³/h", "flow_rate", "m³/h", "Hochbehälter"),
        ("Livello serbatoio Nord [m]", "pressure", "m", "serbatoio Nord"),
        ("PZ12 [m3/h]", "flow_rate", "m3/h", "PZ12"),
        ("FT101.PV", "flow_rate", None, "FT101"),
        ("Q_PZ12 m3/h", "flow_rate", "m3/h", "PZ12"),
        ("flow_rate_l_s", "flow_rate", "L/s", None),
        ("Température de l'eau", "temperature", None, "l'eau"),
        ("Zählerstand [m³]", "volume", "m³", None),
        ("Caudal de entrada Q1 (m3/h)", "flow_rate", "m3/h", "entrada Q1"),
        ("Batteria", None, None, "Batteria"),
    ],
)
def test_a_heading_says_measurement_unit_and_node(
    heading: str, measurement: str | None, unit: str | None, node: str | None
):
    found = read_heading([heading])
    assert (found.measurement, found.unit, found.node) == (measurement, unit, node)


SEPARATORS = st.sampled_from([";", "\t", "|", ","])
ENCODINGS = st.sampled_from(["utf-8", "utf-8-sig", "cp1252", "utf-16"])
DATES = st.sampled_from(["%d/%m/%Y %H:%M", "%Y-%m-%d %H:%M:%S", "%d.%m.%Y %H.%M", "%Y%m%dT%H%M%S", "%d-%b-%Y %H:%M"])
NOTHING = st.sampled_from(["", "n/d", "---", "null", "NaN"])
HEADINGS = st.sampled_from(
    ["Portata {} [l/s]", "Durchfluss {} (l/s)", "Débit {} [L/s]", "Caudal {} [l/s]", "Flow {} (L/s)"]
)
VALUES = st.lists(st.none() | st.integers(0, 200_000).map(lambda n: n / 100), min_size=3, max_size=12)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    SEPARATORS, ENCODINGS, DATES, NOTHING, HEADINGS, st.lists(VALUES, min_size=1, max_size=3), st.booleans(), st.data()
)
def test_a_table_written_in_any_dialect_is_read_back_the_same(
    tmp_path_factory: pytest.TempPathFactory, separator: str, encoding: str, dates: str, nothing: str, heading: str,
    columns: list[list[float | None]], has_title: bool, data: st.DataObject,
):  # fmt: skip
    assume(any(value is not None for column in columns for value in column))
    comma = separator != "," and data.draw(st.booleans())
    length = max(map(len, columns))
    instants = pd.date_range("2025-06-13 22:00", periods=length, freq="h", tz="Europe/Rome")
    names = [f"Città {number}" for number in range(len(columns))]

    def written_as(value: float | None) -> str:
        return nothing if value is None else f"{value:.2f}".replace(".", "," if comma else ".")

    lines = ["Esportazione"] if has_title else []
    lines.append(separator.join(["Data e ora", *(heading.format(name) for name in names)]))
    for row, instant in enumerate(instants):
        cells = [column[row] if row < len(column) else None for column in columns]
        lines.append(separator.join([instant.strftime(dates), *map(written_as, cells)]))
    path = tmp_path_factory.mktemp("dialect") / "table.csv"
    path.write_text("\n".join(lines) + "\n", encoding=encoding)
    frame, _ = read(path)
    found = {
        (node, instant): value
        for node, instant, value in zip(frame["node_id"], frame["timestamp"], frame["flow_rate"], strict=True)
    }
    expected = {
        (name, instant.tz_convert("UTC")): value
        for name, column in zip(names, columns, strict=True)
        for instant, value in zip(instants, column, strict=False)
        if value is not None
    }
    assert found == pytest.approx(expected)
