"""The switches by which a test makes the fake platform misbehave."""

from __future__ import annotations

from pathlib import Path

import pytest

from air_executor.errors import BackendUnavailableError, DuplicateRunnerError, SpawnRejectedError
from air_executor.model.names import Slot
from air_executor.store.layout import Layout
from tests.backends.rig import Task, make_launch
from tests.fake_backend import FakeBackend, FakePlatform, Fault

SLOT = Slot("census", 0)


@pytest.fixture
def platform() -> FakePlatform:
    """A platform that behaves."""
    return FakePlatform()


def test_silence_concludes_nothing(platform: FakePlatform, tmp_path: Path) -> None:
    """While silent it answers nothing, and afterwards everything is as it was."""
    backend = FakeBackend(platform)
    launch = make_launch(Layout(tmp_path), SLOT, 1, Task.WAITS)
    backend.spawn(launch)
    platform.silent = True
    for action in (backend.observe, lambda: backend.remove(SLOT), lambda: backend.spawn(launch)):
        with pytest.raises(BackendUnavailableError):
            action()
    platform.silent = False
    assert backend.observe()[SLOT].run == launch.run


@pytest.mark.parametrize(
    ("fault", "error", "started", "appears"),
    [
        (Fault.REJECTED, SpawnRejectedError, False, False),
        (Fault.NOT_STARTED, BackendUnavailableError, False, False),
        (Fault.STARTED, BackendUnavailableError, True, False),
        (Fault.LATE, BackendUnavailableError, False, True),
    ],
)
def test_faults_of_a_spawn(
    platform: FakePlatform, tmp_path: Path, fault: Fault, error: type[Exception], *, started: bool, appears: bool
) -> None:
    """A spawn that fails may have started its runner at once, later, or never; the next one works."""
    backend = FakeBackend(platform)
    launch = make_launch(Layout(tmp_path), SLOT, 1, Task.WAITS)
    platform.faults.append(fault)
    with pytest.raises(error):
        backend.spawn(launch)
    assert (SLOT in backend.observe()) == started
    assert platform.appear() == appears
    assert (SLOT in backend.observe()) == (started or appears)
    backend.remove(SLOT)
    backend.spawn(make_launch(Layout(tmp_path), SLOT, 2, Task.WAITS))
    assert backend.observe()[SLOT].alive


def test_a_late_runner_cannot_take_a_taken_name(platform: FakePlatform, tmp_path: Path) -> None:
    """Names are unique even for what was asked for earlier."""
    backend = FakeBackend(platform)
    late, prompt = (make_launch(Layout(tmp_path), SLOT, seq, Task.WAITS) for seq in (1, 2))
    platform.faults.append(Fault.LATE)
    with pytest.raises(BackendUnavailableError):
        backend.spawn(late)
    backend.spawn(prompt)
    assert not platform.appear()
    assert platform.spawned == [prompt.run]
    with pytest.raises(DuplicateRunnerError):
        backend.spawn(late)


def test_lag_shows_the_past(platform: FakePlatform, tmp_path: Path) -> None:
    """While lagging, `observe` still lists what is gone and not yet what has come."""
    backend = FakeBackend(platform)
    first, second = Slot("census", 1), Slot("census", 2)
    backend.spawn(make_launch(Layout(tmp_path), first, 1, Task.WAITS))
    backend.observe()
    platform.lagging = True
    platform.lose(first)
    backend.spawn(make_launch(Layout(tmp_path), second, 2, Task.WAITS))
    assert list(backend.observe()) == [first]
    platform.catch_up()
    assert list(backend.observe()) == [second]


def test_wake_reaches_open_backends_only(platform: FakePlatform, tmp_path: Path) -> None:
    """Every change is hinted at once, until the backend is closed."""
    calls: list[int] = []
    backend = FakeBackend(platform)
    backend.on_change(lambda: calls.append(1))
    backend.spawn(make_launch(Layout(tmp_path), SLOT, 1, Task.WAITS))
    platform.end(SLOT)
    assert len(calls) == 2
    backend.close()
    platform.lose(SLOT)
    assert len(calls) == 2
