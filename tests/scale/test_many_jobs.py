"""Many jobs on the volume: the manager starts on them in one pass, and then costs the same as with none."""

from __future__ import annotations

import json
import os
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from air_executor.core.submission import initial_state, parse_job
from air_executor.model import state as s
from air_executor.model.state import JobState
from air_executor.store import codec
from air_executor.store.layout import Layout
from tests.manager import rig
from tests.records import make_done

FINISHED, PAUSED, GARBAGE = 10_000, 100, 10_000
CYCLES = 50


def fill(layout: Layout, number: int, phase: s.JobPhase, prefix: str) -> None:
    """Put that many jobs of a phase on the volume, as a manager would have left them."""
    state = initial_state(parse_job({"id": "model", "tasks": [{"id": "a", "command": "true"}]}), uid="0" * 8, now=1.7e9)
    state.phase, state.epoch, state.version = phase, 1, 4
    if phase == s.SUCCEEDED:
        state.reason, state.started_at, state.finished_at, state.seq = s.OK, 1.7e9, 1.7e9, 1
        state.tasks["a"].status = make_done(s.SUCCEEDED, s.OK, 1.7e9, 0)
    for n in range(number):
        state.id, state.uid = f"{prefix}-{n}", f"{n:08x}"
        os.makedirs(layout.job(state.id))
        with open(layout.state(state.id), "wb") as file:
            file.write(codec.dump_job(state))


@pytest.fixture
def counted(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[], Counter[str]]]:
    """Return a function that gives the file operations since its last call, by name."""
    seen: Counter[str] = Counter()
    counting = [True]

    def hook(event: str, _: tuple[Any, ...]) -> None:
        if counting[0] and event.partition(".")[0] in {"open", "os", "shutil", "fcntl"}:
            seen[event] += 1

    sys.addaudithook(hook)  # hooks cannot be removed, so this one is switched off below
    for name in ("stat", "lstat", "fstat"):  # these have no audit event
        real = getattr(os, name)

        def call(*args: Any, _real: Any = real, _name: str = name, **kwargs: Any) -> Any:  # noqa: ANN401
            seen[_name] += 1
            return _real(*args, **kwargs)

        monkeypatch.setattr(os, name, call)

    def take() -> Counter[str]:
        found = Counter(seen)
        seen.clear()
        return found

    yield take
    counting[0] = False


def idle_cost(world: rig.World, take: Callable[[], Counter[str]]) -> Counter[str]:
    """Return what cycles with nothing to do cost, in file operations, a minute's rescan among them left out."""
    world.until(lambda: not world.manager.state.index.dirty)
    world.cycle(3)
    take()
    for _ in range(CYCLES):
        world.clock.pass_time(1.0)
        world.cycle()
    return take()


@pytest.mark.timeout(300)
def test_idle_costs_the_same_with_ten_thousand_jobs_as_with_none(
    quick_path: Path, counted: Callable[[], Counter[str]], record_property: Callable[[str, object], None]
) -> None:
    """Fifty idle cycles over 10,100 jobs make exactly the calls of fifty over an empty volume."""
    with rig.world(quick_path / "empty") as world:
        alone = idle_cost(world, counted)
    full = rig.World(quick_path / "full")
    full.jobs.prepare()
    fill(full.layout, FINISHED, s.SUCCEEDED, "done")
    fill(full.layout, PAUSED, s.PAUSED, "paused")
    begun = time.monotonic()
    full.start()
    started = time.monotonic() - begun
    record_property("start_seconds", round(started, 2))
    sys.stdout.write(f"start with {FINISHED + PAUSED} jobs: {started:.2f} s\n")
    try:
        full.cycle()
        assert len(full.manager.state.index.ended) == FINISHED
        assert len(full.manager.state.index.open) == PAUSED
        crowded = idle_cost(full, counted)
        assert crowded == alone
        assert sum(alone.values()) <= 10 * CYCLES
    finally:
        full.crash()


@pytest.mark.timeout(300)
def test_garbage_in_the_jobs_folder_is_ignored(quick_path: Path) -> None:
    """Ten thousand files, links and folders that are no jobs neither stop the manager nor are touched; jobs run on."""
    world = rig.World(quick_path)
    world.jobs.prepare()
    folder = Path(world.layout.jobs)
    for n in range(GARBAGE):
        (folder / f"garbage-{n}").touch()  # a name that a job could have
    (folder / "Not An Id").mkdir()
    (folder / "-rf").touch()
    (folder / "dangling").symlink_to("nowhere")
    (folder / "loop").symlink_to(folder)
    os.mkfifo(folder / "fifo")
    before = sorted(os.listdir(folder))
    begun = time.monotonic()
    world.start()
    sys.stdout.write(f"start with {GARBAGE} files that are no jobs: {time.monotonic() - begun:.2f} s\n")
    try:
        world.cycle()
        world.submit("job", "a")
        world.do("job/a")
        world.until(lambda: world.job("job").phase == "succeeded")
        world.stop()
        assert sorted(os.listdir(folder)) == sorted([*before, "job"])
    finally:
        if world.alive:
            world.crash()


def test_a_large_job_is_checkpointed_in_proportion(quick_path: Path) -> None:
    """A job of thousands of tasks is not rewritten for each of them: checkpoints stay a small share of its changes."""
    with rig.world(quick_path, max_runners=100) as world:
        world.submit("large", *(f"n{n}" for n in range(2000)), max_runners=100)
        writes = 0
        real = world.manager.jobs.checkpoint

        def checkpoint(job: JobState, staging: str) -> None:
            nonlocal writes
            writes += 1
            real(job, staging)

        world.manager.jobs.checkpoint = checkpoint  # type: ignore[method-assign]
        while world.job("large").phase != "succeeded":
            world.cycle()
            for name in list(world.running()):
                world.exit(name)
            world.clock.pass_time(0.01)
        assert 1 <= writes <= 10
        assert json.loads(Path(world.layout.state("large")).read_text(encoding="utf-8"))["usage"]["runs"] == 2000
