"""The table for one slot, row by row; which task starts next; when a failed one runs again."""

from __future__ import annotations

import random
from collections.abc import Iterable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from air_executor.core.plan import (
    LINGER,
    LONGEST_WAIT,
    REMOTE_LINGER,
    Action,
    ReadyQueue,
    SlotView,
    reconcile,
    retry_at,
)
from air_executor.core.submission import initial_state, parse_job
from air_executor.core.transitions import LiveJob
from air_executor.model.events import Ended, Requested, Started
from air_executor.model.names import Slot
from air_executor.model.usage import Moments

OURS, OTHER = "00000001-7", "00000001-6"
GRACE = 3.0

TABLE = {
    "outcome complete, runner gone": (SlotView(OURS, exited=True), (Action.COMMIT, None)),
    "outcome complete, runner about to go": (
        SlotView(OURS, exited=True, runner=OURS, alive=True, exited_for=LINGER / 2),
        (Action.WAIT, None),
    ),
    "outcome complete, runner stays": (
        SlotView(OURS, exited=True, runner=OURS, alive=True, exited_for=LINGER),
        (Action.REMOVE, None),
    ),
    "outcome complete, runner stays for people": (
        SlotView(OURS, exited=True, runner=OURS, alive=True, stays=True),
        (Action.KEEP, None),
    ),
    "outcome complete, runner stayed and has gone": (SlotView(OURS, exited=True, stays=True), (Action.COMMIT, None)),
    "outcome complete, something of it is left": (SlotView(OURS, exited=True, runner=OURS), (Action.REMOVE, None)),
    "outcome complete, the name is another's": (
        SlotView(OURS, exited=True, runner=OTHER, alive=True),
        (Action.REMOVE, None),
    ),
    "alive": (SlotView(OURS, runner=OURS, alive=True), (Action.WAIT, None)),
    "alive, past its timeout": (SlotView(OURS, runner=OURS, alive=True, overdue=True), (Action.STOP, "timeout")),
    "alive, silent for too long": (SlotView(OURS, runner=OURS, alive=True, stalled=True), (Action.STOP, "stalled")),
    "alive, past its timeout, silent": (
        SlotView(OURS, runner=OURS, alive=True, overdue=True, stalled=True),
        (Action.STOP, "timeout"),
    ),
    "alive, and will never start": (
        SlotView(OURS, runner=OURS, alive=True, given_up="start-failed"),
        (Action.STOP, "start-failed"),
    ),
    "alive, and a service of its task has ended": (
        SlotView(OURS, runner=OURS, alive=True, given_up="error"),
        (Action.STOP, "error"),
    ),
    "alive, will never start, stop journaled": (
        SlotView(OURS, runner=OURS, alive=True, given_up="start-failed", stop_requested=True),
        (Action.REMOVE, None),
    ),
    "alive, stop journaled": (SlotView(OURS, runner=OURS, alive=True, stop_requested=True), (Action.REMOVE, None)),
    "alive, stop journaled, past its timeout": (
        SlotView(OURS, runner=OURS, alive=True, stop_requested=True, overdue=True),
        (Action.REMOVE, None),
    ),
    "the name is held by another run": (SlotView(OURS, runner=OTHER, alive=True), (Action.REMOVE, None)),
    "the name is held by what cannot be told": (SlotView(OURS, runner="", absent_for=9), (Action.REMOVE, None)),
    "absent, within the grace": (SlotView(OURS, absent_for=GRACE - 0.1), (Action.WAIT, None)),
    "absent, after the grace": (SlotView(OURS, absent_for=GRACE), (Action.LOST, None)),
    "absent, after the grace, stop journaled": (
        SlotView(OURS, absent_for=GRACE, stop_requested=True),
        (Action.LOST, None),
    ),
    "exited without outcome, within the grace": (SlotView(OURS, runner=OURS, absent_for=0), (Action.WAIT, None)),
    "exited without outcome, after the grace": (SlotView(OURS, runner=OURS, absent_for=GRACE), (Action.REMOVE, None)),
    "no open run, a runner": (SlotView(None, runner=OTHER, alive=True), (Action.REMOVE, None)),
    "no open run, what is left of a runner": (SlotView(None, runner=OTHER), (Action.REMOVE, None)),
    "no open run, free": (SlotView(None), (Action.WAIT, None)),
}


@pytest.mark.parametrize("row", TABLE)
def test_table(row: str) -> None:
    """Each row of the contract's table gives its action."""
    view, expected = TABLE[row]
    assert reconcile(view, GRACE) == expected


def test_a_runner_elsewhere_has_longer_to_go() -> None:
    """Another machine tells late of an end: it is not asked to stop a runner that has gone by itself."""
    gone = SlotView(OURS, exited=True, runner=OURS, alive=True, exited_for=LINGER)
    assert reconcile(gone, GRACE, remote=True) == (Action.WAIT, None)
    stays = SlotView(OURS, exited=True, runner=OURS, alive=True, exited_for=REMOTE_LINGER)
    assert reconcile(stays, GRACE, remote=True) == (Action.REMOVE, None)


@given(
    st.builds(
        SlotView,
        open_run=st.none() | st.just(OURS),
        exited=st.booleans(),
        exited_for=st.floats(0, 9),
        runner=st.sampled_from([None, OURS, OTHER, ""]),
        alive=st.booleans(),
        finished=st.just(False),  # noqa: FBT003 - a field
        absent_for=st.floats(0, 9),
        stop_requested=st.booleans(),
        overdue=st.booleans(),
    )
)
def test_nothing_is_booked_while_the_name_is_taken(view: SlotView) -> None:
    """Whatever is known: a run is committed only with its name free, a live runner stopped only with reason."""
    action, why = reconcile(view, GRACE)
    if action in (Action.COMMIT, Action.LOST):
        assert view.open_run is not None
        assert view.runner is None
    if action is Action.REMOVE and view.runner == view.open_run and view.alive:
        assert view.stop_requested or view.exited
    assert (why is not None) == (action is Action.STOP)


def job(name: str, tasks: int = 3, **fields: object) -> LiveJob:
    """Return a job of tasks that are all ready."""
    raw = {"id": name, "tasks": [{"id": f"t-{number}", "command": "true"} for number in range(tasks)], **fields}
    return LiveJob(initial_state(parse_job(raw), uid="00000001", now=1.0))


def starts(
    ready_queue: ReadyQueue, jobs: Iterable[LiveJob], number: int, taken: Iterable[Slot] = (), room: int = 9
) -> list[str]:
    """Return the next tasks to start, each applied before the next is asked for."""
    for each in jobs:
        ready_queue.offer(each)
    counts: dict[str, int] = {}
    found = []
    for _ in range(number):
        start = ready_queue.next_start(10.0, set(taken), room, lambda queue: counts.get(queue, 0))
        if start is None:
            break
        state = start.job.state
        start.job.apply(Started(1.0, start.task.id, state.seq + 1, start.slot.number), 1)
        counts[state.pool] = counts.get(state.pool, 0) + 1
        found.append(f"{state.id}/{start.task.id}/{start.slot.number}")
        ready_queue.offer(start.job)
    return found


def test_round_robin_between_jobs_of_one_priority() -> None:
    """Jobs take turns, whatever their number of tasks."""
    order = starts(ReadyQueue({}), [job("a", 9, max_runners=9), job("b", 2, max_runners=9)], 5)
    assert order == ["a/t-0/0", "b/t-0/0", "a/t-1/1", "b/t-1/1", "a/t-2/2"]


def test_the_oldest_job_begins() -> None:
    """Of those of one priority, whatever their names, and in whatever order they came."""
    older, newer = job("z"), job("a")
    newer.state.submitted_at = 2.0
    assert starts(ReadyQueue({}), [newer, older], 2) == ["z/t-0/0", "a/t-0/0"]


def test_priority_before_turns() -> None:
    """A job of higher priority has all the turns it can take."""
    order = starts(ReadyQueue({}), [job("a", max_runners=2), job("b", max_runners=2, priority=1)], 9)
    assert order == ["b/t-0/0", "b/t-1/1", "a/t-0/0", "a/t-1/1"]


def test_limits_of_queues() -> None:
    """A full queue holds its own jobs alone."""
    jobs = [job("a", max_runners=3, pool="gpu", priority=9), job("b", max_runners=3)]
    assert starts(ReadyQueue({"gpu": 1}), jobs, 9) == ["a/t-0/0", "b/t-0/0", "b/t-1/1", "b/t-2/2"]


def test_no_room() -> None:
    """Nothing starts where there is no room, and nothing is forgotten by asking."""
    ready_queue = ReadyQueue({})
    assert starts(ready_queue, [job("a")], 9, room=0) == []
    assert starts(ready_queue, [], 9) == ["a/t-0/0"]


def test_taken_slots_are_passed_over() -> None:
    """A slot that still has a runner is not used; the next one is."""
    assert starts(ReadyQueue({}), [job("a", max_runners=2)], 9, taken=[Slot("a", 0)]) == ["a/t-0/1"]


def test_withdrawn_jobs_do_not_start() -> None:
    """A job that was paused, or withdrawn, starts nothing; offered again it does."""
    ready_queue = ReadyQueue({})
    one, two = job("a"), job("b")
    ready_queue.offer(one)
    ready_queue.offer(two)
    one.apply(Requested(2.0, "r", "pause"), 1)
    ready_queue.offer(one)
    ready_queue.withdraw("b")
    assert starts(ready_queue, [], 9) == []
    one.apply(Requested(3.0, "r", "resume"), 1)
    assert starts(ready_queue, [one, two], 9) == ["a/t-0/0", "b/t-0/0"]


def test_retries_of_the_user_and_of_the_platform() -> None:
    """Each kind of fault has its own budget, and nothing else is tried again."""
    one = job("a", defaults={"retries": 2, "retry_delay": 10, "retry_backoff": 3})
    task = one.state.tasks["t-0"]
    chance = random.Random(1)
    for charged, base in ((0, 10), (1, 30)):
        task.charged = charged
        for reason in ("error", "timeout", "oom"):
            at = retry_at(one, task, reason, 100.0, budget=0, chance=chance)
            assert at is not None
            assert 100 + base <= at <= 100 + base * 1.1
    task.charged = 2
    assert retry_at(one, task, "error", 100.0, budget=9, chance=chance) is None
    for reason in ("lost", "evicted", "start-failed"):
        task.faults = 0
        assert retry_at(one, task, reason, 100.0, budget=1, chance=chance) == pytest.approx(100.1)
        task.faults = 1
        assert retry_at(one, task, reason, 100.0, budget=1, chance=chance) is None
    task.charged = task.faults = 0
    for reason in ("ok", "rejected", "cancelled", "budget", "requeue"):
        assert retry_at(one, task, reason, 100.0, budget=9, chance=chance) is None
    one.state.stop = "failed"
    assert retry_at(one, task, "error", 100.0, budget=9, chance=chance) is None


def test_growing_delay_stops_growing() -> None:
    """`retry_max_delay` caps the delay, and no number of retries makes a time that cannot be written."""
    fields = {"retries": 200, "retry_delay": 10, "retry_backoff": 10, "retry_max_delay": 60, "retry_jitter": 0}
    one = job("a", defaults=fields)
    task = one.state.tasks["t-0"]
    for charged in (5, 199):
        task.charged = charged
        assert retry_at(one, task, "error", 100.0, budget=0, chance=random.Random(1)) == 160.0


def test_delays_after_platform_failures() -> None:
    """They double, up to a minute; a platform that removes or refuses runners gets more time from the second on."""
    one = job("a")
    task = one.state.tasks["t-0"]
    for faults, delay in ((0, 0.1), (1, 0.2), (3, 0.8), (9, 51.2), (10, 60.0), (50, 60.0)):
        task.faults = faults
        assert retry_at(one, task, "lost", 100.0, budget=99, chance=random.Random(1)) == pytest.approx(100 + delay)
    for faults, delay in ((0, 0.1), (1, 2.0), (2, 40.0), (3, 60.0), (99, 60.0)):
        task.faults = faults
        for reason in ("evicted", "start-failed"):
            at = retry_at(one, task, reason, 100.0, budget=100, chance=random.Random(1))
            assert at == pytest.approx(100 + delay)


def test_four_deletions_in_a_row_do_not_end_a_task() -> None:
    """With the default budget, whatever the runs take: a node pool that is replaced needs more than seconds."""
    one = job("a")
    task, now = one.state.tasks["t-0"], 100.0
    for task.faults in range(3):
        at = retry_at(one, task, "evicted", now, budget=3, chance=random.Random(1))
        assert at is not None
        now = at
    assert now - 100.0 > 40


def test_no_delay_is_longer_than_a_year() -> None:
    """Whatever the task says, and however often it was tried."""
    one = job("a")
    task = one.state.tasks["t-0"]
    task.retries, task.retry_delay, task.retry_backoff, task.retry_jitter = 200, 10, 10, 0
    for charged, most in ((199, None), (199, 1e12), (150, 1e12)):
        task.charged, task.retry_max_delay = charged, most
        assert retry_at(one, task, "error", 100.0, budget=0, chance=random.Random(1)) == 100.0 + LONGEST_WAIT
    task.charged, task.retries = 400, 500  # no number holds such a delay
    assert retry_at(one, task, "error", 100.0, budget=0, chance=random.Random(1)) == 100.0 + LONGEST_WAIT


def test_no_room_for_a_pool_with_a_limit() -> None:
    """The manager's own limit counts as well."""
    queue = ReadyQueue({"gpu": 5})
    queue.offer(job("a", pool="gpu"))
    assert queue.next_start(10.0, set(), 0, lambda _: 0) is None


def test_what_was_withdrawn_or_paused_holds_up_no_other() -> None:
    """The next job that may start does; a job that is paused and not offered again starts nothing."""
    queue = ReadyQueue({})
    first, second, third = job("a", priority=2), job("b", priority=1), job("c")
    for each in (first, second, third):
        queue.offer(each)
    queue.withdraw("a")
    second.apply(Requested(2.0, "r", "pause"), 1)
    found = queue.next_start(10.0, set(), 9, lambda _: 0)
    assert found is not None
    assert found.job is third


def test_the_last_place_is_used() -> None:
    """Of the manager's runners, however many of them other jobs of an unlimited pool have."""
    queue = ReadyQueue({})
    queue.offer(job("a"))
    assert queue.next_start(10.0, set(), 1, {"default": 8}.__getitem__) is not None


def test_a_delay_is_waited_for() -> None:
    """A task with a delay starts at its time."""
    queue = ReadyQueue({})
    late = job("a", 1, defaults={"delay": 20})
    queue.offer(late)
    assert queue.next_start(20.9, set(), 9, lambda _: 0) is None
    queue.offer(late)
    assert queue.next_start(21.0, set(), 9, lambda _: 0) is not None


def test_unknown_jobs_may_be_withdrawn_and_forgotten() -> None:
    """Whoever ends a job need not know whether it was offered."""
    queue = ReadyQueue({})
    queue.withdraw("nobody")
    queue.forget("nobody")


def test_tasks_that_are_passed_over() -> None:
    """Another one of the same job starts."""
    queue = ReadyQueue({})
    queue.offer(job("a", max_runners=2))
    found = queue.next_start(10.0, set(), 9, lambda _: 0, {"a": ["t-0"]})
    assert found is not None
    assert found.task.id == "t-1"


def test_a_forgotten_jobs_id_is_free() -> None:
    """Another job of that id is a new one: it is offered itself, and has not had its turn."""
    queue = ReadyQueue({})
    old = job("b", 9, max_runners=9)
    starts(queue, [old], 1)
    queue.forget("b")
    new = job("b", 9, max_runners=9)
    other = job("c", 9, max_runners=9)
    queue.offer(new)
    queue.offer(other)
    found = queue.next_start(10.0, set(), 9, lambda _: 0)
    assert found is not None
    assert found.job is new


def test_a_forgotten_job_has_no_old_turn() -> None:
    """A new job of its id comes after those that came before it."""
    queue = ReadyQueue({})
    starts(queue, [job("b")], 1)
    queue.forget("b")
    starts(queue, [job("a", 2, max_runners=2)], 2)
    waiting, again = job("c"), job("b")
    again.state.submitted_at = 2.0
    assert starts(queue, [waiting, again], 2) == ["c/t-0/0", "b/t-0/0"]


def test_a_delayed_task_takes_its_place_in_its_pool() -> None:
    """At its time, in the same pick, if there is room in the pool then."""
    queue = ReadyQueue({"gpu": 1})
    queue.offer(job("a", 1, pool="gpu", defaults={"delay": 20}))
    assert queue.next_start(21.0, set(), 9, {"gpu": 1}.__getitem__) is None
    found = queue.next_start(21.0, set(), 9, {"gpu": 0}.__getitem__)
    assert found is not None
    assert found.task.id == "t-0"


def test_a_delayed_task_with_a_pool_of_its_own() -> None:
    """It starts in the first pick after its time, though nothing of its pool was ready before."""
    queue = ReadyQueue({"gpu": 1})
    queue.offer(job("a", 1, max_runners=2, defaults={"delay": 20, "pools": {"gpu": 1}}))
    assert queue.next_start(21.0, set(), 9, lambda _: 0) is not None


@pytest.mark.parametrize(("runners", "order"), [(1, []), (2, ["a/t-1/0", "a/t-2/1"])])
def test_what_never_fits_holds_up_a_sequence_alone(runners: int, order: list[str]) -> None:
    """A task that needs more of a pool than there is; with several runners the others start."""
    one = job("a", max_runners=runners)
    one.state.tasks["t-0"].pools = {"gpu": 5}
    assert starts(ReadyQueue({"gpu": 4}), [LiveJob(one.state)], 9) == order


def test_a_runner_that_stays_gives_no_place_to_one_more() -> None:
    """Its job has a slot more, yet no more runners at once."""
    one = job("a", on_failure="continue")
    one.apply(Started(1.0, "t-0", 1, 0), 1)
    one.apply(Ended(2.0, 1, "error", Moments(1.0, 1.0, 2.0, 2.0), keep_until=99.0), 1)
    assert starts(ReadyQueue({}), [one], 9, taken=[Slot("a", 0)]) == ["a/t-1/1"]
    assert starts(ReadyQueue({}), [one], 9) == []
