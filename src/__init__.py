"""Processing services of a water utility: metrics, quality, anomalies, balances and forecasts, and the API to them."""

import atexit
import gc

# Nearly all that imports make stays to the end. To search it for garbage, time and again and once more at the end,
# would take a third of the time in which a command starts and ends.
gc.set_threshold(50_000, 20, 20)
atexit.register(gc.freeze)


def collect_as_usual() -> None:
    """For a process that works for minutes or longer: what imports made is never searched, other garbage soon.

    A small object of a cycle may hold a table of readings: collected seldom, many megabytes would wait for it.
    """
    gc.freeze()
    gc.set_threshold(700, 10, 10)
