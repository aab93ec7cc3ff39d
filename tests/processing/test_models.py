"""Models in operation: trained, forecasting, judged, taken back; on a real warehouse, database and queue of work."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import numpy as np
import orjson
import pandas as pd
import pyarrow as pa
import pytest
from sqlalchemy import Connection, Engine, text, update
from sqlalchemy.exc import IntegrityError

from src.api.schemas.models import Errors
from src.db.tables import ml_models, ml_predictions_cache, processing_jobs
from src.domain.forecasting import boosting, drift
from src.domain.forecasting.model import FEWEST_EXAMPLES
from src.processing.alerts.review import run_alerts
from src.processing.jobs import records as jobs
from src.processing.jobs.runtime import Runtime, create_runtime
from src.processing.modelling import registry, training
from src.processing.modelling.forecasts import pools_to_forecast, recent_history, write_forecasts
from src.processing.modelling.review import evaluate, review
from src.processing.modelling.training import start_training
from src.processing.service.finish import finish
from src.processing.service.work import work_off
from src.processing.warehouse.history import HourlyFlow, read_hourly_flow
from src.quickstart.datasets import load_weather
from src.settings import Settings
from tests.processing.test_forecasting import town
from tests.system import eventually, put, run, run_cycle, table

NOW = datetime(2022, 6, 19, 22, tzinfo=UTC)
HOUR, DAY = timedelta(hours=1), timedelta(days=1)


@pytest.fixture(autouse=True)
def small_models(monkeypatch: pytest.MonkeyPatch):
    """Real boosters, but few rounds: what is tested here is what becomes of models."""
    monkeypatch.setattr(boosting, "MEMBERS", ({"rounds": 15, "learning_rate": 0.3, "max_depth": 3, "seed": 1},))


@pytest.fixture
def flow() -> pd.DataFrame:
    return town(3, days=120, start="2022-03-01")


@pytest.fixture
def runtime(stack: Settings, flow: pd.DataFrame):
    """A system that has taken in 32 of the 110 days of three nodes that its warehouse holds."""
    long = flow.rename_axis("timestamp").melt(ignore_index=False, var_name="node_id", value_name="flow_rate")
    put(stack, long.reset_index())
    settings = stack.model_copy(update={"clock": f"frozen:{NOW.isoformat()}", "retention_metrics_days": 32})
    runtime = create_runtime(settings)
    run_cycle(settings, NOW)
    yield runtime
    runtime.database.dispose()


def train_now(runtime: Runtime, as_of: datetime = NOW) -> dict:
    """A training through its job, its chunks worked off here."""
    sent: list[tuple[UUID, int]] = []
    job_id = start_training(runtime, lambda *chunk: sent.append(chunk), as_of, "test")
    assert job_id is not None
    for chunk in sent:
        work_off(runtime, *chunk)
    finish(runtime, job_id)
    return jobs.describe(runtime.database, job_id)


def statuses(database: Engine) -> list[str]:
    return list(table(database, "ml_models").sort_values(["created_at", "version"])["status"])


def register(connection: Connection, artefact: bytes, now: datetime, mae: float = 1.0) -> UUID:
    """A model made of an artefact, as a training would register it."""
    described = {"validation_metrics": {"mae": mae, "usual_mae": 2 * mae}}
    return registry.add(connection, registry.FLOW, "monitoring", artefact, now, now, described)


def predictions(connection: Connection, model_id: UUID, measured: pd.DataFrame, error: float, end: datetime) -> None:
    """Forecasts of the 24 hours before an instant, each made an hour ahead, wrong by a share of the flow."""
    rows = [
        {
            "model_id": model_id,
            "node_id": node,
            "prediction_timestamp": target.to_pydatetime(),
            "target_timestamp": target.to_pydatetime(),
            "prediction_horizon_hours": 1,
            "predicted_flow_rate": float(value * (1 + error * (1 + 0.1 * np.sin(n)))),
        }
        for node in measured.columns
        for n, (target, value) in enumerate(
            measured[node][(measured.index >= end - DAY) & (measured.index < end)].items()
        )
    ]
    connection.execute(ml_predictions_cache.insert(), rows)


def test_the_first_model_is_trained_becomes_active_and_forecasts_with_the_next_cycle(
    runtime: Runtime, database: Engine, flow: pd.DataFrame
):
    job = train_now(runtime)
    assert job["status"] == "completed", job["error_message"]
    (model,) = table(database, "ml_models").to_dict("records")
    assert (model["status"], model["is_active"], model["scope"]) == ("active", True, "monitoring")
    assert model["validation_metrics"]["mae"] < model["validation_metrics"]["usual_mae"]
    assert model["training_samples"] > FEWEST_EXAMPLES
    assert model["metrics"]["rows_read"] == len(flow[flow.index < NOW]) * 3
    assert set(model["library_versions"]) >= {"xgboost-cpu", "python"}
    decisions = table(database, "model_decisions")
    assert list(decisions.sort_values("decision_id")["decision"]) == ["trained", "promoted"]
    assert decisions["reason"].str.contains("below that of usual flow").any()

    ended = run_cycle(runtime.settings, NOW)
    assert ended["result_summary"]["forecasts"] == 3 * 168
    forecast = table(database, "ml_predictions_cache")
    assert len(forecast) == 3 * 168
    assert set(forecast["prediction_horizon_hours"]) == set(range(1, 169))
    assert (forecast["target_timestamp"].min(), forecast["prediction_timestamp"].max()) == (NOW, NOW)
    assert set(forecast["features_used"].map(lambda used: used["method"])) == {"learned"}
    measured = flow.stack().rename("measured").rename_axis(["target_timestamp", "node_id"])
    both = forecast.set_index(["target_timestamp", "node_id"]).join(measured)
    assert (both["predicted_flow_rate"] - both["measured"]).abs().mean() / both["measured"].mean() < 0.25
    run_cycle(runtime.settings, NOW)
    assert len(table(database, "ml_predictions_cache")) == 3 * 168


def forecasts(runtime: Runtime) -> int:
    """How many rows the models in use forecast at `NOW`."""
    with runtime.database.connect() as connection:
        pools = pools_to_forecast(connection, NOW)
    return sum(write_forecasts(runtime, pool.scope, pool.node_ids, NOW) for pool in pools)


def test_with_four_weeks_of_history_the_usual_flow_forecasts_until_a_model_beats_it(
    runtime: Runtime, database: Engine, flow: pd.DataFrame
):
    young = flow.loc[flow.index >= NOW - 23 * DAY, ["n0"]]
    long = young.rename_axis("timestamp").melt(ignore_index=False, var_name="node_id", value_name="flow_rate")
    put(runtime.settings, long[long.index < NOW].reset_index())
    train_now(runtime)
    active = table(database, "ml_models").query("is_active").iloc[0]
    assert active["parameters"]["method"] == "usual"
    assert forecasts(runtime) == 3 * 168
    forecast = table(database, "ml_predictions_cache")
    assert set(forecast["features_used"].map(lambda used: used["method"])) == {"usual"}
    decisions = table(database, "model_decisions")
    assert decisions["reason"].str.startswith("the usual flow of the hour until a model is better").any()
    long = flow.rename_axis("timestamp").melt(ignore_index=False, var_name="node_id", value_name="flow_rate")
    put(runtime.settings, long.reset_index())
    train_now(runtime, NOW + HOUR)
    active = table(database, "ml_models").query("is_active").iloc[0]
    assert active["parameters"]["method"] == "learned"


def test_weather_is_learned_from_and_forecasts_go_on_without_it(runtime: Runtime, database: Engine, flow: pd.DataFrame):
    settings = runtime.settings.model_copy(update={"bigquery_weather_table": "weather"})
    hours = pd.date_range(flow.index[0], NOW + 10 * DAY, freq="h")
    load_weather(settings, pd.DataFrame({"temperature": 10 + 8 * np.sin(np.arange(len(hours)) / 4e3)}, index=hours))
    with_weather = create_runtime(settings)
    train_now(with_weather)
    (model,) = table(database, "ml_models").to_dict("records")
    assert model["parameters"]["weather"] == ["temperature"]
    with database.begin() as connection:
        known = recent_history(with_weather, connection, ["n0"], NOW)
        assert np.isfinite(known.weather["temperature"][:-1]).all()
    assert forecasts(with_weather) == 3 * 168
    gone = create_runtime(settings.model_copy(update={"bigquery_weather_table": "gone"}))
    assert forecasts(gone) == 3 * 168


def test_a_node_that_came_after_the_training_is_forecast_by_its_usual_flow(
    runtime: Runtime, database: Engine, flow: pd.DataFrame
):
    train_now(runtime)
    flow["new"] = flow["n0"].where(flow.index >= NOW - 22 * DAY)
    long = flow.rename_axis("timestamp").melt(ignore_index=False, var_name="node_id", value_name="flow_rate")
    put(runtime.settings, long.dropna().reset_index())
    run_cycle(runtime.settings, NOW)
    forecast = table(database, "ml_predictions_cache")
    method = forecast["features_used"].map(lambda used: used["method"])
    assert dict(method.groupby(forecast["node_id"]).unique().map(list)) == {
        "n0": ["learned"],
        "n1": ["learned"],
        "n2": ["learned"],
        "new": ["usual"],
    }
    known, new = (forecast[forecast["node_id"] == node].set_index("target_timestamp") for node in ("n0", "new"))
    assert len(new) == 168
    off = (new["predicted_flow_rate"] - known["predicted_flow_rate"]).abs().mean()
    assert off / known["predicted_flow_rate"].mean() < 0.3
    assert (new["flow_rate_lower"] < new["predicted_flow_rate"]).mean() > 0.99


def test_a_second_model_goes_to_shadow_forecasts_beside_the_first_and_is_never_two_at_once(
    runtime: Runtime, database: Engine
):
    train_now(runtime)
    train_now(runtime, NOW + HOUR)
    assert statuses(database) == ["active", "shadow"]
    train_now(runtime, NOW + 2 * HOUR)
    assert statuses(database) == ["active", "retired", "shadow"]
    assert forecasts(runtime) == 2 * 3 * 168
    with pytest.raises(IntegrityError, match="ml_models_one_active"), database.begin() as connection:
        connection.execute(ml_models.update().values(is_active=True))


def test_a_training_that_fails_leaves_the_active_model_and_is_an_alert(runtime: Runtime, database: Engine):
    with database.begin() as connection:
        registry.promote(connection, register(connection, b"active", NOW), NOW, "test", "the first")
    runtime.settings = runtime.settings.model_copy(update={"bigquery_table": "nowhere"})
    job = train_now(runtime)
    assert job["status"] == "failed"
    assert "nowhere" in job["error_message"]
    assert statuses(database) == ["active"]
    run_alerts(runtime, NOW + HOUR)
    alert = table(database, "alerts").set_index("rule").loc["model training fails"]
    assert alert["state"] == "firing"
    assert "nowhere" in alert["summary"]


def test_a_pool_that_three_replicas_are_offered_is_trained_once(runtime: Runtime, database: Engine):
    sent: list[tuple[UUID, int]] = []
    job_id = start_training(runtime, lambda *chunk: sent.append(chunk), NOW, "test")
    assert len(sent) == 1
    replicas = [create_runtime(runtime.settings) for _ in range(3)]
    with ThreadPoolExecutor(3) as pool:
        list(pool.map(lambda replica: work_off(replica, *sent[0]), replicas))
    for replica in replicas:
        replica.database.dispose()
    finish(runtime, job_id)
    assert jobs.describe(database, job_id)["status"] == "completed"
    assert statuses(database) == ["active"]


def test_all_pools_of_a_training_are_read_at_once_and_learn_what_they_would_alone(
    runtime: Runtime, database: Engine, flow: pd.DataFrame, monkeypatch: pytest.MonkeyPatch
):
    alone = train_now(runtime)["result_summary"]["pools"]
    with database.begin() as connection:
        connection.execute(text("UPDATE water_infrastructure.nodes SET role = 'inlet' WHERE node_id = :node"),
            {"node": str(flow.columns[0])})  # fmt: skip
        connection.execute(text("UPDATE water_infrastructure.nodes SET role = 'outlet' WHERE node_id = :node"),
            {"node": str(flow.columns[1])})  # fmt: skip
    sizes: list[int] = []

    def listening(*arguments: Any) -> HourlyFlow:
        sizes.append(len(arguments[2]))
        return read_hourly_flow(*arguments)

    monkeypatch.setattr(training, "read_hourly_flow", listening)
    pools = train_now(runtime, NOW + HOUR)["result_summary"]["pools"]
    assert sizes == [3]
    assert {pool["scope"] for pool in pools} == {"inlet", "outlet", "monitoring"}
    assert [pool["rows_read"] for pool in pools] == [len(flow[flow.index < NOW + HOUR])] * 3
    # The stand-in may not report what a read cost; whatever it was counts once.
    assert sum(pool["bytes_processed"] > 0 for pool in pools) == sum(pool["bytes_processed"] > 0 for pool in alone)
    assert runtime.training_flow == {}


def test_hours_that_come_in_any_order_and_in_parts_stand_in_their_places():
    nodes = ["b", "a", "silent"]
    start = datetime(2022, 3, 27, tzinfo=UTC)
    read = HourlyFlow(nodes, start + timedelta(minutes=20), start + timedelta(days=2, minutes=1), 7)
    hours = [start + timedelta(hours=hour) for hour in (30, 5, 48, 7)]
    kinds = pa.schema([("node_id", pa.string()), ("hour", pa.timestamp("us", "UTC")), ("flow", pa.float64())])
    for number in (2, 0, 3, 1):
        rows = {"node_id": ["a", "b"], "hour": [hours[number]] * 2, "flow": [float(number), 10.0 + number]}
        read.add(pa.RecordBatch.from_pydict(rows, kinds))
    found = read.of(["a", "b"])
    assert (found.index[0], found.index[-1], len(found)) == (hours[1], hours[2], 44)
    assert found["a"].dropna().to_dict() == {hours[1]: 1.0, hours[3]: 3.0, hours[0]: 0.0, hours[2]: 2.0}
    assert found["b"].dropna().tolist() == [11.0, 13.0, 10.0, 12.0]
    assert read.of(["silent"]).empty


def test_a_better_shadow_is_promoted_and_a_sabotaged_one_is_not(runtime: Runtime, database: Engine, flow: pd.DataFrame):
    end = NOW
    with database.begin() as connection:
        active = register(connection, b"active", end - 9 * DAY)
        registry.promote(connection, active, end - 9 * DAY, "test", "the first")
        shadow = register(connection, b"shadow", end - DAY)
        registry.send_to_shadow(connection, shadow, end - DAY, "test", "trained")
        predictions(connection, active, flow, 0.10, end)
        predictions(connection, shadow, flow, 0.90, end)
        assert review(connection, end)[0] == []
        connection.execute(ml_predictions_cache.delete().where(ml_predictions_cache.c.model_id == shadow))
        predictions(connection, shadow, flow, 0.03, end)
        ((decided,), _) = review(connection, end)
        assert (decided["decision"], decided["model_id"]) == ("promote", str(shadow))
        assert registry.active_of(connection, registry.FLOW, "monitoring").fallback_id == active
        assert registry.model(connection, active).status == "retired"


def test_a_training_and_a_promotion_of_the_same_scope_wait_for_each_other_and_never_in_a_circle(
    stack: Settings, database: Engine
):
    with database.begin() as connection:
        active = register(connection, b"active", NOW - 9 * DAY)
        registry.promote(connection, active, NOW - 9 * DAY, "test", "the first")
        shadow = register(connection, b"shadow", NOW - DAY)
        registry.send_to_shadow(connection, shadow, NOW - DAY, "test", "trained")

    def promote() -> None:
        with database.begin() as connection:
            registry.promote(connection, shadow, NOW, "test", "it is better")

    with ThreadPoolExecutor(1) as other:
        with database.begin() as training:
            assert registry.active_of(training, registry.FLOW, "monitoring").model_id == active
            promotion = other.submit(promote)
            eventually(lambda: waits_for_a_lock(database))
            newer = register(training, b"newer", NOW)
            registry.send_to_shadow(training, newer, NOW, "test", "trained")
        promotion.result(timeout=30)
    assert statuses(database) == ["retired", "active", "shadow"]


def waits_for_a_lock(database: Engine) -> bool:
    with database.connect() as connection:
        return bool(connection.scalar(text("SELECT count(*) FROM pg_locks WHERE NOT granted")))


def test_a_promoted_model_that_goes_bad_is_rolled_back_to_the_one_before(
    runtime: Runtime, database: Engine, flow: pd.DataFrame
):
    with database.begin() as connection:
        good = register(connection, b"good", NOW - 9 * DAY)
        registry.promote(connection, good, NOW - 9 * DAY, "test", "the first")
        bad = register(connection, b"bad", NOW - DAY)
        registry.promote(connection, bad, NOW - DAY, "test", "by hand")
        assert {model.model_id for model in registry.in_use(connection, registry.FLOW, NOW)} == {good, bad}
        predictions(connection, good, flow, 0.05, NOW)
        predictions(connection, bad, flow, 0.20, NOW)
        ((decided,), _) = review(connection, NOW)
        assert (decided["decision"], decided["model_id"]) == ("roll_back", str(bad))
        assert registry.active_of(connection, registry.FLOW, "monitoring").model_id == good
        assert review(connection, NOW)[0] == []


def test_an_error_a_fifth_above_validation_asks_for_a_training_and_so_does_a_scope_without_a_model(
    runtime: Runtime, database: Engine, flow: pd.DataFrame
):
    with database.begin() as connection:
        assert review(connection, NOW)[1] == {"monitoring": "no model is active"}
        model = register(connection, b"model", NOW - 9 * DAY, mae=0.5)
        registry.promote(connection, model, NOW - 9 * DAY, "test", "the first")
        assert review(connection, NOW)[1] == {}
        predictions(connection, model, flow, 0.10, NOW)
        assert "over 1.2 times that of its validation" in review(connection, NOW)[1]["monitoring"]


def test_a_tampered_artefact_is_refused_and_the_fallback_forecasts(runtime: Runtime, database: Engine):
    train_now(runtime)
    train_now(runtime, NOW + HOUR)
    with database.begin() as connection:
        first, second = (
            UUID(str(m)) for m in table(database, "ml_models").sort_values(["created_at", "version"])["model_id"]
        )
        registry.promote(connection, second, NOW, "test", "by hand")
        connection.execute(
            text("UPDATE water_infrastructure.ml_models SET artefact = artefact || 'x' WHERE model_id = :id"),
            {"id": second},
        )
    runtime.forecasters.clear()
    assert forecasts(runtime) == 3 * 168
    assert set(table(database, "ml_predictions_cache")["model_id"]) == {first}
    decisions = table(database, "model_decisions").sort_values("decision_id").tail(2)
    assert list(decisions["decision"]) == ["rolled_back", "reinstated"]
    assert decisions["reason"].str.contains("its SHA-256 differs").all()
    # The last one left goes too: no forecast is better than one of nobody knows what.
    with database.begin() as connection:
        connection.execute(text("UPDATE water_infrastructure.ml_models SET artefact = 'x'"))
    runtime.forecasters.clear()
    assert forecasts(runtime) == 0
    with database.begin() as connection:
        assert registry.model(connection, first).status == "retired"


def test_the_day_s_forecasts_are_evaluated_by_model_and_node_and_drift_asks_for_a_training(
    runtime: Runtime, database: Engine, flow: pd.DataFrame, monkeypatch: pytest.MonkeyPatch
):
    # Of three nodes that are restless by nature.
    monkeypatch.setattr(drift, "ABOVE", 1.5)
    train_now(runtime)
    model = UUID(str(table(database, "ml_models")["model_id"].item()))
    with database.begin() as connection:
        predictions(connection, model, flow, 0.10, NOW)
        assert evaluate(runtime, connection, NOW) == 1
        assert evaluate(runtime, connection, NOW) == 1
    (row,) = table(database, "model_performance").to_dict("records")
    assert row["predictions_count"] == 72
    assert row["mape"] == pytest.approx(10, abs=0.5)
    assert set(row["node_metrics"]) == {"n0", "n1", "n2"}
    for scores in row["node_metrics"].values():
        Errors.model_validate(scores)
    assert row["node_metrics"]["n2"]["mae"] > row["node_metrics"]["n0"]["mae"]
    assert 0 < row["feature_drift_score"] < 1
    assert row["drift_detected"] is False
    with database.begin() as connection:
        assert review(connection, NOW)[1] == {}
        # Of the last days, half as much again.
        connection.execute(
            text(
                "UPDATE water_infrastructure.computed_metrics SET avg_flow_rate = 1.5 * avg_flow_rate "
                "WHERE time_window = '1hour' AND window_start >= :since"
            ),
            {"since": NOW - 4 * DAY},
        )
        # Its error means nothing.
        connection.execute(ml_predictions_cache.delete())
        evaluate(runtime, connection, NOW)
        wanting = review(connection, NOW)[1]
    assert "its data have drifted: " in wanting["monitoring"]


def test_a_running_job_shows_how_far_it_has_come_within_an_item_and_an_ended_one_stays_as_it_is(database: Engine):
    job_id = jobs.claim_by_hand(database, jobs.TRAINING, "Model training", NOW, "test")
    running = [("total_items", 4), ("processed_items", 1), ("failed_items", 1)]
    with database.begin() as connection:
        connection.execute(update(processing_jobs).where(processing_jobs.c.job_id == job_id).values(dict(running)))
    jobs.come_so_far(database, job_id, 0.5)
    assert jobs.describe(database, job_id)["progress_percentage"] == pytest.approx(62.5)
    jobs.fail(database, job_id, NOW, "stopped")
    jobs.come_so_far(database, job_id, 0.9)
    assert jobs.describe(database, job_id)["progress_percentage"] == pytest.approx(62.5)


def test_models_are_managed_by_hand_and_who_did_it_and_why_is_recorded(stack: Settings, database: Engine):
    with database.begin() as connection:
        first = register(connection, b"first", NOW)
        registry.promote(connection, first, NOW, "test", "the first")
        registry.send_to_shadow(connection, register(connection, b"second", NOW + HOUR), NOW + HOUR, "test", "trained")
    settings = stack.model_copy(update={"clock": f"frozen:{NOW.isoformat()}"})
    listed = [
        orjson.loads(line) for line in run("src.processing.models", "list", settings=settings).stdout.splitlines()
    ]
    shadow, active = listed
    assert [shadow["status"], active["status"]] == ["shadow", "active"]
    done = run(
        "src.processing.models", "promote", shadow["model_id"], "--reason", "tried", "--by", "Anna", settings=settings
    )
    assert done.returncode == 0, done.stderr
    assert statuses(database) == ["retired", "active"]
    done = run("src.processing.models", "roll-back", shadow["model_id"], "--reason", "worse", settings=settings)
    assert done.returncode == 0, done.stderr
    assert statuses(database) == ["active", "retired"]
    decisions = table(database, "model_decisions")
    assert ("promoted", "Anna", "tried") in set(
        decisions[["decision", "decided_by", "reason"]].itertuples(index=False, name=None)
    )
    refused = run("src.processing.models", "roll-back", shadow["model_id"], "--reason", "again", settings=settings)
    assert refused.returncode == 1
    assert "`list` shows what there is" in refused.stderr
