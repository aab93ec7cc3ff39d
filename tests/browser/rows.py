"""A small network as it stands at three in the morning: nodes, districts, windows and balances, computed by formula.

Four districts, each with an inlet, two customers' meters, two pressure points and, in one, a tank; one node is silent,
one out of service. The pages' tests know all of it by name.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import numpy as np
import pandas as pd
from sqlalchemy import Connection, insert

from src.db import tables
from src.db.bulk_write import copy_rows

# 03:12 in Italy.
NOW = datetime(2023, 6, 15, 1, 12, tzinfo=UTC)
HOUR, DAY = timedelta(hours=1), timedelta(days=1)
LAST_HOUR = NOW.replace(minute=0)
# When the last local day ended.
MIDNIGHT = datetime(2023, 6, 14, 22, tzinfo=UTC)

DISTRICTS = {"pirri": "Pirri", "selargius": "Selargius", "su-planu": "Su Planu", "quartu": "Quartu Nord"}
PLACES = {"pirri": (39.236, 9.131), "selargius": (39.254, 9.165), "su-planu": (39.241, 9.106), "quartu": (39.247, 9.19)}
# Of each district's nodes: role, type, name, how far it lies from the district's place, mean flow in L/s.
_KINDS: dict[str, tuple[str, str, str, tuple[float, float], float | None]] = {
    "inlet": ("inlet", "flow_meter", "Inlet", (0.0, 0.0), 24.0),
    "school": ("consumption", "flow_meter", "School", (0.004, 0.003), 8.0),
    "market": ("consumption", "flow_meter", "Market", (-0.003, 0.005), 11.0),
    "upper": ("monitoring", "pressure_sensor", "Upper street", (0.006, -0.002), None),
    "lower": ("monitoring", "pressure_sensor", "Lower street", (-0.005, -0.004), None),
}
SILENT, LOW, OUT_OF_SERVICE = "lower-quartu", "upper-selargius", "market-quartu"
# The node that has a year of hours.
LONG = "inlet-pirri"


def nodes() -> pd.DataFrame:
    """One row a node; columns of the table, and `flow`, its mean in L/s."""
    rows = [
        {
            "node_id": f"{kind}-{district}",
            "node_name": f"{label} {DISTRICTS[district]}",
            "node_type": node_type,
            "district_id": district,
            "location_name": f"Via {DISTRICTS[district]} {number}",
            "role": role,
            "latitude": PLACES[district][0] + north,
            "longitude": PLACES[district][1] + east,
            "flow": None if flow is None else flow * (1 + 0.2 * place),
        }
        for place, district in enumerate(DISTRICTS)
        for number, (kind, (role, node_type, label, (north, east), flow)) in enumerate(_KINDS.items(), 1)
    ]
    tank = {
        "node_id": "tank-pirri", "node_name": "Tank Pirri", "node_type": "tank", "district_id": "pirri",
        "location_name": "Monte Claro", "role": "storage", "latitude": 39.231, "longitude": 9.124, "flow": 0.0,
    }  # fmt: skip
    return pd.DataFrame([*rows, tank])


def add_network(connection: Connection) -> None:
    """Puts in the nodes with their windows, and the balances of districts and network."""
    network = nodes()
    add_nodes(connection, network)
    connection.execute(
        insert(tables.districts),
        [
            {
                "district_id": district,
                "district_name": name,
                "mains_km": 12.5 + number,
                "connections": 2400 + 300 * number,
            }
            for number, (district, name) in enumerate(DISTRICTS.items())
        ],
    )
    spans = {"1day": (MIDNIGHT, 45), "1hour": (LAST_HOUR, 35 * 24), "5min": (NOW - timedelta(minutes=2), 2 * 288)}
    for node in network.itertuples():
        for time_window, (end, count) in spans.items():
            if node.node_id == LONG and time_window != "5min":
                count = 366 if time_window == "1day" else 366 * 24
            frame = usual_windows(str(node.node_id), time_window, end, count, node.flow)
            if node.node_id == LONG and time_window != "1day":
                # The burst of the night.
                since = frame["window_end"] > NOW - 5 * HOUR
                for name in ("avg_flow_rate", "min_flow_rate", "max_flow_rate"):
                    frame.loc[since, name] += 8.2
            if node.node_id == "upper-pirri" and time_window != "1day":
                frame.loc[frame["window_end"] > NOW - 5 * HOUR, ["avg_pressure", "min_pressure"]] -= 1.9
            if node.node_id == SILENT:
                frame = frame[frame["window_end"] <= NOW - 9 * HOUR]
            if node.node_id == LOW:
                frame.loc[frame["window_end"] > NOW - 4 * HOUR, "avg_pressure"] = 1.4
            if node.node_id == LONG and time_window == "1hour":
                # A gap of half a day, a week ago.
                frame = frame[~frame["window_start"].between(NOW - 7 * DAY, NOW - 6.5 * DAY)]
            copy_rows(connection, tables.computed_metrics, frame)
    _add_balances(connection)


def add_nodes(connection: Connection, network: pd.DataFrame) -> None:
    """Puts in nodes, and the last reading of each."""
    rows = network.drop(columns="flow").to_dict("records")
    connection.execute(
        insert(tables.nodes),
        [
            row
            | {
                "metadata": {"ranges": {"pressure": {"low": 2.0}}},
                "out_of_service_since": NOW - 3 * DAY if row["node_id"] == OUT_OF_SERVICE else None,
                "out_of_service_reason": "by hand" if row["node_id"] == OUT_OF_SERVICE else None,
            }
            for row in rows
        ],
    )
    last_reading = [NOW - 9 * HOUR if name == SILENT else NOW - timedelta(minutes=4) for name in network["node_id"]]
    marks = pd.DataFrame(
        {"node_id": network["node_id"], "last_reading": last_reading, "last_row": last_reading, "updated_at": NOW}
    )
    copy_rows(connection, tables.ingestion_watermarks, marks)


def usual_windows(node_id: str, time_window: str, end: datetime, count: int, flow: float | None) -> pd.DataFrame:
    """So many windows of a node up to `end`: a day's two peaks, quieter nights, the node's own noise."""
    length = {"5min": HOUR / 12, "1hour": HOUR, "1day": DAY}[time_window]
    starts = pd.date_range(end=end - length, periods=count, freq=pd.Timedelta(length))
    random = np.random.default_rng(sum(map(ord, node_id)))
    hour = np.asarray(starts.tz_convert("Europe/Rome").hour + starts.minute / 60)
    shape = 0.55 + 0.5 * np.exp(-(((hour - 8) / 2.5) ** 2)) + 0.4 * np.exp(-(((hour - 20) / 3) ** 2))
    noise = random.normal(1, 0.04, count)
    pressure = 4.2 - 0.8 * (shape - 0.55) + random.normal(0, 0.05, count)
    seconds = int(length.total_seconds())
    frame = pd.DataFrame(
        {
            "node_id": node_id,
            "time_window": time_window,
            "window_start": starts,
            "window_end": starts + length,
            "avg_pressure": pressure,
            "min_pressure": pressure - 0.2,
            "max_pressure": pressure + 0.2,
            "reading_count": seconds // 300,
            "flow_count": 0 if flow is None else seconds // 300,
            "pressure_count": seconds // 300,
            "temperature_count": seconds // 300,
            "avg_temperature": 16 + 2 * np.sin(2 * np.pi * (hour - 9) / 24),
            "cadence_seconds": 300.0,
            "data_completeness": 1.0,
            "pressure_coverage": 1.0,
            "temperature_coverage": 1.0,
            "anomaly_count": 0,
            "quality_score": 0.98,
            "computed_at": NOW,
            "computation_version": "1",
        }
    )
    if flow is not None:
        mean = flow * shape * noise
        frame = frame.assign(
            avg_flow_rate=mean, min_flow_rate=0.9 * mean, max_flow_rate=1.1 * mean, flow_coverage=1.0,
            total_volume=mean * seconds / 1000, estimated_volume=0.0,
        )  # fmt: skip
    return frame


def _balance(days: float, number: int, *, is_known: bool = True) -> dict[str, object]:
    """The figures of one district over so many days, m³."""
    if not is_known:
        unknown = ("input_volume", "output_volume", "loss_volume", "efficiency_percentage", "coverage", "method")
        return dict.fromkeys(unknown) | {"is_complete": False, "reason": "an inlet reported less than half of the time"}
    supplied = 1450.0 * (1 + 0.2 * number) * days
    lost = supplied * (0.18 + 0.04 * number)
    return {
        "input_volume": supplied,
        "output_volume": supplied - lost,
        "loss_volume": lost,
        "efficiency_percentage": 100 * (1 - lost / supplied),
        "coverage": 0.97,
        "method": "metered",
        "reason": None,
        "is_complete": True,
        "input_margin": supplied * 0.01,
        "output_margin": supplied * 0.012,
        "loss_margin": supplied * 0.016,
        "estimated_share": 0.01,
    }


def _add_balances(connection: Connection) -> None:
    rolling = {"m1a": 31.2, "m1b": 22.4, "real_loss_volume": 900.0, "apparent_loss_share": 0.2}
    sizes = {"1hour": (LAST_HOUR, HOUR, 72), "1day": (MIDNIGHT, DAY, 60), "30day": (MIDNIGHT, 30 * DAY, 31)}
    sizes["365day"] = (MIDNIGHT, 365 * DAY, 3)
    for time_window, (last, length, count) in sizes.items():
        step = min(length, DAY)
        for back in range(count):
            end, days = last - back * step, length / DAY
            zones = {
                district: _balance(days * (1 + 0.05 * np.sin(back)), number, is_known=(back, number) != (4, 3))
                | (rolling | {"known_days": int(days) - 1} if days > 1 else {})
                for number, district in enumerate(DISTRICTS)
            }
            if days == 365:
                zones["pirri"] |= {"m1_class": "C", "m1_class_year": 2017}
            known = [zone for zone in zones.values() if zone["is_complete"]]
            total = {name: sum(float(zone[name]) for zone in known) for name in ("input_volume", "loss_volume")}  # type: ignore[arg-type]
            span = {"time_window": time_window, "window_start": end - length, "window_end": end}
            connection.execute(
                insert(tables.network_efficiency).values(
                    **span,
                    computation_timestamp=NOW,
                    total_input_volume=total["input_volume"],
                    total_output_volume=total["input_volume"] - total["loss_volume"],
                    total_loss_volume=total["loss_volume"],
                    input_margin=0.01 * total["input_volume"],
                    output_margin=0.012 * total["input_volume"],
                    loss_margin=0.016 * total["input_volume"],
                    efficiency_percentage=100 * (1 - total["loss_volume"] / total["input_volume"]),
                    method="metered",
                    coverage=0.97 if len(known) == len(zones) else 0.72,
                    estimated_share=0.01,
                    zone_metrics=zones,
                    active_nodes=19,
                    total_nodes=21,
                    network_availability=0.9,
                    total_anomalies=5,
                    critical_anomalies=1,
                    reason=None if len(known) == len(zones) else "Quartu Nord is not known",
                    indicators=rolling if days > 1 else None,
                )
            )
            connection.execute(
                insert(tables.district_balances),
                [
                    span | {"district_id": district, "balance": zone, "active_nodes": 5, "total_nodes": 5}
                    for district, zone in zones.items()
                ],
            )
    for time_range, length in (("1h", HOUR), ("6h", 6 * HOUR), ("24h", DAY)):
        connection.execute(
            insert(tables.network_metrics).values(
                time_range=time_range, computation_timestamp=NOW, window_start=LAST_HOUR - length, window_end=LAST_HOUR,
                active_nodes=19, total_nodes=21, flow_basis="inlets", total_flow=88.4, avg_pressure=4.1,
                total_volume=88.4 * length.total_seconds() / 1000, efficiency_percentage=78.0, anomaly_count=5,
            )
        )  # fmt: skip
