"""The ways a message about an alert takes: a webhook, Prometheus' Alertmanager, mail."""

from __future__ import annotations

import smtplib
import ssl
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from email.message import EmailMessage
from email.utils import format_datetime, make_msgid
from typing import Any

import orjson
import requests

from src.settings import Settings

# Nobody waits longer for a receiver than this.
TIMEOUT_SECONDS = 10
# Alertmanager takes an alert for resolved that was not sent to it for so long; it is sent again well before.
_ALERTMANAGER_KEEPS = timedelta(hours=24)


class Channel(ABC):
    """Somewhere to send messages: `review` makes them, with the fields of an alert."""

    name: str

    @abstractmethod
    def send(self, message: Mapping[str, Any]) -> None:
        """Delivers a message.

        Raises:
            Exception: of any kind, if the receiver did not take it.
        """


@dataclass(frozen=True)
class Webhook(Channel):
    """The message as JSON, posted to an address."""

    url: str
    name: str = "webhook"

    def send(self, message: Mapping[str, Any]) -> None:
        _post(self.url, {"version": 1, "source": "abbanoa-processing", **message})


@dataclass(frozen=True)
class Alertmanager(Channel):
    """The API v2 of Prometheus' Alertmanager, which groups, silences and routes."""

    url: str
    name: str = "alertmanager"

    def send(self, message: Mapping[str, Any]) -> None:
        ends = message["resolved_at"] or (datetime.now(UTC) + _ALERTMANAGER_KEEPS).isoformat()
        alert = {
            "labels": {
                "alertname": message["rule"],
                "severity": message["severity"],
                "subject": message["subject"],
                "service": "abbanoa-processing",
            },
            "annotations": {"summary": message["summary"], "details": orjson.dumps(message["details"]).decode()},
            "startsAt": message["since"],
            "endsAt": ends,
        }
        _post(f"{self.url.rstrip('/')}/api/v2/alerts", [alert])


@dataclass(frozen=True)
class Mail(Channel):
    """Mail by SMTP, encrypted where the server offers it, and always where a password is sent."""

    host: str
    port: int
    user: str
    password: str
    sender: str
    recipients: tuple[str, ...]
    name: str = "mail"

    def send(self, message: Mapping[str, Any]) -> None:
        mail = EmailMessage()
        state = "RESOLVED" if message["status"] == "resolved" else message["severity"].upper()
        # A header is one line, whatever a summary holds.
        mail["Subject"] = " ".join(f"[{state}] {message['rule']}: {message['summary']}".split())[:200]
        mail["From"], mail["To"] = self.sender, ", ".join(self.recipients)
        mail["Date"], mail["Message-ID"] = format_datetime(datetime.now(UTC)), make_msgid(domain="abbanoa-processing")
        lines = [message["summary"], "", f"Since {message['since']}"]
        if message["resolved_at"]:
            lines.append(f"Resolved {message['resolved_at']}")
        lines += ["", orjson.dumps(message["details"], option=orjson.OPT_INDENT_2).decode()]
        mail.set_content("\n".join(lines))
        with smtplib.SMTP(self.host, self.port, timeout=TIMEOUT_SECONDS) as server:
            server.ehlo()
            if server.has_extn("starttls"):
                server.starttls(context=ssl.create_default_context())
                server.ehlo()
            elif self.user:
                raise smtplib.SMTPNotSupportedError("the server offers no encryption, so no password is sent to it")
            if self.user:
                server.login(self.user, self.password)
            server.send_message(mail)


def channels_of(settings: Settings) -> list[Channel]:
    """The channels that the settings name."""
    channels: list[Channel] = []
    if url := settings.alert_webhook_url.get_secret_value():
        channels.append(Webhook(url))
    if settings.alert_alertmanager_url:
        channels.append(Alertmanager(settings.alert_alertmanager_url))
    if settings.alert_smtp_host and settings.alert_mail_to:
        recipients = tuple(part.strip() for part in settings.alert_mail_to.split(",") if part.strip())
        password = settings.alert_smtp_password.get_secret_value()
        sender = settings.alert_mail_from or f"abbanoa@{settings.alert_smtp_host}"
        channels.append(
            Mail(
                settings.alert_smtp_host,
                settings.alert_smtp_port,
                settings.alert_smtp_user,
                password,
                sender,
                recipients,
            )
        )
    return channels


def _post(url: str, content: object) -> None:
    answer = requests.post(
        url,
        data=orjson.dumps(content),
        headers={"Content-Type": "application/json", "User-Agent": "abbanoa-processing"},
        timeout=TIMEOUT_SECONDS,
        allow_redirects=False,
    )
    if not 200 <= answer.status_code < 300:
        raise ValueError(f"the receiver answered {answer.status_code} {answer.reason}")
