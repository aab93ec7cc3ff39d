"""The check of all rules, once a minute: what is new, what goes on, what is over; messages about it are put in line."""

from __future__ import annotations

from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, insert, select, text, update

from src.db import generation
from src.db.tables import alert_deliveries, alerts
from src.domain.alerts import FIRING, PENDING, RESOLVED, Condition, Decision, Standing, decide
from src.observability import logger
from src.processing.alerts.channels import channels_of
from src.processing.alerts.conditions import conditions
from src.processing.alerts.rules import RulesError, load_rules
from src.processing.jobs.runtime import Runtime

# The alert that the rules themselves cannot be read.
RULES_WRONG = "alert rules cannot be used"
# One replica checks at a time: any number will do, if it is always the same.
_LOCK = text("SELECT pg_try_advisory_xact_lock(72652001)")


def run_alerts(runtime: Runtime, as_of: datetime) -> None:
    """Checks the rules, if no other replica is doing so; a file of rules that is wrong is itself an alert."""
    with runtime.database.begin() as connection:
        if connection.scalar(_LOCK):
            review(connection, runtime, as_of)


def review(connection: Connection, runtime: Runtime, now: datetime) -> list[Decision]:
    """Brings the stored alerts in line with what is wrong at `now`; what changed."""
    standing, hold, again_after = _standing(connection), {}, timedelta(hours=4)
    try:
        rules = load_rules(Path(runtime.settings.alert_rules_file))
    except RulesError as error:
        # What the rules would find now is not known: the other alerts stay as they are.
        found = [Condition(RULES_WRONG, "file", "critical", str(error)[:1000])]
        standing = [alert for alert in standing if alert.rule == RULES_WRONG]
    else:
        found = conditions(connection, runtime, rules, now)
        hold = {rule.name: timedelta(minutes=rule.for_minutes) for rule in rules.rules}
        again_after = timedelta(hours=rules.tell_again_after_hours)
    decisions = decide(found, standing, now, hold, again_after)
    changed = False
    for decision in decisions:
        changed |= _carry_out(connection, runtime, decision, now)
    if changed:
        generation.advance(connection)
    return decisions


def _standing(connection: Connection) -> list[Standing]:
    rows = connection.execute(select(alerts).where(alerts.c.state != RESOLVED).with_for_update())
    return [Standing(r.alert_id, r.rule, r.subject, r.state, r.severity, r.since, r.notified_at) for r in rows]


def _carry_out(connection: Connection, runtime: Runtime, decision: Decision, now: datetime) -> bool:
    """Stores a decision and puts its messages in line; whether what the API shows has changed."""
    alert, condition = decision.alert, decision.condition
    values: dict[str, Any] = {"state": decision.state}
    if condition is not None:
        values |= {"severity": condition.severity, "summary": condition.summary, "details": dict(condition.details)}
    if decision.state == RESOLVED:
        values["resolved_at"] = now
    if decision.notify:
        values["notified_at"] = now
    fires = decision.state == FIRING and (alert is None or alert.state == PENDING)
    if fires:
        values["fired_at"] = now
    if alert is None:
        assert condition is not None
        values |= {"rule": condition.rule, "subject": condition.subject, "since": now}
        row = connection.execute(insert(alerts).values(values).returning(alerts)).one()
    else:
        statement = update(alerts).where(alerts.c.alert_id == alert.alert_id).values(values)
        row = connection.execute(statement.returning(alerts)).one()
    if decision.notify:
        message = {
            "alert_id": str(row.alert_id),
            "status": row.state,
            "rule": row.rule,
            "subject": row.subject,
            "severity": row.severity,
            "summary": row.summary,
            "details": row.details,
            "since": row.since.isoformat(),
            "resolved_at": row.resolved_at.isoformat() if row.resolved_at else None,
        }
        channels = [channel.name for channel in channels_of(runtime.settings)]
        if channels:
            lines = [{"alert_id": row.alert_id, "channel": name, "message": message} for name in channels]
            connection.execute(insert(alert_deliveries), lines)
        log = logger(__name__).bind(rule=row.rule, subject=row.subject, severity=row.severity, channels=channels)
        log.warning("alert", status=row.state, summary=row.summary)
    return fires or decision.state == RESOLVED
