"""Where bars stand: inside their window, in the order of the runs, whatever the clock did."""

from __future__ import annotations

import random
import time
from typing import Any

import pytest

from air_executor.core.explanation import ExplainContext
from air_executor.core.short_reason import ShortReasons
from air_executor.core.submission import initial_state, parse_job
from air_executor.core.task_groups import TaskGroup
from air_executor.model.state import Done, JobState, Queued, Running
from air_executor.web import timeline
from air_executor.web.views import chunks
from tests.records import make_attempt
from tests.web.ended_jobs import ended_job


def _job(*tasks: str) -> JobState:
    spec = parse_job({"id": "j", "tasks": [{"id": name, "command": "true"} for name in tasks]})
    return initial_state(spec, uid="00000001", now=1000.0)


def _why(job: JobState, **context: Any) -> ShortReasons:  # noqa: ANN401 - fields of the context
    return ShortReasons(job, ExplainContext(time.time(), **context))


def test_bars_stay_in_the_window() -> None:
    """Random schedules, stepped clocks included: each bar begins and ends inside, and runs follow each other."""
    random.seed(7)
    for _ in range(200):
        job = _job("a")
        task = job.tasks["a"]
        job.started_at, job.phase = 1000.0 + random.uniform(-5, 5), "running"
        at = 1000.0
        for seq in range(random.randint(0, 30)):
            at += random.uniform(-0.5, 3)
            start, work, finish = (random.choice([0.0, random.uniform(0, 4)]) for _ in range(3))
            reason = random.choice(["ok", "error", "cancelled"])
            task.attempts.append(make_attempt(seq, 0, at, start, work, finish, reason))
            at = task.attempts[-1].gone_at
        if random.random() < 0.5:
            task.status = Running(99, 0, at)
        now = at + random.uniform(-1, 100)
        within = timeline.window(job, now)
        found = timeline.bar_parts(task, within, now)
        assert len(found) <= 3 * timeline.BARS_SHOWN + 1
        assert all(0 <= part.x <= 100 and 0 <= part.width <= 100.002 - part.x + timeline.MIN_WIDTH for part in found)
        assert sum(part.first for part in found) == min(len(task.attempts), 20) + isinstance(task.status, Running)
        assert all(0 <= x <= 100 for x, _ in within.ticks())


def test_a_run_shorter_than_the_clock_can_tell_is_seen() -> None:
    """A run of no measurable length still has a bar."""
    job = _job("a")
    job.tasks["a"].attempts.append(make_attempt(1, 0, 1000.0, 0.0, 0.0, 0.0, "error", 1))
    [part] = timeline.bar_parts(job.tasks["a"], timeline.window(job, 1001.0), 1001.0)
    assert (part.kind, part.tone) == ("work", "bad")
    assert part.width > 0


def test_the_window_of_a_running_job_moves_seldom() -> None:
    """While a job runs for an hour, its window changes a few times, holds the present, and is never mostly empty."""
    job = _job("a")
    job.started_at, job.phase = 1000.0, "running"
    job.tasks["a"].status = Running(1, 0, 1000.0)
    ends = []
    for second in range(1, 3600):
        within = timeline.window(job, 1000.0 + second)
        assert within.start == 1000.0
        assert within.end >= 1000.0 + second
        assert within.seconds <= max(10.0, 2.5 * second)
        ends.append(within.end)
    assert len(set(ends)) < 40


def name_of(row: timeline.TreeRow) -> str:
    """Return what a row is about."""
    assert not isinstance(row.entry, timeline.FoldedTasks)
    return row.entry.name if isinstance(row.entry, TaskGroup) else row.entry.id


def test_a_group_is_a_row() -> None:
    """With counts; asked for by its name or a phase, its tasks are rows. What queued a group stands for it."""
    job = _job("find", "load", "load-a", "load-b", "x-1", "x-2", "only-1", "merge")
    for name in ("load-a", "load-b"):
        job.tasks[name].queued_by = job.tasks[name].group = "load"
    job.tasks["load-a"].status = Done("succeeded", "ok", "2026-01-31T12:00:00.000Z", 0)
    job.tasks["load-b"].status = Done("failed", "error", "2026-01-31T12:00:00.000Z", 3)
    job.tasks["x-1"].group = job.tasks["x-2"].group = "x"
    job.tasks["only-1"].group = "only"
    tree = timeline.tree(job)
    assert [(name_of(one), one.depth) for one in tree] == [
        ("find", 0),
        ("load", 0),
        ("x", 0),
        ("only-1", 0),
        ("merge", 0),
    ]
    (chunk,) = chunks(tree, {0}, timeline.window(job, time.time()), _why(job))
    row = next(row for row in chunk.rows or () if row.id == "load")
    assert (row.is_group, row.phase, row.outcome) == (True, "failed", "1 ✓ 1 ✗ (load-b: exit code 3)")
    assert (row.many, row.took, row.since) == (None, None, None)
    assert [name_of(one) for one in timeline.tree(job, text="x")] == ["x-1", "x-2"]
    assert [name_of(one) for one in timeline.tree(job, phase="failed")] == ["load-b"]


def test_order_and_depth_follow_who_queued_whom() -> None:
    """What a task queued stands right below it, deeper, to any depth; whose origin is unknown stands at the margin."""
    job = _job("a", "b", "c", "d", "e")
    job.tasks["c"].queued_by = "a"
    job.tasks["d"].queued_by = "c"
    job.tasks["e"].queued_by = "gone"
    assert [(name_of(one), one.depth) for one in timeline.tree(job)] == [
        ("a", 0),
        ("c", 1),
        ("d", 2),
        ("b", 0),
        ("e", 0),
    ]
    chain = _job(*(f"x{n}" for n in range(3000)))
    for n in range(1, 3000):
        chain.tasks[f"x{n}"].queued_by = f"x{n - 1}"
    tree = timeline.tree(chain)
    assert [name_of(one) for one in tree] == list(chain.tasks)
    assert tree[-1].depth == timeline.MAX_DEPTH


def test_only_what_is_asked_for_is_worked_out() -> None:
    """Of a large job's rows those of the wanted chunks are made, the others are only counted."""
    job = ended_job("large", 120)
    tree = timeline.tree(job)
    found = chunks(tree, {1}, timeline.window(job, time.time()), _why(job))
    assert [(chunk.number, chunk.count, chunk.rows is None) for chunk in found] == [
        (0, 50, True),
        (1, 50, False),
        (2, 20, True),
    ]
    assert [row.id for row in found[1].rows or ()] == [name_of(one) for one in tree[50:100]]


def test_each_waiting_task_says_for_what() -> None:
    """Also one that waits for neither a time nor named tasks: for room, for all others, or for nothing at all."""
    needs = {"id": "big", "command": "x", "pools": {"ram": 9}}
    spec = {"id": "j", "tasks": [needs, {"id": "next", "command": "x"}, {"id": "x", "command": "x", "when": "always"}]}
    job = initial_state(parse_job(spec), uid="00000001", now=1000.0)
    found = chunks(timeline.tree(job), {0}, timeline.window(job, time.time()), _why(job, pools={"ram": 8}))
    assert [row.outcome for row in found[0].rows or ()] == [
        "can never start: it needs 9 of pool ram, whose limit is 8 (AIR_POOLS)",
        "next in the queue",
        "after all other tasks",
    ]


def test_many_siblings_that_succeeded_are_one_row() -> None:
    """In place of the first; what failed, and what queued others, stays. A search, or a wish, unfolds them."""
    job = ended_job("large", 120)
    tree = timeline.tree(job, fold=True)
    folded = next(one for one in tree if isinstance(one.entry, timeline.FoldedTasks))
    assert isinstance(folded.entry, timeline.FoldedTasks)
    assert len(folded.entry.tasks) == 117
    shown = [name_of(one) for one in tree if not isinstance(one.entry, timeline.FoldedTasks)]
    assert (shown, folded.depth) == (["t1", "t50", "t100"], 1)
    (chunk,) = chunks(tree, {0}, timeline.window(job, time.time()), _why(job))
    assert [row.folded for row in chunk.rows or ()] == [0, 117, 0, 0]
    assert [row.many is not None and bool(row.many.parts) for row in chunk.rows or ()] == [False, True, False, False]
    assert len(timeline.tree(job, "succeeded", fold=True)) == 118
    assert len(timeline.tree(job)) == 120


def test_waiting_is_a_line() -> None:
    """Before a run, and until a time to come, for which a job that has not started has room on its axis."""
    job = _job("a", "b")
    job.tasks["a"].status = Queued(waits_until=1000.0 + 3 * 3600)
    job.tasks["b"].ready_at = 1000.0
    within = timeline.window(job, 1010.0)
    assert 3 * 3600 < within.seconds < 3.2 * 3600
    [(x, width)] = timeline.wait_parts(job, job.tasks["a"], within, 1010.0)
    assert (x, width > 95) == (0, True)
    assert timeline.wait_parts(job, job.tasks["b"], within, 1010.0) == [], "too short to be seen"
    assert [label for _, label in within.ticks()][:2] == ["0", "30m"]
    job.tasks["b"].status = Running(1, 0, 1004.0)
    assert timeline.window(job, 1010.0).seconds < 60, "what runs is more interesting"


@pytest.mark.parametrize("seconds", [0.004, 0.05, 0.4, 0.76, 1.9, 8, 3000])
def test_the_axis_has_several_times(seconds: float) -> None:
    """Also that of a job of some milliseconds."""
    job = _job("a")
    job.started_at, job.finished_at, job.phase = 1000.0, 1000.0 + seconds, "succeeded"
    labels = [label for _, label in timeline.window(job, 2000.0 + seconds).ticks()]
    assert 3 <= len(labels) <= 8
    assert len(set(labels)) == len(labels)


def test_a_waiting_task_has_no_bar() -> None:
    """A queued task that never ran has nothing in its row."""
    job = _job("a")
    job.tasks["a"].status = Queued()
    assert timeline.bar_parts(job.tasks["a"], timeline.window(job, 1001.0), 1001.0) == []
