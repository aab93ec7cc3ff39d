"""Trouble with the database, the queue and processes: whatever happens, jobs end, and the next ones work."""

from __future__ import annotations

import signal
from datetime import timedelta
from threading import Event
from uuid import UUID

import pytest
from sqlalchemy import Engine, text

from src.processing.ingest.plan import plan_cycle
from src.processing.jobs import chunks
from src.processing.jobs import records as jobs
from src.processing.jobs.measures import waiting
from src.processing.jobs.runtime import Runtime
from src.processing.modelling.training import Learned
from src.processing.service.actors import Queue
from src.processing.service.cycle import run_retry, run_tick
from src.processing.service.heartbeat import Heartbeat, Replica
from src.processing.service.rescue import rescue
from src.processing.service.timetable import Every
from src.processing.service.work import Outcome, work_off
from src.processing.warehouse.reader import Reader
from src.settings import Settings
from tests.system import START, eventually, metrics, process, put, readings_of, run_cycle, table
from tests.trouble import accepting, refusing, silenced

AS_OF = START + timedelta(days=1)
SILENCE = timedelta(minutes=1)
pytestmark = pytest.mark.usefixtures("short_pauses")


def planned(runtime: Runtime, job_type: str = jobs.CYCLE) -> UUID:
    """A job whose chunks are recorded, and offered to nobody."""
    job_id = jobs.claim_by_hand(runtime.database, job_type, "job", AS_OF, "test")
    plan_cycle(runtime, job_id, AS_OF)
    return job_id


@pytest.mark.parametrize("state", ["53100", "53400", "25006", "57014", "54000"])
def test_a_database_that_refuses_rows_fails_the_job_with_its_reason_and_stops_nothing(
    stack: Settings, database: Engine, state: str
):
    put(stack, readings_of(["a", "b", "c", "d"], days=1))
    refusing(database, "computed_metrics", state, "INSERT")
    job = run_cycle(stack, AS_OF)
    assert job["status"] == "failed"
    assert "no room" in job["error_message"]
    accepting(database, "computed_metrics")
    assert run_cycle(stack, AS_OF)["status"] == "completed"


def test_what_passes_is_waited_for(stack: Settings, database: Engine, runtime: Runtime):
    put(stack, readings_of(["a"], days=1))
    job_id = planned(runtime)
    refusing(database, "computed_metrics", "40P01", "INSERT")
    assert work_off(runtime, job_id, 0) is Outcome.LEFT
    assert chunks.queued(database, job_id) == [0]
    accepting(database, "computed_metrics")
    assert work_off(runtime, job_id, 0) is Outcome.DONE_AND_LAST
    assert table(database, "job_chunks")["status"].tolist() == ["completed"]


def test_a_chunk_whose_failure_cannot_be_recorded_stays_queued_until_it_can(
    stack: Settings, database: Engine, runtime: Runtime
):
    put(stack, readings_of(["a"], days=1))
    job_id = planned(runtime)
    refusing(database, "job_chunks", "53100")
    assert work_off(runtime, job_id, 0) is Outcome.LEFT
    accepting(database, "job_chunks")
    assert chunks.queued(database, job_id) == [0]
    assert work_off(runtime, job_id, 0) is Outcome.DONE_AND_LAST


def test_a_chunk_that_kills_its_process_is_given_up_with_a_reason(stack: Settings, database: Engine, runtime: Runtime):
    put(stack, readings_of(["a", "b"], days=1))
    job_id = planned(runtime)
    for _ in range(chunks.MOST_ATTEMPTS):
        assert chunks.begin(database, job_id, 0)
    assert work_off(runtime, job_id, 0) is Outcome.DONE_AND_LAST
    message = table(database, "job_chunks")["error_message"].iloc[0]
    assert f"begun {chunks.MOST_ATTEMPTS} times" in message
    assert table(database, "processing_jobs")["failed_items"].tolist() == [2]


def test_a_systematic_failure_reads_the_warehouse_once(
    stack: Settings, database: Engine, runtime: Runtime, monkeypatch: pytest.MonkeyPatch
):
    put(stack, readings_of([f"n{k}" for k in range(8)], days=1))
    job_id, read = planned(runtime), []
    original = Reader.read
    monkeypatch.setattr(
        Reader, "read", lambda self, *given, **bounds: read.append(given) or original(self, *given, **bounds)
    )
    refusing(database, "computed_metrics", "25006", "INSERT")
    assert work_off(runtime, job_id, 0) is Outcome.DONE_AND_LAST
    assert len(read) == 1


def test_one_bad_node_is_found_without_reading_again(
    stack: Settings, database: Engine, runtime: Runtime, monkeypatch: pytest.MonkeyPatch
):
    put(stack, readings_of([f"n{k}" for k in range(8)], days=1))
    job_id, read = planned(runtime), []
    original = Reader.read
    monkeypatch.setattr(
        Reader, "read", lambda self, *given, **bounds: read.append(given) or original(self, *given, **bounds)
    )
    with database.begin() as connection:
        connection.execute(text("ALTER TABLE water_infrastructure.computed_metrics ADD CHECK (node_id <> 'n5')"))
    assert work_off(runtime, job_id, 0) is Outcome.DONE_AND_LAST
    assert len(read) == 1
    assert set(metrics(database)["node_id"]) == {f"n{k}" for k in range(8) if k != 5}


def test_a_job_whose_chunks_wait_behind_others_is_vouched_for(stack: Settings, database: Engine, runtime: Runtime):
    put(stack, readings_of(["a"], days=1))
    queue, job_id = Queue(runtime), planned(runtime)
    queue.send(job_id, 0)
    silenced(database)
    rescue(runtime, queue, SILENCE)
    assert table(database, "processing_jobs")["status"].tolist() == ["running"]
    assert waiting(runtime.redis, "default") == 1
    assert jobs.take_silent(database, SILENCE) == []


def test_chunks_whose_messages_were_lost_are_offered_again(stack: Settings, database: Engine, runtime: Runtime):
    put(stack, readings_of(["a"], days=1))
    queue = Queue(runtime)
    run_tick(runtime, queue, AS_OF)
    runtime.redis.flushall()
    silenced(database)
    rescue(runtime, queue, SILENCE)
    queue.start()
    eventually(lambda: table(database, "processing_jobs")["status"].tolist() == ["completed"])
    queue.stop(5)


def test_a_job_that_only_needs_finishing_is_finished_on_the_queue(stack: Settings, database: Engine, runtime: Runtime):
    put(stack, readings_of(["a"], days=1))
    queue, job_id = Queue(runtime), planned(runtime)
    assert work_off(runtime, job_id, 0) is Outcome.DONE_AND_LAST
    silenced(database)
    rescue(runtime, queue, SILENCE)
    assert table(database, "processing_jobs")["status"].tolist() == ["running"]
    queue.start()
    eventually(lambda: table(database, "processing_jobs")["status"].tolist() == ["completed"])
    queue.stop(5)


def test_silent_jobs_that_nobody_can_go_on_with_fail_with_a_sentence(
    stack: Settings, database: Engine, runtime: Runtime
):
    put(stack, readings_of(["a"], days=1))
    planned(runtime, jobs.BACKFILL)
    for job_type in (jobs.CYCLE, "retention"):
        assert jobs.claim(database, job_type, "job", AS_OF, AS_OF, "scheduler")
    silenced(database)
    rescue(runtime, Queue(runtime), SILENCE)
    found = table(database, "processing_jobs").set_index("job_type")
    assert set(found["status"]) == {"failed"}
    assert found.loc[jobs.BACKFILL, "error_message"] == "interrupted: the same command goes on where it stopped"
    assert "planned" in found.loc[jobs.CYCLE, "error_message"]
    assert "stopped" in found.loc["retention", "error_message"]
    assert table(database, "job_chunks")["status"].tolist() == ["queued"]


def test_a_replica_beats_on_where_a_part_of_its_pulse_fails(
    stack: Settings, database: Engine, runtime: Runtime, monkeypatch: pytest.MonkeyPatch
):
    job_id = jobs.claim(database, jobs.CYCLE, "job", AS_OF, AS_OF, "scheduler")
    silent = jobs.claim(database, "retention", "job", AS_OF, AS_OF, "scheduler")
    assert job_id is not None
    assert silent is not None
    silenced(database)
    refusing(database, "processing_replicas", "53100")
    with runtime.busy_with(job_id):
        heartbeat = Heartbeat(runtime, Replica(Every(timedelta(minutes=30)), Queue(runtime)))
        heartbeat.beat()
        heartbeat.look_around()
    found = table(database, "processing_jobs").set_index("job_type")["status"].to_dict()
    assert found == {jobs.CYCLE: "running", "retention": "failed"}


def test_a_cycle_that_cannot_be_planned_fails_with_its_reason_and_is_tried_again(
    stack: Settings, database: Engine, runtime: Runtime
):
    put(stack, readings_of(["a"], days=1))
    refusing(database, "job_chunks", "53100")
    run_tick(runtime, Queue(runtime), AS_OF)
    job = table(database, "processing_jobs").iloc[0]
    assert job["status"] == "failed"
    assert "no room" in job["error_message"]
    accepting(database, "job_chunks")
    # A tick that was skipped meanwhile changes nothing about that.
    skipped = jobs.claim(database, jobs.CYCLE, "job", AS_OF + timedelta(minutes=1), runtime.clock.now(), "scheduler")
    assert skipped is not None
    with database.begin() as connection:
        jobs.end_job(connection, skipped, AS_OF, {"skipped": "another is running"}, None, failed=False)
        connection.execute(
            text("UPDATE water_infrastructure.processing_jobs SET created_at = created_at - interval '1 min'")
        )
    run_retry(runtime, Queue(runtime), AS_OF + timedelta(minutes=2))
    assert "running" in table(database, "processing_jobs")["status"].tolist()


def test_trainings_that_take_long_keep_no_cycle_waiting(
    stack: Settings, database: Engine, runtime: Runtime, monkeypatch: pytest.MonkeyPatch
):
    put(stack, readings_of(["a"], days=1))
    begun, ended = Event(), Event()

    def train(*_: object) -> Learned:
        begun.set()
        ended.wait(30)
        return Learned(AS_OF, {})

    monkeypatch.setattr("src.processing.service.work.learn_pool", train)
    queue = Queue(runtime)
    training = jobs.claim_by_hand(database, jobs.TRAINING, "training", AS_OF, "test")
    chunks.add(database, training, [chunks.Chunk([f"n{k}"], AS_OF, AS_OF, 0, {}, f"pool {k}") for k in range(4)])
    for number in range(4):
        queue.send_training(training, number)
    queue.start()
    assert begun.wait(10)
    run_tick(runtime, queue, AS_OF)
    eventually(lambda: "completed" in table(database, "processing_jobs")["status"].tolist(), seconds=20)
    assert waiting(runtime.redis, "default", "training") == 3
    ended.set()
    eventually(lambda: set(table(database, "processing_jobs")["status"]) == {"completed"}, seconds=20)
    queue.stop(5)


def test_killed_by_its_chunk_again_and_again_the_service_gives_it_up_and_goes_on(stack: Settings, database: Engine):
    put(stack, readings_of(["a"], days=1))
    with database.begin() as connection:
        connection.execute(
            text(
                "CREATE FUNCTION hang() RETURNS trigger LANGUAGE plpgsql AS "
                "$$ BEGIN PERFORM pg_sleep(60); RETURN NULL; END $$"
            )
        )
        connection.execute(
            text(
                "CREATE TRIGGER hang BEFORE INSERT ON water_infrastructure.computed_metrics FOR EACH STATEMENT "
                "EXECUTE FUNCTION hang()"
            )
        )

    def attempts() -> int:
        parts = table(database, "job_chunks")
        return int(parts["attempts"].iloc[0]) if len(parts) else 0

    for number in (1, chunks.MOST_ATTEMPTS):
        with process("src.processing.service.main", settings=stack, replica_timeout_seconds=2) as service:
            eventually(lambda number=number: attempts() >= number)
            service.send_signal(signal.SIGKILL)
            service.wait()
        with database.begin() as connection:
            connection.execute(
                text(
                    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
                    "WHERE wait_event = 'PgSleep' AND datname = current_database()"
                )
            )
            connection.execute(
                text("UPDATE water_infrastructure.job_chunks SET attempts = :all_but_one WHERE attempts = 1"),
                {"all_but_one": chunks.MOST_ATTEMPTS - 1},
            )
    with database.begin() as connection:
        connection.execute(text("DROP TRIGGER hang ON water_infrastructure.computed_metrics"))
    with process("src.processing.service.main", settings=stack, replica_timeout_seconds=2):
        eventually(lambda: "failed" in table(database, "processing_jobs")["status"].tolist())
    assert run_cycle(stack, stack.running_clock.now())["status"] == "completed"
    failed = table(database, "processing_jobs").query("status == 'failed'").iloc[0]
    assert f"begun {chunks.MOST_ATTEMPTS} times" in failed["error_message"]


def test_while_a_cycle_runs_the_next_tick_is_skipped_and_says_so(stack: Settings, database: Engine, runtime: Runtime):
    put(stack, readings_of(["a"], days=1))
    running = planned(runtime)
    run_tick(runtime, Queue(runtime), AS_OF + timedelta(minutes=30))
    ticks = table(database, "processing_jobs").query("triggered_by == 'scheduler'")
    assert ticks["status"].tolist() == ["completed"]
    assert str(running) in ticks["result_summary"].iloc[0]["skipped"]
    assert set(table(database, "job_chunks")["job_id"]) == {running}
