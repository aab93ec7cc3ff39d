"""What holds for every route: who may call it, and that it answers every request as documented."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import httpx
import pytest
import schemathesis
from hypothesis import HealthCheck, settings
from schemathesis.config import SchemathesisConfig
from schemathesis.specs.openapi.checks import ignored_auth, positive_data_acceptance
from sqlalchemy import Engine, text

from src.api.main import create_app
from src.settings import Settings
from tests.access import ASTRAY, LEAST, SCOPES, Matrix, everybody, opened, routes
from tests.api import content


@pytest.fixture(scope="module")
def visitor(api: httpx.Client, database_of_api: Engine) -> Iterator[httpx.Client]:
    """A client without a credential, of an API that has rows of every kind."""
    with database_of_api.begin() as connection:
        content.add(connection)
    with httpx.Client(base_url=api.base_url, timeout=10) as client:
        yield client


@pytest.fixture(scope="module")
def matrix(visitor: httpx.Client, database_of_api: Engine, key_of: Callable[..., str]) -> Matrix:
    def sql(statement: str) -> None:
        with database_of_api.begin() as connection:
            connection.execute(text(statement))

    there = {name: content.KNOWN[name][1] for name in ("anomaly_id", "district_id", "model_id")}
    return Matrix(visitor, everybody(visitor, lambda scope: key_of(scope=scope), sql), node_id="n1", **there)


@pytest.fixture(scope="module")
def keys(key_of: Callable[..., str]) -> dict[str, str]:
    """A key of each scope, whose sessions concern nobody else."""
    return {scope: key_of(scope=scope) for scope in SCOPES}


def test_the_table_of_who_may_ask_what_has_every_route():
    assert set(LEAST) == routes()


@pytest.mark.parametrize("route", [*sorted(routes()), *ASTRAY])
def test_nobody_gets_an_answer_that_is_for_others_by_whichever_way_of_asking(matrix: Matrix, route: str):
    if route in LEAST and route.startswith("GET"):
        assert matrix.as_admin(route).status_code == 200
    wrong = matrix.wrong(route)
    assert not wrong, "\n".join(wrong[:20])


# Parameters that may lead to rows do so in half of the cases that are as documented.
KNOWN = content.KNOWN | {"session_id": ["opened"]}
LEADING = SchemathesisConfig.from_dict(
    {
        "dictionaries": {name: {"values": values} for name, values in KNOWN.items()},
        "parameters": {name: {"dictionary": name, "probability": 0.5} for name in KNOWN},
        # No made up credentials beside those that the test presents.
        "generation": {"with-security-parameters": False},
    }
)
schema = schemathesis.openapi.from_dict(create_app(Settings()).openapi(), config=LEADING)
# A tenth of the profile's for each route and scope: 10 000 in all with --hypothesis-profile=thorough.
CASES = max(10, settings().max_examples // 10)
IS_THOROUGH = settings.get_current_profile_name() == "thorough"


@pytest.mark.parametrize("scope", SCOPES)
@schema.parametrize()
@settings(max_examples=CASES, derandomize=not IS_THOROUGH, suppress_health_check=list(HealthCheck))
def test_answers_are_as_documented_whatever_is_requested(case, scope: str, visitor: httpx.Client, keys: dict[str, str]):
    token = keys[scope]
    if case.method == "DELETE":
        token = opened(visitor, token)
        if case.path_parameters.get("session_id") == "opened":
            case.path_parameters["session_id"] = token.split("_")[1]
    case.call_and_validate(
        base_url=str(visitor.base_url),
        headers={"X-API-Key": token},
        # That start_time lies before end_time, and that a cursor came from here, OpenAPI cannot express; who may
        # call a route is tested above.
        excluded_checks=[positive_data_acceptance, ignored_auth],
    )
