"""`docker compose up` in a fresh clone is all it takes."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import requests

from air_executor.errors import ManagerHeldError
from air_executor.settings import all_settings
from air_executor.store.presence import read_presence
from tests.conftest import wait_for
from tests.images.rig import PATIENCE, TREE, Clone, docker

pytestmark = [pytest.mark.docker, pytest.mark.timeout(600)]

SEEN_INSIDE = 'python -c "import air_executor, sys; air_executor.set_result(sys.version_info[0])"; id -u'


def test_from_clone_to_result(fresh_clone: Clone) -> None:
    """Jobs submitted on the host and in a container run; results, logs and all files belong to the folder's owner."""
    clone = fresh_clone
    clone.up()
    assert "docker compose run --rm cli submit" in clone.project.get_logs("runner-image")[0]
    clone.submit({"id": "from-host", "tasks": [{"id": "t", "command": SEEN_INSIDE}]})
    assert clone.await_end("from-host") == "succeeded"
    assert clone.client.status("from-host").tasks["t"].result == 3
    assert clone.air("logs", "from-host").split()[-1] == str(clone.owner[0])

    job = {"id": "from-container", "tasks": [{"id": "t", "command": "echo $AIR_TASK_ID of $AIR_JOB_ID"}]}
    (clone.folder / "job.json").write_text(json.dumps(job))
    clone.cli("submit", "job.json")
    assert "succeeded" in clone.cli("wait", "from-container")
    assert "t of from-container" in clone.cli("logs", "from-container")
    wait_for(lambda: not clone.runners(), PATIENCE, "the runners to be removed")
    assert clone.owners() == {clone.owner}


def test_the_page_is_served_from_the_first_start_on(clone: Clone) -> None:
    """The address answers with a question for a password; one command prints it, no log does, and `up` keeps it."""
    clone.up()
    token = clone.cli("token", "show").strip()
    for _ in range(2):
        address = f"http://{clone.compose('port', 'manager', '9464').strip()}/"
        asks = requests.get(address, timeout=10)
        assert asks.status_code == 401
        assert "Basic" in asks.headers["WWW-Authenticate"]
        assert "<title>" in requests.get(address, auth=("me", token), timeout=10).text
        who = requests.get(f"{address}api/v1/caller", auth=("me", token), timeout=10).json()
        assert who == {"name": "first", "role": "admin"}
        assert clone.cli("token", "show").strip() == token
        said = clone.compose("logs", "manager")
        assert "docker compose run --rm cli token show" in said
        assert token not in said
        assert token not in docker("inspect", clone.manager())
        clone.down()
        clone.up()
    assert (clone.folder / ".air-executor" / "first-token").stat().st_mode & 0o777 == 0o600


def test_down_and_up_while_a_task_runs(clone: Clone) -> None:
    """The runner outlives its manager, and the next manager commits it: one run, nothing repeated."""
    clone.up()
    waits = "touch begun; until [ -e gate ]; do sleep 0.1; done; echo through"
    clone.submit({"id": "long", "tasks": [{"id": "t", "command": waits}]})
    wait_for(Path(clone.client.layout.workspace("long"), "begun").exists, PATIENCE, "the task to run")
    clone.down()
    assert clone.record()["until"] is not None, "it has left in good order"
    assert len(clone.runners()) == 1
    Path(clone.client.layout.workspace("long"), "gate").touch()
    clone.up()
    assert clone.await_end("long") == "succeeded"
    assert clone.client.status("long").tasks["t"].runs == 1
    assert "through" in clone.air("logs", "long")


def test_the_manager(clone: Clone) -> None:
    """What holds of one that is up; they share it, for each `up` takes half a minute. The last one kills it."""
    clone.up()
    may_do_little(clone)
    is_healthy_while_it_takes_requests(clone)
    is_the_only_one(clone)
    is_seen_from_the_host_alone(clone)


def may_do_little(clone: Clone) -> None:
    """No root, no capability, nothing of the image or the project to write, and no way back."""
    container = clone.manager()
    status = docker("exec", container, "cat", f"/proc/{clone.record()['pid']}/status")
    facts = dict(line.split(":\t", 1) for line in status.splitlines() if ":\t" in line)
    assert facts["Uid"].split() == [str(clone.owner[0])] * 4
    assert facts["Gid"].split() == [str(clone.owner[1])] * 4
    assert {int(facts[name], 16) for name in ("CapEff", "CapPrm", "CapInh", "CapAmb")} == {0}
    assert facts["NoNewPrivs"] == "1"
    for folder in ("/project", "/opt/air-executor", "/usr/local/bin"):
        test = ["exec", "--user", ":".join(map(str, clone.owner)), container, "touch", f"{folder}/x"]
        assert "Read-only file system" in docker(*test, fails=True)


def is_healthy_while_it_takes_requests(clone: Clone) -> None:
    """The health check asks for nothing, is answered, and leaves nothing behind; of a manager that hangs it says so."""

    def is_healthy() -> bool:
        try:
            clone.compose(*check)
        except AssertionError:
            return False
        return True

    check = ["exec", "--no-TTY", "manager", "air-entrypoint", "/usr/local/bin/air-healthcheck"]
    wait_for(is_healthy, PATIENCE, "the manager to take a request")
    container = clone.manager()
    docker("kill", "--signal", "STOP", container)
    assert "has not processed a request" in clone.compose(*check, fails=True)
    docker("kill", "--signal", "CONT", container)
    wait_for(is_healthy, PATIENCE, "the manager to take a request")
    inbox = Path(clone.client.layout.inbox)
    wait_for(lambda: not list(inbox.glob("*.json")), PATIENCE, "the inbox to be empty")


def is_the_only_one(clone: Clone) -> None:
    """The lock reaches across containers: the second one exits with 5 and names the first."""
    socket = "/var/run/docker.sock"
    words = ["run", "--no-TTY", "--volume", f"{socket}:{socket}", "--name", f"{clone.name}-second", "cli", "manager"]
    complaint = clone.compose(*words, fails=True)
    assert f"in container {clone.record()['host']}" in complaint
    code = docker("inspect", "--format", "{{.State.ExitCode}}", f"{clone.name}-second")
    docker("rm", f"{clone.name}-second")
    assert int(code) == ManagerHeldError.exit_code


def is_seen_from_the_host_alone(clone: Clone) -> None:
    """The host sees the manager and its end; another container cannot tell, and says neither yes nor no."""
    assert read_presence(clone.client.layout).running is True
    assert json.loads(clone.cli("status", "--json"))["manager"]["running"] is None
    container = clone.manager()
    docker("update", "--restart", "no", container)
    docker("kill", container)
    wait_for(lambda: read_presence(clone.client.layout).running is False, PATIENCE, "the host to notice")
    assert clone.record()["until"] is None


def test_secrets_come_from_a_mounted_folder(clone: Clone) -> None:
    """A task gets its secret; neither the manager's description nor the state has it."""
    secrets = clone.folder / "keys"
    secrets.mkdir()
    (secrets / "PASSWORD").write_text("xyzzy-very-secret")
    with (clone.folder / ".env").open("a") as file:
        file.write("AIR_SECRETS_DIR=./keys\n")
    clone.up()
    command = "case $PASSWORD in x*-secret) exit 0; esac; exit 1"
    clone.submit({"id": "j", "tasks": [{"id": "t", "command": command, "secrets": ["PASSWORD"]}]})
    assert clone.await_end("j") == "succeeded"
    assert "xyzzy" not in docker("inspect", clone.manager())
    assert "xyzzy" not in Path(clone.client.layout.state("j")).read_text()


def test_the_state_in_a_named_volume(clone: Clone) -> None:
    """Runners see their part of the volume, which belongs to the folder's owner; the host's folder stays empty."""
    shutil.copytree(TREE / "examples/compose", clone.folder / "examples/compose", dirs_exist_ok=True)
    (clone.folder / ".air-executor").mkdir()
    with (clone.folder / ".env").open("a") as file:
        file.write("COMPOSE_FILE=docker-compose.yaml:examples/compose/volume.yaml\n")
    clone.project.start()
    clone.cli("submit", "j", "--", "sh", "-c", SEEN_INSIDE)
    assert "succeeded" in clone.cli("wait", "j", "--timeout", f"{PATIENCE:g}")
    assert clone.cli("logs", "j").split()[-1] == str(clone.owner[0])
    assert list((clone.folder / ".air-executor").iterdir()) == []


def test_metrics_and_page_on_this_machine(clone: Clone) -> None:
    """Whoever is on this machine sees metrics, and the page with a token; AIR_TOKEN, once it is set, is for both."""
    with (clone.folder / ".env").open("a") as file:
        file.write("AIR_FIRST_TOKEN=false\n")
    clone.up()
    host, port = clone.project.get_service_host_and_port("manager", 9464)
    assert host == "127.0.0.1"
    url = f"http://{host}:{port}"
    assert "air_executor_build_info" in answer(f"{url}/metrics")[1]
    assert answer(f"{url}/")[0] == 403
    with (clone.folder / ".env").open("a") as file:
        file.write("AIR_TOKEN=tell-nobody\n")
    clone.up()
    url = f"http://{host}:{clone.project.get_service_port('manager', 9464)}"
    assert [answer(f"{url}{path}")[0] for path in ("/", "/metrics", "/healthz")] == [401, 401, 200]
    assert answer(f"{url}/", token="tell-nobody")[0] == 200  # noqa: S106 - of this test


def answer(url: str, token: str | None = None) -> tuple[int, str]:
    """Return the status and the text at an address."""
    shown = {} if token is None else {"Authorization": f"Bearer {token}"}
    found = requests.get(url, headers=shown, timeout=PATIENCE)
    return found.status_code, found.text


def test_every_setting_can_be_set() -> None:
    """The compose file hands on each setting that means something in a container."""
    text = (TREE / "docker-compose.yaml").read_text()
    names = [about.variable for about in all_settings()]
    meaningless = ("AIR_STATE_DIR", "AIR_HTTP_PORT", "AIR_LOCAL_", "AIR_KUBERNETES_")
    assert [name for name in names if f"    {name}:" not in text and not name.startswith(meaningless)] == []
