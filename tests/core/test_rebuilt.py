"""What is kept up to date with each decision is what a restarted manager derives from the tasks as they stand."""

from __future__ import annotations

import copy
from collections import Counter
from collections.abc import Callable
from functools import partial
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from air_executor.core.progress import Progress
from air_executor.core.rerun import tasks_to_rerun
from air_executor.core.transitions import LiveJob
from air_executor.model import events as ev
from air_executor.model.job import Task
from air_executor.model.state import QUEUED, Done, Queued, Running
from tests.core.test_transitions import NO_TIME, graphs, make


def plain(job: LiveJob) -> dict[str, Any]:
    """Say what the indexes hold, by their definitions."""
    tasks = job.state.tasks.values()
    runs = {task.id: task.run for task in tasks if task.run is not None}
    return {
        "counts": dict(Counter(task.phase for task in tasks)),
        "open": sum(isinstance(task.status, Queued | Running) for task in tasks),
        "failed": sum(task.has_failed for task in tasks),
        "slots": {run.slot: name for name, run in runs.items()},
        "runs": {run.seq: name for name, run in runs.items()},
        "open_runs": runs,
        "results": sorted((task.id, task.result) for task in tasks if task.result is not None),
        "done": sorted(task.id for task in tasks if isinstance(task.status, Done) and not task.superseded),
    }


def derived(progress: Progress, at: float) -> dict[str, Any]:
    """Return what others may ask of the indexes of a job, at a time, but for the order of ends."""
    tasks = progress.job.tasks
    progress.start_order.promote(at)
    nodes = {
        name: (node.place, node.cleanup, node.complete, node.open_children, node.tree_ok, node.tree_failed)
        for name, node in progress.nodes.items()
        if not tasks[name].superseded
    }
    return {
        "counts": {phase: count for phase, count in progress.counts.items() if count},
        "open": progress.open,
        "failed": progress.failed,
        "slots": progress.slots,
        "runs": progress.runs,
        "open_runs": {task.id: run for task, run in progress.open_runs()},
        "results": sorted(progress.results),
        "done": sorted(task.id for task in progress.done),
        "phase": progress.phase_so_far(),
        "nodes": nodes,
        "asking": progress.asking,
        "joining": progress.joining,
        "ready": progress.start_order.ready,
        "readiness": {name: progress.readiness(task) for name, task in tasks.items() if task.phase == QUEUED},
        "next": progress.next_time(),
        "startable": progress.startable(),
        "spared": [name for name, task in tasks.items() if progress.spares(task)],
    }


def rebuilt(job: LiveJob, at: float) -> dict[str, Any]:
    """Return the same of a job that is read from its state, which changes nothing in that."""
    state = copy.deepcopy(job.state)
    again = LiveJob(state)
    assert repr(state) == repr(job.state)
    return derived(again.progress, at)


def choices(job: LiveJob, at: float, name: str) -> list[Callable[[], ev.Event]]:
    """Return decisions that a manager could take about a task."""
    state, task = job.state, job.state.tasks[name]
    queued = [Task(id=f"{name}-{state.version}{kind}", command="x") for kind in "ab"]
    queued[1].when = "always"
    queued += [Task(id=f"{name}-{state.version}c", approve="?"), Task(id=f"{name}-{state.version}d", joins="00000002")]
    if isinstance(task.status, Running):
        seq = task.status.seq
        return [
            lambda: ev.Ended(at, seq, "ok", NO_TIME, result=name, queued=queued),
            lambda: ev.Ended(at, seq, "ok", NO_TIME, result=name),
            lambda: ev.Ended(at, seq, "error", NO_TIME),
            lambda: ev.Ended(at, seq, "cancelled", NO_TIME),
            lambda: ev.Ended(at, seq, "lost", NO_TIME, retry_at=at + 1),
            lambda: ev.Ended(at, seq, "again", NO_TIME, queued=queued),
        ]
    if isinstance(task.status, Done):
        if task.superseded:
            return []
        again, superseded = tasks_to_rerun(state, name, downstream=False)
        ops = [] if any(one.run for one in again + superseded) else ["rerun"]
        ops += [] if task.phase == "succeeded" else ["retry"]
        return [partial(ev.Requested, at, "r", op, name) for op in ops]
    if name in job.progress.asking:
        return [partial(ev.Requested, at, "r", op, name) for op in ("approve", "reject", "expire", "cancel")]
    if name in job.progress.joining:
        return [
            partial(ev.Joined, at, name, phase, reason) for phase, reason in (("succeeded", "ok"), ("failed", "error"))
        ]
    return [
        lambda: ev.Requested(at, "r", "cancel", name),
        lambda: ev.Requested(at, "r", "cancel"),
        lambda: ev.Requested(at, "r", "pause"),
        lambda: ev.Requested(at, "r", "resume"),
        lambda: ev.Requested(at, "r", "add", None, queued),
        lambda: ev.DeadlinePassed(at),
        lambda: ev.UpstreamFailed(at, "up"),
        lambda: ev.ClockStepped(at, 5.0),
    ]


@given(graphs(), st.sampled_from(["stop", "continue"]), st.data())
def test_a_restart_finds_what_was_known(graph: list[dict[str, Any]], on_failure: str, data: st.DataObject) -> None:
    """Whatever was decided, in whatever order."""
    fields = st.sampled_from([{}, {}, {"delay": 5}, {"delay_after": 5}, {"priority": 1}])
    for number, task in enumerate(graph):
        need = task.get("after", [None])[0]
        condition = (
            {} if need is None else {"only_if": {"result": need, "eq": data.draw(st.sampled_from([need, "no"]))}}
        )
        graph[number] = task | data.draw(fields) | data.draw(st.sampled_from([{}, {}, condition]))
    runners = data.draw(st.sampled_from([1, 9]))
    job = make(*graph, on_failure=on_failure, max_runners=runners)
    for number in range(data.draw(st.integers(0, 25))):
        at = 2.0 + number
        live = derived(job.progress, at)
        assert live == rebuilt(job, at)
        assert live == live | plain(job)
        startable = sorted(live["ready"]) if len(live["slots"]) < runners else []
        held_up = runners == 1 and live["startable"] == 0  # by a task that waits for its retry
        assert held_up or live["startable"] == min(len(startable), runners - len(live["slots"]))
        name = data.draw(st.sampled_from([*job.state.tasks, *startable, *startable]))
        if name in startable and data.draw(st.integers(0, 3)):
            slot = next(slot for slot in range(9) if slot not in job.progress.slots)
            job.apply(ev.Started(at, name, job.state.seq + 1, slot), 1)
        elif found := choices(job, at, name):
            job.apply(data.draw(st.sampled_from(found))(), 1)
    assert derived(job.progress, 9e9) == rebuilt(job, 9e9)


def test_ends_are_counted_from_the_start_on() -> None:
    """By phase and reason, those that follow from others too; a restart begins again."""
    job = make("a", "b", {"id": "c", "after": ["b"]}, {"id": "d", "after": ["b"]}, on_failure="continue")
    for name, reason in (("a", "ok"), ("b", "error")):
        job.apply(ev.Started(2.0, name, job.state.seq + 1, 0), 1)
        job.apply(ev.Ended(3.0, job.state.seq, reason, NO_TIME), 1)
    ends = {("succeeded", "ok"): 1, ("failed", "error"): 1, ("skipped", "upstream"): 2}
    assert (job.progress.ends, LiveJob(job.state).progress.ends) == (ends, {})


def test_what_waits_for_people_and_jobs() -> None:
    """It waits until it has ended, however; a restart knows it."""
    job = make("find")
    job.apply(ev.Started(2.0, "find", 1, 0), 1)
    queued = [Task(id="ask", approve="Go on?"), Task(id="join", joins="00000002")]
    job.apply(ev.Ended(3.0, 1, "ok", NO_TIME, queued=queued), 1)
    found = [(set(live.progress.asking), set(live.progress.joining)) for live in (job, LiveJob(job.state))]
    assert found == [({"ask"}, {"join"})] * 2
    job.apply(ev.Requested(4.0, "r", "approve", "ask"), 1)
    job.apply(ev.Joined(5.0, "join", "succeeded", "ok", result=7), 1)
    assert (job.progress.asking, job.progress.joining, job.state.phase) == (set(), set(), "succeeded")
    assert job.progress.results == [("join", 7)]
