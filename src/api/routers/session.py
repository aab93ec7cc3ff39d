"""Sessions, which a browser uses instead of a key, and the keys themselves as an administrator sees them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Annotated

from fastapi import APIRouter, HTTPException, Path, Request, Response

from src.api import queries, schemas
from src.api.database import Database, as_json
from src.api.gate import client_address
from src.api.identity import SESSION_COOKIE, Identities, Identity
from src.api.problems import documented, problem
from src.credentials import allows
from src.observability import logger
from src.settings import Settings

router = APIRouter(tags=["access"])


@router.post("/api/v1/session", response_model=schemas.NewSession, status_code=201, responses=documented(401, 409))
async def open_session(request: Request) -> Response:
    """Exchanges an API key for a session: a token that lasts SESSION_MINUTES, as an HttpOnly cookie and in the answer.

    The token is accepted as that cookie, or as `Authorization: Bearer`.
    """
    settings: Settings = request.app.state.settings
    identity: Identity = request.state.identity
    if settings.api_auth == "off":
        raise HTTPException(409, "API_AUTH is off: nobody needs a session")
    if identity.session_id is not None:
        raise HTTPException(401, "A session is opened with an API key, not with another session")
    # Sessions live in real time, as their keys do, whatever clock is injected.
    now, lasts = datetime.now(UTC), timedelta(minutes=settings.session_minutes)
    expires_at = _text(now + lasts)
    address = client_address(request.scope)
    token = await _identities(request).open_session(
        identity, _text(now), expires_at, lasts, address, request.headers.get("user-agent", "")
    )
    logger(__name__).info("session opened", key_id=identity.key_id, session_id=token.identifier, address=address)
    told = {"session_id": token.identifier, "token": token.text, "expires_at": expires_at, "scope": identity.scope}
    answer = as_json(told)
    answer.status_code = 201
    answer.headers["cache-control"] = "no-store"
    answer.set_cookie(
        SESSION_COOKIE,
        token.text,
        max_age=int(lasts.total_seconds()),
        httponly=True,
        secure=request.url.scheme == "https",
        samesite="strict",
    )
    return answer


@router.get("/api/v1/session", response_model=list[schemas.Session], responses=documented(401))
async def sessions(request: Request) -> Response:
    """The open sessions of the caller's key, newest first."""
    identity: Identity = request.state.identity
    found = await _identities(request).sessions(identity.key_id)
    answer = as_json(
        [
            {
                "session_id": session.session_id,
                "created_at": session.created_at,
                "expires_at": session.expires_at,
                "address": session.address,
                "user_agent": session.user_agent,
                "is_current": session.session_id == identity.session_id,
            }
            for session in found
        ]
    )
    answer.headers["cache-control"] = "no-store"
    return answer


@router.delete("/api/v1/session", status_code=204, responses=documented(401, 404))
async def end_own_session(request: Request) -> Response:
    """Ends the session that makes this request."""
    identity: Identity = request.state.identity
    if identity.session_id is None:
        raise HTTPException(404, "This request was made with an API key, not within a session")
    return await _ended(request, identity.session_id)


@router.delete("/api/v1/session/{session_id}", status_code=204, responses=documented(401, 404))
async def end_session(request: Request, session_id: Annotated[str, Path(max_length=100)]) -> Response:
    """Ends a session of the caller's key; with the scope admin, any session."""
    return await _ended(request, session_id)


async def _ended(request: Request, session_id: str) -> Response:
    identity: Identity = request.state.identity
    of_key = None if allows(identity.scope, "admin") else identity.key_id
    if not await _identities(request).end_session(session_id, of_key):
        raise HTTPException(404, f"There is no session '{session_id}'")
    logger(__name__).info("session ended", session_id=session_id, by=identity.key_id)
    answer = Response(status_code=204)
    if session_id == identity.session_id:
        answer.delete_cookie(SESSION_COOKIE)
    return answer


@router.get("/api/v1/keys", response_model=list[schemas.ApiKey], responses=documented(401, 403))
async def keys(request: Request, database: Database) -> Response:
    """Every API key with its use, never the key itself; needs the scope admin."""
    identity: Identity = request.state.identity
    if not allows(identity.scope, "admin"):
        return problem(403, f"This needs the scope admin; the key has {identity.scope}")
    answer = as_json(await database.fetch(queries.API_KEYS))
    answer.headers["cache-control"] = "no-store"
    return answer


def _identities(request: Request) -> Identities:
    found: Identities = request.app.state.identities
    return found


def _text(instant: datetime) -> str:
    return instant.isoformat(timespec="seconds").replace("+00:00", "Z")
