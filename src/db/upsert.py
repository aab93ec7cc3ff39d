"""Bulk writes: windows by COPY, which replace what is stored; other rows where they differ from what is stored."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import pandas as pd
from sqlalchemy import ColumnElement, Connection, Table, func, text, tuple_
from sqlalchemy.dialects.postgresql import insert

from src.db.bulk_write import copy_rows
from src.db.timescale import allow_decompression

_STAGED = "staged_rows"


@dataclass(frozen=True)
class Replaced:
    """How many rows were inserted, changed or deleted; of each node concerned, the first hour that is new or different
    (days are made of hours, and count for nothing here)."""

    rows: int
    first_hours: dict[str, datetime]


def write_changed(
    connection: Connection,
    table: Table,
    rows: Sequence[Mapping[str, Any]],
    *,
    timestamps: Sequence[str] = (),
    unless_null: Sequence[str] = (),
) -> None:
    """Inserts rows, and replaces those that are stored and differ.

    Args:
        rows: all with the same columns, among them the primary key.
        timestamps: columns that hold when something was computed, which is no change of what was computed.
        unless_null: columns in which null replaces nothing.
    """
    if not rows:
        return
    keys = [column.name for column in table.primary_key]
    statement = insert(table)
    new: dict[str, ColumnElement[Any]] = {name: statement.excluded[name] for name in rows[0] if name not in keys}
    new |= {name: func.coalesce(new[name], table.c[name]) for name in unless_null}
    compared = [name for name in new if name not in timestamps]
    differs = tuple_(*(table.c[name] for name in compared)).is_distinct_from(tuple_(*(new[name] for name in compared)))
    upsert = statement.on_conflict_do_update(index_elements=keys, set_=new, where=differs)
    connection.execute(upsert, rows)


def replace_metrics(
    connection: Connection,
    table: Table,
    rows: pd.DataFrame,
    node_ids: Sequence[str],
    spans: Mapping[str, tuple[datetime, datetime, bool]],
) -> Replaced:
    """Makes the windows of these nodes within `spans[time_window]` exactly `rows`.

    Equal rows are left untouched, those that no reading supports any more are deleted. Runs in the
    caller's transaction.

    Args:
        rows: columns of `table`, any order; missing values become NULL.
        node_ids: the nodes whose windows `rows` holds completely.
        spans: per time_window the first window_start that `rows` holds, the end of what it holds, and whether windows
            that are still running at that end belong to it (else only those that end by then).
    """
    keys = [column.name for column in table.primary_key]
    # What is rewritten is bounded by the caller's slice, so what must be decompressed for it is too.
    allow_decompression(connection)
    if not _is_any_stored(connection, table, node_ids, spans):
        # A first load: there is nothing to compare with.
        copy_rows(connection, table, rows)
        return Replaced(len(rows), _first_hours(rows))
    _stage(connection, table, rows, keys)
    name = table.fullname
    columns = list(rows.columns)
    # When it was computed is no change of what was computed.
    values = [column for column in columns if column not in keys and column != "computed_at"]
    listed = ", ".join(columns)
    replaced = Replaced(0, {})
    for time_window, (first, end, with_running) in spans.items():
        within = "window_start < :end" if with_running else "window_start < :end AND window_end <= :end"
        statement = (
            f"DELETE FROM {name} stored WHERE node_id = ANY(:node_ids) AND time_window = :time_window "  # noqa: S608
            f"AND window_start >= :first AND {within} AND NOT EXISTS (SELECT FROM {_STAGED} new WHERE "
            + " AND ".join(f"new.{key} = stored.{key}" for key in keys)
            + ")"
        )
        bound = {"node_ids": list(node_ids), "time_window": time_window, "first": first, "end": end}
        replaced = _changed_by(connection, statement, bound, replaced)
    statement = (
        f"INSERT INTO {name} AS stored ({listed}) SELECT {listed} FROM {_STAGED} "  # noqa: S608
        f"ON CONFLICT ({', '.join(keys)}) DO UPDATE SET "
        + ", ".join(f"{column} = excluded.{column}" for column in [*values, "computed_at"])
        + f" WHERE ({', '.join(f'stored.{v}' for v in values)})"
        + f" IS DISTINCT FROM ({', '.join(f'excluded.{v}' for v in values)})"
    )
    replaced = _changed_by(connection, statement, {}, replaced)
    connection.execute(text(f"DROP TABLE {_STAGED}"))
    return replaced


def _is_any_stored(
    connection: Connection, table: Table, node_ids: Sequence[str], spans: Mapping[str, tuple[datetime, datetime, bool]]
) -> bool:
    """Whether any window of these nodes is stored within the spans; looked up node by node, however large the table."""
    # Compared as whole keys, so that only the primary key serves: by time, the rows of all other nodes would be passed
    # over for each of these, also those that another transaction is about to commit.
    statement = text(
        f"SELECT FROM unnest(CAST(:node_ids AS text[])) AS node (id), LATERAL (SELECT FROM {table.fullname} "  # noqa: S608
        "WHERE (node_id, time_window, window_start) "
        ">= (node.id, CAST(:time_window AS text), CAST(:first AS timestamptz)) "
        "AND (node_id, time_window, window_start) < (node.id, CAST(:time_window AS text), CAST(:end AS timestamptz)) "
        "AND window_start >= :first AND window_start < :end LIMIT 1) AS stored LIMIT 1"
    )
    return any(
        connection.execute(
            statement, {"node_ids": list(node_ids), "time_window": time_window, "first": first, "end": end}
        ).first()
        is not None
        for time_window, (first, end, _) in spans.items()
    )


def _first_hours(rows: pd.DataFrame) -> dict[str, datetime]:
    """The first hour of each node; days are made of hours."""
    fine = rows[rows["time_window"] != "1day"]
    first = fine.groupby("node_id", observed=True)["window_start"].min().dt.floor("h")
    return {str(node_id): hour.to_pydatetime() for node_id, hour in first.items()}


def _changed_by(connection: Connection, statement: str, bound: Mapping[str, object], before: Replaced) -> Replaced:
    """Executes a statement that changes windows, and adds what it changed to what was changed before."""
    # Names of our own tables and columns; every value is bound.
    counted = text(
        f"WITH changed AS ({statement} RETURNING stored.node_id, stored.time_window, stored.window_start) "  # noqa: S608
        "SELECT node_id, count(*) AS rows, date_trunc('hour', min(window_start) FILTER (WHERE time_window <> '1day')) "
        "AS first_hour FROM changed GROUP BY node_id"
    )
    rows, first_hours = before.rows, dict(before.first_hours)
    for node in connection.execute(counted, dict(bound)):
        rows += node.rows
        if node.first_hour is not None:
            first_hours[node.node_id] = min(node.first_hour, first_hours.get(node.node_id, node.first_hour))
    return Replaced(rows, first_hours)


def _stage(connection: Connection, table: Table, rows: pd.DataFrame, keys: Sequence[str]) -> None:
    listed = ", ".join(rows.columns)
    connection.execute(
        text(f"CREATE TEMPORARY TABLE {_STAGED} ON COMMIT DROP AS SELECT {listed} FROM {table.fullname} LIMIT 0")  # noqa: S608
    )
    copy_rows(connection, table, rows, into=_STAGED)
    # A table that nobody has counted is taken for a small one, and looked through anew for every row it is compared
    # with; so would be one without an index where the other side is taken for small.
    connection.execute(text(f"CREATE INDEX ON {_STAGED} ({', '.join(keys)})"))
    connection.execute(text(f"ANALYZE {_STAGED}"))
