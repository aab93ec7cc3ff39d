"""The survey as the API serves it: the stored one, page by page."""

from __future__ import annotations

import httpx
from sqlalchemy import Engine, text

from tests.api.conftest import NOW, ODD


def pages(api: httpx.Client, path: str) -> list[dict[str, object]]:
    """The answer, and those that its links lead to."""
    found = []
    while path:
        answer = api.get(path)
        assert answer.status_code == 200, answer.text
        found.append(answer.json())
        path = answer.links.get("next", {}).get("url", "")
    return found


def test_the_survey_of_the_last_cycle_is_served_as_it_is_stored(api: httpx.Client):
    answer = api.get("/api/v1/survey")
    survey = answer.json()
    assert survey["surveyed_at"] == NOW.isoformat().replace("+00:00", "Z")
    assert [node["node_id"] for node in survey["nodes"]] == sorted(["n1", "n2", ODD])
    n1 = next(node for node in survey["nodes"] if node["node_id"] == "n1")
    assert n1["channels"][0] == {"measurement": "flow_rate", "taken_for": "flow", "unit": "L/s", "why": []}
    assert (n1["role"], n1["role_believed"], n1["days"], n1["cadence_seconds"]) == (None, None, 9, 900)
    assert n1["first_reading"] == "2023-05-01T00:00:00Z"
    # Eight days, by the utility's time the first of them without its first two hours, and the last as long as it was.
    assert n1["lacking"]["forecast"][0].startswith("8 of the last 21 days have flow, and all are needed")
    assert api.get("/api/v1/survey", headers={"If-None-Match": answer.headers["etag"]}).status_code == 304


def test_pages_of_nodes_and_districts_are_put_together(api: httpx.Client, database_of_api: Engine):
    with database_of_api.begin() as connection:
        connection.execute(
            text(
                "INSERT INTO water_infrastructure.district_survey (district_id, surveyed_at, nodes, lacking, has) "
                'SELECT \'d\' || n || chr(10), now(), n, \'{"balance": [], "forecast": [], "detector": [], '
                '"recommendation": []}\', \'{"balance": true, "forecast": true, "detector": "none", '
                '"recommendation": "none"}\' FROM generate_series(1, 5) n'
            )
        )
    found = pages(api, "/api/v1/survey?limit=2")
    nodes = [node["node_id"] for page in found for node in page["nodes"]]  # type: ignore[attr-defined, index]
    districts = [one["district_id"] for page in found for one in page["districts"]]  # type: ignore[attr-defined, index]
    assert nodes == sorted(["n1", "n2", ODD])
    assert districts == [f"d{n}\n" for n in range(1, 6)]
    assert len(found) == 3
    for cursor in ("x", "OTk5OQphYg", "LTEKYWI"):
        assert api.get(f"/api/v1/survey?cursor={cursor}").status_code == 422
