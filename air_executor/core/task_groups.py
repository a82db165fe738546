"""Groups of tasks as people see them: one line with counts for the tasks of a list, in place of one line for each.

Used by `air-executor status` and the page. A group whose list was a result has a task of its own, which queued the
others; one whose list was known at submit has none.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from air_executor.core.outcome import outcome_text
from air_executor.model import state as s
from air_executor.model.state import Done, JobState, TaskState

MARKS = {s.SUCCEEDED: "✓", s.FAILED: "✗"}
_ORDER = (s.SUCCEEDED, s.FAILED, s.CANCELLED, s.SKIPPED, s.RUNNING, s.QUEUED)
_URGENT = (s.RUNNING, s.QUEUED, s.FAILED, s.CANCELLED, s.SUCCEEDED, s.SKIPPED)


@dataclass(frozen=True, slots=True)
class TaskGroup:
    """Tasks that are shown as one line."""

    name: str
    tasks: Sequence[TaskState]

    @property
    def phase(self) -> s.TaskPhase:
        """The most urgent phase of its tasks."""
        phases = {task.phase for task in self.tasks}
        return next(phase for phase in _URGENT if phase in phases)

    @property
    def runs(self) -> int:
        """Starts of its tasks."""
        return sum(task.runs for task in self.tasks)

    @property
    def text(self) -> str:
        """How its tasks stand: `59 ✓ 3 ✗ (load-eu: exit code 1)`."""
        failed = next((task for task in self.tasks if task.phase == s.FAILED), None)
        first = ""
        if failed is not None and isinstance(failed.status, Done):
            first = f" ({failed.id}: {outcome_text(failed.status)})"
        return counts_text(Counter(task.phase for task in self.tasks)) + first


def counts_text(counts: Mapping[str, int]) -> str:
    """Return tasks by phase: `4 ✓ 1 ✗ 2 running`."""
    return " ".join(f"{counts[phase]} {MARKS.get(phase, phase)}" for phase in _ORDER if counts.get(phase))


def children(job: JobState, *, fold: bool) -> dict[str | None, list[TaskState | TaskGroup]]:
    """Return the tasks that each task queued, in the order of the queue; under None, those that no task queued.

    `fold`: the tasks of a group are one entry, which stands in the place of the first; tasks without which a group
    would have only one are no group.
    """
    found: dict[str | None, list[TaskState | TaskGroup]] = {}
    members: dict[tuple[str | None, str], list[TaskState]] = {}
    shown = [task for task in job.tasks.values() if not (fold and task.superseded)]
    parents = {task.id: task.queued_by if task.queued_by in job.tasks else None for task in shown}
    if fold:
        for task in shown:
            if task.group is not None:
                members.setdefault((parents[task.id], task.group), []).append(task)
    heads = {parent for (parent, name), tasks in members.items() if parent == name and len(tasks) > 1}
    for task in shown:
        parent, group = parents[task.id], members.get((parents[task.id], task.group or ""), ())
        if task.id in heads:
            found.setdefault(parent, []).append(TaskGroup(task.id, members[task.id, task.id]))
        elif len(group) <= 1:
            found.setdefault(parent, []).append(task)
        elif parent not in heads and group[0] is task:
            found.setdefault(parent, []).append(TaskGroup(task.group or "", group))
    return found
