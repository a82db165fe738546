"""What is kept up to date with each decision is what a restarted manager derives from the tasks as they stand."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from air_executor.core.progress import Progress
from air_executor.core.transitions import LiveJob
from air_executor.model import events as ev
from air_executor.model.job import Task
from air_executor.model.state import QUEUED, Done, Running
from tests.conftest import EXAMPLES
from tests.core.test_transitions import NO_TIME, graphs, make

FAR = 1e9


def derived(progress: Progress) -> dict[str, Any]:
    """Return what others may ask of the indexes of a job, but for the order in which its tasks ended."""
    tasks = progress.job.tasks
    progress.start_order.promote(FAR)
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
        "results": sorted(progress.results),
        "done": sorted(task.id for task in progress.done),
        "phase": progress.phase_so_far(),
        "nodes": nodes,
        "ready": progress.start_order.ready,
        "readiness": {name: progress.readiness(task) for name, task in tasks.items() if task.phase == QUEUED},
        "spared": [name for name, task in tasks.items() if progress.spares(task)],
    }


def rebuilt(job: LiveJob) -> dict[str, Any]:
    """Return the same of a job that is read from its state."""
    return derived(LiveJob(job.state).progress)


def choices(job: LiveJob, at: float, name: str) -> list[Callable[[], ev.Event]]:
    """Return decisions that a manager could take about a task."""
    state, task = job.state, job.state.tasks[name]
    queued = [Task(id=f"{name}-{state.version}{kind}", command="x") for kind in "ab"]
    queued[1].when = "always"
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
        if task.phase == "succeeded" or task.superseded:
            return [lambda: ev.Requested(at, "r", "rerun", name)] if job.state.ended and not task.superseded else []
        return [lambda: ev.Requested(at, "r", "retry", name)]
    return [lambda: ev.Requested(at, "r", "cancel", name), lambda: ev.Requested(at, "r", "cancel")]


@given(graphs(), st.sampled_from(["stop", "continue"]), st.data())
@settings(max_examples=2 * EXAMPLES)
def test_a_restart_finds_what_the_manager_knew(graph: list[dict[str, Any]], on_failure: str, data: st.DataObject) -> None:
    """Whatever was decided, in whatever order."""
    job = make(*graph, on_failure=on_failure, max_runners=9)
    for number in range(data.draw(st.integers(0, 25))):
        at = 2.0 + number
        live = derived(job.progress)
        assert live == rebuilt(job)
        startable = sorted(live["ready"]) if len(live["slots"]) < 9 else []
        name = data.draw(st.sampled_from([*job.state.tasks, *startable, *startable]))
        if name in startable and data.draw(st.integers(0, 3)):
            slot = next(slot for slot in range(9) if slot not in job.progress.slots)
            job.apply(ev.Started(at, name, job.state.seq + 1, slot), 1)
        elif found := choices(job, at, name):
            job.apply(data.draw(st.sampled_from(found))(), 1)
    assert derived(job.progress) == rebuilt(job)
