"""Where a quickstart lives: its folder, which it has for itself, and its port; and what stands in its way."""

from __future__ import annotations

import fcntl
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


class Trouble(Exception):
    """What stands in the way, in a sentence."""


def free_api_port() -> int:
    """The port of 127.0.0.1 that API_PORT names, 8000 by default.

    Raises:
        Trouble: where it is no port, or cannot be used.
    """
    port = os.environ.get("API_PORT") or "8000"
    if not port.isdigit() or not 1 <= int(port) <= 65535:
        raise Trouble(f"API_PORT is '{port}': it should be a port between 1 and 65535.")
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", int(port)))
        except OSError as error:
            raise Trouble(f"Port {port} of 127.0.0.1 cannot be used ({error.strerror}): set API_PORT.") from None
    return int(port)


@contextmanager
def only_user_of(folder: Path) -> Iterator[None]:
    """Inside the block no other quickstart uses the folder, which is made where it is not there.

    Raises:
        Trouble: where another one does.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise Trouble(f"Another quickstart is running on {folder}: stop it, or choose another --data.") from None
        yield
