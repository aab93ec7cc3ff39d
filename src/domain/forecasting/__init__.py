"""Forecasts of hourly flow, 1 to 168 hours ahead, for many nodes at once."""

import os

# Threads of the learning library that wait for each other sleep: by default they spin, and where other work has the
# cores, as beside a cycle, a training that spins takes several times as long. Read once, when the library is loaded.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
