"""Where bars stand: inside their window, in the order of the runs, whatever the clock did."""

from __future__ import annotations

import random
import time

from air_executor.core.submission import initial_state, parse_job
from air_executor.model.state import JobState, Queued, Running
from air_executor.web import timeline
from air_executor.web.views import chunks
from tests.records import make_attempt
from tests.web.ended_jobs import ended_job


def _job(*tasks: str) -> JobState:
    spec = parse_job({"id": "j", "tasks": [{"id": name, "command": "true"} for name in tasks]})
    return initial_state(spec, uid="00000001", now=1000.0)


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


def test_order_and_depth_follow_who_queued_whom() -> None:
    """What a task queued stands right below it, deeper, to any depth; whose origin is unknown stands at the margin."""
    job = _job("a", "b", "c", "d", "e")
    job.tasks["c"].queued_by = "a"
    job.tasks["d"].queued_by = "c"
    job.tasks["e"].queued_by = "gone"
    assert [(one.task.id, one.depth) for one in timeline.tree(job)] == [
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
    assert [one.task.id for one in tree] == list(chain.tasks)
    assert tree[-1].depth == timeline.MAX_DEPTH


def test_only_what_is_asked_for_is_worked_out() -> None:
    """Of a large job's rows those of the wanted chunks are made, the others are only counted."""
    job = ended_job("large", 120)
    tree = timeline.tree(job)
    found = chunks(tree, {1}, timeline.window(job, time.time()), time.time())
    assert [(chunk.number, chunk.count, chunk.rows is None) for chunk in found] == [
        (0, 50, True),
        (1, 50, False),
        (2, 20, True),
    ]
    assert [row.id for row in found[1].rows or ()] == [one.task.id for one in tree[50:100]]


def test_a_waiting_task_has_no_bar() -> None:
    """A queued task that never ran has nothing in its row."""
    job = _job("a")
    job.tasks["a"].status = Queued()
    assert timeline.bar_parts(job.tasks["a"], timeline.window(job, 1001.0), 1001.0) == []
