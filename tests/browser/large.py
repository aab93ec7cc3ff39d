"""Five thousand nodes, and names that would be markup where somebody took them for it."""

from __future__ import annotations

import numpy as np
import pandas as pd
from sqlalchemy import Connection, insert

from src.db import tables
from src.db.bulk_write import copy_rows
from tests.browser.rows import HOUR, LAST_HOUR, MIDNIGHT, NOW, add_nodes, usual_windows

NODES, DISTRICTS = 5_000, 50
# Shown as it stands, or a script has run.
MARKUP = "<img src=x onerror=\"document.title='run'\"><script>document.title='run'</script><b>bold</b>"
NODE, DISTRICT = "<i>node</i>", "<b>district</b>"


def add_large(connection: Connection) -> None:
    """Puts in nodes with the last hours of each, and events of the first ones."""
    random = np.random.default_rng(5)
    names = [f"node-{number:04d}" for number in range(NODES - 1)] + [NODE]
    districts = [f"district-{number % DISTRICTS:02d}" for number in range(NODES - 1)] + [DISTRICT]
    network = pd.DataFrame(
        {
            "node_id": names,
            "node_name": [*(f"Node {number}" for number in range(NODES - 1)), MARKUP],
            "node_type": "flow_meter",
            "district_id": districts,
            "location_name": MARKUP,
            "role": np.where(np.arange(NODES) % 100 < 2, "inlet", "consumption"),
            "latitude": 39.2 + random.uniform(0, 0.2, NODES),
            "longitude": 9.0 + random.uniform(0, 0.3, NODES),
            "flow": 1.0,
        }
    )
    add_nodes(connection, network)
    connection.execute(
        insert(tables.districts),
        [
            {"district_id": district, "district_name": MARKUP if district == DISTRICT else district}
            for district in sorted(set(districts))
        ],
    )
    one = pd.concat(
        [usual_windows("", "1hour", LAST_HOUR, 3, 8.0), usual_windows("", "1day", MIDNIGHT, 1, 8.0)], ignore_index=True
    )
    every = one.loc[one.index.repeat(NODES)].assign(node_id=np.tile(names, len(one)))
    copy_rows(connection, tables.computed_metrics, every)
    connection.execute(
        insert(tables.anomalies),
        [
            {
                "timestamp": NOW - (number + 1) * HOUR, "node_id": name, "district_id": district,
                "anomaly_type": "burst", "severity": "critical" if name == NODE else "warning",
                "measurement_type": "flow_rate", "detection_method": "level_shift", "note": MARKUP,
                "metadata": {"explanation": MARKUP},
            }
            for number, (name, district) in enumerate([(NODE, DISTRICT), *zip(names[:60], districts[:60], strict=True)])
        ],
    )  # fmt: skip
