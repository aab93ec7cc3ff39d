"""`python -m src.healthcheck URL [GAUGE SECONDS]`: for a container's health check, with nothing but Python itself.

Fails where the URL does not answer with 200 or, where a gauge is named, where that instant in its measures is older.
"""

from __future__ import annotations

import sys
import time
import urllib.request


def main(url: str, gauge: str = "", seconds: str = "0") -> int:
    """The exit code."""
    try:
        with urllib.request.urlopen(url, timeout=4) as answer:
            text = answer.read().decode()
    except OSError as error:
        sys.stderr.write(f"{url}: {error}\n")
        return 1
    if not gauge:
        return 0
    values = [float(line.split()[1]) for line in text.splitlines() if line.startswith(f"{gauge} ")]
    age = time.time() - values[0] if values else float("inf")
    if age > float(seconds):
        sys.stderr.write(f"{gauge} is {age:.0f} s old\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
