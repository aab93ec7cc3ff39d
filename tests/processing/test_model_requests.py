"""Requests about models: carried out once, in the name of the requester, or refused with the reason."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest
from psycopg2 import OperationalError
from sqlalchemy import Connection, Engine, insert
from sqlalchemy.exc import DBAPIError

from src.db import tables
from src.processing.jobs import patience
from src.processing.jobs import records as jobs
from src.processing.jobs.runtime import Runtime, create_runtime
from src.processing.modelling import registry
from src.processing.modelling.requests import run_requests
from src.settings import Settings
from tests.system import table

NOW = datetime(2023, 5, 10, tzinfo=UTC)
MINUTE = timedelta(minutes=1)


@pytest.fixture
def runtime(stack: Settings):
    runtime = create_runtime(stack)
    yield runtime
    runtime.database.dispose()


def requested(database: Engine, action: str, **more: Any) -> UUID:
    row = {"action": action, "model_type": registry.FLOW, "requested_at": NOW, "requested_by": "Anna"} | more
    with database.begin() as connection:
        statement = insert(tables.model_requests).values(row).returning(tables.model_requests.c.request_id)
        return UUID(str(connection.execute(statement).scalar_one()))


def stored(database: Engine, request_id: UUID) -> dict[str, Any]:
    rows = table(database, "model_requests").set_index("request_id")
    return dict(rows.loc[request_id])


def decisions(database: Engine) -> list[tuple[str, str, str]]:
    rows = table(database, "model_decisions").sort_values("decision_id")
    return list(rows[["decision", "decided_by", "reason"]].itertuples(index=False, name=None))


def model(connection: Connection, name: bytes = b"bytes") -> UUID:
    return registry.add(connection, registry.FLOW, "inlet", name, NOW, NOW, {})


def test_those_behind_a_request_that_meets_an_error_do_not_wait_for_it(
    runtime: Runtime, database: Engine, monkeypatch: pytest.MonkeyPatch
):
    with database.begin() as connection:
        first, second = model(connection, b"1"), model(connection, b"2")
    promote = registry.promote

    def broken_for_the_first(connection: Connection, model_id: UUID, *rest: Any) -> None:
        if model_id == first:
            raise RuntimeError("a fault")
        promote(connection, model_id, *rest)

    requests = [requested(database, "promote", model_id=one) for one in (first, second)]
    with monkeypatch.context() as patch:
        patch.setattr(registry, "promote", broken_for_the_first)
        with pytest.raises(ExceptionGroup, match="looked at again"):
            run_requests(runtime, lambda *_: None, NOW)
    assert [stored(database, one)["status"] for one in requests] == ["queued", "done"]
    run_requests(runtime, lambda *_: None, NOW)
    assert [stored(database, one)["status"] for one in requests] == ["done", "done"]


def test_while_the_database_is_away_only_one_request_is_tried(
    runtime: Runtime, database: Engine, monkeypatch: pytest.MonkeyPatch
):
    with database.begin() as connection:
        models = [model(connection, name) for name in (b"1", b"2")]
    tried: list[UUID] = []

    def away(connection: Connection, model_id: UUID, *rest: Any) -> None:
        tried.append(model_id)
        raise DBAPIError.instance("UPDATE", None, OperationalError("the server closed the connection"), Exception)

    requests = [requested(database, "promote", model_id=one) for one in models]
    monkeypatch.setattr(registry, "promote", away)
    monkeypatch.setattr(patience, "PAUSES", (0.01,))
    with pytest.raises(DBAPIError):
        run_requests(runtime, lambda *_: None, NOW)
    assert len(tried) == 2
    assert len(set(tried)) == 1
    assert [stored(database, one)["status"] for one in requests] == ["queued", "queued"]


def flowing(database: Engine) -> None:
    """A node that a training would find."""
    counts = dict.fromkeys(("reading_count", "flow_count", "pressure_count", "temperature_count"), 1)
    with database.begin() as connection:
        connection.execute(insert(tables.nodes), {"node_id": "n", "node_name": "n", "role": "inlet"})
        connection.execute(
            insert(tables.computed_metrics),
            {"node_id": "n", "time_window": "1day", "window_start": NOW - 2 * timedelta(days=1), "window_end": NOW}
            | counts
            | {"avg_flow_rate": 1.0, "computed_at": NOW, "computation_version": "1"},
        )


def test_a_model_is_promoted_and_rolled_back_in_the_name_of_the_requester(runtime: Runtime, database: Engine):
    with database.begin() as connection:
        first, second = model(connection, b"1"), model(connection, b"2")
    for model_id in (first, second):
        request = requested(database, "promote", model_id=model_id, note="it is better")
        run_requests(runtime, lambda *_: None, NOW)
        assert stored(database, request)["status"] == "done"
    back = requested(database, "roll_back", model_id=second)
    run_requests(runtime, lambda *_: None, NOW)
    found = stored(database, back)
    assert (found["status"], found["outcome"]) == ("done", "the model before it is active again")
    with database.connect() as connection:
        assert registry.active_of(connection, registry.FLOW, "inlet").model_id == first
    decided = decisions(database)
    assert decided[0] == ("promoted", "Anna", "it is better")
    assert decided[-2] == ("rolled_back", "Anna", "asked for through the API by Anna")


def test_what_cannot_be_done_is_refused_with_its_reason_and_changes_nothing(runtime: Runtime, database: Engine):
    with database.begin() as connection:
        lonely = model(connection)
        registry.promote(connection, lonely, NOW, "test", "first")
    before = decisions(database)
    nowhere = requested(database, "promote", model_id=UUID(int=1))
    active = requested(database, "promote", model_id=lonely)
    alone = requested(database, "roll_back", model_id=lonely)
    detector = requested(database, "train", model_type=registry.ANOMALIES)
    nothing = requested(database, "train")
    run_requests(runtime, lambda *_: None, NOW)
    for request, reason in (
        (nowhere, "there is no model"),
        (active, "cannot be promoted"),
        (alone, "no model to roll back to"),
        (detector, "first cycle of each week"),
        (nothing, "nothing to train"),
    ):
        found = stored(database, request)
        assert found["status"] == "refused"
        assert reason in found["outcome"]
        assert found["decided_at"] is not None
    assert decisions(database) == before


def test_a_training_is_started_once_however_many_replicas_look_and_answered_when_it_has_ended(
    runtime: Runtime, database: Engine
):
    flowing(database)
    stray, request = (
        requested(database, "train", scope="outlet"),
        requested(database, "train", scope="inlet", note="new meter"),
    )
    later = requested(database, "train", requested_at=NOW + MINUTE)
    sent: list[tuple[UUID, int]] = []
    with ThreadPoolExecutor(4) as threads:
        list(threads.map(lambda n: run_requests(runtime, lambda *c: sent.append(c), NOW + n * MINUTE), range(4)))
    # Where each made way for another, the next minute's look finds what is to be done.
    run_requests(runtime, lambda *c: sent.append(c), NOW + 4 * MINUTE)
    assert "there are inlet" in stored(database, stray)["outcome"]
    ((job_id, number),) = set(sent)
    assert len(sent) == 1
    (job,) = table(database, "processing_jobs").to_dict("records")
    assert job["triggered_by"].startswith("Anna")
    running = stored(database, request)
    assert (running["status"], running["job_id"]) == ("running", job_id)
    assert stored(database, later)["status"] == "queued"
    with database.begin() as connection:
        trained = model(connection)
        connection.execute(
            tables.job_chunks.update()
            .where(tables.job_chunks.c.chunk_number == number)
            .values(status="completed", result_summary={"model_id": str(trained)})
        )
        jobs.end_job(connection, job_id, NOW, {}, None, failed=False)
    run_requests(runtime, lambda *c: sent.append(c), NOW + 9 * MINUTE)
    done = stored(database, request)
    assert (done["status"], done["outcome"]) == ("done", "1 model trained")
    assert decisions(database) == [("requested", "Anna", "new meter")]
    # The one that waited is under way now.
    assert stored(database, later)["status"] == "running"
    assert len(sent) == 2


def test_a_training_that_failed_says_why(runtime: Runtime, database: Engine):
    flowing(database)
    request = requested(database, "train")
    run_requests(runtime, lambda *_: None, NOW)
    jobs.fail(database, stored(database, request)["job_id"], NOW, "the warehouse is away")
    run_requests(runtime, lambda *_: None, NOW + MINUTE)
    found = stored(database, request)
    assert (found["status"], found["outcome"]) == ("failed", "0 models trained; the warehouse is away")
