"""Words of a fixed meaning: as they stand in the database, in the API's answers and in its documentation."""

from __future__ import annotations

from typing import Literal

TimeWindow = Literal["5min", "1hour", "1day"]
# Of balances: hours and local days, and the last 30 and 365 local days at the end of each.
RollingWindow = Literal["30day", "365day"]
BalanceWindow = Literal["1hour", "1day", "30day", "365day"]
Role = Literal["inlet", "outlet", "consumption", "storage", "monitoring"]
MeterClass = Literal["electromagnetic", "ultrasonic", "iso_4064_class_1", "iso_4064_class_2", "old_mechanical"]
Severity = Literal["info", "warning", "critical"]
ModelType = Literal["flow_prediction", "anomaly_detection", "efficiency_optimization"]
AnomalyType = Literal[
    "burst", "slow_leak", "continuous_flow",
    "low_flow", "high_flow", "low_pressure", "high_pressure", "low_temperature", "high_temperature", "unfit_limits",
    "unusual_flow", "unusual_pressure", "unusual_temperature", "unusual_together", "transient",
    "silent", "collection_outage", "flat_line", "spikes", "jump", "negative_flow", "out_of_range", "clock_jump",
]  # fmt: skip
# What a utility does on its network: repairs, flushing and tests; a meter replaced or recalibrated; a planned cut; a
# valve, a schedule of set-points or a connection that is another from then on.
WorkKind = Literal["works", "meter_exchange", "closure", "network_change"]
# Why nothing is concluded of a node any more.
OutOfServiceReason = Literal["by hand", "silent"]
DetectionMethod = Literal["limits", "pattern", "level_shift", "water_balance", "sensor_faults", "multivariate"]
# What a lasting rise of a district's flow is: the same flow at all hours, a growing or a sudden share of usual use, or
# water that another district gave up.
LeakKind = Literal["leak", "demand_growth", "meter", "moved"]
# How the consumption of a balance is known; mixed where districts of a network differ.
BalanceMethod = Literal["metered", "minimum_night_flow", "mixed"]
# Of water losses, after the Italian regulator (ARERA 917/2017/R/idr, annex A, article 6).
LossClass = Literal["A", "B", "C", "D", "E"]
# Of a district's service, bar: what every customer must have at least. A node's own `limits` in its metadata win.
MINIMUM_PRESSURE = 2.0
