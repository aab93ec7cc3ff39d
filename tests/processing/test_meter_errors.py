"""How far meters err: as people state it of a node, else as its class has it, else as its role."""

from __future__ import annotations

from datetime import timedelta

import numpy as np
import pandas as pd
import pytest
from pydantic import ValidationError
from sqlalchemy import Engine

from src.domain.meter_errors import meter_error
from src.processing.nodes import Node, import_nodes
from src.settings import Settings
from tests.system import START, put, readings_of, run_cycle, table


def test_what_is_stated_of_a_node_wins_over_its_class_and_that_over_its_role():
    assert meter_error("inlet", None, np.nan, {}) == 0.02
    assert meter_error("consumption", None, np.nan, {}) == 0.05
    assert meter_error("consumption", None, np.nan, {"consumption": 0.03}) == 0.03
    assert meter_error("consumption", "old_mechanical", np.nan, {"consumption": 0.03}) == 0.1
    assert meter_error("consumption", "old_mechanical", np.nan, {"old_mechanical": 0.2}) == 0.2
    assert meter_error("consumption", "old_mechanical", 1.5, {"old_mechanical": 0.2}) == 0.015


@pytest.mark.parametrize("metadata", ['{"meter_class": "best"}', '{"meter_error_percent": 0}'])
def test_a_class_that_nobody_knows_and_a_meter_without_error_are_refused(metadata: str):
    with pytest.raises(ValidationError, match="meter_"):
        Node(node_id="n", metadata=metadata)


def test_margins_of_a_balance_follow_the_settings_and_what_the_node_file_states(stack: Settings, database: Engine):
    readings = readings_of(["in", "out", "old"], days=2, minutes=15)
    put(stack, readings.assign(flow_rate=readings["node_id"].map({"in": 10.0, "out": 5.0, "old": 3.0}), pressure=4.0))
    nodes = [
        Node(node_id="in", district_id="d", role="inlet", metadata='{"meter_error_percent": 0.5}'),
        Node(node_id="out", district_id="d", role="consumption"),
        Node(node_id="old", district_id="d", role="consumption", metadata='{"meter_class": "old_mechanical"}'),
    ]
    with database.begin() as connection:
        import_nodes(connection, nodes)
    run_cycle(stack.model_copy(update={"meter_errors": {"consumption": 0.04}}), START + timedelta(days=2))
    hours = table(database, "network_efficiency").query("time_window == '1hour'").set_index("window_start")
    hour = hours.loc[pd.Timestamp(START + timedelta(days=1))]
    assert hour["input_margin"] == pytest.approx(36 * 0.005)
    assert hour["output_margin"] == pytest.approx(np.hypot(18 * 0.04, 10.8 * 0.1))
