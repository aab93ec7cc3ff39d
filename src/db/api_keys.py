"""`python -m src.db.api_keys create|list|revoke`: the keys that callers of the API present."""

from __future__ import annotations

import argparse
import re
import sys
from datetime import timedelta

import orjson
from sqlalchemy import Connection, func, insert, select, update

from src.credentials import KEY_PREFIX, SCOPES, Credential, new_credential
from src.db.engines import create_database_engine
from src.db.migrate import wait_for_schema
from src.db.tables import api_key_usage, api_keys
from src.observability import configure_logging
from src.settings import load_settings

_keys, _usage = api_keys.c, api_key_usage.c
_UNITS = {"h": "hours", "d": "days", "w": "weeks"}


def create(
    connection: Connection, name: str, scope: str, lasts: timedelta | None, created_by: str, person: str | None = None
) -> Credential:
    """Stores the digest of a new key; without `lasts` it is good until it is revoked.

    Args:
        person: who holds it; events are acknowledged under this name.
    """
    key = new_credential(KEY_PREFIX)
    connection.execute(
        insert(api_keys).values(
            key_id=key.identifier,
            key_name=name,
            digest=key.digest,
            scope=scope,
            person=person,
            # Real time, whatever clock is injected: a key is good or not in the world.
            created_at=func.now(),
            created_by=created_by,
            expires_at=None if lasts is None else func.now() + lasts,
        )
    )
    return key


def revoke(connection: Connection, key_id: str) -> bool:
    """Makes a key, and every session opened with it, useless; False if there is no such key."""
    statement = update(api_keys).where(_keys.key_id == key_id)
    return connection.execute(statement.values(revoked_at=func.coalesce(_keys.revoked_at, func.now()))).rowcount == 1


def _lifetime(text: str) -> timedelta | None:
    if text == "never":
        return None
    match = re.fullmatch(r"([1-9][0-9]{0,3})([hdw])", text)
    if match is None:
        raise argparse.ArgumentTypeError(f"'{text}' is none: write 12h, 90d, 52w or never")
    return timedelta(**{_UNITS[match[2]]: int(match[1])})


def main(arguments: list[str] | None = None) -> int:
    """Creates, lists or revokes; the exit code."""
    parser = argparse.ArgumentParser(prog="python -m src.db.api_keys", description=__doc__)
    commands = parser.add_subparsers(required=True, dest="command", metavar="COMMAND")
    creating = commands.add_parser("create", help="make a key and print it, this once")
    creating.add_argument("name", help="who uses it, for the list and the audit")
    creating.add_argument("--scope", choices=SCOPES, default="read", help="each includes those before (%(default)s)")
    creating.add_argument(
        "--expires", type=_lifetime, default="365d", metavar="AFTER", help="12h, 90d, 52w or never (%(default)s)"
    )
    creating.add_argument("--person", help="who holds it; events are acknowledged and resolved under this name")
    creating.add_argument("--by", default="the command line", help="who makes it, for the list")
    creating.add_argument("--quiet", action="store_true", help="print the key and nothing else")
    listing = commands.add_parser("list", help="every key and its use")
    listing.add_argument("--json", action="store_true", help="one JSON object a line")
    revoking = commands.add_parser("revoke", help="make a key useless, within two seconds")
    revoking.add_argument("key_id", help="as `list` shows it: the middle part of the key")
    options = parser.parse_args(arguments)
    settings = load_settings()
    configure_logging(settings)
    database = create_database_engine(settings)
    if problem := wait_for_schema(database, seconds=10):
        sys.stderr.write(problem + "\n")
        return 1
    with database.begin() as connection:
        if options.command == "create":
            key = create(connection, options.name, options.scope, options.expires, options.by, options.person)
            if not options.quiet:
                sys.stderr.write(f"Key {key.identifier} ({options.name}, {options.scope}); it is not shown again:\n")
            sys.stdout.write(key.text + "\n")
        elif options.command == "list":
            _list(connection, options.json)
        elif not revoke(connection, options.key_id):
            sys.stderr.write(f"There is no key '{options.key_id}': see `list`.\n")
            return 1
    return 0


def _list(connection: Connection, as_json: bool) -> None:
    last_used = select(func.max(_usage.last_used_at)).where(_usage.key_id == _keys.key_id).scalar_subquery()
    requests = select(func.coalesce(func.sum(_usage.requests), 0)).where(_usage.key_id == _keys.key_id)
    query = select(
        _keys.key_id,
        _keys.key_name,
        _keys.person,
        _keys.scope,
        _keys.created_at,
        _keys.expires_at,
        _keys.revoked_at,
        (_keys.expires_at <= func.now()).label("expired"),
        last_used.label("last_used_at"),
        requests.scalar_subquery().label("requests"),
    ).order_by(_keys.created_at)
    for row in connection.execute(query).mappings():
        if as_json:
            sys.stdout.write(orjson.dumps(dict(row), default=str).decode() + "\n")
        else:
            state = "revoked" if row["revoked_at"] else "expired" if row["expired"] else "good"
            used = (
                f"{row['requests']} requests, last {row['last_used_at']:%Y-%m-%d %H:%M}"
                if row["last_used_at"]
                else "unused"
            )
            name = f"{row['key_name']} of {row['person']}" if row["person"] else row["key_name"]
            until = f"until {row['expires_at']:%Y-%m-%d}" if row["expires_at"] else "no end"
            sys.stdout.write(f"{row['key_id']}  {row['scope']:5}  {state:7}  {until:16}  {name}  ({used})\n")


if __name__ == "__main__":
    sys.exit(main())
