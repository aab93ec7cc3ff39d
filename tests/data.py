"""Readings made by keyword."""

from __future__ import annotations

import pandas as pd

COLUMNS = ["node_id", "timestamp", "flow_rate", "pressure", "temperature", "volume", "ingestion_timestamp"]


def raw_readings(rows: list[dict]) -> pd.DataFrame:
    """Rows as the warehouse reader returns them; what a row leaves out is missing."""
    frame = pd.DataFrame(rows).reindex(columns=COLUMNS)
    for name in ("timestamp", "ingestion_timestamp"):
        frame[name] = pd.to_datetime(frame[name], utc=True).astype("datetime64[us, UTC]")
    for name in COLUMNS[2:6]:
        frame[name] = frame[name].astype("float64")
    return frame
