"""Any order of requests, ends, silences, faults, crashes and restarts keeps what the state directory promises.

Hypothesis drives a manager over real files and a platform in memory, and checks the promises after every step; at the
end all obstacles go away, and every job must come to its end.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, precondition, rule

from air_executor.backends.base import Launch
from air_executor.core.transitions import LiveJob
from air_executor.model.events import Ended, Event, Requested, Started
from air_executor.model.state import COMMITTED, PAUSED, PENDING, Done, JobState, Queued, Running
from air_executor.store import codec
from air_executor.store.journal import Journal
from air_executor.store.journal_files import read as read_journals
from tests.conftest import MEMORY
from tests.fake_backend import Fault
from tests.manager.deaths import Death, Killed, effects
from tests.manager.rig import World, do_side_work_at_once, leave

JOBS = ("j1", "j2", "j3")
CHILD = "child"

IMAGES = ("one", "other")
"""What tasks may have to wait for, on a platform that has images."""
SHAPES: dict[str, list[Any]] = {
    "steps": ["a", "b", "c"],
    "fan-in": ["a", "b", {"id": "merge", "after": ["a"]}],
    "clean-up": ["a", {"id": "b", "retries": 2, "retry_delay": 1}, {"id": "tidy", "when": "always"}],
    "on-failure": ["a", {"id": "b", "after": ["a"]}, {"id": "oops", "when": "failure", "after": ["a"]}],
    "images": [{"id": "a", "image": IMAGES[0]}, {"id": "b", "image": IMAGES[1], "after": ["a"]}, "c"],
    "again": [{"id": "a", "again_on": [1], "again_delay": 3, "again_max": 5}, "b", {"id": "c", "after": ["a"]}],
    "approval": ["a", {"id": "b", "approve": "Go on?", "after": ["a"], "timeout": 60}, {"id": "c", "after": ["b"]}],
    "pools": [{"id": "a", "pools": {"ram": 2}}, {"id": "b", "pools": {"ram": 1}}, {"id": "c", "pools": {"ram": 1}}],
    "memoize": [{"id": "a", "memoize": {"key": ["v1"]}}, {"id": "b", "memoize": {"key": ["v1"]}, "after": ["a"]}],
    "exit codes": [{"id": "a", "skip_on": [1]}, {"id": "b", "allow_failure": True}, {"id": "c", "after": ["b"]}],
    "conditions": [
        {"id": "a", "stall_timeout": 20},
        {"id": "b", "after": ["a"], "delay_after": 3, "only_if": {"result": "a.n", "exists": False}},
        {"id": "c", "after": ["a"], "only_if": {"result": "a.n", "exists": True}},
    ],
    "delayed": [{"id": "a", "delay": 5}, {"id": "b", "retries": 1, "retry_delay": 3}, {"id": "c", "priority": 5}],
}
LINES: dict[str, list[Any]] = {
    "nothing": [],
    "two tasks": [{"command": "x"}, {"command": "y", "when": "always"}],
    "same id": [{"id": "shared", "command": "x"}],
    "retrying": [{"command": "x", "retries": 1}, {"command": "y", "delay": 2}],
    "whole job": [{"job": {"id": CHILD, "tasks": [{"id": "a", "command": "x"}]}}, {"command": "x"}],
    "again": [{"command": "x"}, {"again": {"delay": 2}}],
    "usage": [{"usage": {"usd": 1}}, {"progress": {"done": 1, "of": 2}}, {"command": "x"}],
    "joined job": [{"job": {"id": CHILD, "tasks": [{"id": "a", "command": "x"}]}, "join": True}, {"command": "x"}],
    "half bad": [{"command": "x"}, "no json"],
    "job, then bad": [{"job": {"id": CHILD, "tasks": [{"command": "x"}]}}, {"command": "x", "after": ["nobody"]}],
}
CYCLES = st.sampled_from([0, 1, 1, 2])
"""How often the manager gets round to its work before the next thing happens."""
GARBAGE = [b"", b"{", b"[]", b'{"op": [], "job": "j1"}', b'{"op": "add", "job": "../x", "tasks": [{}]}', b"\xff\x00"]
GARBAGE += [b'{"op": "add", "job": "j1", "tasks": [{"command": ""}]}', b'{"op": "cancel", "job": "j1", "task": "no"}']
GARBAGE += [b'{"op": "retry", "job": "j\\u0000"}', b'{"op": "wake", "job": "\\ud800"}', b'{"op": "add", "job": 1}']


def _queued(line: dict[str, Any], generated: str) -> str | None:
    """Return the id of the task that a line adds to its job, if it adds one."""
    if "job" in line:
        return CHILD if line.get("join") else None
    return None if line.keys() & {"again", "usage", "progress"} else line.get("id", generated)


class AnyOrder(RuleBasedStateMachine):
    """One state directory and everything that happens to it."""

    def __init__(self) -> None:
        super().__init__()
        self.root = tempfile.mkdtemp(dir=MEMORY)
        self.world = World(Path(self.root), platform_retries=5)
        self.world.listeners.append(self.listen)
        self.world.start()
        self.wrote: dict[str, list[Any]] = {}
        """What each run queued, by run id."""
        self.lost: list[Launch] = []
        self.successes: set[tuple[str, str]] = set()
        """Job uid and task of every success that was committed."""
        self.retried: set[str] = set()
        self.before: dict[str, JobState] = {}
        self.applied: list[str] = []
        self.power_failed = False

    def listen(self, job: LiveJob, event: Event) -> None:
        """Check a decision of a manager against those before."""
        if isinstance(event, Ended):
            run = f"{job.state.uid}-{event.seq}"
            runners = self.world.platform.runners.values()
            assert all(one.launch.run != run or one.status.finished for one in runners), "committed while it runs"
        if isinstance(event, Ended) and event.reason == "ok":
            name = next(t.id for t in job.state.tasks.values() if any(a.seq == event.seq for a in t.attempts[-1:]))
            assert (job.state.uid, name) not in self.successes, f"{name} of {job.state.id} succeeded twice"
            self.successes.add((job.state.uid, name))
        if isinstance(event, Requested) and event.request:  # else it is the manager's own
            assert event.request not in self.applied, f"request {event.request} was applied twice"
            self.applied.append(event.request)
            self.retried.add(job.state.id)
        if isinstance(event, Started):
            assert job.state.phase not in {PENDING, PAUSED}
            assert job.state.tasks[event.task].image not in self.world.platform.awaited

    # What users do

    @rule(
        job=st.sampled_from(JOBS),
        shape=st.sampled_from(sorted(SHAPES)),
        max_runners=st.integers(1, 3),
        on_failure=st.sampled_from(["stop", "continue"]),
        after=st.sampled_from([*JOBS, None, None, None]),
        deadline=st.sampled_from([None, None, None, 20]),
        lock=st.sampled_from([None, None, "db"]),
        budget=st.sampled_from([None, None, {"usd": 1}]),
        cycles=CYCLES,
    )
    def submit(  # noqa: PLR0917 - what a job is made of
        self,
        job: str,
        shape: str,
        max_runners: int,
        on_failure: str,
        after: str | None,
        deadline: int | None,
        lock: str | None,
        budget: dict[str, int] | None,
        cycles: int,
    ) -> None:
        """Submit a job, with or without a manager."""
        if os.path.exists(self.world.layout.job(job)):
            return
        fields: dict[str, Any] = {"max_runners": max_runners, "on_failure": on_failure}
        if after is not None and after != job and os.path.exists(self.world.layout.state(after)):
            fields["after"] = [after]
        if deadline is not None:
            fields["deadline"] = deadline
        fields |= {"lock": lock} if lock else {}
        fields |= {"budget": budget} if budget else {}
        self.world.submit(job, *SHAPES[shape], **fields)
        self.cycle(cycles)

    @rule(
        op=st.sampled_from(["add", "cancel", "pause", "resume", "retry", "approve", "reject", "confirm-gone", "wake"]),
        job=st.sampled_from([*JOBS, CHILD]),
        task=st.sampled_from([None, None, "a", "b", "merge", "tidy"]),
        cycles=CYCLES,
    )
    def ask(self, op: str, job: str, task: str | None, cycles: int) -> None:
        """Ask for something, sensible or not."""
        if op == "add":
            extra = {"command": "x"} | ({"after": [task]} if task else {})
            self.world.ask(op, job, tasks=[extra])
        else:
            self.world.ask(op, job, task)
        self.cycle(cycles)

    @rule(data=st.sampled_from(GARBAGE))
    def litter(self, data: bytes) -> None:
        """Drop into the inbox what is no request."""
        self.world.litter(data)

    # What tasks and the platform do

    def _runner(self, number: int) -> str | None:
        names = sorted(self.world.running())
        return names[number % len(names)] if names else None

    @rule(
        number=st.integers(0, 5),
        code=st.sampled_from([0, 0, 0, 1]),
        lines=st.sampled_from(sorted(LINES)),
        cycles=CYCLES,
        lingers=st.booleans(),
    )
    def finish(self, number: int, code: int, lines: str, cycles: int, *, lingers: bool) -> None:
        """A task ends by itself."""
        name = self._runner(number)
        if name is not None:
            self.wrote[self.world.launch(name).run] = LINES[lines]
            self.world.exit(name, code, queue=LINES[lines], result=lines, lingers=lingers)
        self.cycle(cycles)

    @rule(number=st.integers(0, 5), lingers=st.booleans(), why=st.sampled_from([None, "oom", "evicted"]), cycles=CYCLES)
    def die(self, number: int, why: str | None, cycles: int, *, lingers: bool) -> None:
        """A runner ends without an outcome."""
        name = self._runner(number)
        if name is not None:
            self.lost.append(self.world.launch(name))
            self.world.platform.end(self.world.slot(name), 137, reason=why, lingers=lingers)
        self.cycle(cycles)

    @rule(code=st.sampled_from([0, 1]), lines=st.sampled_from(sorted(LINES)))
    @precondition(lambda self: self.lost)
    def outcome_appears_late(self, code: int, lines: str) -> None:
        """The outcome of a runner that was gone already becomes visible."""
        launch = self.lost.pop()
        if os.path.isdir(launch.out_dir):
            self.wrote[launch.run] = LINES[lines]
            leave(launch, code, queue=LINES[lines])

    @rule(fault=st.sampled_from(Fault))
    def next_spawn_fails(self, fault: Fault) -> None:
        """The next spawn goes wrong."""
        self.world.platform.faults.append(fault)

    @rule()
    def late_runner_appears(self) -> None:
        """A runner whose start nobody knows of comes to life."""
        self.world.platform.appear()

    @rule()
    def switch_silence(self) -> None:
        """The platform stops answering, or answers again."""
        self.world.platform.silent = not self.world.platform.silent

    @rule()
    def switch_slow_removal(self) -> None:
        """Removals start to take their time, or are all done."""
        self.world.platform.slow_removal = not self.world.platform.slow_removal
        self.world.platform.settle()

    @rule()
    def switch_kept_names(self) -> None:
        """Runners that end from now on keep their names until they are removed, or free them by themselves."""
        self.world.platform.keeps_names = not self.world.platform.keeps_names

    @rule(image=st.sampled_from(IMAGES), cycles=CYCLES)
    def switch_image(self, image: str, cycles: int) -> None:
        """An image is lost, or arrives: a task that needs it starts no sooner."""
        awaited = self.world.platform.awaited
        if awaited.pop(image, None) is None:
            awaited[image] = "pulling"
        self.cycle(cycles)

    @rule(seconds=st.sampled_from([0.05, 0.5, 2, 30]), cycles=CYCLES)
    def time_passes(self, seconds: float, cycles: int) -> None:
        """Time passes."""
        self.world.clock.pass_time(seconds)
        self.cycle(cycles)

    @rule(seconds=st.sampled_from([-3600, -5, 5, 3600]))
    def clock_is_set(self, seconds: float) -> None:
        """Somebody sets the clock."""
        self.world.clock.set_wall(seconds)

    # What happens to managers

    @rule(cycles=CYCLES)
    def cycle(self, cycles: int) -> None:
        """The manager does what it can."""
        for _ in range(cycles):
            self.world.cycle()
            self.check_running_manager()

    @rule(torn=st.integers(0, 200))
    def crash(self, torn: int) -> None:
        """The manager is killed between cycles, or in the middle of an append."""
        memory = self._dumps()
        pending = b'{"job":"j1","uid":"00000000","v":1,"event":"start","at":1.5,"task":"a"' * 4
        self.world.crash(torn=pending[:torn])
        self.world.start()
        assert self.world.problems() == []
        self._same_as(memory)

    @rule(
        point=st.sampled_from(list(effects())), call=st.integers(1, 3), after=st.booleans(), asked=st.sampled_from(JOBS)
    )
    def crash_within_a_cycle(self, point: str, call: int, asked: str, *, after: bool) -> None:
        """The manager is killed in the middle of its work, just before or just after it did something."""
        self.world.ask("add", asked, tasks=[{"command": "x"}])
        with contextlib.suppress(Killed), Death(point, call, after=after).threatens():
            self.world.cycle()
        # What was decided and not flushed never was; what a line names, or was answered, must never be done again.
        named = read_journals(self.world.layout).requests
        self.applied = [name for name in self.applied if name in named or not self.world.inbox.waiting(name)]
        self.before.clear()
        self.world.restart()
        states = [self.world.job(name) for name in self.world.jobs.ids()]
        self.successes = {
            (state.uid, task.id)
            for state in states
            for task in state.tasks.values()
            if any(attempt.reason == "ok" for attempt in task.attempts)
        }

    @rule(percent=st.integers(0, 100))
    def power_fails(self, percent: int) -> None:
        """The machine with the manager loses power: what was not synced may be gone, runners elsewhere live on."""
        journal = self.world.manager.state.journal
        synced = SYNCED.get(journal.path, 0)
        length = os.path.getsize(journal.path)
        cut = synced + (length - synced) * percent // 100
        lost = cut < length
        self.world.crash(cut=cut)
        if lost:
            self.power_failed = True
            self.successes.clear()
            self.before.clear()
            self.applied.clear()
        self.world.start()

    @rule()
    def stop_and_start(self) -> None:
        """The manager stops cleanly and another one starts."""
        memory = self._dumps()
        self.world.stop()
        assert os.listdir(self.world.layout.journal) == []
        self.world.start()
        self._same_as(memory)

    def _dumps(self) -> dict[str, bytes]:
        jobs = self.world.live_jobs()
        return {job.state.id: codec.dump_job(job.state) for job in jobs}

    def _same_as(self, memory: dict[str, bytes]) -> None:
        if self.world.manager.state.journal.pending:
            return  # the start itself decided something
        for name, dump in memory.items():
            if os.path.exists(self.world.layout.state(name)):
                assert codec.dump_job(self.world.job(name)) == dump
            else:
                assert b'"phase": "pending"' in dump

    # What must hold

    def check_running_manager(self) -> None:
        """Check everything that must hold after a cycle."""
        world = self.world
        assert world.overlaps == [], "a run began while another run of the same task lived"
        for job in world.live_jobs():
            self._check_job(job)
        if not world.manager.state.journal.pending and world.manager.open_runs.observed is not None:
            assert world.manager.open_runs.taken() <= 4 + sum(
                slot not in world.manager.open_runs.by_slot for slot in world.manager.open_runs.observed
            )

    def _check_job(self, job: LiveJob) -> None:
        state, progress = job.state, job.progress
        open_tasks = [t for t in state.tasks.values() if not isinstance(t.status, Done)]
        assert progress.open == len(open_tasks)
        if state.phase != PENDING:
            assert state.ended == (not open_tasks), f"{state.id} is {state.phase} with {len(open_tasks)} open tasks"
        assert (state.finished_at is not None) == state.ended
        assert (state.reason is not None) == state.ended
        assert sum(isinstance(t.status, Running) for t in state.tasks.values()) <= state.max_runners
        self._check_indexes(job)
        self._check_tree(state)
        older = self.before.get(state.id)
        if older is not None and older.uid == state.uid:
            assert state.seq >= older.seq
            assert state.usage.runs >= older.usage.runs
            assert state.usage.runner_seconds >= older.usage.runner_seconds - 1e-6
            assert state.usage.work_seconds <= state.usage.runner_seconds + 1e-6
            for name, task in older.tasks.items():
                assert name in state.tasks, f"task {name} of {state.id} is gone"
                if isinstance(task.status, Done) and (task.phase == "succeeded" or state.id not in self.retried):
                    assert state.tasks[name].status == task.status, f"{name} left its end"
        self.retried.discard(state.id)
        self.before[state.id] = codec.load_job(codec.dump_job(state), state.id)

    def _check_indexes(self, job: LiveJob) -> None:
        """What is kept up to date step by step is what would be built from the tasks alone."""
        now = self.world.clock.wall()
        fresh = LiveJob(codec.load_job(codec.dump_job(job.state), job.state.id))
        for progress in (job.progress, fresh.progress):
            progress.start_order.promote(now)
        live, built = job.progress, fresh.progress
        assert {k: v for k, v in live.counts.items() if v} == {k: v for k, v in built.counts.items() if v}
        assert (live.open, live.slots, live.runs) == (built.open, built.slots, built.runs)
        assert live.start_order.ready == built.start_order.ready
        assert sorted(name for name, _ in live.results) == sorted(name for name, _ in built.results)
        assert live.nodes.keys() == built.nodes.keys()
        for name, node in live.nodes.items():
            twin = built.nodes[name]
            assert (node.place, node.cleanup, node.complete) == (twin.place, twin.cleanup, twin.complete)
            if node.complete:
                assert (node.tree_ok, node.tree_failed) == (twin.tree_ok, twin.tree_failed)
        assert codec.dump_job(fresh.state) == codec.dump_job(job.state)

    def _check_tree(self, state: JobState) -> None:
        """What a run queued is there exactly if that run is the success of its task."""
        children: dict[str, list[str]] = {}
        for task in state.tasks.values():
            if task.queued_by is not None:
                children.setdefault(task.queued_by, []).append(task.id)
        for task in state.tasks.values():
            wins = [a.seq for a in task.attempts if a.reason == "ok"]
            runless = task.approve is not None or task.joins is not None or task.cached is not None
            assert len(wins) == (task.phase == "succeeded" and not runless)
            expected = []
            # An exit code that means "again" drops the lines of its run, as other exit codes do.
            for seq in [a.seq for a in task.attempts if a.reason in COMMITTED and a.exit_code == 0]:
                lines = self.wrote.get(f"{state.uid}-{seq}", [])
                expected += [_queued(line, f"_{seq}-{number}") for number, line in enumerate(lines, 1)]
                if any("job" in line for line in lines) and not self.power_failed:
                    child = self.world.job(CHILD)
                    assert child.submitted_by == f"{state.uid}-{seq}"
                    assert child.phase != PENDING
            assert children.get(task.id, []) == [name for name in expected if name is not None]

    def teardown(self) -> None:
        """Take every obstacle away: each job comes to its end."""
        try:
            self._finish_all()
        finally:
            if self.world.alive:
                self.world.crash()
            shutil.rmtree(self.root)

    def _finish_all(self) -> None:
        world = self.world
        world.platform.silent = world.platform.slow_removal = False
        world.platform.faults.clear()
        world.platform.awaited.clear()
        world.platform.settle()
        for name in os.listdir(world.layout.jobs) if os.path.isdir(world.layout.jobs) else []:
            world.ask("resume", name)
            world.ask("resume", name, budget={"usd": 1e6})
        for number in range(300):
            world.cycle()
            self.check_running_manager()
            for name in sorted(world.running()):
                if world.platform.runners[world.slot(name)].launch.run in world.begun:
                    world.exit(name)
            # Where a power failure took the notice of a clock that was set back, a delay lasts that much longer.
            world.clock.pass_time(3 if number < 100 else 3600)
            if not world.live_jobs():
                break
        stuck = {job.state.id: world.phases(job.state.id) for job in world.live_jobs()}
        assert not stuck, f"these jobs never end: {stuck}"
        assert world.inbox.pending() == []
        assert world.platform.runners == {}
        for name in world.jobs.ids():
            state = world.jobs.load(name)
            assert all(isinstance(t.status, Done) for t in state.tasks.values())
            assert not any(isinstance(t.status, Queued) for t in state.tasks.values())


SYNCED: dict[str, int] = {}
"""Up to which byte each journal file is durable."""


@pytest.fixture(autouse=True)
def known_syncs(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let no thread sync at times of its own, and note what has been."""
    whole = Journal.sync

    def sync(self: Journal) -> None:
        whole(self)
        SYNCED[self.path] = os.path.getsize(self.path)

    do_side_work_at_once(monkeypatch)
    monkeypatch.setattr(Journal, "keep_syncing", lambda self: None)
    monkeypatch.setattr(Journal, "sync", sync)


AnyOrderTest = AnyOrder.TestCase
AnyOrderTest.pytestmark = [pytest.mark.timeout(600), pytest.mark.usefixtures("known_syncs")]  # type: ignore[attr-defined]
