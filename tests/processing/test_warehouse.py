"""Reading through the real BigQuery clients, from a server that speaks their protocols."""

from __future__ import annotations

import io
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from google.api_core import exceptions
from google.cloud import bigquery

from src.processing.warehouse.client import WarehouseError, connect, sentences
from src.processing.warehouse.history import read_hourly_weather
from src.processing.warehouse.reader import Reader, TooManyReadings
from src.quickstart import engines
from src.quickstart.datasets import load_weather
from src.settings import Settings
from tests.system import put, readings_of

START = datetime(2023, 5, 1, tzinfo=UTC)
NODES = ["n1", 'o\'brien "città" \\ 7', "x" * 60]


@pytest.fixture(scope="module")
def warehouse(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Settings]:
    """A table of hourly readings of `NODES` with a column more than we know, and a view of it."""
    with engines.bigquery(tmp_path_factory.mktemp("bigquery")) as address:
        settings = Settings(**address)
        client = connect(settings).queries
        client.create_dataset("demo.water_infrastructure", timeout=30)
        types = dict.fromkeys(("flow_rate", "pressure", "temperature", "volume"), "FLOAT64")
        types |= {"node_id": "STRING", "timestamp": "TIMESTAMP", "ingestion_timestamp": "TIMESTAMP", "extra": "STRING"}
        table = bigquery.Table(
            "demo.water_infrastructure.sensor_readings_ml", [bigquery.SchemaField(n, t) for n, t in types.items()]
        )
        table.time_partitioning = bigquery.TimePartitioning(field="timestamp")
        client.create_table(table, timeout=30)
        rows = pd.DataFrame(
            [
                {"node_id": node, "timestamp": START + timedelta(hours=hour), "flow_rate": hour + 0.1, "extra": "?"}
                for node in NODES
                for hour in range(48)
            ]
        ).assign(pressure=3.5, temperature=float("nan"), volume=None, ingestion_timestamp=START)
        parquet = io.BytesIO()
        # The stand-in matches columns by position.
        rows.astype({"volume": "float64"})[list(types)].to_parquet(parquet)
        parquet.seek(0)
        config = bigquery.LoadJobConfig(source_format="PARQUET", write_disposition="WRITE_APPEND")
        client.load_table_from_file(parquet, table, job_config=config, timeout=60).result(timeout=60)
        view = bigquery.Table("demo.water_infrastructure.readings_view")
        view.view_query = "SELECT * FROM `demo.water_infrastructure.sensor_readings_ml`"
        client.create_table(view, timeout=30)
        yield settings


def read(settings: Settings, node_ids: list[str], hours: int = 24) -> pd.DataFrame:
    return Reader(connect(settings), settings).read(node_ids, START, START + timedelta(hours=hours)).frame


@pytest.mark.parametrize("node_id", NODES)
def test_a_node_is_read_under_exactly_its_own_name(warehouse: Settings, node_id: str):
    rows = read(warehouse, [node_id])
    assert rows["node_id"].astype(str).unique().tolist() == [node_id]
    assert sorted(rows["flow_rate"]) == [hour + 0.1 for hour in range(24)]
    assert rows["timestamp"].max().to_pydatetime() == START + timedelta(hours=23)


def test_a_view_gives_the_same_rows_as_its_table(warehouse: Settings):
    view = warehouse.model_copy(update={"bigquery_table": "readings_view"})
    key = ["node_id", "timestamp"]
    frames = [read(s, NODES).astype({"node_id": str}).sort_values(key, ignore_index=True) for s in (warehouse, view)]
    assert len(frames[0]) == 24 * len(NODES)
    pd.testing.assert_frame_equal(*frames)


def test_no_readings_is_an_empty_frame_with_all_columns(warehouse: Settings):
    rows = read(warehouse, ["nobody"])
    assert rows.empty
    assert "ingestion_timestamp" in rows.columns


@pytest.mark.parametrize(
    ("changed", "sentence"),
    [
        ({"bigquery_table": "nowhere"}, "sensor|nowhere does not exist"),
        ({"bigquery_columns": {"flow_rate": "portata"}}, "has no column portata.*BIGQUERY_COLUMNS"),
        ({"bigquery_rest_endpoint": "http://127.0.0.1:1", "bigquery_timeout_seconds": 2}, "did not answer"),
    ],
)
def test_what_is_wrong_is_explained_in_a_sentence(warehouse: Settings, changed: dict, sentence: str):
    with pytest.raises(WarehouseError, match=sentence):
        read(warehouse.model_copy(update=changed), ["n1"])


@pytest.mark.parametrize(
    ("refusal", "sentence"),
    [
        (exceptions.Unauthorized("no"), "refused the credentials"),
        (exceptions.Forbidden("Quota exceeded: too many bytes"), "quota exceeded"),
        (exceptions.Forbidden("Access Denied"), "may not read demo.water_infrastructure.sensor_readings_ml"),
        (exceptions.TooManyRequests("slow down"), "quota exceeded"),
        (exceptions.NotFound("x"), "does not exist"),
        (exceptions.ServiceUnavailable("x"), "did not answer"),
    ],
)
def test_each_refusal_has_its_sentence(refusal: Exception, sentence: str):
    with pytest.raises(WarehouseError, match=sentence), sentences(Settings(bigquery_project_id="demo")):
        raise refusal


@pytest.mark.parametrize("nothing", ["", "\n"])
def test_missing_credentials_are_explained_in_a_sentence(nothing: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    # Containers mount an empty file where there is none (a swarm, one with a line's end); then the environment's own
    # credentials are looked for.
    empty = tmp_path / "empty.json"
    empty.write_text(nothing)
    monkeypatch.setenv("NO_GCE_CHECK", "true")
    # Google's own search looks at the same variable, and would read the empty file again.
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(empty))
    monkeypatch.setenv("HOME", str(tmp_path))
    with pytest.raises(WarehouseError, match="default credentials were not found"):
        connect(Settings(bigquery_project_id="some-project", google_application_credentials=str(empty)))
    with pytest.raises(WarehouseError, match="GOOGLE_APPLICATION_CREDENTIALS"):
        connect(Settings(bigquery_project_id="some-project", google_application_credentials="/nowhere.json"))


def test_weather_is_the_hourly_mean_of_whatever_the_table_has(stack: Settings):
    put(stack, readings_of(["n1"]))
    hours = pd.date_range(START, periods=6, freq="30min")
    settings = stack.model_copy(
        update={"bigquery_weather_table": "meteo", "bigquery_weather_columns": {"temperature": "t_air"}}
    )
    load_weather(settings, pd.DataFrame({"t_air": [1.0, 3, 5, 7, 9, np.nan], "wind": 1.0}, index=hours))
    weather = read_hourly_weather(connect(settings), settings, START, START + timedelta(hours=3))
    assert weather is not None
    assert list(weather.columns) == ["temperature"]
    assert weather["temperature"].tolist() == [2.0, 6.0, 9.0]
    assert read_hourly_weather(connect(stack), stack, START, START + timedelta(hours=3)) is None
    wrong = settings.model_copy(update={"bigquery_weather_columns": {"timestamp": "instant"}})
    with pytest.raises(WarehouseError, match="needs a column instant and any of temperature, rain, humidity; it has"):
        read_hourly_weather(connect(wrong), wrong, START, START + timedelta(hours=3))
    missing = settings.model_copy(update={"bigquery_weather_table": "nowhere"})
    with pytest.raises(WarehouseError, match="nowhere"):
        read_hourly_weather(connect(missing), missing, START, START + timedelta(hours=3))


@pytest.mark.parametrize("name", ["sensor_readings_ml", "a_view"])
def test_rows_are_read_from_the_districts_they_are_stored_under_and_from_none(stack: Settings, name: str):
    readings = readings_of(["n", "m"], days=0.25, minutes=60)
    readings["district_id"] = ["north"] * 2 + ["south '\\"] * 2 + [None] * 2 + ["other"] * 6
    put(stack, readings)
    view = bigquery.Table("demo.water_infrastructure.a_view")
    view.view_query = "SELECT * FROM `demo.water_infrastructure.sensor_readings_ml`"
    client = connect(stack).queries
    client.delete_table(view, not_found_ok=True, timeout=30)
    client.create_table(view, timeout=30)
    settings = stack.model_copy(update={"bigquery_table": name})
    reader, end = Reader(connect(settings), settings), START + timedelta(days=1)

    def hours(districts: list[str] | None) -> list[int]:
        found = reader.read(["n"], START, end, districts=districts).frame
        return sorted(found["timestamp"].dt.hour)

    assert hours(None) == hours(["", "north", "south '\\"]) == [0, 1, 2, 3, 4, 5]
    assert hours(["north", "south '\\"]) == [0, 1, 2, 3]
    assert hours([""]) == [4, 5]


@pytest.mark.parametrize("name", ["sensor_readings_ml", "readings_view"])
def test_a_read_of_more_rows_than_it_may_hold_stops(warehouse: Settings, name: str):
    settings = warehouse.model_copy(update={"bigquery_table": name})
    reader, end = Reader(connect(settings), settings), START + timedelta(hours=24)
    assert len(reader.read(NODES, START, end, most_readings=72).frame) == 72
    with pytest.raises(TooManyReadings, match="more than 71 readings"):
        reader.read(NODES, START, end, most_readings=71)


def test_a_refusal_for_its_cost_says_what_to_set_and_what_it_would_cost():
    refused = exceptions.InternalServerError(
        "Query exceeded limit for bytes billed: 21474836480. 1099511627776 or higher required."
    )
    sentence = "BIGQUERY_MAXIMUM_BYTES_BILLED allows 21474836480: set it to 1099511627776 or more; .* about 6.25 USD"
    with pytest.raises(WarehouseError, match=sentence), sentences(Settings(bigquery_project_id="demo")):
        raise refused


def test_a_read_that_costs_more_than_is_allowed_is_refused_before_it_begins(warehouse: Settings):
    reader, end = Reader(connect(warehouse), warehouse), START + timedelta(hours=24)
    cost = reader.read(NODES, START, end).bytes_read
    assert cost > 0
    settings = warehouse.model_copy(update={"bigquery_maximum_bytes_billed": cost - 1})
    with pytest.raises(WarehouseError, match=f"set it to {cost} or more"):
        Reader(connect(settings), settings).read(NODES, START, end)
