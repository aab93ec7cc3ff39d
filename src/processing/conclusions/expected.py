"""What was expected of the hours that were judged, stored beside them: by the very habits that they were judged by."""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime

import numpy as np
import pandas as pd
from sqlalchemy import Connection, text

from src.db.bulk_read import read_rows
from src.db.bulk_write import copy_rows
from src.db.tables import expected_values
from src.domain.anomalies.expected import MEASUREMENT

_KEYS = ["node_id", "measurement", "window_start"]
_FIGURES = ["expected", "lower", "upper"]
_STORED = """
    SELECT node_id, measurement, window_start, expected, lower, upper FROM water_infrastructure.expected_values
    WHERE node_id = ANY(%(nodes)s) AND measurement = %(measurement)s AND window_start >= %(start)s
        AND window_start < %(end)s
"""
_DELETED = text(
    """
    DELETE FROM water_infrastructure.expected_values AS stored
    USING unnest(CAST(:nodes AS text[]), CAST(:hours AS timestamptz[])) AS gone (node_id, window_start)
    WHERE stored.node_id = gone.node_id AND stored.window_start = gone.window_start AND measurement = :measurement
        AND stored.window_start >= :start AND stored.window_start < :end
    """
)


def write_expected(
    connection: Connection, rows: pd.DataFrame, node_ids: Collection[str], start: datetime, end: datetime
) -> int:
    """Makes the table's rows of these nodes in [start, end) equal `rows`; the number of rows changed.

    Cycles judge the last day again and again, of which all hours but the last are stored already: they are compared,
    not written.

    Args:
        rows: as of `domain.anomalies.expected.expected_of`, within the span.
        node_ids: whose rows these are, under a lock that keeps others from writing them.
    """
    span = {"start": start, "end": end, "measurement": MEASUREMENT}
    kinds = dict.fromkeys(_KEYS[:2], "text") | {"window_start": "instant"} | dict.fromkeys(_FIGURES, "number")
    stored = read_rows(connection, _STORED, span | {"nodes": sorted(node_ids)}, kinds)
    if stored.empty:
        copy_rows(connection, expected_values, rows)
        return len(rows)
    both = rows.merge(stored, how="outer", on=_KEYS, suffixes=("", "_stored"), indicator=True)
    new, old = both[_FIGURES].to_numpy(), both[[f"{name}_stored" for name in _FIGURES]].to_numpy()
    is_other = ~np.all(new == old, axis=1)
    replaced = both[is_other & (both["_merge"] != "left_only")]
    if len(replaced):
        gone = {"nodes": replaced["node_id"].tolist(), "hours": replaced["window_start"].dt.to_pydatetime().tolist()}
        connection.execute(_DELETED, span | gone)
    copy_rows(connection, expected_values, both.loc[is_other & (both["_merge"] != "right_only"), _KEYS + _FIGURES])
    return int(is_other.sum())
