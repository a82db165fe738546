"""An engine that falls silent, breaks its connections or loses events: nothing is concluded from it."""

from __future__ import annotations

import contextlib
import gc
import itertools
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest

from air_executor.backends.docker import container_watch
from air_executor.backends.docker.engine import Engine
from air_executor.store.presence import read_record
from tests.crash.gate import Gate
from tests.docker.rig import Plant, socket_path

pytestmark = [
    pytest.mark.docker,
    pytest.mark.timeout(400),
    # The SDK leaves it to the garbage collector to close a socket whose connection failed.
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
]

UNTIL_GO = "touch began; while [ ! -e go ]; do sleep 0.05; done"


@pytest.fixture(autouse=True)
def _collected() -> Iterator[None]:
    """See to it that what is left to the garbage collector is left to it here, where that is no error."""
    yield
    gc.collect()


@pytest.fixture
def gate(plant: Plant, monkeypatch: pytest.MonkeyPatch) -> Iterator[Gate]:
    """A way to the engine that can be shut; the manager that is started next goes through it."""
    made = Gate(socket_path())
    monkeypatch.setenv("DOCKER_HOST", made.address)
    yield made
    made.open()
    if plant.running:
        plant.stop()
    monkeypatch.undo()
    made.close()


def begin(plant: Plant, job: str) -> None:
    """Start a task that waits for a file."""
    plant.submit(job, {"id": "it", "command": UNTIL_GO})
    plant.until(lambda: plant.file(job, "began").exists(), "the task to begin")


def test_silence_proves_nothing(plant: Plant, gate: Gate) -> None:
    """While the engine says nothing no run is given up and none is started; the record says so; then all goes on."""
    plant.start(timeout=20.0)
    begin(plant, "quiet")
    gate.shut()
    plant.file("quiet", "go").touch()
    plant.submit("next", {"id": "it", "command": "true"})
    plant.until(lambda: read_record(plant.layout)["backend"]["problem"] is not None, "the silence to be noticed")
    plant.until(lambda: read_record(plant.layout)["backend"]["problem"] is not None, "the record to say so")
    assert "does not answer" in read_record(plant.layout)["backend"]["problem"]
    assert plant.job("quiet").tasks["it"].phase == "running"
    gate.open()
    assert [(plant.see(job).tasks["it"].runs, plant.job(job).phase) for job in ("quiet", "next")] == [
        (1, "succeeded"),
        (1, "succeeded"),
    ]
    plant.until(lambda: read_record(plant.layout)["backend"]["problem"] is None, "the record to say that all is well")


def test_broken_connections(plant: Plant, gate: Gate) -> None:
    """Broken streams are reopened, and what happened in between is found by a list."""
    plant.start(timeout=60.0)
    begin(plant, "cut")
    for _ in range(3):
        gate.slam()
        plant.manager.cycle()
    plant.file("cut", "go").touch()
    assert plant.see("cut").tasks["it"].runs == 1


def test_lost_events(plant: Plant, monkeypatch: pytest.MonkeyPatch) -> None:
    """A stream that stays open and says nothing only makes things slower: the next list shows what it kept back."""
    ended = threading.Event()

    @contextlib.contextmanager
    def says_nothing(*_: object) -> Iterator[Iterator[dict[str, Any]]]:
        yield itertools.takewhile(lambda _: not ended.wait(), [{}])

    monkeypatch.setattr(container_watch, "RELIST_SECONDS", 1.0)
    monkeypatch.setattr(Engine, "events", says_nothing)
    tasks = [{"id": f"n{number}", "command": "true"} for number in range(3)]
    plant.submit("deaf", *tasks)
    assert plant.see("deaf").phase == "succeeded"
    ended.set()


def test_a_manager_leaves_a_silent_engine(plant: Plant, gate: Gate) -> None:
    """Told to stop, a manager does not wait for an engine that does not answer; its runner is adopted."""
    plant.start(timeout=100.0)
    begin(plant, "left")
    gate.shut()
    plant.submit("more", {"id": "it", "command": "true"})
    begun = time.monotonic()
    plant.stop()
    assert time.monotonic() - begun < 60
    gate.open()
    plant.start()
    plant.file("left", "go").touch()
    assert plant.see("left").tasks["it"].runs == 1
    assert plant.see("more").phase == "succeeded"
