"""What a hostile task can read, write, reach and use up: seen from inside its container."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from air_executor.model.records import Request
from tests.docker.rig import Plant, done
from tests.engine import require_image

pytestmark = pytest.mark.docker

LOOK = """
grep -E '^(CapEff|CapBnd|NoNewPrivs|Seccomp|Uid):' /proc/self/status
for place in / /bin /etc /air /air/bin /air/bin/air-runner /proc/sys/kernel/hostname /var; do
    (echo x >>"$place/probe" || echo x >>"$place") 2>/dev/null && echo "wrote $place"
done
for place in /air/out /air/workspace /tmp; do
    echo x >"$place/probe" && rm "$place/probe" && echo "may write $place"
done
ls -a /air
for place in /var/run/docker.sock /run/docker.sock /air/state.json /air/out/../run.json /air/out/../../state.json; do
    [ -e "$place" ] && echo "sees $place"
done
mount | grep -c 'docker.sock'
echo "HOME=$HOME"
"""


def test_a_task_has_few_rights(plant: Plant) -> None:
    """No root, no capabilities, no way to gain any; nothing to write to but what is its own; nothing of others."""
    plant.submit("look", {"id": "it", "command": LOOK})
    assert done(plant.see("look").tasks["it"]).exit_code == 0
    user = plant.rig.config.user[0]
    assert user != 0
    lines = plant.log("look", "it").split("\n")
    facts = {line.split(":")[0]: line.split(":")[1].split() for line in lines if ":\t" in line}
    assert facts["Uid"] == [str(user)] * 4
    assert int(facts["CapEff"][0], 16) == int(facts["CapBnd"][0], 16) == 0
    assert (facts["NoNewPrivs"], facts["Seccomp"]) == (["1"], ["2"])
    rest = [line for line in lines if ":\t" not in line]
    assert rest == [
        "may write /air/out",
        "may write /air/workspace",
        "may write /tmp",
        ".",
        "..",
        "bin",
        "out",
        "workspace",
        "0",
        "HOME=/tmp",
        "",
    ]


def test_an_attempt_has_the_digest_of_its_image(plant: Plant) -> None:
    """The one that the engine has under the name."""
    task = plant.run("true")
    described = plant.engine.inspect_image(plant.settings.runner_image)  # type: ignore[no-untyped-call]
    assert task.attempts[-1].image in [*described["RepoDigests"], described["Id"]]


def test_a_cache_outlives_the_runner(plant: Plant) -> None:
    """At its default place, or at its own; what is ours cannot be hidden with one."""
    first = plant.run('echo kept >"$AIR_CACHE_PIP_TOOLS/it"', caches=[{"name": "pip-tools"}])
    assert done(first).exit_code == 0
    again = {"name": "pip-tools", "path": "/home/cache", "shared": True}
    plant.submit("later", {"id": "it", "command": 'cat "$AIR_CACHE_PIP_TOOLS/it"; ls /home', "caches": [again]})
    assert done(plant.see("later").tasks["it"]).exit_code == 0
    assert plant.log("later", "it") == "kept\ncache\n"
    hides = plant.run("true", caches=[{"name": "x", "path": "/air/bin"}])
    assert "/air/bin is taken" in (done(hides).message or "")


def test_networks(plant: Plant) -> None:
    """Without a network there is only loopback; on the common one a task reaches itself, and others cannot reach it."""
    plant.submit("alone", {"id": "it", "command": "ls /sys/class/net", "network": "none"})
    assert done(plant.see("alone").tasks["it"]).reason == "ok"
    assert plant.log("alone", "it") == "lo\n"
    serve = "hostname -i >address; nc -ll -p 8080 -e echo hello & "
    reach = "echo | nc -w 3 {} 8080 | grep hello"
    itself = f"until {reach.format('$(cat address)')}; do sleep 0.1; done; touch up; sleep 600"
    plant.submit("serves", {"id": "it", "command": serve + itself, "grace": 0.5})
    plant.until(lambda: plant.file("serves", "up").exists(), "the server to reach itself")
    other = plant.run(reach.format(plant.file("serves", "address").read_text().strip()))
    assert done(other).exit_code == 1


def test_too_many_processes(plant: Plant) -> None:
    """A fork bomb meets its limit, and goes with its container."""
    plant.start(pids=64)
    task = plant.run("n=0; while [ $n -lt 500 ]; do sleep 30 & n=$((n + 1)); done; echo all", timeout=5)
    assert done(task).reason in {"error", "timeout"}
    plant.until(lambda: not plant.containers(), "the container to be removed")


def test_a_daemon_dies_with_its_container(plant: Plant) -> None:
    """What leaves session and process group does not leave the container: nothing outlives the run."""
    beats = "setsid sh -c 'while :; do date >>beat; sleep 0.05; done' & until test -s beat; do sleep 0.05; done"
    plant.submit("daemon", {"id": "it", "command": beats})
    assert done(plant.see("daemon").tasks["it"]).reason == "ok"
    beat = plant.file("daemon", "beat")
    assert beat.stat().st_size
    plant.until(lambda: not plant.containers(), "the container to be removed")
    size = beat.stat().st_size
    assert plant.run("sleep 0.3").runs == 1
    assert beat.stat().st_size == size


def test_who_ignores_term_is_killed(plant: Plant) -> None:
    """A cancelled task has its grace, and no more."""
    plant.submit("deaf", {"id": "it", "command": "trap '' TERM; touch deaf; sleep 600 & wait; wait", "grace": 0.5})
    plant.until(lambda: plant.file("deaf", "deaf").exists(), "the trap to be set")
    plant.client.inbox.post(Request("cancel", "deaf"), time.time())
    task = plant.see("deaf").tasks["it"]
    assert (done(task).reason, done(task).exit_code) == ("cancelled", 137)


def test_a_flood_of_output(plant: Plant) -> None:
    """The engine keeps little of what a task prints, and the task's own log has it all."""
    flood = "dd if=/dev/zero bs=1M count=64 | tr '\\0' x | fold; until [ -e go ]; do sleep 0.1; done"
    plant.submit("flood", {"id": "it", "command": flood})
    container = plant.the_container()
    path = plant.engine.inspect_container(container)["LogPath"]
    plant.file("flood", "go").touch()
    assert done(plant.see("flood").tasks["it"]).reason == "ok"
    size = os.path.getsize(Path(plant.layout.run("flood", 1, "it"), "output.log"))
    assert size > 64 << 20
    assert not path or not os.path.exists(path) or os.path.getsize(path) <= 11 << 20


def test_the_project_without_the_state_directory(plant: Plant) -> None:
    """A task may mount the whole project; of the state directory in it, it sees nothing."""
    (plant.project / "data.txt").write_text("hello")
    plant.submit(
        "peek",
        {
            "id": "it",
            "command": "cat /p/data.txt; ls -A /p/.air-executor; echo x >/p/data.txt",
            "mounts": [{"source": ".", "target": "/p", "read_only": True}],
        },
    )
    assert done(plant.see("peek").tasks["it"]).exit_code == 1
    assert plant.log("peek", "it").startswith("hello")
    assert "jobs" not in plant.log("peek", "it")
    assert "Read-only file system" in plant.log("peek", "it")
    assert (plant.project / "data.txt").read_text() == "hello"


def test_only_listed_folders_of_the_host(plant: Plant, tmp_path: Path) -> None:
    """What the operator lists can be mounted, letter by letter: nothing below it and nothing beside it."""
    allowed = tmp_path / "allowed"
    (allowed / "below").mkdir(parents=True)
    (allowed / "file").write_text("there\n")
    plant.start(allow_mounts=(str(allowed),))
    mounts = [{"source": str(allowed), "target": "/m"}]
    plant.submit("listed", {"id": "it", "command": "cat /m/file", "mounts": mounts})
    assert done(plant.see("listed").tasks["it"]).reason == "ok"
    assert plant.log("listed", "it") == "there\n"
    below = plant.run("true", mounts=[{"source": str(allowed / "below"), "target": "/m"}])
    assert done(below).reason == "start-failed"


def test_secrets_leave_no_trace(plant: Plant) -> None:
    """A secret is in the task's environment, and in no label, file or state."""
    secrets = plant.project / "secrets"
    secrets.mkdir()
    (secrets / "KEY").write_text("hunter2-value\n")
    check = '[ "${#KEY}" -eq 13 ] && touch seen && sleep 60'
    plant.submit("secret", {"id": "it", "command": check, "secrets": ["KEY"], "grace": 0.5})
    described = plant.engine.inspect_container(plant.the_container())
    plant.until(lambda: plant.file("secret", "seen").exists(), "the task to see it")
    assert "hunter2" not in str(described["Config"]["Labels"]) + str(described["Args"]) + str(described["Name"])
    plant.stop()
    for folder, _, names in os.walk(plant.layout.root):
        for name in names:
            assert b"hunter2" not in Path(folder, name).read_bytes(), name


def test_limits_are_the_containers(plant: Plant) -> None:
    """What the task asks for, and the defaults for the rest, are what the engine enforces."""
    resources = {"memory": "48Mi", "cpu": 0.5}
    plant.submit("limits", {"id": "it", "command": "sleep 60", "resources": resources, "grace": 0.5})
    host = plant.engine.inspect_container(plant.the_container())["HostConfig"]
    kept = {
        key: host[key] for key in ("Memory", "MemorySwap", "NanoCpus", "PidsLimit", "ReadonlyRootfs", "Init", "CapDrop")
    }
    assert kept == {
        "Memory": 48 << 20,
        "MemorySwap": 48 << 20,
        "NanoCpus": 500_000_000,
        "PidsLimit": 1024,
        "ReadonlyRootfs": True,
        "Init": True,
        "CapDrop": ["ALL"],
    }
    assert host["RestartPolicy"]["Name"] == "no"
    assert not host["AutoRemove"]
    assert require_image() == plant.engine.inspect_container(plant.the_container())["Config"]["Image"]
