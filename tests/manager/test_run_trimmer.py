"""The manager removes run directories that are not kept any longer, and never one that anybody needs."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from air_executor.manager import run_trimmer
from air_executor.model.state import JobState
from air_executor.store import files, run_retention
from air_executor.store.run_retention import RunLimits
from tests.manager import rig
from tests.manager.rig import World


def runs_of(world: World, job: str) -> list[int]:
    """Return the numbers of the run directories of a job, in order."""
    return sorted(int(name.partition("-")[0]) for name in os.listdir(world.layout.runs(job)))


def poll(world: World, hours: float = 1) -> None:
    """Let so much time pass that another pass over all jobs begins, and let it end."""
    world.clock.pass_time(hours * 3600)
    world.cycle(3)


@pytest.fixture
def keeping(quick_path: Path) -> Iterator[World]:
    """A manager that keeps three run directories per job."""
    with rig.world(quick_path, kept_runs=RunLimits(3)) as made:
        yield made


def test_the_oldest_run_directories_go(keeping: World) -> None:
    """Of a job that lives on, of one that has ended, and in a crash in between as well."""
    keeping.submit("long", *[f"t{number}" for number in range(8)])
    keeping.submit("other", "a")
    for number in range(7):
        keeping.do(f"long/t{number}")
    keeping.until(lambda: "long/t7" in keeping.running())
    poll(keeping)
    assert runs_of(keeping, "long") == [6, 7, 8]
    assert "long/t7" in keeping.running()
    keeping.crash()
    keeping.start()
    keeping.do("long/t7")
    keeping.until(lambda: keeping.job("long").phase == "succeeded")
    poll(keeping)
    assert runs_of(keeping, "long") == [6, 7, 8]
    assert runs_of(keeping, "other") == [1]


def test_why_a_task_has_failed_is_kept(keeping: World) -> None:
    """The last run of a task that failed stays however old it is, until the task succeeds after all."""
    keeping.submit("j", "bad", *[f"t{number}" for number in range(6)], on_failure="continue")
    keeping.do("j/bad", code=1)
    for number in range(6):
        keeping.do(f"j/t{number}")
    keeping.until(lambda: keeping.job("j").phase == "failed")
    poll(keeping)
    assert runs_of(keeping, "j") == [1, 5, 6, 7]
    keeping.asked("retry", "j")
    keeping.do("j/bad")
    keeping.until(lambda: keeping.job("j").phase == "succeeded")
    poll(keeping)
    assert runs_of(keeping, "j") == [6, 7, 8]


def test_without_a_limit_everything_stays(world: World) -> None:
    """As by default."""
    world.submit("j", "a", "b")
    world.do("j/a", "j/b")
    poll(world, hours=24 * 365)
    assert runs_of(world, "j") == [1, 2]


def test_ten_thousand_runs_are_removed_in_slices(keeping: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """However many there are, a cycle removes a few, and other jobs go on meanwhile."""
    keeping.submit("large", "a")
    keeping.do("large/a")
    keeping.until(lambda: keeping.job("large").phase == "succeeded")
    keeping.stop()
    for seq in range(2, 10_002):
        Path(keeping.layout.run("large", seq, "a")).mkdir()
    path = Path(keeping.layout.state("large"))
    path.write_text(path.read_text().replace('"seq": 1,', '"seq": 10001,', 1))
    keeping.start()
    monkeypatch.setattr(run_trimmer, "SLICE", -1)
    left = len(runs_of(keeping, "large"))
    keeping.submit("other", "a")
    for _ in range(300):
        keeping.clock.pass_time(1)
        keeping.cycle()
        now = len(runs_of(keeping, "large"))
        assert left - now <= 1
        left = now
    assert left < 10_001
    keeping.do("other/a")
    monkeypatch.setattr(run_trimmer, "SLICE", 0.02)
    poll(keeping)
    assert runs_of(keeping, "large") == [9_999, 10_000, 10_001]


def test_a_pass_over_many_run_directories_is_quick(tmp_path: Path) -> None:
    """Looking at 10,000 that are kept takes no longer than listing them a few times."""
    world = World(tmp_path)
    for seq in range(1, 10_001):
        Path(world.layout.run("large", seq, "a")).mkdir(parents=True)
    begun = time.process_time()
    files.list_dir(world.layout.runs("large"))
    listing = time.process_time() - begun

    def load() -> JobState:
        pytest.fail("nothing may be removed, so the state need not be read")

    begun = time.process_time()
    found = list(run_retention.expired(world.layout, "large", load, RunLimits(10_000), 0.0))
    assert time.process_time() - begun < 50 * listing + 0.5
    assert not any(found)


def test_a_folder_full_of_files_is_removed_in_pieces(keeping: World) -> None:
    """A task has left many files in its run directory: others may go first after each of them."""
    folder = Path(keeping.layout.run("j", 1, "a"))
    folder.mkdir(parents=True)
    for number in range(50):
        (folder / f"f{number}").touch()
    Path(keeping.layout.tmp).mkdir(parents=True, exist_ok=True)
    assert len(list(run_retention.remove(keeping.layout, "j", "1-a"))) >= 50
    assert not any(name.startswith("removed-") for name in os.listdir(keeping.layout.tmp))
    assert runs_of(keeping, "j") == []
