"""The data generation, as both services know it: the processing service publishes it, cached answers carry it."""

from __future__ import annotations

# Redis key of the number in water_infrastructure.data_generation.
GENERATION_KEY = "abbanoa:generation"
