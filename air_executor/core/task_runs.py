"""The runs of one task: attempts 1, 2, … of it, with their numbers, which count over the whole job. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from air_executor.core.outcome import reason_text
from air_executor.model.attempt import Attempt
from air_executor.model.state import OK, TaskState
from air_executor.model.times import format_duration

RUNS_SHOWN = 20


def runs_by_attempt(task: TaskState) -> dict[int, int]:
    """Return the run numbers of a task, oldest first; a task that has run very often has lost the first ones."""
    runs = [attempt.seq for attempt in task.attempts]
    runs += [task.run.seq] if task.run is not None else []
    return dict(enumerate(runs, max(1, task.runs - len(runs) + 1)))


def attempt_lines(task: TaskState) -> list[str]:
    """Return how each attempt of a task ended, if it has run several times."""
    if task.runs < 2:  # noqa: PLR2004 - one is no list
        return []
    numbered = list(zip(runs_by_attempt(task).items(), task.attempts, strict=False))
    lines = [f"attempt {number} (run {run}): {_end(attempt)}" for (number, run), attempt in numbered[-RUNS_SHOWN:]]
    hidden = len(numbered) - len(lines)
    return [f"… {hidden} earlier attempts", *lines] if hidden else lines


def runs_text(task: TaskState) -> str:
    """Return which runs a task has, for whoever named another one."""
    found = runs_by_attempt(task)
    if not found:
        return f"task {task.id} has not run yet"
    first, last = min(found), max(found)
    if first == last:
        return f"its only run is {found[first]}, --attempt {first}"
    return f"its runs are {_listed(list(found.values()))}; or --attempt {first} to {last}"


def _end(attempt: Attempt) -> str:
    took = format_duration(attempt.work)
    if attempt.reason == OK:
        return f"succeeded in {took}"
    message = f": {attempt.message}" if attempt.message else ""
    return f"{reason_text(attempt.reason, attempt.exit_code)}{message}, after {took}"


def _listed(runs: Sequence[int]) -> str:
    shown = [f"{run}" for run in runs[-RUNS_SHOWN:]]
    return f"{'… ' if len(runs) > RUNS_SHOWN else ''}{', '.join(shown[:-1])} and {shown[-1]}"
