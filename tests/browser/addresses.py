"""Every page of the dashboard, and where it lies on the small network."""

from __future__ import annotations

from tests.browser.content import BURST_INCIDENT, FORECAST
from tests.browser.rows import LONG

PAGES = {
    "overview": "/dashboard",
    "nodes": "/dashboard/nodes",
    "node": f"/dashboard/nodes/{LONG}",
    "district": "/dashboard/districts/pirri",
    "incidents": "/dashboard/incidents",
    "incident": f"/dashboard/incidents/{BURST_INCIDENT}",
    "models": "/dashboard/models",
    "model": f"/dashboard/models/{FORECAST}",
    "jobs": "/dashboard/jobs",
    "alerts": "/dashboard/alerts",
    "works": "/dashboard/works",
    "access": "/dashboard/access",
    "survey": "/dashboard/survey",
    "sign-in": "/dashboard/sign-in",
}
# What a reader must find on each, in English: of the rows that the small network has.
SHOWN = {
    "overview": ["Pirri", "Burst"],
    "nodes": ["Inlet Pirri", "Lower street Quartu Nord"],
    "node": ["Inlet Pirri", "L/s"],
    "district": ["Pirri", "m³"],
    "incidents": ["Burst", "Pirri"],
    "incident": ["8.2 L/s", "Inlet Pirri"],
    "models": ["2023.06.05", "2023.06.12"],
    "model": ["2023.06.05", "that of the active one was 1.0 L/s"],
    "jobs": ["the warehouse did not answer for 60 seconds"],
    "alerts": ["Pirri: a burst of 8.2 L/s since 22:12"],
    "works": ["Flushing of mains", "Valve of Via Roma"],
    "access": ["read desk", "admin desk"],
    "survey": ["Survey"],
    "sign-in": ["Sign in"],
}
