"""An engine that is stopped or killed in the middle of runs, and comes back: with live-restore and without."""

from __future__ import annotations

import contextlib
import gc
from collections.abc import Iterator
from pathlib import Path

import pytest

from air_executor.store.presence import read_record
from tests.backends.rig import not_adopting_orphans
from tests.docker.own_engine import OwnEngine
from tests.docker.rig import Plant, done, socket_path
from tests.engine import BUSYBOX, require_engine, require_image

pytestmark = [
    pytest.mark.docker,
    pytest.mark.timeout(400),
    # The SDK leaves a socket that could not be connected to the garbage collector.
    pytest.mark.filterwarnings("ignore:unclosed <socket:ResourceWarning"),
]

WAITS = 'echo "$AIR_RUN_ID" >>began; while [ ! -e go ]; do sleep 0.05; done'


@pytest.fixture
def own(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[OwnEngine]:
    """An engine of this test's own, with live-restore or without; DOCKER_HOST names it from now on."""
    with contextlib.closing(require_engine()) as client:
        image = b"".join(client.get_image(require_image()))
    # A killed engine's containerd must not come to us, who would not reap it: the next engine would wait for it.
    with not_adopting_orphans():
        made = OwnEngine(socket_path(), live_restore=request.param)
        made.start()
        made.load(image)
        monkeypatch.setenv("DOCKER_HOST", made.address)
        yield made
        made.close()


@pytest.fixture
def plant(own: OwnEngine, tmp_path: Path) -> Iterator[Plant]:
    """A manager on that engine."""
    made = Plant(tmp_path)
    yield made
    if made.running:
        made.stop()
    made.engine.close()
    gc.collect()


def begin(plant: Plant, job: str) -> None:
    """Start a task that waits for a file; the test's engine need not reach any network."""
    plant.submit(job, {"id": "it", "command": WAITS, "network": "none"})
    plant.until(lambda: plant.file(job, "began").exists(), "the task to begin")
    plant.until(lambda: is_noted(plant), "the engine to note it: killed before, it lets the container live on")


def is_noted(plant: Plant) -> bool:
    """Tell whether the engine's own records have when each container started."""
    started = [plant.engine.inspect_container(one["Id"])["State"]["StartedAt"] for one in plant.containers()]
    return not any(at.startswith("0001-") for at in started)


def notice(plant: Plant) -> None:
    """Wait until the manager has noticed that the engine is gone; nothing follows from that."""
    plant.until(lambda: read_record(plant.layout)["backend"]["problem"] is not None, "the silence to be noticed")
    for _ in range(20):
        plant.manager.cycle()


@pytest.mark.parametrize("own", [False], indirect=True, ids=["without live-restore"])
def test_what_went_down_with_it_runs_again(own: OwnEngine, plant: Plant) -> None:
    """Runs that end with their engine, stopped or killed, do so by the platform's fault: each is run once more."""
    for job, kill in (("stopped", False), ("killed", True)):
        begin(plant, job)
        own.stop(kill=kill)
        notice(plant)
        assert (plant.job(job).phase, plant.job(job).tasks["it"].runs) == ("running", 1)
        own.start()
        plant.until(lambda job=job: plant.file(job, "began").read_text().count("\n") == 2, "the second run to begin")  # type: ignore[misc]
        plant.file(job, "go").touch()
        task = plant.see(job).tasks["it"]
        assert (done(task).reason, task.runs, task.charged) == ("ok", 2, 0)
        assert task.attempts[0].reason in {"lost", "evicted"}
    plant.until(lambda: not plant.containers(), "the containers to be removed")


@pytest.mark.parametrize("own", [False], indirect=True, ids=["without live-restore"])
def test_services_that_went_down_with_it(own: OwnEngine, plant: Plant) -> None:
    """The run is repeated with services of its own, and nothing of either is left."""
    wait = 'echo "$AIR_RUN_ID" >>began; while [ ! -e go ]; do sleep 0.05; done'
    service = {"name": "db", "image": BUSYBOX, "command": "echo up; exec sleep 600", "ready": "true"}
    plant.submit("job", {"id": "it", "command": wait, "network": "none", "services": [service]})
    plant.until(lambda: plant.file("job", "began").exists(), "the task to begin")
    own.stop(kill=False)
    notice(plant)
    own.start()
    plant.until(lambda: plant.file("job", "began").read_text().count("\n") == 2, "the second run to begin")
    plant.file("job", "go").touch()
    task = plant.see("job").tasks["it"]
    assert (done(task).reason, task.runs, task.charged) == ("ok", 2, 0)
    plant.until(lambda: plant.containers() == [], "the containers to be gone")


@pytest.mark.parametrize("own", [True], indirect=True, ids=["with live-restore"])
def test_what_lived_on_is_committed(own: OwnEngine, plant: Plant) -> None:
    """Runs outlive their engine, stopped or killed: what ends meanwhile or later is committed, nothing is repeated."""
    begin(plant, "after")
    for job, kill in (("stopped", False), ("killed", True)):
        begin(plant, job)
        own.stop(kill=kill)
        notice(plant)
        plant.file(job, "go").touch()
        own.start()
        assert plant.see(job).phase == "succeeded"
        plant.until(lambda: [one["State"] for one in plant.containers()] == ["running"], "the other to be alone")
    plant.file("after", "go").touch()
    assert plant.see("after").phase == "succeeded"
    for job in ("stopped", "killed", "after"):
        assert plant.file(job, "began").read_text() == f"{plant.job(job).uid}-1\n"
    plant.until(lambda: not plant.containers(), "the containers to be removed")
