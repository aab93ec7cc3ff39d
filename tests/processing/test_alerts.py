"""Alerts: who is notified of what, once; delivered to real receivers, however often they fail."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from email import message_from_bytes, policy
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any
from uuid import uuid4

import orjson
import pytest
from aiosmtpd.controller import Controller
from aiosmtpd.smtp import SMTP, AuthResult
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import Engine, text

from src.domain.alerts import FIRING, PENDING, RESOLVED, Condition, Standing, decide
from src.processing.alerts.delivery import RETRY_SECONDS, run_delivery
from src.processing.alerts.review import run_alerts
from src.processing.alerts.rules import RulesError, load_rules
from src.processing.jobs.measures import LAST_CYCLE_FAILED, LATEST_CYCLE, observe_state
from src.processing.jobs.runtime import Runtime
from src.quickstart import engines
from src.settings import Settings
from tests.system import put, readings_of, run_cycle, table

ROOT = Path(__file__).parents[2]
NOW = datetime(2023, 5, 10, tzinfo=UTC)
MINUTE, HOUR = timedelta(minutes=1), timedelta(hours=1)


def standing(
    condition: Condition, state: str = FIRING, since: datetime = NOW, notified_at: datetime | None = NOW
) -> Standing:
    return Standing(uuid4(), condition.rule, condition.subject, state, condition.severity, since, notified_at)


STALE = Condition("stale", "network", "warning", "nothing heard")


def test_a_condition_fires_once_it_has_held_is_notified_again_and_then_is_over():
    hold, again = {"stale": 10 * MINUTE}, 4 * HOUR

    def decided(conditions: list[Condition], alerts: list[Standing], at: datetime) -> tuple[str, bool]:
        (decision,) = decide(conditions, alerts, at, hold, again)
        return decision.state, decision.notify

    assert decided([STALE], [], NOW) == (PENDING, False)
    pending = standing(STALE, PENDING, notified_at=None)
    assert decided([STALE], [pending], NOW + 9 * MINUTE) == (PENDING, False)
    assert decided([STALE], [pending], NOW + 10 * MINUTE) == (FIRING, True)
    assert decided([], [pending], NOW + 9 * MINUTE) == (RESOLVED, False)
    firing = standing(STALE)
    assert decided([STALE], [firing], NOW + HOUR) == (FIRING, False)
    assert decided([STALE], [firing], NOW + 4 * HOUR) == (FIRING, True)
    worse = Condition("stale", "network", "critical", "still nothing")
    assert decided([worse], [firing], NOW + HOUR) == (FIRING, True)
    assert decided([], [firing], NOW + HOUR) == (RESOLVED, True)


@given(steps=st.lists(st.sets(st.sampled_from("abc")), max_size=20), hold=st.integers(0, 3))
def test_whoever_reads_the_messages_knows_what_goes_on(steps: list[set[str]], hold: int):
    """Firing and resolved alternate for each subject, whatever comes and goes."""
    alerts: dict[str, Standing] = {}
    announced: dict[str, bool] = {}
    for number, subjects in enumerate(steps):
        now = NOW + number * MINUTE
        found = [Condition("rule", subject, "info", "x") for subject in sorted(subjects)]
        for decision in decide(found, list(alerts.values()), now, {"rule": hold * MINUTE}, timedelta(days=1)):
            subject = decision.condition.subject if decision.condition else decision.alert.subject
            if decision.notify:
                assert announced.get(subject, False) != (decision.state == FIRING)
                announced[subject] = decision.state == FIRING
            if decision.state == RESOLVED:
                del alerts[subject]
            else:
                since = decision.alert.since if decision.alert else now
                notified_at = now if decision.notify else decision.alert.notified_at if decision.alert else None
                alerts[subject] = standing(decision.condition, decision.state, since, notified_at)
        assert {s for s, is_firing in announced.items() if is_firing} == {
            s for s, alert in alerts.items() if alert.state == FIRING
        }


def test_the_rules_that_come_with_the_product_are_good():
    rules = load_rules(ROOT / "alerts/alert-rules.yml")
    assert {rule.when for rule in rules.rules} == {
        "failed_jobs", "late_cycle", "stale_data", "data_quality", "model_degradation", "service_health", "anomalies",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("rules: [{name: x, when: stale_data, severity: critical}]", "rules.0.stale_data.minutes: Field required"),
        ("rules: [{name: x, when: full_moon, severity: critical}]", "rules.0: Input tag 'full_moon'"),
        ("rules: [{name: x, when: late_cycle, minutes: 5, severity: bad}]", "rules.0.late_cycle.severity"),
        ("rules: {", "is no YAML"),
        ("- 1", "the top"),
        (
            "rules: [{name: x, when: late_cycle, minutes: 5, severity: info}, "
            "{name: x, when: stale_data, minutes: 5, severity: info}]",
            "two rules have the name 'x'",
        ),
    ],
)
def test_a_file_of_rules_that_is_wrong_is_refused_with_the_place(tmp_path: Path, content: str, message: str):
    path = tmp_path / "rules.yml"
    path.write_text(content)
    with pytest.raises(RulesError) as refused:
        load_rules(path)
    assert message in str(refused.value).replace("is wrong at ", "")
    with pytest.raises(RulesError, match="cannot be read"):
        load_rules(tmp_path / "nowhere.yml")


class Receiver:
    """An HTTP server that notes what it gets, and fails as often as a test wants."""

    def __init__(self) -> None:
        self.got: list[tuple[str, Any]] = []
        self.failures = 0
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = orjson.loads(self.rfile.read(int(self.headers["Content-Length"])))
                fails = receiver.failures > 0
                if fails:
                    receiver.failures -= 1
                else:
                    receiver.got.append((self.path, body))
                self.send_response(503 if fails else 200)
                self.end_headers()

            def log_message(self, *arguments: object) -> None:
                pass

        self.server = HTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    receiver = Receiver()
    yield receiver
    receiver.server.shutdown()


def with_settings(runtime: Runtime, **settings: object) -> Runtime:
    """The same process with other settings of alerts."""
    runtime.settings = runtime.settings.model_copy(update=settings)
    return runtime


def due_at_once(database: Engine) -> None:
    """Time passes for messages that wait for their next attempt."""
    with database.begin() as connection:
        connection.execute(text("UPDATE water_infrastructure.alert_deliveries SET next_attempt_at = now()"))


def secret(value: str) -> Any:
    from pydantic import SecretStr

    return SecretStr(value)


def test_every_receiver_is_notified_of_stale_readings_once_and_when_they_are_over(
    runtime: Runtime, database: Engine, stack: Settings, receiver: Receiver
):
    put(stack, readings_of(["n"], days=2, minutes=60))
    last = datetime(2023, 5, 2, 23, tzinfo=UTC)
    run_cycle(stack, last)
    with_settings(
        runtime,
        alert_webhook_url=secret(receiver.url + "/hook?token=s3cret"),
        alert_alertmanager_url=receiver.url + "/",
    )
    rule = {"rule": "readings are stale"}
    run_alerts(runtime, last + HOUR)
    assert rule["rule"] not in set(table(database, "alerts")["rule"])
    for minutes in (180, 181, 200):
        run_alerts(runtime, last + minutes * MINUTE)
    run_delivery(runtime)
    mine = [(path, body) for path, body in receiver.got if rule["rule"] in orjson.dumps(body).decode()]
    assert sorted(path for path, _ in mine) == ["/api/v2/alerts", "/hook?token=s3cret"]
    hook = next(body for path, body in mine if path.startswith("/hook"))
    assert hook | rule == hook
    assert (hook["status"], hook["severity"], hook["source"]) == ("firing", "critical", "abbanoa-processing")
    assert hook["summary"] == "No node has sent anything for 180 minutes"
    (manager,) = next(body for path, body in mine if path == "/api/v2/alerts")
    assert manager["labels"] == {
        "alertname": rule["rule"], "severity": "critical", "subject": "network", "service": "abbanoa-processing",
    }  # fmt: skip
    assert datetime.fromisoformat(manager["endsAt"]) > datetime.now(UTC)
    receiver.got.clear()
    put(stack, readings_of(["n"], days=3, minutes=60))
    run_cycle(stack, last + 4 * HOUR)
    run_alerts(runtime, last + 4 * HOUR)
    run_delivery(runtime)
    over = [body for path, body in receiver.got if path.startswith("/hook") and body["rule"] == rule["rule"]]
    assert [body["status"] for body in over] == ["resolved"]
    assert datetime.fromisoformat(over[0]["resolved_at"]) == last + 4 * HOUR


def test_a_receiver_that_fails_is_tried_again_in_order_and_at_last_given_up(
    runtime: Runtime, database: Engine, receiver: Receiver, capsys: pytest.CaptureFixture[str]
):
    with_settings(runtime, alert_webhook_url=secret(receiver.url + "/s3cret"))
    receiver.failures = 2
    # Nobody processes in this test: the service is not well.
    for minutes in (0, 5):
        run_alerts(runtime, NOW + minutes * MINUTE)
    assert run_delivery(runtime) == 0
    assert run_delivery(runtime) == 0
    with database.begin() as connection:
        connection.execute(
            text(
                "INSERT INTO water_infrastructure.processing_replicas (replica, started_at, heartbeat_at) "
                "VALUES ('r', now(), now())"
            )
        )
    run_alerts(runtime, NOW + 6 * MINUTE)
    # It is over before anybody was notified; what came first is still sent first.
    assert run_delivery(runtime) == 0
    for _ in range(2):
        due_at_once(database)
        run_delivery(runtime)
    assert [body["status"] for _, body in receiver.got] == ["firing", "resolved"]
    deliveries = table(database, "alert_deliveries")
    assert deliveries["attempts"].tolist() == [3, 1]
    assert deliveries["delivered_at"].notna().all()
    receiver.failures = 100
    with database.begin() as connection:
        connection.execute(text("DELETE FROM water_infrastructure.processing_replicas"))
    for minutes in (10, 15):
        run_alerts(runtime, NOW + minutes * MINUTE)
    for _ in range(len(RETRY_SECONDS) + 3):
        due_at_once(database)
        run_delivery(runtime)
    given_up = table(database, "alert_deliveries").sort_values("delivery_id").iloc[-1]
    assert given_up["attempts"] == len(RETRY_SECONDS) + 1
    assert given_up["last_error"] == "ValueError: the receiver answered 503 Service Unavailable"
    receiver.server.shutdown()
    assert "s3cret" not in capsys.readouterr().out


def test_a_receiver_that_is_not_there_is_no_obstacle_and_its_address_no_news(runtime: Runtime, database: Engine):
    with_settings(runtime, alert_webhook_url=secret(f"http://127.0.0.1:{engines.free_port()}/s3cret"))
    for minutes in (0, 5):
        run_alerts(runtime, NOW + minutes * MINUTE)
    assert run_delivery(runtime) == 0
    assert table(database, "alert_deliveries")["last_error"].tolist() == ["the receiver cannot be reached"]


class Mailbox:
    """What an SMTP server took."""

    def __init__(self) -> None:
        self.mails: list[Any] = []

    async def handle_DATA(self, server: SMTP, session: Any, envelope: Any) -> str:
        self.mails.append((envelope.rcpt_tos, message_from_bytes(envelope.content, policy=policy.default)))
        return "250 OK"


@pytest.fixture
def mailbox() -> Iterator[tuple[Mailbox, int]]:
    box, port = Mailbox(), engines.free_port()
    controller = Controller(
        box,
        hostname="127.0.0.1",
        port=port,
        authenticator=lambda *_: AuthResult(success=True),
        auth_require_tls=False,
    )
    controller.start()
    yield box, port
    controller.stop()


def test_alerts_come_by_mail_and_a_password_is_never_sent_in_the_clear(
    runtime: Runtime, database: Engine, mailbox: tuple[Mailbox, int]
):
    box, port = mailbox
    with_settings(
        runtime, alert_smtp_host="127.0.0.1", alert_smtp_port=port, alert_mail_to="a@example.org, b@example.org"
    )
    for minutes in (0, 5):
        run_alerts(runtime, NOW + minutes * MINUTE)
    assert run_delivery(runtime) == 1
    ((recipients, mail),) = box.mails
    assert recipients == ["a@example.org", "b@example.org"]
    assert mail["Subject"].strip() == "[CRITICAL] service is not well: 0 processing replicas of at least 1 alive"
    assert "Since 2023-05-10T00:00:00+00:00" in mail.get_content()
    with_settings(runtime, alert_smtp_user="u", alert_smtp_password=secret("p"))
    run_alerts(runtime, NOW + 5 * HOUR)
    assert run_delivery(runtime) == 0
    assert "no password is sent" in table(database, "alert_deliveries")["last_error"].iloc[-1]


def test_failed_jobs_poor_data_degraded_models_and_critical_events_are_reported(
    runtime: Runtime, database: Engine, stack: Settings
):
    incident = uuid4()
    with database.begin() as connection:
        connection.execute(text("SET LOCAL search_path TO water_infrastructure"))
        for number in range(3):
            connection.execute(
                text(
                    "INSERT INTO processing_jobs (job_type, job_name, status, scheduled_for, created_at, completed_at, "
                    "triggered_by, error_message) "
                    "VALUES ('processing_cycle', 'x', :status, :at, :at, :at, 'x', 'no luck')"
                ),
                {"status": "failed" if number else "completed", "at": NOW - (30 - number) * MINUTE},
            )
        connection.execute(
            text(
                "INSERT INTO processing_jobs (job_type, job_name, status, scheduled_for, created_at, completed_at, "
                "triggered_by, error_message, failed_items, processed_items) VALUES ('model_training', 'x', "
                "'completed', :now, :now, :now, 'x', '1 of 3 pools: no luck there', 1, 2)"
            ),
            {"now": NOW - HOUR},
        )
        connection.execute(
            text(
                "INSERT INTO data_quality_metrics (node_id, check_timestamp, time_window, overall_quality_score) "
                "SELECT 'n' || n, :now, '24h', n / 10.0 FROM generate_series(0, 9) n"
            ),
            {"now": NOW - HOUR},
        )
        model = connection.execute(
            text(
                "INSERT INTO ml_models (model_name, model_type, version, status, is_active, validation_metrics, "
                "training_data_end) VALUES "
                """('flow', 'flow_prediction', '7', 'active', true, '{"mae": 2.0}', :now) RETURNING model_id"""
            ),
            {"now": NOW - HOUR},
        ).scalar_one()
        # A detector that was learned anew a month ago at last, and one that was again, though the active one is older.
        connection.execute(
            text(
                "INSERT INTO ml_models (model_name, model_type, scope, version, status, is_active, training_data_end) "
                "VALUES ('d1', 'anomaly_detection', 'd1', '1', 'active', true, :now - interval '60 days'), "
                "('d1', 'anomaly_detection', 'd1', '2', 'retired', false, :now - interval '30 days'), "
                "('d2', 'anomaly_detection', 'd2', '1', 'active', true, :now - interval '60 days'), "
                "('d2', 'anomaly_detection', 'd2', '2', 'shadow', false, :now - interval '2 days')"
            ),
            {"now": NOW},
        )
        connection.execute(
            text(
                "INSERT INTO model_performance (model_id, evaluation_timestamp, evaluation_window, mae) "
                "VALUES (:model, :now, '1 day', 3.0)"
            ),
            {"model": model, "now": NOW},
        )
        for kind, severity in (("burst", "critical"), ("low_pressure", "critical"), ("jump", "info")):
            connection.execute(
                text(
                    "INSERT INTO anomalies (timestamp, node_id, anomaly_type, severity, detection_method, incident_id, "
                    "district_id) VALUES (:now, 'n1', :kind, :severity, 'x', :incident, 'd1')"
                ),
                {"now": NOW, "kind": kind, "severity": severity, "incident": incident},
            )
    run_alerts(runtime, NOW)
    run_alerts(runtime, NOW + HOUR)
    firing = table(database, "alerts").query("state == 'firing'").set_index("rule")
    assert firing.loc["model training fails", "summary"] == "model_training failed in part: 1 of 3 pools: no luck there"
    assert firing.loc["processing cycle fails", "summary"] == "The last 2 jobs of type processing_cycle failed: no luck"
    assert (
        firing.loc["data quality is low", "summary"] == "The data of 5 nodes cannot be trusted: n0, n1, n2 and 2 more"
    )
    assert set(firing.loc["model has degraded", "summary"]) == {
        "flow 7: its error is 1.50 times that of its validation",
        "d1: for 30 days no version of it could be learned anew",
    }
    event = firing.loc["critical anomaly"]
    assert event["summary"] == "burst, low pressure at district d1: see the event"
    assert (event["subject"], event["details"]["nodes"]) == (str(incident), ["n1"])
    assert stack.alert_rules_file == "alerts/alert-rules.yml"


def test_cycles_that_complete_but_say_what_went_wrong_are_reported_and_skipped_ticks_hide_nothing(
    runtime: Runtime, database: Engine
):
    insert = text(
        "INSERT INTO water_infrastructure.processing_jobs (job_type, job_name, status, scheduled_for, created_at, "
        "completed_at, triggered_by, error_message, result_summary) VALUES ('processing_cycle', 'x', :status, :at, "
        ":at, :at, 'x', :error, CAST(:summary AS jsonb))"
    )

    def ticked(minutes: float, status: str, error: str | None = None, summary: str = "{}") -> None:
        given = {"status": status, "at": NOW + minutes * MINUTE, "error": error, "summary": summary}
        with database.begin() as connection:
            connection.execute(insert, given)

    def firing(minutes: float) -> set[str]:
        run_alerts(runtime, NOW + minutes * MINUTE)
        alerts = table(database, "alerts").query("state == 'firing' and subject == 'processing_cycle'")
        return set(alerts["rule"])

    skipped = '{"skipped": "another is running"}'
    ticked(0, "completed", "The forecasts could not be computed: no luck")
    assert firing(1) == set()
    ticked(2, "completed", summary=skipped)
    ticked(3, "completed", "The forecasts could not be computed: no luck")
    assert firing(4) == {"processing cycle is incomplete"}
    ticked(5, "failed", "no luck")
    ticked(6, "completed", summary=skipped)
    ticked(7, "failed", "no luck")
    assert firing(8) == {"processing cycle is incomplete", "processing cycle fails"}
    with database.connect() as connection:
        observe_state(connection, runtime.redis, NOW + 9 * MINUTE, 60)
    assert LAST_CYCLE_FAILED._value.get() == 1
    assert LATEST_CYCLE._value.get() == (NOW + 3 * MINUTE).timestamp()
    ticked(9, "completed")
    assert firing(10) == set()


@pytest.mark.parametrize("interval", [30, 120])
def test_between_two_ticks_no_cycle_is_late_however_far_apart_they_are(
    runtime: Runtime, database: Engine, interval: int
):
    with_settings(runtime, check_interval_minutes=interval)
    with database.begin() as connection:
        connection.execute(
            text(
                "INSERT INTO water_infrastructure.processing_jobs (job_type, job_name, status, scheduled_for, "
                "created_at, completed_at, triggered_by) "
                "VALUES ('processing_cycle', 'x', 'completed', :at, :at, :at, 'x')"
            ),
            {"at": NOW},
        )
    for minutes, is_late in ((interval + 15, False), (2 * interval + 14, False), (2 * interval + 15, True)):
        run_alerts(runtime, NOW + minutes * MINUTE)
        firing = table(database, "alerts").query("state == 'firing'")["rule"]
        assert ("processing cycle is late" in set(firing)) is is_late


def test_rules_that_cannot_be_read_are_an_alert_and_end_no_other(runtime: Runtime, database: Engine, tmp_path: Path):
    for minutes in (0, 5):
        run_alerts(runtime, NOW + minutes * MINUTE)
    broken = tmp_path / "rules.yml"
    broken.write_text("rules: 7")
    good = runtime.settings.alert_rules_file
    run_alerts(with_settings(runtime, alert_rules_file=str(broken)), NOW + 6 * MINUTE)
    firing = set(table(database, "alerts").query("state == 'firing'")["rule"])
    assert firing == {"service is not well", "alert rules cannot be used"}
    run_alerts(with_settings(runtime, alert_rules_file=good), NOW + 7 * MINUTE)
    assert set(table(database, "alerts").query("state == 'firing'")["rule"]) == {"service is not well"}
