"""Pools with weights, and locks: no limit is exceeded, nobody is overtaken for ever, whatever waits and ends."""

from __future__ import annotations

import time
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from air_executor.core.job_locks import JobLocks
from air_executor.core.plan import ReadyQueue
from air_executor.core.submission import initial_state, parse_job
from air_executor.core.transitions import LiveJob
from air_executor.model.events import Ended, Started
from air_executor.model.state import TaskState
from air_executor.model.usage import Moments
from tests.records import make_job

LIMITS = {"llm": 4, "ram": 10}
POOLS = st.dictionaries(st.sampled_from(["llm", "ram", "free"]), st.integers(1, 12), max_size=3)


def live(name: str, *needs: dict[str, int], at: float = 1.0, **fields: object) -> LiveJob:
    """Return a job of tasks with these pools."""
    tasks = [{"id": f"t-{number}", "command": "true", "pools": pools} for number, pools in enumerate(needs)]
    raw = {"id": name, "tasks": tasks, "max_runners": 9, **fields}
    return LiveJob(initial_state(parse_job(raw), uid="00000001", now=at))


class Host:
    """Starts what a ready queue says, and ends what it is told to."""

    def __init__(self, limits: dict[str, int], room: int = 99) -> None:
        self.queue = ReadyQueue(limits)
        self.room = room
        self.running: list[tuple[LiveJob, TaskState]] = []
        self.started: list[str] = []

    @property
    def in_use(self) -> Counter[str]:
        """The weights that run."""
        found: Counter[str] = Counter()
        for job, task in self.running:
            found.update(job.state.pools_of(task))
        return found

    def start(self) -> list[str]:
        """Start all that can start; return it."""
        found = []
        while start := self.queue.next_start(5.0, (), self.room - len(self.running), lambda pool: self.in_use[pool]):
            job, task = start.job, start.task
            job.apply(Started(5.0, task.id, job.state.seq + 1, start.slot.number), 1)
            self.running.append((job, task))
            self.queue.offer(job)
            found.append(f"{job.state.id}/{task.id}")
        self.started += found
        return found

    def end(self, number: int) -> None:
        """End one of the running tasks."""
        job, task = self.running.pop(number % len(self.running))
        assert task.run is not None
        moments = Moments(spawned=5.0, started=5.0, ended=6.0, gone=6.0)
        if job.apply(Ended(6.0, task.run.seq, "ok", moments), 1):
            self.queue.forget(job.state.id)
        else:
            self.queue.offer(job)


@given(
    jobs=st.lists(st.tuples(POOLS, st.integers(0, 1)), min_size=1, max_size=12),
    ends=st.lists(st.integers(0, 99), max_size=40),
    room=st.integers(1, 5),
)
def test_limits_order_and_no_starvation(jobs: list[tuple[dict[str, int], int]], ends: list[int], room: int) -> None:
    """Limits hold at each moment; of two that share a limited pool the first starts first; in the end all have run."""
    host = Host(LIMITS, room)
    waiting = [live(f"j{n:02}", pools, at=float(n), priority=p) for n, (pools, p) in enumerate(jobs)]
    fits = {j.state.id for j in waiting if all(w <= LIMITS.get(p, w) for p, w in j.state.tasks["t-0"].pools.items())}
    for job in waiting:
        host.queue.offer(job)
    for end in [*ends, *range(100)]:
        host.start()
        assert all(used <= LIMITS.get(pool, used) for pool, used in host.in_use.items())
        if not host.running:
            break
        host.end(end)
    order = [one.split("/")[0] for one in host.started]
    assert set(order) == fits
    place = {name: number for number, name in enumerate(order)}
    able = [job for job in waiting if job.state.id in fits]
    for one in able:
        for other in able:
            shared = one.state.tasks["t-0"].pools.keys() & other.state.tasks["t-0"].pools.keys() & LIMITS.keys()
            first = (-one.state.priority, one.state.submitted_at) < (-other.state.priority, other.state.submitted_at)
            assert not (shared and first) or place[one.state.id] < place[other.state.id]


@given(weight=st.integers(2, 4), ends=st.lists(st.integers(0, 9), min_size=30, max_size=60))
def test_a_stream_of_light_tasks_does_not_starve_a_heavy_one(weight: int, ends: list[int]) -> None:
    """New jobs come whenever one ends, and a job that had turns before them still gets its next one."""
    host = Host(LIMITS)
    heavy = live("heavy", {}, {"llm": weight})
    host.queue.offer(live("light", {"llm": 1}, {"llm": 1}, {"llm": 1}))
    host.queue.offer(heavy)
    for number, end in enumerate(ends):
        host.start()
        host.queue.offer(live(f"new-{number}", {"llm": 1}, at=9.0))
        host.end(end)
    assert "heavy/t-1" in host.started[:12]


def test_what_needs_other_pools_goes_on() -> None:
    """A task that waits reserves its pools alone, inside its job and across jobs."""
    host = Host(LIMITS)
    host.queue.offer(live("a", {"llm": 4}, {"llm": 2, "ram": 1}, {"ram": 3}, {}))
    host.queue.offer(live("b", {"llm": 1}, {"free": 9}, at=2.0))
    assert host.start() == ["a/t-0", "b/t-1", "a/t-3"]
    assert host.queue.reserved["ram"] == ("a", "t-1")
    host.end(0)
    assert host.start() == ["b/t-0", "a/t-1", "a/t-2"]


@pytest.mark.parametrize(("runners", "other"), [(1, "ram"), (9, "free")])
def test_a_task_that_is_put_back_is_the_first_again(runners: int, other: str) -> None:
    """Before what needs other pools, be they full or free."""
    host = Host(LIMITS, room=2)
    host.queue.offer(live("first", {other: 10}))
    job = live("a", {"llm": 1}, {"ram": 1}, {"llm": 1}, at=2.0, max_runners=runners)
    host.queue.offer(job)
    assert host.start() == ["first/t-0", "a/t-0"]
    host.running.pop()
    job.apply(Ended(6.0, 1, "requeue", Moments(spawned=5.0, started=5.0, ended=6.0, gone=6.0)), 1)
    host.queue.offer(job)
    assert host.start() == ["a/t-0"]


def test_what_waits_for_its_pools_keeps_its_turn() -> None:
    """Although tasks of its job that need none start and end meanwhile."""
    host = Host(LIMITS)
    host.queue.offer(live("light", {"llm": 2}, {"llm": 2}))
    host.queue.offer(live("heavy", {"llm": 4}, {}, at=2.0))
    assert host.start() == ["light/t-0", "heavy/t-1"]
    host.end(1)
    assert host.start() == []
    host.end(0)
    assert host.start() == ["heavy/t-0"]


def test_a_sequence_keeps_its_order() -> None:
    """With one runner nothing goes ahead, not even of what can never start."""
    host = Host(LIMITS)
    host.queue.offer(live("a", {"llm": 5}, {}, max_runners=1))
    assert host.start() == []


def test_what_can_never_start_holds_up_no_other() -> None:
    """Neither the tasks of its own job that need the same pool, nor those of others."""
    host = Host({"llm": 4, "zero": 0})
    host.queue.offer(live("a", {"llm": 5}, {"llm": 1}, {"zero": 1}))
    host.queue.offer(live("b", {"llm": 3}, at=2.0))
    assert host.start() == ["a/t-1", "b/t-0"]
    assert host.queue.reserved == {}


def test_any_number_of_sets_of_pools() -> None:
    """All tasks of a job with more sets of pools than have an order of their own start, within the limits."""
    host = Host(LIMITS)
    host.queue.offer(live("a", *({f"p{number}": 1, "llm": 1} for number in range(100)), max_runners=200))
    for _ in range(25):
        assert len(host.start()) == 4
        for _ in range(4):
            host.end(0)
    assert len(set(host.started)) == 100


def test_picks_cost_the_same_with_many_waiting_jobs() -> None:
    """What waits for a full pool is not looked at again and again."""

    def seconds(jobs: int) -> float:
        host = Host({"llm": 1})
        for number in range(jobs):
            host.queue.offer(live(f"j{number}", {"llm": 1}))
        host.start()
        begin = time.process_time()
        for _ in range(200):
            host.start()
        return time.process_time() - begin

    assert min(seconds(3000) for _ in range(3)) < 20 * min(seconds(30) for _ in range(3))


@given(steps=st.lists(st.tuples(st.integers(0, 5), st.sampled_from(["ready", "start", "end", "pause"])), max_size=60))
def test_one_job_has_a_lock(steps: list[tuple[int, str]]) -> None:
    """Whatever happens: whoever holds it has it, only one may start, and while some are ready one of them may."""
    locks = JobLocks()
    jobs = [make_job(f"j{n}", "00000001", {"lock": "db", "priority": n % 2}, submitted_at=float(n)) for n in range(6)]
    ready: set[str] = set()
    for number, what in steps:
        job = jobs[number]
        if what == "start":
            if not (locks.admits(job) and job.id in ready):
                continue
            job.locked_since = 1.0
        (ready.discard if what in ("end", "pause") else ready.add)(job.id)
        if what == "end":
            job.locked_since = None
        locks.update(job, ready=job.id in ready)
        admitted = [one.id for one in jobs if locks.admits(one)]
        holders = [one.id for one in jobs if one.locked_since is not None]
        assert len(holders) <= 1
        first = sorted((-one.priority, one.submitted_at, one.id) for one in jobs if one.id in ready)
        assert admitted == (holders or [first[0][2]] if first or holders else [])
