"""Sessions, which a browser uses instead of a key, and the keys themselves as an administrator sees them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Annotated

from fastapi import APIRouter, HTTPException, Path, Request, Response

from src.api import queries
from src.api.database import as_json, database_of
from src.api.gate import client_address
from src.api.identity import Identities, Identity, session_cookie
from src.api.problems import documented, problem
from src.api.schemas.access import ApiKey, NewSession, Session, SessionRequest
from src.api.sessions import Sessions, text_of
from src.credentials import allows
from src.observability import logger
from src.settings import Settings

router = APIRouter(tags=["access"])


# However much it is used, a session ends with the working day.
LONGEST_SESSION = timedelta(days=1)


@router.post("/api/v1/session", response_model=NewSession, status_code=201, responses=documented(400, 401, 409))
async def open_session(request: Request, wanted: SessionRequest | None = None) -> Response:
    """Exchanges an API key for a session: a token, as an HttpOnly cookie and in the answer.

    The token is accepted as that cookie, or as `Authorization: Bearer`. It lasts SESSION_MINUTES from its last use, and
    a day at most; a session for a display may only read, and lasts DISPLAY_SESSION_DAYS.
    """
    settings: Settings = request.app.state.settings
    identity: Identity = request.state.identity
    if settings.api_auth == "off":
        raise HTTPException(409, "API_AUTH is off: nobody needs a session")
    if identity.session_id is not None:
        raise HTTPException(401, "A session is opened with an API key, not with another session")
    is_display = wanted is not None and wanted.is_display
    scope = "read" if is_display else identity.scope
    longest = timedelta(days=settings.display_session_days) if is_display else LONGEST_SESSION
    idle = longest if is_display else timedelta(minutes=settings.session_minutes)
    address = client_address(request.scope)
    user_agent = request.headers.get("user-agent", "")
    token, session = await _sessions(request).open(
        identity.key_id, scope, idle, longest, address, user_agent, datetime.now(UTC)
    )
    logger(__name__).info("session opened", key_id=identity.key_id, session_id=token.identifier, address=address)
    instants = {name: text_of(getattr(session, name)) for name in ("expires_at", "ends_at")}
    answer = as_json({"session_id": token.identifier, "token": token.text, **instants, "scope": scope})
    answer.status_code = 201
    answer.headers["cache-control"] = "no-store"
    answer.set_cookie(
        session_cookie(request.url.scheme),
        token.text,
        # The server decides when the session ends; the cookie outlives every renewal.
        max_age=int(longest.total_seconds()),
        httponly=True,
        secure=request.url.scheme == "https",
        samesite="strict",
    )
    return answer


@router.get("/api/v1/session", response_model=list[Session], responses=documented(401))
async def sessions(request: Request) -> Response:
    """The open sessions of the caller's key, newest first."""
    identity: Identity = request.state.identity
    found = await _sessions(request).of_key(identity.key_id, datetime.now(UTC))
    shown = [
        {
            "session_id": session.session_id,
            "key_name": identity.key_name,
            "scope": session.scope,
            "created_at": text_of(session.created_at),
            "expires_at": text_of(session.expires_at),
            "ends_at": text_of(session.ends_at),
            "address": session.address,
            "user_agent": session.user_agent,
            "is_current": session.session_id == identity.session_id,
        }
        for session in found
    ]
    answer = as_json(shown)
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
    if not await _sessions(request).end(session_id, of_key, datetime.now(UTC)):
        raise HTTPException(404, f"There is no session '{session_id}'")
    identities: Identities = request.app.state.identities
    identities.forget()
    logger(__name__).info("session ended", session_id=session_id, by=identity.key_id)
    answer = Response(status_code=204)
    if session_id == identity.session_id:
        scheme = request.url.scheme
        answer.delete_cookie(session_cookie(scheme), secure=scheme == "https", httponly=True, samesite="strict")
    return answer


@router.get("/api/v1/keys", response_model=list[ApiKey], responses=documented(401, 403))
async def keys(request: Request) -> Response:
    """Every API key with its use, never the key itself; needs the scope admin."""
    identity: Identity = request.state.identity
    if not allows(identity.scope, "admin"):
        return problem(403, f"This needs the scope admin; the key has {identity.scope}")
    answer = as_json(await database_of(request).fetch(queries.API_KEYS))
    answer.headers["cache-control"] = "no-store"
    return answer


def _sessions(request: Request) -> Sessions:
    found: Sessions = request.app.state.sessions
    return found
