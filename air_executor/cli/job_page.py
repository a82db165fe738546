"""The page of `status JOB`: one job with the tree of its tasks, and why those that do not run don't."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING

from air_executor.cli.jobs_page import costs_text, counts_text
from air_executor.cli.manager_notes import manager_notes
from air_executor.cli.table import Cell, Line, line, table
from air_executor.cli.terminal import PHASE_STYLES
from air_executor.core.param_values import params_text
from air_executor.core.short_reason import ShortReasons
from air_executor.model.plain_text import clean
from air_executor.model.state import JobState, Running, TaskState
from air_executor.model.times import format_duration, to_text

if TYPE_CHECKING:
    from air_executor.core.explanation import ExplainContext
    from air_executor.store.presence import Presence

TASKS_SHOWN = 100
CHILDREN_SHOWN = 20
WHY_SHOWN = 200


def job_page(
    job: JobState,
    manager: Presence,
    context: ExplainContext,
    open_costs: Mapping[str, float],
    *,
    requests: list[str],
    width: int | None,
    phases: Collection[str] = (),
    everything: bool = False,
) -> list[Line]:
    """Return the lines. `phases`: only the tasks in one of them; `everything`: no level of the tree is cut."""
    reasons = ShortReasons(job, context)
    return [
        *_header(job, reasons, open_costs, context.now),
        *manager_notes(manager, [] if job.ended else [job], requests),
        line(""),
        *_tasks(job, reasons, context.now, width, phases, everything=everything),
    ]


def _header(job: JobState, reasons: ShortReasons, open_costs: Mapping[str, float], now: float) -> list[Line]:
    head = [Cell(f"{job.id} ", "bold"), Cell(job.phase, PHASE_STYLES.get(job.phase, ""))]
    if job.ended and job.reason and job.reason != "ok":
        head.append(Cell(clean(f" ({job.reason}{f': {job.message}' if job.message else ''})")))
    elif not job.ended and (why := reasons.of_job()):
        head.append(Cell(clean(f": {why}"), "yellow"))
    counts: Counter[str] = Counter(task.phase for task in job.tasks.values())
    usage = job.usage
    about = [line(text) for text in (job.spec.description or "").splitlines()]
    lines = [head, *about, line(f"tasks: {counts_text(counts)}")]
    times = f"submitted {to_text(job.submitted_at)}"
    if job.started_at is not None:
        took = format_duration(max(0.0, round((job.finished_at or now) - job.started_at, 2)))
        times += f", took {took}" if job.ended else f", started {took} ago"
    lines.append(line(times))
    efficiency = f", {usage.work_seconds / usage.runner_seconds:.1%} efficiency" if usage.runner_seconds else ""
    spent = {usage.currency or "": usage.cost, **usage.other_costs}
    cost = f", cost {costs}" if (costs := costs_text(spent, open_costs)) else ""
    running = f" (open runs: {running_costs})" if (running_costs := costs_text(open_costs)) else ""
    lines.append(
        line(
            f"{usage.runs} run{'' if usage.runs == 1 else 's'}, {usage.runner_seconds:.2f} runner-seconds: "
            f"{usage.work_seconds:.2f} working, {usage.idle_seconds:.2f} overhead{efficiency}{cost}{running}"
        )
    )
    options = [f"max_runners {job.max_runners}", f"on_failure {job.spec.on_failure}", f"pool {job.pool}"]
    options += [f"priority {job.priority}"] if job.priority else []
    options += [f"after {', '.join(job.after_uids)}"] if job.after_uids else []
    if job.spec.params:
        lines.append(line(f"params: {params_text(job.spec.params)}"))
    return [*lines, line(", ".join(options), "bright_black")]


def _tasks(
    job: JobState, reasons: ShortReasons, now: float, width: int | None, phases: Collection[str], *, everything: bool
) -> list[Line]:
    rows: list[list[Cell]] = []
    wanted = [task for task in job.tasks.values() if not phases or task.phase in phases]
    children: dict[str | None, list[TaskState]] = {}
    for task in wanted:
        parent = task.queued_by if task.queued_by in job.tasks and not phases else None
        children.setdefault(parent, []).append(task)
    limit = None if everything else CHILDREN_SHOWN
    shown = 0
    cut: list[Line] = []
    # No recursion: the tree can be as deep as a job has tasks. Entries: indentation, task or a line about hidden tasks.
    stack: list[tuple[str, str, TaskState | str]] = _level(children.get(None, []), "", limit, root=True)
    while stack:
        branch, below, item = stack.pop()
        if isinstance(item, str):
            rows.append([Cell(f"{branch}{item}", "bright_black"), *[Cell("")] * 4])
            continue
        if not everything and shown >= TASKS_SHOWN:
            cut.append(line(f"… and {len(wanted) - shown} more (--all)", "bright_black"))
            break
        shown += 1
        rows.append([Cell(f"{branch}{item.id}"), *_task_cells(item, reasons, now)])
        stack += _level(children.get(item.id, []), below, limit, root=False)
    if not rows:
        return [line("no such tasks" if phases else "no tasks", "bright_black")]
    return [*table(("task", "phase", "runs", "took", "why"), rows, width, right=(2, 3), spare=(2, 3)), *cut]


def _level(
    tasks: list[TaskState], indent: str, limit: int | None, *, root: bool
) -> list[tuple[str, str, TaskState | str]]:
    """Return the rows of one level of the tree, last one first; of many, keep those that need attention."""
    kept: list[TaskState | str] = list(tasks)
    if limit is not None and len(tasks) > limit and not root:
        rank = {"failed": 0, "running": 1, "cancelled": 2, "queued": 3}
        chosen = {id(t) for t in sorted(tasks, key=lambda t: rank.get(t.phase, 4))[:limit]}
        kept = [t for t in tasks if id(t) in chosen]
        rest = Counter(t.phase for t in tasks if id(t) not in chosen)
        kept.append(
            f"… and {len(tasks) - limit} more: {', '.join(f'{n} {phase}' for phase, n in rest.items())} (--all)"
        )
    rows: list[tuple[str, str, TaskState | str]] = []
    for number, item in enumerate(kept, 1):
        last = number == len(kept)
        branch, below = ("", "") if root else (f"{indent}{'└ ' if last else '├ '}", f"{indent}{'  ' if last else '│ '}")
        rows.append((branch, below, item))
    return rows[::-1]


def _task_cells(task: TaskState, reasons: ShortReasons, now: float) -> list[Cell]:
    work = sum(attempt.work for attempt in task.attempts[-1:])
    took = format_duration(work) if task.attempts else ""
    if isinstance(task.status, Running):
        took = format_duration(max(0.0, round(now - task.status.since)))
    why = clean(reasons.of_task(task))
    why = why if len(why) <= WHY_SHOWN else f"{why[: WHY_SHOWN - 1]}…"
    return [Cell(task.phase, PHASE_STYLES.get(task.phase, "")), Cell(str(task.runs or "")), Cell(took), Cell(why)]
