"""Which container has the name: ours, another state directory's, an unmanaged one; created but not started; paused."""

from __future__ import annotations

import contextlib
import dataclasses
import time

import pytest

from air_executor.backends.base import Launch
from air_executor.backends.container import inside
from air_executor.backends.docker.container_spec import EngineConfig, container_config
from air_executor.backends.docker.container_starter import ContainerStarter
from air_executor.backends.docker.docker_backend import DockerBackend
from air_executor.backends.docker.engine import Engine
from air_executor.backends.docker.images import ImageFacts
from air_executor.errors import DuplicateRunnerError, SpawnRejectedError
from air_executor.model.names import Slot
from air_executor.model.records import Request
from air_executor.store.service_logs import keeper_of
from tests.backends.rig import Task
from tests.docker.rig import Plant, done
from tests.engine import require_image

pytestmark = pytest.mark.docker

SLOT = Slot("taken", 0)


def test_an_unmanaged_container_is_not_touched(plant: Plant) -> None:
    """A task whose name is taken by somebody else fails at once, in words that name them and the way out."""
    name = f"{plant.settings.name_prefix}-taken"
    made = plant.engine.create_container(require_image(), ["sleep", "60"], name=name)["Id"]
    try:
        plant.submit("taken", {"id": "it", "command": "true"})
        task = plant.see("taken").tasks["it"]
        assert (done(task).reason, task.runs) == ("start-failed", 1)
        message = done(task).message or ""
        assert name in message
        assert "that is not Air-Executor's" in message
        assert "AIR_NAME_PREFIX" in message
        assert plant.engine.inspect_container(made)["State"]["Status"] == "created"
    finally:
        plant.engine.remove_container(made)


def test_another_state_directory_is_named(plant: Plant) -> None:
    """Two projects with a job of one name: the second learns which folder has it, and the first's runner lives."""
    rig = plant.rig
    launch = rig.launch(SLOT, 1, Task.WAITS)
    backend = rig.docker()
    backend.spawn(launch)
    rig.until(lambda: rig.is_ready(launch), "the task to start")
    other = dataclasses.replace(rig.config, location="/somewhere/else/.air-executor")
    theirs = DockerBackend(Engine(30), other, keeper_of(plant.layout))
    with pytest.raises(SpawnRejectedError, match=rf"{plant.layout.root}.*AIR_NAME_PREFIX"):
        theirs.spawn(rig.launch(SLOT, 2, Task.WAITS))
    theirs.close()
    assert backend.observe()[SLOT].alive


def create(config: EngineConfig, launch: Launch) -> None:
    """Make the container of a run, as a manager does that dies at once."""
    with contextlib.closing(Engine(30)) as engine:
        engine.create(config.name(launch.slot), container_config(config, launch, ImageFacts()))


def test_our_own_request_whose_answer_was_lost(plant: Plant) -> None:
    """A container that carries this very run is ours: it is started, not refused."""
    rig = plant.rig
    launch = rig.launch(SLOT, 1, Task.ENDS)
    backend = rig.docker()
    assert backend.observe() == {}
    inside.change_owner(launch, rig.config.user)
    create(rig.config, launch)
    backend.spawn(launch)
    rig.until(lambda: rig.is_ready(launch), "the task to run")


def test_made_and_never_started(plant: Plant) -> None:
    """A manager that dies between making and starting leaves a name that nobody uses: it counts as finished."""
    rig = plant.rig
    launch = rig.launch(SLOT, 1, Task.ENDS)
    backend = rig.docker()
    create(rig.config, launch)
    status = backend.observe()[SLOT]
    assert (status.run, status.alive, status.finished, status.reason) == (launch.run, False, True, None)
    with pytest.raises(DuplicateRunnerError):
        backend.spawn(rig.launch(SLOT, 2, Task.ENDS))
    backend.remove(SLOT)
    rig.until(lambda: SLOT not in backend.observe(), "its name to be free")


def test_its_task_is_queued_again_at_no_charge(plant: Plant, monkeypatch: pytest.MonkeyPatch) -> None:
    """The next manager runs the task as if nothing had been: the same attempt, and no retry is used up."""
    plant.start()
    monkeypatch.setattr(ContainerStarter, "start", lambda *_: None)
    plant.submit("late", {"id": "it", "command": "echo $AIR_ATTEMPT"})
    plant.until(lambda: bool(plant.containers()), "the container to be made")
    assert [entry["State"] for entry in plant.containers()] == ["created"]
    plant.stop()
    monkeypatch.undo()
    plant.start()
    task = plant.see("late").tasks["it"]
    assert (done(task).reason, task.charged, task.faults) == ("ok", 0, 0)
    assert [attempt.reason for attempt in task.attempts] == ["requeue", "ok"]


def test_a_paused_container_can_be_cancelled(plant: Plant) -> None:
    """Somebody paused it: a cancel lets it go on, so that it can end."""
    plant.submit("still", {"id": "it", "command": "sleep 60", "grace": 1})
    plant.engine.pause(plant.the_container())
    plant.client.inbox.post(Request("cancel", "still"), time.time())
    assert done(plant.see("still").tasks["it"]).reason == "cancelled"
    plant.until(lambda: not plant.containers(), "the container to be removed")
