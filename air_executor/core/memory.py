"""The memory of a run: its task's request, grown by a factor for each run that ran out of memory.

Used when a run starts, and to show and to price one. Pure; amounts are bytes.
"""

from __future__ import annotations

from dataclasses import fields
from typing import Any

from air_executor.model.attempt import MAX_ATTEMPTS_KEPT
from air_executor.model.sizes import PIB, format_memory
from air_executor.model.state import OOM, Done, Queued, Running, TaskState

LIMITS_SHOWN = 3


def memory_of(task: TaskState) -> int | None:
    """Return the memory of the task's open run, or else of its next run; None if the task requests none.

    The growth survives a user's `retry`, which resets budgets: the old amount would be too little again.
    """
    if isinstance(task.status, Running) and task.status.memory_limit is not None:
        return task.status.memory_limit
    resources = task.resources
    if resources is None or resources.memory is None:
        return None
    memory, factor = resources.memory, float(resources.memory_growth)
    times = sum(attempt.reason == OOM for attempt in task.attempts)
    grown = min(memory * factor ** min(times, MAX_ATTEMPTS_KEPT), resources.memory_max or PIB)
    return max(int(memory), int(grown))


def resources_of(task: TaskState) -> dict[str, Any]:
    """Return the resources of the task's open run, or else of its next run."""
    resources = requested_of(task)
    if (memory := memory_of(task)) is not None:
        resources["memory"] = memory
    return resources


def requested_of(task: TaskState) -> dict[str, Any]:
    """Return the resources that the task asks for, by name, without what equals the defaults."""
    if task.resources is None:
        return {}
    found = {f.name: (getattr(task.resources, f.name), f.default) for f in fields(task.resources)}
    return {name: value for name, (value, default) in found.items() if value != default}


def killed_text(kills: int, limit: int | None, peak: int | None) -> str:
    """Describe a run that ran out of memory; `kills` is 0 if the platform does not count them."""
    who = "a process was" if kills == 0 else "1 process was" if kills == 1 else f"{kills} processes were"
    where = "" if limit is None else f" at the limit of {format_memory(limit)}"
    most = "" if peak is None else f" (peak {format_memory(peak)})"
    return f"{who} killed{where}{most}"


def history_text(task: TaskState) -> str | None:
    """Return the limits at which earlier runs were killed for memory, and the next limit; None if none was."""
    over = isinstance(task.status, Done) and task.attempts
    earlier = task.attempts[:-1] if over else task.attempts
    limits = [a.memory_limit for a in earlier if a.reason == OOM and a.memory_limit is not None]
    now = task.attempts[-1].memory_limit if over else memory_of(task)
    if not limits or now is None:
        return None
    shown = list(dict.fromkeys(map(format_memory, limits)))
    more = "… " if len(shown) > LIMITS_SHOWN else ""
    verb = "tries" if isinstance(task.status, Queued) else "tried"
    return f"killed for memory at {more}{', '.join(shown[-LIMITS_SHOWN:])}; {verb} again with {format_memory(now)}"
