"""Services of a task in containers beside it: ready before it begins, gone with it, and their words kept."""

from __future__ import annotations

import dataclasses
import time
from pathlib import Path
from typing import Any

import pytest

from air_executor.backends.base import Launch, LaunchService
from air_executor.backends.docker import DockerBackend
from air_executor.backends.docker.container_spec import EngineConfig
from air_executor.backends.docker.images import ImageFacts
from air_executor.backends.docker.path_mapping import PathMapping
from air_executor.backends.docker.service_spec import service_containers
from air_executor.core.explanation import explain_task
from air_executor.manager import supervisor
from air_executor.model.names import Slot
from air_executor.model.records import Request
from air_executor.settings import DockerSettings
from air_executor.store.job_file import read_job
from tests.backends.rig import Task
from tests.docker.rig import Plant, done
from tests.engine import BUSYBOX, require_image, require_python_image

pytestmark = pytest.mark.docker

SLOT = Slot("census", 0)
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
    uid = plant.rig.config.user[0]
    assert kept(plant, "job", "it", "web") == f"serving as {uid}\n"


def fails(plant: Plant, **fields: Any) -> str:  # noqa: ANN401 - JSON
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
    said = fails(plant, services=[WEB, {**slow, "ready": "exec sleep 600"}])
    assert said == "error: service db was not ready within 1s: still loading"


def test_a_service_without_the_program_that_tells_whether_it_is_ready(plant: Plant) -> None:
    """The engine's words say what is wrong."""
    require_image()
    slow = {"image": BUSYBOX, "name": "db", "command": "exec sleep 600", "ready_timeout": 0.5}
    said = fails(plant, services=[{**slow, "ready": ["no-such-program"]}])
    assert said.startswith("error: service db was not ready within 500ms: ")
    assert "no-such-program" in said


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


@pytest.mark.parametrize("ready", [None, "true"])
def test_a_service_that_ends_at_once(plant: Plant, ready: str | None) -> None:
    """Its end is what is told, not what follows from it: nobody can join its network."""
    require_image()
    service = {"image": BUSYBOX, "name": "db", "command": "echo no license; exit 3"}
    said = fails(plant, services=[{**service, **({} if ready is None else {"ready": ready})}])
    assert said == "error: service db ended with exit code 3: no license"


def test_a_program_that_is_not_there(plant: Plant) -> None:
    """It is an error of the task, as its own would be."""
    require_image()
    said = fails(plant, services=[{"image": BUSYBOX, "name": "db", "command": ["no-such-program"]}])
    assert said.startswith("error: service db could not be started: ")
    assert "no-such-program" in said


def test_a_service_that_ends_ends_the_run(plant: Plant) -> None:
    """Its task is stopped, fails as of itself, and is retried with a service of its own."""
    require_image()
    full = {"image": BUSYBOX, "name": "db", "command": "sleep 1; echo out of space; exit 4"}
    task = plant.run("sleep 600", services=[WEB, full], retries=1, retry_delay=0)
    assert [one.reason for one in task.attempts] == ["error", "error"]
    assert done(task).message == "service db ended with exit code 4: out of space"
    plant.until(lambda: plant.containers() == [], "the containers to be gone")


@pytest.mark.parametrize("removed", [False, True])
def test_a_service_that_somebody_stops(plant: Plant, removed: bool) -> None:  # noqa: FBT001 - a parameter
    """Or removes: that is no error of the task, which is run again at the platform's expense."""
    require_image()
    plant.submit("job", {"id": "it", "command": '[ "$AIR_ATTEMPT" = 2 ] || sleep 600', "services": [WEB]})
    plant.until(lambda: running(plant) == 2, "the task to run beside its service")
    service = next(one for one in plant.containers() if "air-executor.service" in one["Labels"])
    if removed:
        plant.engine.remove_container(service["Id"], force=True)
    else:
        plant.engine.kill(service["Id"])
    task = plant.see("job").tasks["it"]
    assert [one.reason for one in task.attempts] == ["evicted", "ok"]
    assert "service web" in (task.attempts[0].message or "")
    assert "by somebody else" in (task.attempts[0].message or "")
    plant.until(lambda: plant.containers() == [], "the containers to be gone")


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


def test_the_example(plant: Plant) -> None:
    """It runs as it stands."""
    require_python_image()
    plant.start()
    plant.client.submit(read_job(Path(__file__).parents[2] / "examples/services.yaml"))
    assert plant.see("services").phase == "succeeded"
    assert plant.log("services", "test") == "200\n"
    assert '"GET / HTTP/1.1" 200' in kept(plant, "services", "test", "site")


@pytest.mark.parametrize("where", ["waiting", "running"])
def test_the_next_manager_finds_everything(plant: Plant, where: str) -> None:
    """Of a start that its manager did not live to see nothing is left, and the run is repeated; a task goes on."""
    require_image()
    hold = {**NEVER, "ready": f"test -e /tmp/go || test {where} = running"}
    plant.submit("job", {"id": "it", "command": "until [ -e go ]; do sleep 0.1; done", "services": [WEB, hold]})
    plant.until(lambda: running(plant) == (2 if where == "waiting" else 3), "the services to run")
    plant.stop()
    plant.start()
    if where == "waiting":
        plant.until(lambda: plant.job("job").seq == 2 and running(plant) == 2, "the run to be repeated")
        plant.client.inbox.post(Request("cancel", "job"), time.time())
    plant.file("job", "go").touch()
    task = plant.see("job").tasks["it"]
    assert (task.reason, task.runs) == ("cancelled" if where == "waiting" else "ok", 1)
    plant.until(lambda: plant.containers() == [], "the containers to be gone")


def test_what_an_earlier_run_left_gives_way(plant: Plant) -> None:
    """A manager that was paused may create a container late: its name goes to the run that there is now."""
    require_image()
    label = {"air-executor.instance": plant.rig.config.instance, "air-executor.state-dir": plant.layout.root}
    identity = {"air-executor.job": "job", "air-executor.run": "0badcafe-1", "air-executor.slot": "0"}
    for name, service in (("web", "web"), ("old", "old")):
        made = plant.engine.create_container(
            BUSYBOX,
            ["sleep", "600"],
            name=f"{plant.settings.name_prefix}-job.{name}",
            labels={**label, **identity, "air-executor.service": service},
        )
        plant.engine.start(made["Id"])
    plant.submit("job", {"id": "it", "command": ASK, "services": [WEB]})
    assert plant.see("job").tasks["it"].reason == "ok"
    plant.until(lambda: plant.containers() == [], "the containers to be gone")


def test_a_name_that_is_taken(plant: Plant) -> None:
    """A container that is not ours is left alone, and the task fails with its name."""
    require_image()
    made = plant.engine.create_container(BUSYBOX, ["true"], name=f"{plant.settings.name_prefix}-job.web")
    try:
        plant.submit("job", {"id": "it", "command": "true", "services": [WEB]})
        ended = done(plant.see("job").tasks["it"])
        assert ended.reason == "start-failed"
        assert "-job.web: the name is taken by a container that is not of this state directory" in str(ended.message)
    finally:
        plant.engine.remove_container(made)


SEES = """
exec 2>&1
echo "$(id -u) $(grep CapEff /proc/self/status) $(grep NoNewPrivs /proc/self/status) $PASSWORD $HOME"
ls -d /air /project 2>&1; touch /owned /tmp/mine && echo written; exec sleep 600
"""


def test_what_a_service_sees(plant: Plant) -> None:
    """Its secrets and its own files, as a user without rights, and nothing of the state directory."""
    require_image()
    (plant.project / "secrets").mkdir()
    (plant.project / "secrets/PASSWORD").write_text("s3cret word")
    service = {"image": BUSYBOX, "name": "db", "command": SEES, "secrets": ["PASSWORD"], "ready": "test -e /tmp/mine"}
    plant.submit("job", {"id": "it", "command": "true", "services": [service]})
    assert plant.see("job").tasks["it"].reason == "ok"
    uid = plant.rig.config.user[0]
    said = kept(plant, "job", "it", "db")
    assert said.split("\n")[0].split() == [str(uid), "CapEff:", "0" * 16, "NoNewPrivs:", "1", "s3cret", "word", "/tmp"]  # noqa: S108 - in the container
    assert "written" not in said or uid == 0
    assert said.count("No such file") == 2


def test_a_timeout_begins_with_the_task(plant: Plant, monkeypatch: pytest.MonkeyPatch) -> None:
    """A service may take longer to be ready than its task may run."""
    require_image()
    monkeypatch.setattr(supervisor, "OVERDUE", 0.0)
    slow = {**WEB, "command": f"sleep 2; {WEB['command']}"}
    plant.submit("job", {"id": "it", "command": ASK, "services": [slow], "timeout": 1, "grace": 0})
    assert plant.see("job").tasks["it"].reason == "ok"


def test_a_manager_that_is_killed_leaves_nothing_for_long(plant: Plant) -> None:
    """Whatever it had created of a run and its services, the next one sees in the slot, and removes."""
    rig = plant.rig
    image = require_image()
    services = [LaunchService(name, image, ("sleep", "600"), ready=("true",)) for name in ("one", "two", "three")]
    for seq in range(1, 4):
        launch = dataclasses.replace(rig.launch(SLOT, seq, Task.WAITS), services=services)
        rig.spawn_by_manager_that_is_killed(launch)
        backend = rig.docker()
        assert backend.observe()[SLOT].run == launch.run

        def is_gone(backend: DockerBackend = backend) -> bool:
            backend.remove(SLOT)
            return SLOT not in backend.observe()

        rig.until(is_gone, "the slot to be free")
        assert plant.containers() == []


def test_the_whole_container_of_a_service() -> None:
    """The first has the network of the task and the names of all; the image's own volumes are the user's, in memory."""
    config = EngineConfig(
        state_dir="/state",
        location="/state",
        prefix="air",
        version="0.1",
        image="python:3.12-slim",
        user=(1000, 1000),
        path_mapping=PathMapping(),
        settings=DockerSettings(tmp_size=1 << 20, memory=1 << 30, pids=100),
    )
    db = LaunchService("db", "postgres:16", env={"A": "1"}, resources={"cpu": 0.5, "memory": 1 << 29})
    launch = Launch(
        slot=SLOT,
        uid="0badcafe",
        run="0badcafe-7",
        task="count",
        argv=("true",),
        env={},
        out_dir="/o",
        workspace="/w",
        bin_dir="/b",
        project="/",
        services=[db, LaunchService("web", "nginx:1", ("serve", "it"))],
    )
    first, second = service_containers(config, launch, lambda _: ImageFacts(volumes=("/data/",)))
    labels = {
        "air-executor.instance": config.instance,
        "air-executor.job": "census",
        "air-executor.uid": "0badcafe",
        "air-executor.run": "0badcafe-7",
        "air-executor.slot": "0",
        "air-executor.state-dir": "/state",
        "air-executor.task": "count",
        "air-executor.grace": "10",
        "air-executor.version": "0.1",
        "air-executor.service": "db",
    }
    assert (first.name, second.name) == ("air-census.db", "air-census.web")
    assert first.body == {
        "Image": "postgres:16",
        "Env": ["HOME=/tmp", "A=1"],
        "User": "1000:1000",
        "Hostname": "census",
        "Labels": labels,
        "Healthcheck": {"Test": ["NONE"]},
        "StopSignal": "SIGTERM",
        "HostConfig": {
            "Init": False,
            "CapDrop": ["ALL"],
            "SecurityOpt": ["no-new-privileges"],
            "ReadonlyRootfs": False,
            "PidsLimit": 100,
            "Memory": 1 << 29,
            "MemorySwap": 1 << 29,
            "NanoCpus": 500_000_000,
            "Tmpfs": {
                "/tmp": f"rw,exec,nosuid,nodev,mode=1777,size={1 << 20}",  # noqa: S108 - in the container
                "/data": f"rw,exec,nosuid,nodev,mode=0700,uid=1000,gid=1000,size={1 << 20}",
            },
            "NetworkMode": "air-executor",
            "ExtraHosts": ["db:127.0.0.1", "web:127.0.0.1"],
            "LogConfig": {"Type": "json-file", "Config": {"max-size": "10m", "max-file": "1"}},
            "RestartPolicy": {"Name": "no"},
        },
    }
    assert second.body["Cmd"] == ["serve", "it"]
    assert second.body["HostConfig"]["NetworkMode"] == "container:air-census.db"
    assert not {"Hostname", "ExtraHosts"} & {*second.body, *second.body["HostConfig"]}
