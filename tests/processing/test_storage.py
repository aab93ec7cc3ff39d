"""Schema and bulk writes, on a real PostgreSQL."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import numpy as np
import pandas as pd
import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import Engine, inspect, text

from src.db import bulk_write
from src.db.bulk_read import read_rows
from src.db.bulk_write import copy_rows
from src.db.engines import create_database_engine
from src.db.failures import is_of_the_database
from src.db.migrate import migrate
from src.db.tables import HYPERTABLES, SCHEMA, computed_metrics, metadata
from src.db.timescale import retained_by_policy
from src.db.upsert import replace_metrics
from src.domain.metrics import window_metrics
from src.domain.readings import clean
from src.settings import Settings
from tests.data import raw_readings

START = datetime(2023, 5, 1, 22, tzinfo=UTC)  # midnight in Rome
SPANS = dict.fromkeys(("5min", "1hour", "1day"), (START, START + timedelta(days=9), True))


def metrics_of(node_id: str, flows: list[float | None]) -> pd.DataFrame:
    rows = [
        {
            "node_id": node_id,
            "timestamp": START + timedelta(minutes=5 * k),
            "flow_rate": flow,
            "ingestion_timestamp": START,
        }
        for k, flow in enumerate(flows)
    ]
    readings = clean(raw_readings(rows), START + timedelta(days=9)).frame
    return window_metrics(readings, START, ZoneInfo("Europe/Rome")).assign(
        computed_at=pd.Timestamp.now("UTC"), computation_version="1"
    )


def store(database: Engine, rows: pd.DataFrame, node_ids: list[str]) -> int:
    with database.begin() as connection:
        return replace_metrics(connection, computed_metrics, rows, node_ids, SPANS).rows


def stored(database: Engine) -> pd.DataFrame:
    with database.connect() as connection:
        table = pd.read_sql_table("computed_metrics", connection, SCHEMA)
    return table.sort_values(["node_id", "time_window", "window_start"], ignore_index=True)


def test_models_and_migrations_describe_the_same_schema(database: Engine):
    with database.connect() as connection:
        context = MigrationContext.configure(
            connection,
            opts={
                "include_schemas": True,
                "compare_type": True,
                "compare_server_default": True,
                "include_name": lambda name, kind, _: kind != "schema" or name == SCHEMA,
                "version_table_schema": SCHEMA,
            },
        )
        assert compare_metadata(context, metadata) == []


def test_downgrade_leaves_no_table_and_upgrade_brings_them_back(database: Engine, settings: Settings):
    migrate(database, settings, "base")
    assert set(inspect(database).get_table_names(SCHEMA)) == {"alembic_version"}
    migrate(database, settings)
    names = {table.name for table in metadata.tables.values()}
    assert set(inspect(database).get_table_names(SCHEMA)) == names | {"alembic_version"}


def test_days_that_were_in_a_class_of_losses_lose_it_and_keep_the_rest(settings: Settings):
    database = create_database_engine(settings)
    migrate(database, settings, "0015")
    of_network = (
        "INSERT INTO water_infrastructure.network_efficiency (time_window, window_start, window_end, "
        "computation_timestamp, zone_metrics) VALUES ('1day', now(), now(), now(), CAST(:zones AS jsonb))"
    )
    of_district = (
        "INSERT INTO water_infrastructure.district_balances (district_id, time_window, window_start, window_end, "
        "balance) VALUES ('d', '1day', now(), now(), CAST(:balance AS jsonb))"
    )
    balance = '{"loss_volume": 3.5, "m1a": 1, "m1b": 2, "m1_class": "A", "infrastructure_leakage_index": null}'
    with database.begin() as connection:
        connection.execute(text(of_network), {"zones": f'{{"d": {balance}}}'})
        connection.execute(text(of_district), {"balance": balance})
    migrate(database, settings.model_copy(update={"clock": "frozen:2023-05-10T00:00:00Z"}))
    with database.connect() as connection:
        zones = connection.scalar(text("SELECT zone_metrics FROM water_infrastructure.network_efficiency"))
        stored = connection.scalar(text("SELECT balance FROM water_infrastructure.district_balances"))
    database.dispose()
    assert (zones, stored) == ({"d": {"loss_volume": 3.5}}, {"loss_volume": 3.5})


@pytest.mark.parametrize("node_id", ["n1", 'o\'brien "città" \\ , ;', "x" * 60])
def test_what_is_stored_is_exactly_what_was_computed(database: Engine, node_id: str):
    rows = metrics_of(node_id, [1 / 3, None, 2 / 3, 0.1 + 0.2])
    assert store(database, rows, [node_id]) == len(rows)
    back = stored(database)
    expected = rows.astype({"node_id": "str", "time_window": "str"}).sort_values(["time_window", "window_start"])
    assert back["node_id"].unique().tolist() == [node_id]
    for name in ("avg_flow_rate", "flow_variance", "total_volume", "avg_pressure", "data_completeness"):
        assert back[name].astype("float64").equals(expected[name].astype("float64").reset_index(drop=True)), name
    assert back["window_start"].tolist() == expected["window_start"].tolist()


def test_rows_that_are_sent_in_many_parts_arrive_whole(database: Engine, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(bulk_write, "_ROWS_AT_ONCE", 7)
    monkeypatch.setattr(bulk_write, "_BYTES_AT_ONCE", 100)
    rows = metrics_of("n", [float(k) for k in range(250)])
    assert store(database, rows, ["n"]) == len(rows)
    five = stored(database).query("time_window == '5min'").sort_values("window_start")
    assert five["avg_flow_rate"].tolist() == [float(k) for k in range(250)]


@pytest.mark.parametrize(
    ("column", "value"),
    [("reading_count", 2**40), ("reading_count", "many"), ("computed_at", None)],
)
def test_a_value_that_no_column_can_hold_is_a_mistake_of_ours_and_stops_nothing_else(
    database: Engine, column: str, value: object
):
    rows = metrics_of("n", [1.0])
    wrong = rows.assign(**{column: value})
    if column == "computed_at":
        wrong[column] = pd.Series(np.array([np.iinfo(np.int64).min + 1] * len(rows)).view("M8[us]")).dt.tz_localize(
            "UTC"
        )
    with database.begin() as connection:
        with pytest.raises((ValueError, TypeError)) as refused, connection.begin_nested():
            copy_rows(connection, computed_metrics, wrong)
        assert not is_of_the_database(refused.value)
        copy_rows(connection, computed_metrics, rows)
        copy_rows(connection, computed_metrics, rows.iloc[:0])
    assert len(stored(database)) == len(rows)


def test_writing_the_same_rows_again_touches_none(database: Engine):
    rows = metrics_of("n", [1.0, 2.0, 3.0])
    store(database, rows, ["n"])
    before = stored(database)
    assert store(database, rows.assign(computed_at=pd.Timestamp.now("UTC")), ["n"]) == 0
    pd.testing.assert_frame_equal(stored(database), before)


def test_a_window_that_no_reading_supports_any_more_goes_and_others_stay(database: Engine):
    store(database, metrics_of("n", [1.0, 2.0, 3.0]), ["n"])
    store(database, metrics_of("other", [5.0]), ["other"])
    store(database, metrics_of("n", [1.0, None, 3.0]), ["n"])
    five = stored(database).query("time_window == '5min'")
    assert five.groupby("node_id")["avg_flow_rate"].apply(list).to_dict() == {"n": [1.0, 3.0], "other": [5.0]}


def test_time_series_become_hypertables_with_policies(licensed: Engine, settings: Settings):
    # Under a clock of ours no policy takes rows of 2023 away while they are looked at.
    of_the_rows = settings.model_copy(update={"clock": "frozen:2023-05-10T00:00:00Z"})
    migrate(licensed, of_the_rows)
    rows = metrics_of("n", [1.0, 2.0])
    assert store(licensed, rows, ["n"]) == len(rows)
    assert store(licensed, rows, ["n"]) == 0
    migrate(licensed, settings)
    migrate(licensed, settings)
    with licensed.connect() as connection:
        tables = connection.execute(text("SELECT hypertable_name FROM timescaledb_information.hypertables")).scalars()
        assert set(tables) == set(HYPERTABLES)
        jobs = connection.execute(
            text("SELECT proc_name, count(*) FROM timescaledb_information.jobs WHERE hypertable_name <> '' GROUP BY 1")
        )
        counts = dict(jobs.tuples().all())
    assert sum(n for name, n in counts.items() if "retention" in name) == 5
    assert sum(n for name, n in counts.items() if "compression" in name or "columnstore" in name) == 1
    migrate(licensed, of_the_rows)
    migrate(licensed, settings, "base")


def test_no_policy_goes_by_the_servers_clock_where_another_is_injected(licensed: Engine, settings: Settings):
    policies = text("SELECT count(*) FROM timescaledb_information.jobs WHERE hypertable_name <> ''")
    for clock, expected in (("live", 6), ("frozen:2023-05-10T00:00:00Z", 0), ("live", 6)):
        migrate(licensed, settings.model_copy(update={"clock": clock}))
        with licensed.connect() as connection:
            assert connection.scalar(policies) == expected
            assert len(retained_by_policy(connection)) == (5 if expected else 0)


def test_bulk_reads_give_what_is_stored_whatever_it_is_called(database: Engine):
    query = """
        SELECT name, number, at FROM unnest(%(names)s, ARRAY[0.1, NULL, 2, 3]::double precision[],
            ARRAY['2023-05-01 22:00+02', NULL, '2023-05-01 00:00:00.25+00', '2023-05-01']::timestamptz[])
            AS told (name, number, at)
    """
    names = ["NA", "null", 'o\'brien, "città" %', ""]
    with database.begin() as connection:
        rows = read_rows(connection, query, {"names": names}, {"name": "text", "number": "number", "at": "instant"})
    assert rows["name"].tolist() == names
    assert rows["number"].isna().tolist() == [False, True, False, False]
    assert rows["at"].tolist()[::2] == [pd.Timestamp("2023-05-01T20:00Z"), pd.Timestamp("2023-05-01T00:00:00.25Z")]
