"""Readings out of files into the warehouse and the quickstart: confirmed first, never doubled, never in part."""

from __future__ import annotations

import io
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest
from rich.console import Console

from src.domain.tables.table import Refusal
from src.processing import load
from src.processing.warehouse.client import connect
from src.quickstart.readings import dataset_of, folder_of
from src.settings import Settings
from tests.system import environment

MONTH = Path(__file__).parent / "data" / "utility-month.csv.gz"
FLOW = "Data;Portata Nord [m3/h];Pressione Nord [bar]\n13/01/2025 00:00;36,0;3,5\n13/01/2025 01:00;72,0;n/d\n"


@pytest.fixture
def warehouse(bigquery_address: dict[str, str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Settings:
    """Settings of a warehouse without a table, which commands of this test find in their environment."""
    table = f"readings_{tmp_path.name}".replace("-", "_")
    settings = Settings(**bigquery_address, bigquery_table=table)  # type: ignore[arg-type]
    for name, value in environment(settings).items():
        monkeypatch.setenv(name, value)
    monkeypatch.chdir(tmp_path)
    return settings


def stored(settings: Settings) -> list[dict[str, object]]:
    """The rows of the readings' table, without the instant at which they came."""
    table = f"{settings.bigquery_project_id}.{settings.bigquery_dataset_id}.{settings.bigquery_table}"
    rows = connect(settings).queries.list_rows(table, timeout=30)
    found = [{name: value for name, value in row.items() if name != "ingestion_timestamp"} for row in rows]
    return sorted(found, key=lambda row: (row["node_id"], row["timestamp"]))


def tables(settings: Settings) -> set[str]:
    listed = connect(settings).queries.list_tables(f"{settings.bigquery_project_id}.{settings.bigquery_dataset_id}")
    return {table.table_id for table in listed if settings.bigquery_table in table.table_id}


def test_a_month_loaded_twice_leaves_the_same_rows(warehouse: Settings, capsys: pytest.CaptureFixture[str]):
    assert load.main([str(MONTH), "--yes"]) == 0
    once = stored(warehouse)
    assert len(once) == 7794
    assert {row["source_file"] for row in once} == {MONTH.name}
    assert "7794 readings loaded, 7794 of them new or changed" in capsys.readouterr().out
    assert load.main([str(MONTH), "--mapping", "utility-month.mapping.yaml", "--yes"]) == 0
    assert "7794 readings loaded, 0 of them new or changed" in capsys.readouterr().out
    assert stored(warehouse) == once
    # Nothing is left beside the table.
    assert tables(warehouse) == {warehouse.bigquery_table}


def test_another_files_measurement_comes_beside_what_is_stored(warehouse: Settings):
    Path("flow.csv").write_text(FLOW)
    Path("pressure.csv").write_text("Data;Pressione Nord [bar]\n13/01/2025 01:00;4,5\n13/01/2025 02:00;4,0\n")
    assert load.main(["flow.csv", "--yes"]) == 0
    assert load.main(["pressure.csv", "--yes"]) == 0
    values = [(row["flow_rate"], row["pressure"], row["source_file"]) for row in stored(warehouse)]
    assert values == [(10.0, 3.5, "flow.csv"), (20.0, 4.5, "pressure.csv"), (None, 4.0, "pressure.csv")]


def test_figures_are_stored_in_the_warehouses_own_units(warehouse: Settings, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("UNIT_FLOW_RATE", "m3/h")
    Path("flow.csv").write_text(FLOW)
    assert load.main(["flow.csv", "--yes"]) == 0
    assert [row["flow_rate"] for row in stored(warehouse)] == [36.0, 72.0]


def test_if_one_file_is_wrong_nothing_is_loaded(warehouse: Settings, capsys: pytest.CaptureFixture[str]):
    Path("good.csv").write_text(FLOW)
    Path("half.csv").write_text(FLOW + "14/01/2025 00:00;36")
    assert load.main(["good.csv", "half.csv", "--yes"]) == 1
    problem = capsys.readouterr().err
    assert "half.csv, line 4: the file ends in the middle of this line" in problem
    assert "Nothing was loaded." in problem
    assert tables(warehouse) == set()


def test_a_dry_run_shows_and_loads_nothing(warehouse: Settings, capsys: pytest.CaptureFixture[str]):
    Path("flow.csv").write_text(FLOW)
    assert load.main(["flow.csv", "--dry-run"]) == 0
    shown = capsys.readouterr()
    assert "2 readings would be loaded" in shown.out
    assert "flow.csv: 2 readings" in shown.err
    assert "m3/h → L/s" in shown.err
    assert tables(warehouse) == set()


def test_without_a_terminal_it_must_be_confirmed_that_it_is_right(
    warehouse: Settings, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("sys.stdin", io.StringIO())
    Path("flow.csv").write_text(FLOW)
    assert load.main(["flow.csv"]) == 1
    assert "give --yes" in capsys.readouterr().err
    assert tables(warehouse) == set()


def test_a_table_without_the_columns_is_refused(warehouse: Settings, capsys: pytest.CaptureFixture[str]):
    Path("flow.csv").write_text(FLOW)
    client, dataset = connect(warehouse).queries, f"{warehouse.bigquery_project_id}.{warehouse.bigquery_dataset_id}"
    client.create_dataset(dataset, exists_ok=True)
    client.query(f"CREATE TABLE `{dataset}.{warehouse.bigquery_table}` (node_id STRING)").result()
    assert load.main(["flow.csv", "--yes"]) == 1
    assert "has no column timestamp" in capsys.readouterr().err


def test_what_is_left_out_is_named_by_file_line_and_column(tmp_path: Path):
    path = tmp_path / "left-out.csv"
    path.write_text(FLOW + "13/01/2025 25:00;1,0;2,0\n13/01/2025 03:00;-9999;2,0\n")
    output = io.StringIO()
    console = Console(file=output, width=200)
    dataset = dataset_of([path], None, True, console, ZoneInfo("Europe/Rome"), tmp_path)
    shown = output.getvalue()
    assert "left-out.csv, column Data: 1 × not a date (line 4 '13/01/2025 25:00')" in shown
    assert "left-out.csv, column Pressione Nord [bar]: 1 × no value (line 3 'n/d')" in shown
    assert "left-out.csv, column Portata Nord [m3/h]: 1 × placeholder -9999 (line 5 '-9999')" in shown
    assert "Europe/Rome" in shown
    assert len(dataset.readings) == 3


def test_a_data_set_lives_just_after_its_last_reading_and_knows_its_registers(tmp_path: Path):
    path = tmp_path / "register.csv"
    path.write_text(
        "timestamp,node_id,district_id,Contatore [m3]\n"
        + "".join(f"2025-01-13T{hour:02d}:00:00Z,a,town,{1000 + hour}\n" for hour in range(12))
    )
    dataset = dataset_of([path], None, True, Console(file=io.StringIO()), ZoneInfo("Europe/Rome"), tmp_path)
    assert dataset.end.isoformat() == "2025-01-13T12:00:00+00:00"
    (node,) = dataset.nodes
    assert (node.node_id, node.district_id, node.role, node.metadata) == ("a", "town", None, {"volume_is": "counter"})


def test_two_columns_of_one_kind_leave_a_mapping_to_be_corrected(tmp_path: Path):
    path = tmp_path / "two.csv"
    path.write_text("data;Portata A [l/s];Portata A [m3/h]\n13/01/2025 00:00;1;2\n")
    console, zone = Console(file=io.StringIO()), ZoneInfo("Europe/Rome")
    with pytest.raises(Refusal, match=r"are both flow_rate of A(.|\n)*is kept as a mapping in"):
        dataset_of([path], None, True, console, zone, tmp_path)
    mapping = tmp_path / "two.mapping.yaml"
    with pytest.raises(Refusal, match="are both flow_rate"):
        dataset_of([path], mapping, True, console, zone, tmp_path)
    mapping.write_text(mapping.read_text().replace("[m3/h]\n    node: A", "[m3/h]\n    node: B"))
    assert set(dataset_of([path], mapping, True, console, zone, tmp_path).readings["node_id"]) == {"A", "B"}


def test_other_files_or_another_mapping_are_another_quickstart(tmp_path: Path):
    one, other, mapping = tmp_path / "one.csv", tmp_path / "other.csv", tmp_path / "m.yaml"
    for path in (one, other, mapping):
        path.write_text(path.name)
    names = [folder_of([one], None), folder_of([other], None), folder_of([one], mapping), folder_of([one, other], None)]
    assert len(set(names)) == 4
    assert folder_of([one], None) == names[0]
    one.write_text("something else")
    assert folder_of([one], None) != names[0]


class Terminal(io.StringIO):
    """Somebody who answers with these lines."""

    def isatty(self) -> bool:
        return True


def test_a_unit_that_no_heading_names_is_asked_for_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    path = tmp_path / "bare.csv"
    path.write_text("data;Portata A;Portata B\n13/01/2025 00:00;36,5;72,0\n")
    output = io.StringIO()
    # What is no unit of a flow is asked for again.
    monkeypatch.setattr("sys.stdin", Terminal("bar\nm3/h\ny\n"))
    dataset = dataset_of([path], None, False, Console(file=output), ZoneInfo("Europe/Rome"), tmp_path)
    assert dataset.readings["flow_rate"].to_list() == [pytest.approx(36.5 / 3.6), pytest.approx(20.0)]
    assert "'bar' is no unit of flow rate" in output.getvalue()
    # The answers are in the mapping that was stored last.
    again = dataset_of(
        [path], tmp_path / "bare.mapping-2.yaml", True, Console(file=output), ZoneInfo("Europe/Rome"), tmp_path
    )
    assert again.readings.equals(dataset.readings)


def test_who_says_no_gets_a_mapping_to_edit_and_nothing_is_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    path = tmp_path / "flow.csv"
    path.write_text(FLOW)
    monkeypatch.setattr("sys.stdin", Terminal("n\n"))
    with pytest.raises(Refusal, match=r"Nothing was taken. Edit the mapping and give it by --mapping"):
        dataset_of([path], None, False, Console(file=io.StringIO()), ZoneInfo("Europe/Rome"), tmp_path)
    assert (tmp_path / "flow.mapping.yaml").exists()
