"""How runs in containers end: what the task did, what the image lacks, what is not allowed, each with its reason."""

from __future__ import annotations

import io
import os
import tarfile
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from air_executor.runner import native
from tests.docker.rig import Plant, done
from tests.engine import BUSYBOX, NO_SHELL, require_image

pytestmark = pytest.mark.docker

TOO_MUCH = "dd if=/dev/zero of=/dev/null bs=64M count=1"
SMALL = {"resources": {"memory": "16Mi"}}


class End(NamedTuple):
    """A task, and how it must end."""

    command: str | list[str]
    fields: dict[str, Any]
    reason: str
    code: int | None
    message: str
    runs: int = 1


ENDS = {
    "fine": End("true", {}, "ok", 0, ""),
    "error": End("exit 3", {}, "error", 3, ""),
    "no-program": End(["no-such-program"], {}, "error", 127, "command not found: no-such-program"),
    "signal": End("kill -9 $$", {}, "error", 137, ""),
    "no-workdir": End("true", {"workdir": "/no/such"}, "error", 126, "the working directory does not exist: /no/such"),
    "timeout": End("sleep 600", {"timeout": 2, "grace": 60}, "timeout", 143, ""),
    "child-oom": End(f"{TOO_MUCH}; exit 5", SMALL, "oom", 5, ""),
    "task-oom": End(f"exec {TOO_MUCH}", SMALL, "oom", 137, ""),
    "oom-survived": End(f"{TOO_MUCH}; true", SMALL, "ok", 0, ""),
    "no-shell": End("true", {"image": NO_SHELL}, "error", 127, f"write it as a list: {NO_SHELL}"),
    "needs-no-shell": End(["/bin/busybox", "true"], {"image": NO_SHELL}, "ok", 0, ""),
    "lost-shell": End("true", {"env": {"PATH": "/app/bin"}}, "error", 127, "no shell `sh` is in the PATH"),
    "no-image": End("true", {"image": "air-executor-nonesuch:1"}, "start-failed", None, "cannot be pulled"),
    "bad-network": End("true", {"network": "nonesuch"}, "start-failed", None, "AIR_DOCKER_ALLOW_NETWORKS"),
    "host-network": End("true", {"network": "host"}, "start-failed", None, "AIR_DOCKER_ALLOW_NETWORKS"),
    "lost-network": End("true", {"network": "air-nonesuch"}, "start-failed", None, "air-nonesuch not found", runs=4),
    "many-cpus": End("true", {"resources": {"cpu": 5000}}, "start-failed", None, "range of CPUs"),
    "no-gpu": End("true", {"resources": {"gpu": 1}}, "start-failed", None, "device driver", runs=4),
    "mount-out": End("true", {"mounts": [{"source": "out", "target": "/m"}]}, "start-failed", None, "leads out"),
    "mount-up": End("true", {"mounts": [{"source": "../", "target": "/m"}]}, "start-failed", None, "leads out"),
    "mount-state": End(
        "true", {"mounts": [{"source": ".air-executor/jobs", "target": "/m"}]}, "start-failed", None, "state directory"
    ),
    "mount-none": End(
        "true", {"mounts": [{"source": "nonesuch", "target": "/m"}]}, "start-failed", None, "there is no"
    ),
    "mount-etc": End(
        "true", {"mounts": [{"source": "/etc", "target": "/m"}]}, "start-failed", None, "AIR_DOCKER_ALLOW_MOUNTS"
    ),
    "mount-air": End(
        "true", {"mounts": [{"source": "out", "target": "/air/bin"}]}, "start-failed", None, "belongs to Air-Executor"
    ),
}


def test_each_end_has_its_reason(plant: Plant) -> None:
    """Exit codes, signals and want of memory are the task's; what can never start fails at once, in plain words."""
    require_image(NO_SHELL)
    os.symlink("/etc", plant.project / "out")
    tasks = [{"id": name, "command": end.command, **end.fields} for name, end in ENDS.items()]
    plant.start(allow_networks=("air-nonesuch",))
    plant.submit("ends", *tasks, max_runners=4, on_failure="continue")
    state = plant.see("ends", 110)
    seen = {}
    for name, end in ENDS.items():
        task, ended = state.tasks[name], done(state.tasks[name])
        seen[name] = end._replace(
            reason=str(ended.reason),
            code=ended.exit_code,
            message=end.message if end.message in (ended.message or "") else str(ended.message),
            runs=task.runs,
        )
    assert seen == ENDS
    plant.until(lambda: not plant.containers(), "all containers to be removed")


def test_an_image_without_a_shell_queues_and_sets_a_result(plant: Plant) -> None:
    """The helpers are there too, for they are the runner; a native program of the image's is all that it takes."""
    require_image(NO_SHELL)
    plant.submit(
        "bare",
        {"id": "first", "command": ["air-queue", "--id", "second", "/bin/busybox", "echo", 'a "b"'], "image": NO_SHELL},
        {"id": "other", "command": ["air-result", '{"cities": 2}'], "image": NO_SHELL, "after": ["first"]},
        defaults={"image": NO_SHELL},
    )
    state = plant.see("bare")
    assert state.phase == "succeeded"
    assert plant.log("bare", "second") == 'a "b"\n'
    assert done(state.tasks["other"]).result == {"cities": 2}


def test_without_a_native_runner_an_image_needs_a_shell(plant: Plant) -> None:
    """The script says what it lacks, and nothing is tried again; a native one that another version left is not used."""
    require_image(NO_SHELL)
    assert done(plant.run("true")).reason == "ok"
    assert Path(plant.layout.bin, str(native.this_machine()), native.NAME).exists()
    plant.stop()
    plant.runner_files = {name: data for name, data in plant.runner_files.items() if "/" not in name}
    for image, words in [({"image": NO_SHELL}, f"image {NO_SHELL} has no shell `sh`"), ({}, "or none in the PATH")]:
        task = plant.run("true", env={"PATH": "/app/bin"}, **image)
        assert (done(task).reason, done(task).exit_code, task.runs) == ("start-failed", 127, 1)
        assert words in str(done(task).message)


@pytest.mark.parametrize("base", [BUSYBOX, NO_SHELL])
def test_an_image_for_another_machine_is_named(plant: Plant, base: str) -> None:
    """Whether an init or a shell cannot execute the runner for it, the message tells what is wrong."""
    if native.this_machine() != "x86_64":
        pytest.skip("the runner for another machine is made of the one for x86-64")
    name = f"{base.partition(':')[0]}-arm64"
    import_for_arm64(plant.engine, base, name)
    program = bytearray(plant.runner_files[f"x86_64/{native.NAME}"])
    program[18] = 183  # e_machine: EM_AARCH64
    names = (native.NAME, *native.HELPERS)
    plant.runner_files |= {f"aarch64/{one}": bytes(program) for one in names}
    task = plant.run("true", image=name)
    assert (done(task).reason, task.runs) == ("start-failed", 1)
    assert done(task).message == f"image {name} is for aarch64, which the engine's machine cannot execute"


def import_for_arm64(engine: Any, base: str, name: str) -> None:  # noqa: ANN401 - a client of the engine
    """Make an image of another one's files, for another machine."""
    context = io.BytesIO()
    text = f"FROM scratch\nCOPY --from={require_image(base)} / /\nENV PATH=/bin\n".encode()
    with tarfile.open(fileobj=context, mode="w") as tar:
        entry = tarfile.TarInfo("Dockerfile")
        entry.size = len(text)
        tar.addfile(entry, io.BytesIO(text))
    context.seek(0)
    list(engine.build(fileobj=context, custom_context=True, platform="linux/arm64", tag=name, rm=True, decode=True))
    assert engine.inspect_image(name)["Architecture"] == "arm64"


def test_killed_from_outside(plant: Plant) -> None:
    """A runner that somebody kills or removes is lost, which is the platform's fault: the task runs again."""
    script = 'echo run $AIR_ATTEMPT; [ "$AIR_ATTEMPT" -gt 2 ] || sleep 60'
    plant.submit("hit", {"id": "it", "command": script})
    plant.engine.kill(plant.the_container())
    plant.until(lambda: plant.job("hit").tasks["it"].runs == 2, "the second run")
    plant.engine.remove_container(plant.the_container(), force=True)
    task = plant.see("hit").tasks["it"]
    assert (done(task).reason, task.runs) == ("ok", 3)
    first, second = task.attempts[0], task.attempts[1]
    assert (first.reason, second.reason) == ("lost", "lost")
    assert "ended with 137" in (first.message or "")


def test_memory_grows(plant: Plant) -> None:
    """A task that was killed for memory is tried again with more, if it says so; its attempts have the amounts."""
    task = plant.run(
        "exec dd if=/dev/zero of=/dev/null bs=40M count=1",
        retries=3,
        resources={"memory": "16Mi", "memory_growth": 2, "memory_max": "64Mi"},
    )
    assert done(task).reason == "ok"
    assert [(attempt.reason, attempt.memory_limit) for attempt in task.attempts] == [
        ("oom", 16 << 20),
        ("oom", 32 << 20),
        ("ok", 64 << 20),
    ]


def test_images_may_say_what_they_like(plant: Plant) -> None:
    """Entrypoint, user, health check and volumes of an image change nothing of how a task runs."""
    image = "air-executor-test-odd"
    changes = ['ENTRYPOINT ["/bin/false"]', "USER root", "VOLUME /data", "WORKDIR /data", "HEALTHCHECK CMD false"]
    made = plant.engine.create_container(require_image(), ["true"])
    plant.engine.commit(made["Id"], repository=image, changes="\n".join(changes))
    plant.engine.remove_container(made["Id"])
    volumes = {volume["Name"] for volume in plant.engine.volumes()["Volumes"] or ()}
    try:
        task = plant.run('echo "$(id -u) $(pwd)" >who', image=image)
        assert done(task).reason == "ok"
        job = next(iter(plant.client.jobs.ids()))
        assert plant.file(job, "who").read_text() == f"{plant.rig.config.user[0]} /air/workspace\n"
        plant.until(lambda: not plant.containers(), "the container to be removed")
        assert {volume["Name"] for volume in plant.engine.volumes()["Volumes"] or ()} == volumes
    finally:
        plant.engine.remove_image(image, force=True)
