"""A manager that is paused while it starts (SIGSTOP, a suspended machine), and replaced meanwhile, does no harm."""

from __future__ import annotations

import functools
import itertools
import json
import os
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from air_executor.errors import DirectoryLostError, ManagerHeldError
from air_executor.manager.lease import FileLease
from air_executor.store import files
from tests.manager.deaths import Death, effects
from tests.manager.rig import HOST, World, world


@contextmanager
def crashed(root: Path) -> Iterator[World]:
    """A world whose manager was killed: a run has ended since, and a request waits."""
    with world(root) as made, pytest.MonkeyPatch.context() as patch:
        made.delay_checkpoints(patch)
        made.submit("j", "a", "b", "c")
        made.do("j/a")
        made.until(lambda: "j/b" in made.running())
        made.ask("add", "j", tasks=[{"id": "d", "command": "d"}])
        made.crash()
        made.exit("j/b")
        yield made


@contextmanager
def paused(point: str, call: int, then: Callable[[], None]) -> Iterator[None]:
    """Let something happen before a call of an effect; calls in there do not count."""
    owner, name = effects()[point]
    whole, calls = getattr(owner, name), itertools.count(1)

    @functools.wraps(whole)
    def called(*args: Any, **kwargs: Any) -> Any:  # noqa: ANN401 - stands in for any function
        if next(calls) == call:
            then()
        return whole(*args, **kwargs)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(owner, name, called)
        yield


def effects_of_a_start(root: Path) -> Counter[str]:
    """Return how often a start calls each effect once it has the lock."""
    counted = Death()
    with crashed(root) as made, counted.threatens():
        made.start()
    return counted.counts


def test_it_leaves_and_its_successor_goes_on(quick_path: Path) -> None:
    """Paused before any effect of its start, replaced, continued: it leaves, and every task runs once."""
    points = effects_of_a_start(quick_path / "0")
    moments = [(point, call) for point, calls in points.items() for call in range(1, calls + 1)]
    left = 0
    for number, (point, call) in enumerate(moments):
        with crashed(quick_path / f"1-{number}") as made:

            def replace(made: World = made) -> None:
                if os.path.exists(made.layout.lock):
                    os.unlink(made.layout.lock)
                made.start()
                made.until(lambda: "j/c" in made.running())

            try:
                with paused(point, call, replace):
                    made.start()
            except ManagerHeldError:
                left += 1
            assert os.path.isdir(made.layout.epoch_tmp(made.manager.epoch)), (point, call)
            made.do("j/c", "j/d")
            assert made.job("j").phase == "succeeded", (point, call)
            assert not made.overlaps, (point, call)
            assert [launch.task for launch in made.begun.values()] == ["a", "b", "c", "d"], (point, call)
            made.stop()
    assert left > 10


def test_a_lock_that_is_in_place_is_never_let_go(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another has written its record, and is leaving: were the lock free for an instant, that one might take it."""
    lease = world.manager.lease
    files.replace(world.layout.manager, json.dumps({"pid": 1}).encode(), world.layout.tmp)
    with pytest.raises(DirectoryLostError):
        lease.check()
    real = files.restore_dir

    def refused(path: str) -> None:
        with pytest.raises(ManagerHeldError):
            FileLease(world.layout, HOST).acquire()
        real(path)

    monkeypatch.setattr(files, "restore_dir", refused)
    lease.reacquire()
    lease.check()
