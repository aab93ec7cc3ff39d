"""What Prometheus and Grafana are set up to ask is answered by the services and the schema as they are, and no rule
fires on a stack that starts well."""

from __future__ import annotations

import re
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import httpx
import orjson
import promql_parser
import pytest
import redis
import yaml
from promql_parser import AggregateExpr, VectorSelector
from sqlalchemy import text

from src.db import api_keys
from src.db.engines import create_database_engine
from src.db.migrate import migrate
from src.db.roles import READONLY, apply_roles
from src.quickstart.engines import free_port
from src.settings import Settings
from tests.conftest import fresh_database
from tests.promql import OF_TARGETS, Scrape, evaluate, parts, scrape
from tests.system import START, environment, eventually, process, put, readings_of

CONTAINERS = Path(__file__).parents[2] / "containers"
DASHBOARD = orjson.loads((CONTAINERS / "grafana/dashboards/abbanoa.json").read_bytes())
PANELS = [panel for panel in DASHBOARD["panels"] if panel["type"] != "row"]
RULES = {
    rule["alert"]: rule
    for group in yaml.safe_load((CONTAINERS / "prometheus/alerts.yml").read_text())["groups"]
    for rule in group["rules"]
}
JOBS = [
    job["job_name"] for job in yaml.safe_load((CONTAINERS / "prometheus/prometheus.yml").read_text())["scrape_configs"]
]
# Prometheus makes these of what it sees itself.
OF_PROMETHEUS = {"ALERTS": {"alertname", "alertstate", "severity"}}
EXPRESSIONS = {
    **{f"rule {name}": rule["expr"] for name, rule in RULES.items()},
    **{
        f"panel {panel['title']} {target['refId']}": target["expr"]
        for panel in PANELS
        for target in panel["targets"]
        if "expr" in target
    },
}
STATEMENTS = {
    **{f"panel {panel['title']}": (panel["type"], target) for panel in PANELS for target in panel["targets"]},
    **{f"annotation {query['name']}": ("annotation", query["target"]) for query in DASHBOARD["annotations"]["list"]},
}
STATEMENTS = {name: (kind, target) for name, (kind, target) in STATEMENTS.items() if "rawSql" in target}
NOW = START + timedelta(days=2)
SERVICES = {"processing": "src.processing.service.main", "api": "src.api.main"}


@dataclass(frozen=True)
class Observed:
    """A stack that was started, did its work and got requests, as Prometheus saw it; its database is still there."""

    scrapes: list[Scrape]
    settings: Settings


@pytest.fixture(scope="module")
def observed(
    server: dict[str, str], redis_address: dict[str, str], bigquery_address: dict[str, str]
) -> Iterator[Observed]:
    with fresh_database(server) as empty:
        address = {
            name: str(getattr(empty, name))
            for name in ("postgres_host", "postgres_port", "postgres_user", "postgres_db")
        }
        settings = Settings(
            **address,
            **redis_address,
            **bigquery_address,
            clock=f"frozen:{NOW.isoformat()}",
            api_port=free_port(),
            api_auth="required",
            replica_timeout_seconds=2,
        )
        database = create_database_engine(settings)
        migrate(database, settings)
        with redis.Redis(host=settings.redis_host, port=settings.redis_port) as client:
            client.flushall()
        measured = readings_of(["n1", "n2"])
        measured.loc[::50, "pressure"] = -50.0
        put(settings, measured)
        ports = {job: free_port() for job in SERVICES}
        with (
            process(SERVICES["processing"], settings=settings, metrics_port=ports["processing"]),
            process(SERVICES["api"], settings=settings, metrics_port=ports["api"]),
            httpx.Client(base_url=f"http://127.0.0.1:{settings.api_port}") as client,
        ):
            scrapes = [_scraped(ports)]

            def has_worked() -> bool:
                time.sleep(1)
                scrapes.append(_scraped(ports))
                return bool(evaluate("max(abbanoa_latest_cycle_timestamp_seconds) > 0", scrapes)) and bool(
                    evaluate('sum(up{job="api"}) > 0', scrapes)
                )

            eventually(has_worked, seconds=240)
            eventually(lambda: _answers(client))
            with database.begin() as connection:
                key = api_keys.create(connection, "test", "read", None, "test").text
            for presented in ({}, {"X-API-Key": "abbanoa_no_key"}, {"X-API-Key": key}, {"X-API-Key": key}):
                client.get("/api/v1/nodes", headers=presented)
            scrapes.append(_scraped(ports))
            assert client.get("/api/v1/nodes", headers={"X-API-Key": key}).status_code == 200
            scrapes.append(_scraped(ports))
        given = settings.model_copy(
            update=Settings(postgres_readonly_password="r").model_dump(include={"postgres_readonly_password"})
        )
        with database.begin() as connection:
            apply_roles(connection, given)
            connection.execute(
                text(
                    "INSERT INTO water_infrastructure.processing_jobs (job_type, job_name, status, scheduled_for, "
                    "created_at, completed_at, triggered_by, error_message) VALUES "
                    "('retention', 'x', 'failed', :at, :at, :at, 'test', 'no luck'), "
                    "('backfill', 'x', 'queued', :at, :at, NULL, 'test', NULL)"
                ),
                {"at": NOW},
            )
        database.dispose()
        yield Observed(scrapes, settings)


def _scraped(ports: dict[str, int]) -> Scrape:
    def exposition(port: int) -> str | None:
        try:
            return httpx.get(f"http://127.0.0.1:{port}/metrics").text
        except httpx.TransportError:
            return None

    return scrape(time.time(), {job: exposition(port) for job, port in ports.items()})


def _answers(client: httpx.Client) -> bool:
    try:
        return client.get("/api/v1/nodes").status_code == 401
    except httpx.TransportError:
        return False


@pytest.fixture(scope="module")
def at_first(observed: Observed) -> dict[str, str]:
    """What each service exposes when it has begun to expose anything."""
    program = (
        "import importlib, sys, prometheus_client as client; importlib.import_module(sys.argv[1]); "
        "print(client.generate_latest().decode())"
    )
    return {
        job: subprocess.run(
            [sys.executable, "-c", program, module],
            env=environment(observed.settings), capture_output=True, text=True, check=True,
        ).stdout
        for job, module in SERVICES.items()
    }  # fmt: skip


def pending(*scrapes: Scrape) -> set[str]:
    """The rules that fire if this goes on."""
    return {name for name, rule in RULES.items() if evaluate(rule["expr"], list(scrapes))}


def least_wait(names: set[str]) -> timedelta:
    return min(promql_parser.parse_duration(RULES[name]["for"]) for name in names)


HOUR, DAY = 3600.0, 86400.0


def replica(now: float, failed: int = 0, queued: int = 3, **instants: float) -> str:
    """What a processing replica that is well exposes at an instant, but for what is named."""
    known = {"heartbeat": now, "clock": now, "latest_cycle": now - 600, "latest_reading": now - 900} | instants
    lines = [f"abbanoa_{name}_timestamp_seconds {value}" for name, value in known.items()]
    lines += [
        f"abbanoa_last_cycle_failed {failed}",
        f"abbanoa_queue_depth {queued}",
        "abbanoa_check_interval_seconds 1800",
    ]
    return "\n".join([*lines, ""])


def scrapes_of(job: str, *expositions: dict[str, float]) -> list[Scrape]:
    """A minute apart, the last one at AT; the other job exposes nothing, and is up."""
    lines = ["".join(f"{sample} {value}\n" for sample, value in exposition.items()) for exposition in expositions]
    return [
        scrape(AT - 60 * (len(lines) - 1 - number), dict.fromkeys(JOBS, "") | {job: exposition})
        for number, exposition in enumerate(lines)
    ]


def requests(good: int, bad: int) -> dict[str, float]:
    return {f'abbanoa_api_requests_total{{status="{status}"}}': n for status, n in (("200", good), ("503", bad))}


def answered(within_1: int, within_2_5: int) -> dict[str, float]:
    counts = {"1.0": within_1, "2.5": within_2_5, "+Inf": within_2_5}
    return {f'abbanoa_api_request_seconds_bucket{{le="{le}"}}': n for le, n in counts.items()}


def readings(count: int, rejected: int) -> dict[str, float]:
    reason = 'abbanoa_readings_rejected_total{reason="pressure_out_of_range"}'
    return {"abbanoa_readings_total": count, reason: rejected}


def replica_at_work(**changed: Any) -> list[Scrape]:
    return [scrape(AT, {"processing": replica(AT, **changed), "api": ""})]


AT = 1_790_000_000.0
BAD_KEYS = 'abbanoa_api_refused_total{reason="bad key"}'
# What makes each rule fire, and what is next to it and does not.
CASES: dict[str, tuple[list[Scrape], list[Scrape]]] = {
    "NoProcessingReplica": ([scrape(AT, {"processing": None, "api": ""})], replica_at_work()),
    "NoApiReplica": ([scrape(AT, {"processing": "", "api": None})], replica_at_work()),
    "DatabaseUnreachable": (replica_at_work(heartbeat=AT - 61), replica_at_work(heartbeat=AT - 59)),
    "DatabaseNeverReached": (replica_at_work(heartbeat=0), replica_at_work()),
    "CycleFailed": (replica_at_work(failed=1), replica_at_work(failed=0)),
    "CycleLate": (replica_at_work(latest_cycle=AT - 3901), replica_at_work(latest_cycle=AT - 3899)),
    "NoCycleYet": (replica_at_work(latest_cycle=0), replica_at_work()),
    "ReadingsStale": (replica_at_work(latest_reading=AT - 10801), replica_at_work(latest_reading=AT - 10799)),
    "NoReadingYet": (replica_at_work(latest_reading=0), replica_at_work()),
    "QueueGrows": (replica_at_work(queued=1001), replica_at_work(queued=1000)),
    "ManyValuesRejected": (
        scrapes_of("processing", readings(0, 0), readings(100, 11)),
        scrapes_of("processing", readings(0, 0), readings(100, 10)),
    ),
    "ApiErrors": (
        scrapes_of("api", requests(0, 0), requests(197, 3)),
        scrapes_of("api", requests(0, 0), requests(198, 2)),
    ),
    "ApiSlow": (
        scrapes_of("api", answered(0, 0), answered(985, 1000)),
        scrapes_of("api", answered(0, 0), answered(995, 1000)),
    ),
    "ManyRefused": (
        scrapes_of("api", {BAD_KEYS: 0}, {BAD_KEYS: 301}),
        scrapes_of("api", {BAD_KEYS: 0}, {BAD_KEYS: 300}),
    ),
}


# --- What queries name is there


def test_prometheus_scrapes_the_services_that_expose_something():
    assert set(JOBS) == set(SERVICES)


@pytest.mark.parametrize("name", EXPRESSIONS)
def test_an_expression_names_only_measures_and_labels_that_are_exposed(name: str, observed: Observed):
    exposed = {
        sample: {label for labels in vector for label, _ in labels}
        for scrape in observed.scrapes
        for sample, vector in scrape.samples.items()
    } | OF_PROMETHEUS
    nodes = list(parts(promql_parser.parse(EXPRESSIONS[name])))
    selectors = [node for node in nodes if isinstance(node, VectorSelector)]
    assert selectors
    for selector in selectors:
        assert selector.name in exposed
        for matcher in selector.matchers.matchers:
            assert matcher.name in exposed[selector.name]
            if str(matcher.op) == "MatchOp.Equal" and selector.name not in OF_PROMETHEUS:
                assert evaluate(str(selector), observed.scrapes), "nothing has that label's value"
    for node in nodes:
        if isinstance(node, AggregateExpr) and node.modifier:
            below = {part.name for part in parts(node.expr) if isinstance(part, VectorSelector)}
            assert all(set(node.modifier.labels) <= exposed[measure] for measure in below)


@pytest.mark.parametrize(
    "panel", [panel for panel in PANELS if "expr" in panel["targets"][0]], ids=lambda panel: panel["title"]
)
def test_a_panel_of_measures_shows_something_once_the_stack_has_worked(panel: dict[str, Any], observed: Observed):
    for target in panel["targets"]:
        found = evaluate(target["expr"], observed.scrapes)
        assert isinstance(found, dict)
        assert found
        # What distinguishes the lines stands in the legend, and only that.
        shown = set(re.findall(r"{{(\w+)}}", target["legendFormat"]))
        assert all(shown == {label for label, _ in labels} - (OF_TARGETS - shown) for labels in found)


@pytest.mark.parametrize("name", STATEMENTS)
def test_a_statement_runs_on_the_real_schema_with_the_role_that_grafana_has(name: str, observed: Observed):
    kind, target = STATEMENTS[name]
    # As Grafana writes it: the span that the page shows.
    span = f"BETWEEN '{START:%Y-%m-%dT%H:%M:%SZ}' AND '{datetime.now(UTC) + timedelta(days=1):%Y-%m-%dT%H:%M:%SZ}'"
    statement = re.sub(r"\$__timeFilter\(([^)]*)\)", rf"\1 {span}", target["rawSql"])
    assert "$" not in statement
    assert set(re.findall(r"water_infrastructure\.(\w+)", statement)) <= {
        "processing_jobs",
        "job_chunks",
        "alert_deliveries",
    }
    engine = create_database_engine(observed.settings.model_copy(update={"postgres_user": READONLY}))
    with engine.connect() as connection:
        result = connection.exec_driver_sql(statement)
        columns, rows = list(result.keys()), result.all()
    engine.dispose()
    assert rows
    if kind == "stat":
        assert len(rows) == 1
        assert all(value is None or isinstance(value, int | float | Decimal) for value in rows[0])
    if kind == "annotation":
        assert columns == ["time", "text", "tags"]
        assert [row.text for row in rows] == ["retention: no luck"]
    if target["format"] == "time_series":
        assert columns == ["time", "metric", "value"]
        assert [row.time for row in rows] == sorted(row.time for row in rows)
        assert all(isinstance(row.metric, str) and isinstance(row.value, int | float) for row in rows)


def test_grafana_finds_its_sources_and_reads_with_the_role_that_only_reads():
    file = CONTAINERS / "grafana/provisioning/datasources/abbanoa.yml"
    sources = {source["uid"]: source for source in yaml.safe_load(file.read_text())["datasources"]}
    assert sources["database"]["user"] == READONLY
    referenced = [panel["datasource"] for panel in PANELS] + [
        query["datasource"] for query in DASHBOARD["annotations"]["list"]
    ]
    referenced += [target["datasource"] for panel in PANELS for target in panel["targets"]]
    assert all(sources[source["uid"]]["type"] == source["type"] for source in referenced)


def test_panels_are_named_explained_and_do_not_cover_each_other():
    assert len({panel["id"] for panel in DASHBOARD["panels"]}) == len(DASHBOARD["panels"])
    assert len({panel["title"] for panel in DASHBOARD["panels"]}) == len(DASHBOARD["panels"])
    assert all(panel["description"] for panel in PANELS)
    taken: set[tuple[int, int]] = set()
    for panel in DASHBOARD["panels"]:
        at = panel["gridPos"]
        cells = {(at["x"] + x, at["y"] + y) for x in range(at["w"]) for y in range(at["h"])}
        assert at["x"] + at["w"] <= 24
        assert not cells & taken
        taken |= cells


# --- What fires, and what does not


def test_nothing_fires_before_a_first_start_has_brought_the_services_up():
    waiting = pending(scrape(time.time(), dict.fromkeys(JOBS)))
    assert waiting == {"NoProcessingReplica", "NoApiReplica"}
    # The start script gives up after three minutes.
    assert least_wait(waiting) >= timedelta(minutes=5)


def test_nothing_fires_while_a_service_that_has_begun_has_not_yet_reached_anything(at_first: dict[str, str]):
    waiting = pending(scrape(time.time(), at_first))
    assert waiting == {"DatabaseNeverReached", "NoCycleYet", "NoReadingYet"}
    # A replica ends by itself where it has no database for a minute.
    assert least_wait(waiting) >= timedelta(minutes=5)


def test_nothing_fires_while_the_first_cycle_is_under_way(at_first: dict[str, str]):
    now = time.time()
    known = {"abbanoa_heartbeat_timestamp_seconds": now, "abbanoa_clock_timestamp_seconds": now}
    begun = at_first["processing"]
    for name, value in (known | {"abbanoa_check_interval_seconds": 1800}).items():
        begun, count = re.subn(rf"^{name} 0\.0$", f"{name} {value}", begun, flags=re.MULTILINE)
        assert count == 1
    waiting = pending(scrape(now, at_first | {"processing": begun}))
    assert waiting == {"NoCycleYet", "NoReadingYet"}
    assert least_wait(waiting) >= timedelta(hours=3)


def test_nothing_is_left_waiting_when_a_stack_has_come_up_well(observed: Observed):
    of_starts = {"NoProcessingReplica", "NoApiReplica", "DatabaseNeverReached", "NoCycleYet", "NoReadingYet"}
    for count in range(1, len(observed.scrapes) + 1):
        assert pending(*observed.scrapes[:count]) <= of_starts
    assert pending(*observed.scrapes) == set()


def test_nothing_fires_when_a_stack_comes_back_after_days_and_catches_up(at_first: dict[str, str]):
    now = time.time()
    back = scrape(
        now, {"processing": replica(now, latest_cycle=now - 3 * DAY, latest_reading=now - 3 * DAY), "api": ""}
    )
    assert pending(back) == {"CycleLate", "ReadingsStale"}
    assert least_wait({"CycleLate", "ReadingsStale"}) >= timedelta(minutes=10)
    hours_ago = scrape(now - 2 * HOUR, {"processing": replica(now - 2 * HOUR), "api": ""})
    waiting = pending(hours_ago, scrape(now, at_first))
    assert "DatabaseUnreachable" in waiting
    assert least_wait(waiting) >= timedelta(minutes=2)


@pytest.mark.parametrize("name", RULES)
def test_a_rule_fires_where_it_should_and_next_to_that_does_not(name: str):
    bad, good = CASES[name]
    assert name in pending(*bad)
    assert name not in pending(*good)


def test_a_rule_says_how_bad_it_is_and_what_to_do():
    for rule in RULES.values():
        assert rule["labels"]["severity"] in {"page", "ticket"}
        assert rule["annotations"]["summary"]
        assert rule["annotations"]["action"]
