"""Messages on their way: each is tried until its receiver takes it, apart from everything else the service does."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import requests
from sqlalchemy import Select, func, select, update

from src.db.tables import alert_deliveries
from src.observability import logger
from src.processing.alerts.channels import Channel, channels_of
from src.processing.jobs.runtime import Runtime

# Seconds until the next attempt after the first, second, ...; then it is given up, after some nine hours.
RETRY_SECONDS = (5, 15, 60, 300, 900, 3600, 3600, 3 * 3600, 3 * 3600)
# So many messages per turn: what waits longer is the next one's.
_AT_ONCE = 20


def run_delivery(runtime: Runtime) -> int:
    """Tries the messages that are due, one transaction each; the number delivered."""
    channels = {channel.name: channel for channel in channels_of(runtime.settings)}
    delivered = 0
    for _ in range(_AT_ONCE):
        outcome = _try_next(runtime, channels)
        if outcome is None or runtime.stopping.is_set():
            break
        delivered += outcome
    return delivered


def _try_next(runtime: Runtime, channels: dict[str, Channel]) -> bool | None:
    """Whether the next due message was delivered; None where none is due."""
    row, earlier = alert_deliveries.c, alert_deliveries.alias("earlier")
    with runtime.database.begin() as connection:
        due = connection.execute(
            select(alert_deliveries)
            .where(row.delivered_at.is_(None), row.given_up_at.is_(None), row.next_attempt_at <= func.now())
            # What happened first is sent first, or an alert that is over would be sent as going on.
            .where(~_waiting(earlier).exists())
            .order_by(row.next_attempt_at, row.delivery_id)
            .limit(1)
            .with_for_update(skip_locked=True)
        ).one_or_none()
        if due is None:
            return None
        channel = channels.get(due.channel)
        error = f"there is no channel {due.channel} any more"
        if channel is not None:
            try:
                channel.send(due.message)
                error = ""
            except Exception as failure:
                error = _reason_of(failure)
        values: dict[str, object] = {"attempts": due.attempts + 1, "last_error": error or None}
        if not error:
            values["delivered_at"] = func.now()
        elif channel is None or due.attempts >= len(RETRY_SECONDS):
            values["given_up_at"] = func.now()
        else:
            values["next_attempt_at"] = func.now() + timedelta(seconds=RETRY_SECONDS[due.attempts])
        connection.execute(update(alert_deliveries).where(row.delivery_id == due.delivery_id).values(values))
    if error:
        log = logger(__name__).bind(channel=due.channel, attempts=due.attempts + 1, error=error)
        log.error("a message about an alert is given up") if "given_up_at" in values else log.warning(
            "a message about an alert was not delivered; it is tried again"
        )
    return not error


def _waiting(earlier: Any) -> Select[Any]:
    """Messages about the same alert that the same channel has not taken yet."""
    row = alert_deliveries.c
    return select(earlier.c.delivery_id).where(
        earlier.c.alert_id == row.alert_id,
        earlier.c.channel == row.channel,
        earlier.c.delivery_id < row.delivery_id,
        earlier.c.delivered_at.is_(None),
        earlier.c.given_up_at.is_(None),
    )


def _reason_of(failure: Exception) -> str:
    """What went wrong, without the address: it may hold a secret."""
    if isinstance(failure, requests.ConnectionError):
        return "the receiver cannot be reached"
    if isinstance(failure, requests.Timeout):
        return "the receiver did not answer in time"
    if isinstance(failure, requests.RequestException):
        return f"{type(failure).__name__}: the address cannot be used"
    return f"{type(failure).__name__}: {failure}"[:500]
