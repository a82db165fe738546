"""Services of a task in containers beside it: ready before it begins, gone with it, and their words kept."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest

from air_executor.core.explanation import explain_task
from air_executor.model.records import Request
from tests.docker.rig import Plant, done
from tests.engine import BUSYBOX, require_image

pytestmark = pytest.mark.docker

PAGE = 'mkdir -p /tmp/www && echo "it is $WORD" >/tmp/www/index.html && cd /tmp/www'
WEB = {
    "name": "web",
    "image": BUSYBOX,
    "command": f'echo "serving as $(busybox id -u)"; {PAGE} && exec busybox httpd -f -p 8000',
    "env": {"WORD": "so"},
    "ready": "wget -qO /dev/null http://localhost:8000/",
}
ASK = "wget -qO- http://web:8000/; wget -qO- http://localhost:8000/"


def kept(plant: Plant, job: str, task: str, service: str) -> str:
    """Return what is kept of a service of the last run of a task, once its containers are gone."""
    plant.until(lambda: plant.containers() == [], "the containers to be gone")
    seq = plant.job(job).tasks[task].attempts[-1].seq
    return Path(plant.layout.run(job, seq, task), f"service-{service}.log").read_text()


@pytest.mark.parametrize("network", ["default", "none"])
def test_a_task_finds_its_service_ready(plant: Plant, network: str) -> None:
    """At its own name and at localhost, also without any network; with the task it goes, and its log stays."""
    require_image()
    plant.submit("job", {"id": "it", "command": ASK, "services": [WEB], "network": network})
    assert plant.see("job").tasks["it"].reason == "ok"
    assert plant.log("job", "it") == "it is so\n" * 2
    uid = plant.backend._config.user[0]
    assert kept(plant, "job", "it", "web") == f"serving as {uid}\n"


def fails(plant: Plant, **fields: Any) -> str:
    """Return what is said of a run that fails without having begun, of which nothing is left."""
    task = plant.run("touch begun", **fields)
    job = next(iter(plant.client.jobs.ids()))
    assert done(task).phase == "failed"
    plant.until(lambda: plant.containers() == [], "the containers to be gone")
    assert not plant.file(job, "begun").exists()
    return f"{task.reason}: {done(task).message}"


def test_a_service_that_is_never_ready(plant: Plant) -> None:
    """The task does not begin; its user learns which service, and what that said last."""
    require_image()
    slow = {"image": BUSYBOX, "name": "db", "command": "echo still loading; exec sleep 600", "ready_timeout": 1}
    said = fails(plant, services=[WEB, {**slow, "ready": ["no-such-program"]}])
    assert said == "error: service db was not ready within 1s: still loading"
    assert plant.job(next(iter(plant.client.jobs.ids()))).tasks["it"].runs == 1


def test_a_service_that_ends_before_it_is_ready(plant: Plant) -> None:
    """The wait ends at once."""
    require_image()
    broken = {"image": BUSYBOX, "name": "db", "command": "echo no license >&2; exit 3", "ready": "false"}
    said = fails(plant, services=[{**broken, "ready_timeout": 600}])
    assert said == "error: service db ended with exit code 3: no license"


def test_a_service_that_cannot_be_started(plant: Plant) -> None:
    """An image that nobody has is no other matter than the task's own; nor is a program that is not in it."""
    require_image()
    no_image = fails(plant, services=[WEB, {"image": "air-executor-nonesuch:1"}])
    assert no_image.startswith("start-failed: image air-executor-nonesuch:1 cannot be pulled")


def test_a_program_that_is_not_there(plant: Plant) -> None:
    """It is an error that the engine's own init tells of."""
    require_image()
    said = fails(plant, services=[{"image": BUSYBOX, "name": "db", "command": ["no-such-program"], "ready": "true"}])
    assert "service db ended with exit code 127" in said
    assert "no-such-program" in said


def test_a_service_that_ends_ends_the_run(plant: Plant) -> None:
    """Its task is stopped, fails as of itself, and is retried with a service of its own."""
    require_image()
    full = {"image": BUSYBOX, "name": "db", "command": "sleep 1; echo out of space; exit 4"}
    task = plant.run("sleep 600", services=[WEB, full], retries=1, retry_delay=0)
    assert [one.reason for one in task.attempts] == ["error", "error"]
    assert done(task).message == "service db ended with exit code 4: out of space"
    plant.until(lambda: plant.containers() == [], "the containers to be gone")


def test_a_service_that_somebody_stops(plant: Plant) -> None:
    """That is no error of the task, which is run again at the platform's expense."""
    require_image()
    plant.submit("job", {"id": "it", "command": '[ "$AIR_ATTEMPT" = 2 ] || sleep 600', "services": [WEB]})
    plant.until(lambda: running(plant) == 2, "the task to run beside its service")
    service = next(one for one in plant.containers() if "air-executor.service" in one["Labels"])
    plant.engine.kill(service["Id"])
    task = plant.see("job").tasks["it"]
    assert [one.reason for one in task.attempts] == ["evicted", "ok"]
    assert "service web ended with exit code 137, stopped by somebody else" in (task.attempts[0].message or "")


def explained(plant: Plant) -> str:
    """Return what `explain` says of the task."""
    state = plant.job("job")
    context = plant.client.explain_context(state, plant.client.job_facts(), time.time(), None)
    return explain_task(state, state.tasks["it"], context)


def running(plant: Plant) -> int:
    """Return how many containers run."""
    return sum(one["State"] == "running" for one in plant.containers())


NEVER = {"image": BUSYBOX, "name": "db", "command": "exec sleep 600", "ready": "false", "ready_timeout": 600}


def test_who_waits_says_so_and_can_be_cancelled(plant: Plant) -> None:
    """`explain` names the service; nothing is left of a job that is cancelled meanwhile."""
    require_image()
    plant.submit("job", {"id": "it", "command": "true", "services": [NEVER]})
    words = "waiting for service db to be ready (at most 10m)"
    plant.until(lambda: words in explained(plant), "explain to say what is waited for")
    plant.client.inbox.post(Request("cancel", "job"), time.time())
    assert plant.see("job").tasks["it"].reason == "cancelled"
    plant.until(lambda: plant.containers() == [], "the containers to be gone")


@pytest.mark.parametrize("end", ["timeout", "cancelled", "oom"])
def test_however_the_task_ends_its_services_end(plant: Plant, end: str) -> None:
    """Nothing is left of them, and what they said is kept."""
    require_image()
    task = {"id": "it", "command": "sleep 600", "services": [WEB], "grace": 1}
    if end == "oom":
        task |= {"command": "dd if=/dev/zero of=/dev/null bs=64M count=1", "resources": {"memory": "16Mi"}}
    plant.submit("job", {**task, **({"timeout": 1} if end == "timeout" else {})})
    if end == "cancelled":
        plant.until(lambda: running(plant) == 2, "the task to run beside its service")
        plant.client.inbox.post(Request("cancel", "job"), time.time())
    assert plant.see("job").tasks["it"].reason == end
    assert "serving" in kept(plant, "job", "it", "web")
