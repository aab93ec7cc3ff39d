"""The stack on two machines: work on both, updates one after the other, and machines that go."""

from __future__ import annotations

import json
import os
import subprocess
import time
from pathlib import Path

from tests.e2e.machines import REGISTRY
from tests.e2e.report import Report, eventually
from tests.e2e.swarm import STACK, Load, Swarm

WEBHOOK = "https://hooks.invalid/w3b-hook-Rk7-Pq2"
REDIS_PASSWORD = 'r3dis-k7"Q!x\\n9f \\x41$Lm2-Zw'
SERVICES = ("postgres", "redis", "processing", "api", "nginx", "bigquery")
OF_JOBS = "water_infrastructure.job_chunks JOIN water_infrastructure.processing_jobs USING (job_id)"
PLACE = "SELECT location_name FROM water_infrastructure.nodes WHERE node_id = 'inlet-river'"


def refused(swarm: Swarm, report: Report) -> None:
    """What an operator forgets: a sentence and the next step, and nothing is started."""

    def refuses(what: str, sentence: str, next_step: str, flags: str = "--demo") -> None:
        with report.check(f"deploy refuses: {what}"):
            output = swarm.run(f"./scripts/swarm.sh deploy {flags}", 120, expect=1).stderr.splitlines()
            lines = [line for line in output if not line.startswith("Note:")]
            assert [line.split(":")[0] for line in lines] == ["Error", "Next"], output
            assert sentence in lines[0], output
            assert next_step in lines[1], output

    address = swarm.one.address
    refuses("no swarm", "in no swarm", "docker swarm init")
    swarm.one.docker("swarm", "init", "--advertise-addr", address, "--listen-addr", address)
    token = swarm.one.docker("swarm", "join-token", "-q", "worker")
    swarm.two.docker("swarm", "join", "--token", token, "--advertise-addr", swarm.two.address, f"{address}:2377")
    refuses("no machine for the databases", "No machine is labelled", "--label-add abbanoa.database=true")
    for name in ("one", "two"):
        swarm.one.docker("node", "update", "--label-add", "abbanoa.database=true", name)
    refuses("two machines for the databases", "More than one machine", "--label-rm")
    swarm.one.docker("node", "update", "--label-rm", "abbanoa.database", "two")
    refuses("images that no registry has", "No registry", "see --loaded")
    refuses("images that are not loaded", "not on this machine", "docker load", "--demo --loaded")
    with report.check("deploy refuses: called on a worker"):
        done = subprocess.run(
            ["bash", "scripts/swarm.sh", "status"], cwd=swarm.folder, env=os.environ | swarm.two.environment,
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert done.returncode == 1
        assert "worker of its swarm" in done.stderr, done.stderr
    assert not swarm.one.docker("service", "ls", "-q")


def start(swarm: Swarm, report: Report) -> None:
    with report.check("deploy: the first start, databases first"):
        begun = time.monotonic()
        done = swarm.deploy()
        print(done.stderr + done.stdout)
        swarm.measured["seconds_to_healthy"] = round(time.monotonic() - begun, 1)
    with report.check("processing, API and Nginx run on both machines, databases on that with the label"):
        assert {name: swarm.on(name) for name in SERVICES} == {
            "postgres": [1, 0], "redis": [1, 0], "bigquery": [1, 0],
            "processing": [1, 1], "api": [1, 1], "nginx": [1, 1],
        }  # fmt: skip
    with report.check("status says that nothing is missing"):
        output = swarm.run("./scripts/swarm.sh status").stdout
        assert "api  2/2" in output, output
    with report.check("a key is made on the machine of the databases, and the Nginx of both machines answers"):
        swarm.key = swarm.run("./scripts/create_api_key.sh trial --scope read --expires 90d").stdout.strip()
        assert swarm.key.startswith("abk_"), swarm.key
        for machine in (swarm.one, swarm.two):
            with swarm.client(machine) as client, swarm.client(machine, key="") as nobody:
                eventually(lambda client=client: swarm.status_of(client, "/api/v1/nodes") == 200, 30, "an answer")
                assert swarm.status_of(nobody, "/api/v1/nodes") == 401
    with report.check("the API knows where a caller is, through Nginx, and believes nobody else"):
        with swarm.client(swarm.two, key="wrong") as client:
            client.headers["X-Forwarded-For"] = "203.0.113.77"
            assert swarm.status_of(client, "/api/v1/nodes") == 401
        logs = swarm.logs("api")
        assert "198.18.83.5" in logs, logs[-2000:]
        assert "203.0.113.77" not in logs


def shared(swarm: Swarm, report: Report) -> None:
    with report.check("replicas on both machines share a cycle"):
        machine_of = "split_part(replica, ':', 1)"
        query = (
            f"SELECT job_id, string_agg(DISTINCT {machine_of}, ' ' ORDER BY {machine_of}), count(*) FROM {OF_JOBS} "
            "WHERE job_chunks.status = 'completed' AND processing_jobs.status = 'completed' "
            "AND job_type = 'processing_cycle' "
            f"GROUP BY job_id HAVING count(DISTINCT {machine_of}) = 2 ORDER BY 3 DESC LIMIT 1"
        )
        found = eventually(lambda: swarm.sql(query), 240, "a cycle with chunks of both machines")
        job, names, chunks = found.split("|")
        assert names == "one two", found
        each = swarm.sql(
            f"SELECT {machine_of}, count(*) FROM {OF_JOBS} WHERE job_id = '{job}' GROUP BY 1 ORDER BY 1"
        ).split()
        swarm.measured["shared_cycle"] = {"chunks": int(chunks), "by_machine": each}


def secrets(swarm: Swarm, report: Report) -> None:
    read = "cd /run/secrets && for f in *password *url *.key *privkey.pem; do [ ! -f $f ] || cat $f; echo; done"
    values = {
        line.strip()
        for service in ("postgres", "redis", "processing", "api", "nginx")
        for line in swarm.one.docker(
            "exec", swarm.one.containers(f"{STACK}_{service}")[0], "sh", "-c", read
        ).splitlines()
        if line.strip() and "-----" not in line
    }
    with report.check("secrets are Swarm's, and each is given to those who need it only"):
        assert {WEBHOOK, REDIS_PASSWORD} <= values
        assert len(swarm.one.docker("secret", "ls", "-q").split()) == 12
        for service, expected in (
            ("api", "postgres-ca.pem postgres_api_password redis_password"),
            ("nginx", "fullchain.pem privkey.pem"),
        ):
            container = swarm.two.containers(f"{STACK}_{service}")[0]
            assert swarm.two.docker("exec", container, "ls", "/run/secrets").split() == expected.split()
            mounted = swarm.two.docker("inspect", "-f", "{{json .Mounts}}", container)
            assert "_secrets-" not in mounted
        assert not [name for name in swarm.two.docker("volume", "ls", "-q").split() if "secrets" in name]
    with report.check("no secret stands in a service, a task, a container or a config, nor in a log"):
        output = swarm.one.docker("service", "inspect", *swarm.one.docker("service", "ls", "-q").split())
        output += "".join(swarm.logs(service, "300") for service in (*SERVICES, "setup", "migrate"))
        output += swarm.one.docker("config", "inspect", *swarm.one.docker("config", "ls", "-q").split())
        for machine in (swarm.one, swarm.two):
            output += machine.docker("inspect", *machine.docker("ps", "-aq").split())
        exposed = [value for value in values | {swarm.key} if value in output or json.dumps(value)[1:-1] in output]
        assert not exposed, f"{len(exposed)} of {len(values)}"
        swarm.measured["secret_values_looked_for"] = len(values) + 1
    with report.check("everything that comes to PostgreSQL from other containers is encrypted"):
        ssl_of = "pg_stat_activity JOIN pg_stat_ssl USING (pid) WHERE application_name LIKE 'abbanoa-%'"
        assert int(swarm.sql(f"SELECT count(*) FROM {ssl_of} AND ssl")) > 0
        assert swarm.sql(f"SELECT count(*) FROM {ssl_of} AND NOT ssl") == "0"
    with report.check("containers: read-only, no capabilities and no way to get any, not root, bounded in memory"):
        for machine in (swarm.one, swarm.two):
            for service in SERVICES:
                for container in machine.containers(f"{STACK}_{service}"):
                    host = json.loads(machine.docker("inspect", "-f", "{{json .HostConfig}}", container))
                    assert host["ReadonlyRootfs"], service
                    assert host["CapDrop"] == ["ALL"], service
                    assert host["Memory"] > 0, service
                    assert host["Init"], service
                    state = machine.docker("exec", container, "sh", "-c", "cat /proc/[0-9]*/status")
                    assert "NoNewPrivs:\t0" not in state, service
                    shown = machine.docker("top", container, "-eo", "pid,uid,args").splitlines()[1:]
                    working = [line for line in shown if "docker-init" not in line and "/bin/sh" not in line]
                    assert not [line for line in working if line.split()[1] == "0"], (service, shown)


def unchanged(swarm: Swarm, report: Report) -> None:
    def running() -> set[str]:
        return {
            container
            for machine in (swarm.one, swarm.two)
            for service in SERVICES
            for container in machine.containers(f"{STACK}_{service}")
        }

    with report.check("deploy again: nothing that runs is replaced"):
        before = running()
        begun = time.monotonic()
        swarm.deploy()
        swarm.measured["seconds_to_deploy_nothing"] = round(time.monotonic() - begun, 1)
        assert running() == before
    with report.check("a migration that fails stops the deploy, and nothing that runs is replaced"):
        new_version(swarm, "USER 0\\nRUN rm src/db/migrate.py\\nUSER 10001:10001", "processing")
        output = swarm.deploy(expect=1).stderr
        assert "migrate failed" in output, output
        assert "No module named src.db.migrate" in output, output
        assert running() == before
        image = f"{REGISTRY}/abbanoa-processing"
        swarm.run(f"docker tag abbanoa-stack-test-processing {image} && docker push -q {image}")


def new_version(swarm: Swarm, change: str, of: str = "api") -> None:
    """Of an image, under its name in the registry."""
    name = f"{REGISTRY}/abbanoa-{of}"
    lines = "\\n".join([f"FROM {name}", change])
    swarm.run(f"printf '{lines}' | DOCKER_BUILDKIT=0 docker build -q -t {name} -", 120)
    swarm.one.docker("push", "-q", name)


def updates(swarm: Swarm, report: Report) -> None:
    both = (swarm.one, swarm.two)
    with report.check("a new version of the API under load: one task after the other, and no request fails"):
        new_version(swarm, "LABEL trial=two")
        before = {container for machine in both for container in machine.containers(f"{STACK}_api")}
        with Load(swarm, *both) as load:
            time.sleep(3)
            begun = time.monotonic()
            swarm.deploy()
            took = time.monotonic() - begun
            time.sleep(5)
        after = {container for machine in both for container in machine.containers(f"{STACK}_api")}
        swarm.measured["update_of_api"] = load.figures() | {"seconds": round(took, 1)}
        assert swarm.on("api") == [1, 1]
        assert not before & after
        assert not load.failures, load.problems()
    with report.check("a version that does not come up is taken back, and no request fails"):
        new_version(swarm, 'CMD ["false"]')
        with Load(swarm, *both) as load:
            output = swarm.deploy(expect=1).stderr
            time.sleep(3)
        assert "taken back" in output, output
        swarm.measured["update_taken_back"] = load.figures()
        eventually(lambda: sum(swarm.on("api")) == 2, 60, "both of the version before")
        assert not load.failures, load.problems()
        new_version(swarm, 'CMD ["python3", "-m", "src.api.main"]')
        swarm.deploy()
    with report.check("another password of Redis, and another file of Nginx: new versions, and the old ones go"):

        def versions() -> set[str]:
            return {
                name for kind in ("secret", "config")
                for name in swarm.one.docker(kind, "ls", "--format", "{{.Name}}").split()
            }  # fmt: skip

        before = versions()
        (swarm.folder / "secrets/redis_password").write_text("an0ther-Kq7-vT2-zM9-pW\n")
        configuration = swarm.folder / "nginx/nginx.conf"
        frame = "add_header X-Frame-Options DENY always;"
        changed = f"{frame}\n    add_header X-Trial one always;"
        configuration.write_text(configuration.read_text().replace(frame, changed))
        with Load(swarm, *both) as load:
            swarm.deploy()
            time.sleep(3)
        swarm.measured["update_of_redis_and_nginx"] = load.figures()
        print(load.problems())
        for machine in both:
            with swarm.client(machine) as client:
                answer = client.get("/api/v1/status", extensions={"sni_hostname": "localhost"})
                assert answer.headers["x-trial"] == "one"
                assert answer.json()["redis_status"]["connected"], answer.text
        # What ran before stays for a rollback, until the next deploy.
        swarm.deploy()
        assert len(versions()) == len(before), versions() ^ before
        assert len({name for name in before - versions() if "redis_password" in name}) == 1


def loaded(swarm: Swarm, report: Report) -> None:
    with report.check("without a registry: the images that were loaded on each machine, and no request fails"):
        swarm.use_loaded_images()
        with Load(swarm, swarm.one, swarm.two) as load:
            swarm.deploy()
            time.sleep(3)
        swarm.measured["update_to_loaded_images"] = load.figures()
        assert swarm.on("api") == swarm.on("processing") == [1, 1]
        image = swarm.two.docker("inspect", "-f", "{{.Config.Image}}", swarm.two.containers(f"{STACK}_api")[0])
        assert image == "abbanoa-stack-test-api:latest", image
        assert not load.failures, load.problems()


def drained(swarm: Swarm, report: Report) -> None:
    with report.check("a drained machine: its tasks go over to the other, and no request fails there"):
        with Load(swarm, swarm.one) as load:
            time.sleep(2)
            begun = time.monotonic()
            swarm.one.docker("node", "update", "--availability", "drain", "two")
            eventually(lambda: swarm.on("api") == [2, 0] and swarm.on("processing") == [2, 0], 120, "the tasks on one")
            status = "./scripts/swarm.sh status"
            eventually(lambda: "api  2/2" in swarm.run(status, expect=None).stdout, 60, "two healthy of the API")
            swarm.measured["drained"] = {"seconds": round(time.monotonic() - begun, 1)}
            time.sleep(5)
        swarm.measured["drained"] |= load.figures()
        assert not load.failures, load.problems()
    with report.check("a cycle ends while one machine has all the work"):
        since = swarm.sql("SELECT now()")
        done = (
            "SELECT count(*) FROM water_infrastructure.processing_jobs WHERE status = 'completed' "
            f"AND job_type = 'processing_cycle' AND created_at > '{since}'"
        )
        eventually(lambda: int(swarm.sql(done)) > 0, 150, "a cycle")
    with report.check("the machine comes back: its Nginx at once, shared work with the next deploy that replaces"):
        swarm.one.docker("node", "update", "--availability", "active", "two")
        eventually(lambda: swarm.on("nginx") == [1, 1], 60, "Nginx on both")
        for service in ("api", "processing"):
            swarm.run(f"docker service update -q --force {STACK}_{service}", 300)
        assert swarm.on("api") == [1, 1]
        assert swarm.on("processing") == [1, 1]


def power_cut(swarm: Swarm, report: Report) -> None:
    with report.check("a machine loses its power: the other takes over"):
        with Load(swarm, swarm.one) as load:
            time.sleep(2)
            begun = time.monotonic()
            swarm.two.stop(at_once=True)
            eventually(lambda: swarm.on_one("api") == 2 and swarm.on_one("processing") == 2, 180, "the tasks on one")
            swarm.measured["power_cut"] = {"seconds": round(time.monotonic() - begun, 1)}
            time.sleep(10)
        swarm.measured["power_cut"] |= load.figures()
        print(load.problems())
    with report.check("status says which machine is missing"):
        output = swarm.run("./scripts/swarm.sh status", expect=1).stdout
        assert "two  Down" in output, output


def saved(swarm: Swarm, report: Report) -> None:
    with report.check("a backup is made on the machine of the databases, and put back while the stack is away"):
        swarm.sql("UPDATE water_infrastructure.nodes SET location_name = 'before' WHERE node_id = 'inlet-river'")
        folder = swarm.run("./scripts/backup.sh").stdout.strip().splitlines()[-1]
        assert (Path(folder) / "redis.rdb").stat().st_size > 0
        swarm.sql("UPDATE water_infrastructure.nodes SET location_name = 'after' WHERE node_id = 'inlet-river'")
        swarm.run(f"docker stack rm {STACK}")
        eventually(lambda: not swarm.one.docker("ps", "-q"), 120, "the end of all tasks")
        done = swarm.run(f"./scripts/restore.sh '{folder}' --yes --stopped")
        print(done.stderr[-1500:] + done.stdout)
        assert "without a swarm" in swarm.deploy(expect=1).stderr
        swarm.run("docker-compose -f docker-compose.processing.yml down")
        swarm.deploy()
        assert swarm.sql(PLACE) == "before"
        with swarm.client(swarm.one) as client:
            assert swarm.status_of(client, "/api/v1/nodes") == 200
