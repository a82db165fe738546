"""A manager, or a user, dies before or after any effect that the code declares: whoever comes next carries on."""

from __future__ import annotations

import ast
import contextlib
import functools
import inspect
import os
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from air_executor.client import Client
from air_executor.client.job_submission import submit_once
from air_executor.core.submission import parse_job
from air_executor.errors import AlreadyExistsError, NotFoundError
from air_executor.manager.run_trimmer import PASS_EVERY
from air_executor.model.state import Done
from air_executor.store.run_retention import RunLimits
from air_executor.store.run_tokens import RunAddress, RunTokens
from air_executor.store.schedules import Schedules
from tests import lanes
from tests.conftest import MEMORY
from tests.manager.deaths import Death, Killed, effects, modules
from tests.manager.rig import World, do_side_work_at_once, leave

CHANGING = set(
    "chmod chown copyfile fchmod fchown fdatasync fsync ftruncate link makedirs mkdir mkfifo pwrite remove rename"
    " renames replace rmdir rmtree symlink truncate unlink utime write".split()
)
"""Functions of `os` and `shutil` that change a volume."""
ELSEWHERE = {
    "append_only": "lines that no manager reads back; what `prune --delete` wrote is written again after a death",
    "probe": "`air-executor doctor` measures a volume, in a folder of its own",
    "ended_commands": "the next manager notes it again",
    "event_check": "as `probe`",
    "service_logs": "before a service is removed, which a death repeats",
    "wakeups": "it writes to a pipe of its own process",
}
"""Modules that change nothing of the state directory."""
BESIDE = {"keep_syncing"}
"""Functions of threads beside the manager's: what they do can come before or after any effect."""


def changes(function: ast.FunctionDef) -> set[str]:
    """Return how a function itself, without those in it, changes a volume."""
    found = set()
    for node in ast.walk(function):
        if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Attribute | ast.Name):
            continue
        called = ast.unparse(node.func)
        module, _, name = called.rpartition(".")
        flags = ast.unparse(node) if called == "os.open" else ""
        modes = {one.value for one in node.args[1:] if isinstance(one, ast.Constant)} if called == "open" else set()
        if module in {"os", "shutil"} and (name in CHANGING or "O_CREAT" in flags):
            found.add(called)
        if any(set(str(mode)) & set("wxa+") for mode in modes):
            found.add(called)
    return found


def test_all_that_changes_the_volume_is_an_effect() -> None:
    """A function that changes the volume with the means of the standard library is declared as one."""
    declared = {(point.split(".")[0], point.split(".")[-1]) for point in effects()}
    missing = []
    for module in modules():
        name = module.__name__.rpartition(".")[2]
        for node in ast.walk(ast.parse(inspect.getsource(module))):
            if not isinstance(node, ast.FunctionDef) or node.name in BESIDE or name in ELSEWHERE:
                continue
            if changes(node) and (name, node.name) not in declared:
                missing.append(f"{name}.{node.name}: {changes(node)}")
    assert missing == [], "not in EFFECTS"


@pytest.fixture(autouse=True)
def _one_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    do_side_work_at_once(monkeypatch)


class Story:
    """Jobs with all that can happen to them, and one death in between."""

    def __init__(self, root: Path, death: Death) -> None:
        helper = b"#!/bin/sh\n"
        runner_files = {"air-queue": helper, "air-result": helper}
        self.world = World(root, platform_retries=5, runner_files=runner_files, kept_runs=RunLimits(2))
        self.death = death

    def attempt(self, act: Callable[[], object]) -> bool:
        """Do what the death may cut short, and tell whether it was done."""
        try:
            with self.death.threatens():
                act()
        except Killed:
            if self.world.alive:
                self.world.crash()
            return False
        return True

    def do(self, act: Callable[[], object]) -> None:
        """Do it, once more if the first time was cut short."""
        with contextlib.suppress(AlreadyExistsError):  # the first time
            while not self.attempt(act):
                pass

    def until(self, condition: Callable[[], bool]) -> None:
        """Let managers work until something is so."""
        for _ in range(100):
            if not self.world.alive:
                self.do(self.world.start)
            if condition():
                return
            self.attempt(self.world.cycle)
            self.world.clock.pass_time(0.5)
        pytest.fail(f"it did not come about; running: {self.world.running()}")

    def submit(self, job: str, *tasks: object, max_runners: int = 1) -> None:
        """Submit a job."""
        self.do(lambda: self.world.submit(job, *tasks, max_runners=max_runners))

    def runs(self, *names: str) -> None:
        """Wait until all these tasks run."""
        self.until(lambda: set(names) <= set(self.world.running()))

    def ended(self, job: str, result: object = None) -> bool:
        """Whether a job has ended; what runs of it ends well, with this result."""
        for name in sorted(self.world.running()):
            if name.startswith(f"{job}/"):
                self.world.exit(name, result=result)
        return job in self.world.jobs.ids() and self.world.job(job).ended

    def tell(self) -> None:
        """Tell all of it."""
        self.dynamic()
        self.sent_twice()
        self.large_results()
        self.cached_results()
        self.tokens()
        self.requests()
        self.kept_runner()
        self.troubles()
        self.do(self.world.start)
        for job in ("rewound", "damaged"):
            self.until(lambda job=job: self.ended(job))  # type: ignore[misc]
        self.world.clock.pass_time(PASS_EVERY)
        self.until(lambda: len(os.listdir(self.world.layout.runs("j"))) == 2)
        self.check()

    def dynamic(self) -> None:
        """A task queues another and a whole job, one is retried, and the clean-up comes last."""
        world = self.world
        self.submit("j", "a", {"id": "b", "retries": 1}, {"id": "end", "when": "always"}, max_runners=2)
        self.runs("j/a", "j/b")
        Path(world.launch("j/b").out_dir, "output.log").write_text("it works\n")
        noted = Path(world.launch("j/b").out_dir, "log-times")
        self.until(noted.exists)
        child = {"job": {"id": "child", "tasks": [{"id": "x", "command": "x"}]}}
        world.exit("j/a", queue=[{"id": "more", "command": "x"}, child], result={"one": 1})
        launch = world.exit("j/b", code=1)
        os.chmod(launch.out_dir, 0)
        self.until(lambda: self.ended("child") and self.ended("j"))

    def sent_twice(self) -> None:
        """A request with a key is sent again where the first one was cut short; it makes one run."""
        client = Client(self.world.layout.root)
        job = parse_job({"name": "keyed", "tasks": [{"id": "a", "command": "x"}]})
        self.do(lambda: submit_once(client, [job], "anna", "key"))
        self.until(lambda: self.ended("keyed-1"))
        assert [name for name in self.world.jobs.ids() if name.startswith("keyed")] == ["keyed-1"]

    def large_results(self) -> None:
        """What tasks are given grows, in a file that their runs share."""
        parts = [f"p{number}" for number in range(5)]
        self.submit("large", *parts, {"id": "m1", "after": parts}, {"id": "m2", "after": ["m1"]}, max_runners=4)
        self.until(lambda: self.ended("large", result="x" * 15_000))

    def cached_results(self) -> None:
        """A result is kept with a file, and two tasks have it, or run because its keeping was cut short."""
        task = {"id": "a", "memoize": {"key": ["v1"], "outputs": ["deep/o"]}}
        for job in ("m1", "m2", "m3"):
            self.submit(job, task)
            self.until(lambda job=job: self.runs_or_ended(job))  # type: ignore[misc]
            made = Path(self.world.layout.workspace(job), "deep")
            made.mkdir(exist_ok=True)
            (made / "o").write_text("x")
            self.until(lambda job=job: self.ended(job))  # type: ignore[misc]
            assert (made / "o").read_text() == "x"

    def tokens(self) -> None:
        """A manager makes a token of a run; a later one, which may have found no key, or a whole one, knows it."""
        run = RunAddress("j", 1, "a", "0123456789ab-1")
        made: list[str] = []
        self.do(lambda: made.append(RunTokens(self.world.layout).make(run, 0.0)))
        assert RunTokens(self.world.layout).read(made[-1], 1.0) == (run, None)

    def runs_or_ended(self, job: str) -> bool:
        """Whether the task of a job runs, or needs no run."""
        return f"{job}/a" in self.world.running() or (job in self.world.jobs.ids() and self.world.job(job).ended)

    def requests(self) -> None:
        """A running task is cancelled, a runner's end is confirmed, and what is no request is refused."""
        world = self.world
        self.do(lambda: world.submit("k", "x", "y", workspace={"given": b"1"}))
        self.runs("k/x")
        world.platform.slow_removal = True
        self.do(lambda: world.ask("cancel", "k", "x"))
        self.until(lambda: not world.inbox.pending())
        self.do(lambda: world.ask("confirm-gone", "k"))
        self.do(lambda: world.ask("retry", "nobody"))
        schedule = Path(world.layout.schedule("nightly"))
        schedule.parent.mkdir(exist_ok=True)
        schedule.touch()
        with contextlib.suppress(NotFoundError):  # deleted by the one that died
            self.do(lambda: Schedules(world.layout).delete("nightly"))
        assert not schedule.exists()
        self.until(lambda: not world.inbox.pending())
        world.platform.slow_removal = False
        world.platform.settle()
        self.until(lambda: world.phases("k")["x"] == "cancelled")
        self.until(lambda: self.ended("k"))

    def kept_runner(self) -> None:
        """A runner stays after its run has failed, until its time comes."""
        world = self.world
        world.platform.keeps = True
        self.attempt(world.stop)
        self.submit("kept", {"id": "a", "keep": {"on_failure": 3}})
        self.runs("kept/a")
        leave(world.launch("kept/a"), 1)
        self.until(lambda: world.job("kept").ended)
        self.until(lambda: not world.job("kept").kept)
        assert "kept/a" not in world.running()
        assert world.job("kept").usage.runs == 1

    def troubles(self) -> None:
        """While there is no manager, states are checked out or unreadable, and a line of the journal is damaged."""
        world = self.world
        self.submit("rewound", "a", "b")
        self.submit("unreadable", "a")
        self.runs("rewound/a", "unreadable/a")
        self.attempt(world.stop)
        path = Path(world.layout.state("rewound"))
        older = path.read_bytes()
        self.until(lambda: self.ended("rewound"))
        self.attempt(world.stop)
        path.write_bytes(older)
        self.do(world.start)
        self.submit("damaged", "a", "b")
        self.runs("damaged/a")
        world.exit("damaged/a")
        self.runs("damaged/b")
        world.crash()
        journal = max(Path(world.layout.journal).glob("*.jsonl"), key=lambda one: one.stat().st_size)
        journal.write_bytes(journal.read_bytes().replace(b'"damaged"', b'"damagex"', 1))
        Path(world.layout.state("unreadable")).write_bytes(b"<<<<<<< HEAD\n")
        os.mkdir(world.layout.job("stateless"))

    def check(self) -> None:
        """Check the promises."""
        world = self.world
        assert world.overlaps == []
        assert world.inbox.pending() == []
        assert list(world.job("j").tasks) == ["a", "b", "end", "more"]
        for job in ("j", "child", "rewound"):
            for task in world.job(job).tasks.values():
                assert isinstance(task.status, Done)
                assert [attempt.reason for attempt in task.attempts].count("ok") == 1, (
                    f"{job}/{task.id}: {task.attempts}"
                )
        assert world.job("k").phase == "failed"
        assert os.path.exists(world.layout.state("unreadable") + ".corrupt")


@contextlib.contextmanager
def told(death: Death) -> Iterator[None]:
    """Tell the story with a death, and clean up."""
    with tempfile.TemporaryDirectory(dir=MEMORY) as root:
        story = Story(Path(root), death)
        try:
            story.do(story.world.start)
            story.tell()
            yield
        finally:
            if story.world.alive:
                story.world.crash()


@functools.cache
def calls() -> Counter[str]:
    """Return how often the story comes to each effect, if nobody dies."""
    death = Death()
    with told(death):
        return death.counts


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("point", effects())
def test_a_death_at_any_effect(point: str, *, after: bool) -> None:
    """All jobs end as if nobody had died, nothing ran twice at a time, and each success was committed once."""
    count = calls()[point]
    if point == "run_folder._restore_mode" and os.geteuid() == 0:
        pytest.skip("root is never refused")
    assert count, f"the story does not come to {point}: let it"
    for call in range(1, count + 1) if lanes.NIGHTLY else sorted({1, count}):
        death = Death(point, call, after=after)
        with told(death):
            assert death.happened
