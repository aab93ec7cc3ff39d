"""SQL of requests about models."""

from __future__ import annotations

from src.api.pages import bounded

# Newest first, from before the cursor ($1, $2).
MODEL_REQUESTS = bounded(
    """
    SELECT request_id, action, model_type, scope, model_id, requested_at, requested_by, note, status, decided_at,
        job_id, outcome
    FROM water_infrastructure.model_requests
    WHERE ($1::timestamptz IS NULL OR (requested_at, request_id) < ($1, $2::uuid))
    ORDER BY requested_at DESC, request_id DESC LIMIT $3
    """,
    "requested_at DESC, request_id DESC",
    "note, outcome",
)

MODEL_PLACE = "SELECT model_type, scope FROM water_infrastructure.ml_models WHERE model_id = $1"

# Of two that ask at the same moment, the second sees what the first has written.
ONE_REQUEST_AT_A_TIME = "SELECT pg_advisory_xact_lock(72652006)"

# One that asks the same and is not decided yet.
SAME_REQUEST = """
    SELECT request_id FROM water_infrastructure.model_requests
    WHERE status IN ('queued', 'running') AND action = $1 AND model_type = $2 AND scope IS NOT DISTINCT FROM $3::text
        AND model_id IS NOT DISTINCT FROM $4::uuid
    ORDER BY requested_at LIMIT 1
"""

# $5 now, $6 who, $7 a note.
REQUEST_OF_MODEL = """
    INSERT INTO water_infrastructure.model_requests
        (action, model_type, scope, model_id, requested_at, requested_by, note)
    VALUES ($1, $2, $3, $4, $5, $6, $7) RETURNING request_id
"""
