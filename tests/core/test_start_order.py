"""The order in which ready tasks start, compared with one that looks at every task each time."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from air_executor.core.start_order import MAX_GROUPS, Group, Place, StartOrder
from air_executor.model.state import Queued, Running, TaskState
from tests.records import make_job, make_task

Step = tuple[str, int, int]

POOLS: tuple[dict[str, int], ...] = ({}, {}, {"gpu": 1}, {"net": 2}, {"gpu": 1, "net": 1})
steps = st.lists(
    st.tuples(
        st.sampled_from(["add", "add", "delay", "retry", "drop", "start", "time"]), st.integers(0, 7), st.integers(0, 3)
    ),
    max_size=30,
)


class Plain:
    """A job's order, without any index."""

    def __init__(self, runners: int) -> None:
        self.job = make_job("j", "0badcafe", {"max_runners": runners})
        self.order = StartOrder(self.job)
        self.places: dict[str, Place] = {}
        self.ready: list[str] = []
        self.delayed: list[str] = []
        self.now = 0.0
        for number in range(8):
            name = f"t{number}"
            self.job.tasks[name] = make_task(name, {"pools": POOLS[number % len(POOLS)]})
            self.places[name] = (-(number % 2), number)

    def add(self, task: TaskState, status: Queued) -> None:
        """Queue a task, at once or for later."""
        if task.id in self.ready or task.id in self.delayed:
            return
        task.status = status
        self.order.add(task, status, self.places[task.id])
        (self.ready if status.waits_until is None else self.delayed).append(task.id)

    def drop(self, task: TaskState) -> None:
        """Take a task out."""
        self.order.drop(task)
        self.ready = [name for name in self.ready if name != task.id]
        self.delayed = [name for name in self.delayed if name != task.id]

    def step(self, what: str, number: int, seconds: int) -> None:
        """Do one thing to both orders."""
        task = self.job.tasks[f"t{number}"]
        match what:
            case "add":
                self.add(task, Queued())
            case "delay" | "retry":
                self.add(task, Queued(self.now + seconds, retrying=what == "retry"))
            case "drop" | "start":
                self.drop(task)
                task.status = Running(1, 0, self.now)
            case _:
                self.now += seconds

    def until(self, name: str) -> float:
        """Return when a delayed task becomes ready."""
        status = self.job.tasks[name].status
        assert isinstance(status, Queued)
        assert status.waits_until is not None
        return status.waits_until

    def promote(self) -> bool:
        """Let the time pass in both orders."""
        due = [name for name in self.delayed if self.until(name) <= self.now]
        self.ready += due
        self.delayed = [name for name in self.delayed if name not in due]
        return bool(due)

    def group(self, name: str) -> Group:
        """Return the pools by which a task is held up."""
        return () if self.job.max_runners == 1 else tuple(sorted(self.job.tasks[name].weights))

    def next_ready(self, passed: Collection[str], group: Group) -> str | None:
        """Return the first task of a group, unless one that waits for its retry keeps its place before it."""
        found = sorted((self.places[name], name) for name in self.ready if self.group(name) == group)
        left = [entry for entry in found if entry[1] not in passed]
        if not left:
            return None
        place, name = left[0]
        held = [self.places[one] for one in self.delayed if self._retries(one)]
        return None if self.job.max_runners == 1 and any(one < place for one in held) else name

    def _retries(self, name: str) -> bool:
        status = self.job.tasks[name].status
        return isinstance(status, Queued) and status.retrying


@example([("retry", 1, 3), ("add", 2, 0), ("drop", 1, 0)], 1, set())
@example([("retry", 1, 1), ("add", 2, 0), ("time", 0, 1)], 1, {1})
@example([("add", 2, 0), ("drop", 2, 0)], 3, set())
@given(steps, st.sampled_from([1, 3]), st.sets(st.integers(0, 7), max_size=2))
def test_the_order_is_that_of_all_tasks(script: list[Step], runners: int, passed: set[int]) -> None:
    """Whatever is queued, delayed, retried and taken out, and whichever tasks are passed over."""
    plain = Plain(runners)
    names = {f"t{number}" for number in passed}
    for what, number, seconds in script:
        plain.step(what, number, seconds)
        assert plain.order.next_promotion() == min(map(plain.until, plain.delayed), default=None)
        assert plain.order.promote(plain.now) == plain.promote()
        assert plain.order.next_promotion() == min(map(plain.until, plain.delayed), default=None)
        assert plain.order.ready == set(plain.ready)
        weights = Counter(pool for name in plain.ready for pool in plain.job.tasks[name].weights)
        assert +plain.order.ready_in == weights
        assert plain.order.pooled or not weights
        assert {plain.group(name) for name in plain.ready} <= set(plain.order.groups())
        for skip in ((), names):
            for group in {(), *plain.order.groups()}:
                found = plain.order.next_ready(skip, group)
                assert (None if found is None else found.id) == plain.next_ready(skip, group)
        # A sequence starts nothing past a task that keeps its place; otherwise each ready task could start.
        held_up = runners == 1 and plain.next_ready((), ()) is None
        for slots in (0, 1, 2, 9):
            assert plain.order.startable(slots) == (0 if held_up else min(slots, len(plain.ready)))


def test_a_group_without_ready_tasks_is_forgotten() -> None:
    """Else a job whose tasks need many pools one after another would use up its groups."""
    plain = Plain(3)
    gpu = plain.job.tasks["t2"]
    plain.step("add", 2, 0)
    assert plain.order.groups() == [("gpu",)]
    plain.drop(gpu)
    assert plain.order.next_ready((), ("gpu",)) is None
    assert plain.order.groups() == []


@pytest.mark.parametrize("more", [0, 2])
def test_groups_are_bounded(more: int) -> None:
    """Tasks of further combinations of pools share the order of those without."""
    job = make_job("j", "0badcafe", {"max_runners": 3})
    order = StartOrder(job)
    for number in range(MAX_GROUPS + more):
        task = job.tasks[f"t{number}"] = make_task(f"t{number}", {"pools": {f"p{number:02}": 1}})
        order.add(task, Queued(), (0, number))
    own = [(f"p{number:02}",) for number in range(MAX_GROUPS)]
    assert order.groups() == own + [()] * (more > 0)
    again = job.tasks["again"] = make_task("again", {"pools": {"p00": 1}})
    order.add(again, Queued(), (-1, 99))
    first = order.next_ready((), ("p00",))
    assert first is again, "a group that exists takes further tasks"
    shared = order.next_ready((), ())
    assert (None if shared is None else shared.id) == (f"t{MAX_GROUPS}" if more else None)


def test_no_task_has_needed_a_pool_yet() -> None:
    """Then the planner need not look at groups."""
    plain = Plain(3)
    plain.step("add", 0, 0)
    assert not plain.order.pooled
    plain.step("add", 2, 0)
    assert plain.order.pooled
