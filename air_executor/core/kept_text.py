"""What people are told of a runner that stays after its run has failed: until when, and how to look into it."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice

from air_executor.model.keep import KeptRunner
from air_executor.model.state import JobState, TaskState
from air_executor.model.times import format_duration, to_text

SHOWN = 3
"""Of how many runners of a job people are told at once."""

_OWN = {
    "docker": ("docker exec -it {} sh", "docker rm -f {}"),
    "kubernetes": ("kubectl exec -it job/{} -- sh", "kubectl delete job/{}"),
}
"""By platform: its own commands to look into a runner and to remove it."""


def kept_text(job: JobState, task: TaskState, now: float, *, managed: bool) -> str | None:
    """Return what is to say of a task's runner; None: it does not stay. `managed`: a manager is there to remove it."""
    kept = job.kept.get(task.id)
    if kept is None:
        return None
    what = _runner(kept)
    if kept.until <= now:
        return f"its {what} is about to be removed"
    shell, own = f"air-executor shell {job.id} {task.id}", _OWN.get(kept.backend or "")
    remove = f"air-executor cancel {job.id} {task.id}"
    if own is not None and kept.runner is not None:
        shell = f"{shell}` or `{own[0].format(kept.runner)}"
        remove = remove if managed else own[1].format(kept.runner)
    how = f"look into it with `{shell}`; remove it with `{remove}`"
    return f"its {what} is kept until {to_text(kept.until)}: {how}"


def kept_short(job: JobState, task: TaskState, now: float) -> str:
    """Return the same in a few words; "" if its runner does not stay."""
    kept = job.kept.get(task.id)
    if kept is None:
        return ""
    if kept.until <= now:
        return "runner about to be removed"
    return f"runner kept for {format_duration(round(kept.until - now))}: air-executor shell {job.id} {task.id}"


def kept_lines(job: JobState, now: float, *, managed: bool) -> Iterator[str]:
    """Yield a line for each of the first tasks of a job whose runners stay."""
    for name in islice(job.kept, SHOWN):
        if name in job.tasks and (text := kept_text(job, job.tasks[name], now, managed=managed)) is not None:
            yield f"task {name}: {text}"


def _runner(kept: KeptRunner) -> str:
    kind = {"docker": "container", "kubernetes": "pod"}.get(kept.backend or "", "runner")
    named = kept.runner if kept.backend == "docker" else kept.runner and f"of Job {kept.runner}"
    return f"{kind} {named}" if named else kind
