"""The tables of `status`: all jobs, and one job with the tree of its tasks."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

from rich.console import Group
from rich.table import Table
from rich.text import Text

from air_executor.cli.terminal import PHASE_STYLES, styled
from air_executor.core.explanation import RunnerFacts, jobs_text, runner_text
from air_executor.core.job_cost import money
from air_executor.core.memory import history_text
from air_executor.core.outcome import outcome_text, stop_text
from air_executor.core.param_values import params_text
from air_executor.model.state import Done, JobState, Running, TaskState
from air_executor.model.times import format_duration, to_text

if TYPE_CHECKING:
    from rich.console import RenderableType

    from air_executor.store.presence import Presence

TASKS_SHOWN = 100
CHILDREN_SHOWN = 20
WHY_SHOWN = 100
WAITING_SHOWN = 5


def jobs_page(found: Iterable[JobState | tuple[str, str]], manager: Presence, now: float, root: str) -> RenderableType:
    """Return the table of all jobs, newest last, and the problems below it."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in ("job", "phase", "reason"):
        table.add_column(name, overflow="fold")
    for name in ("tasks", "running", "runner-s", "took"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("submitted", no_wrap=True)
    unreadable: list[tuple[str, str]] = []
    jobs: list[JobState] = []
    for entry in found:
        if isinstance(entry, JobState):
            jobs.append(entry)
        else:
            unreadable.append(entry)
    for job in sorted(jobs, key=lambda job: (job.submitted_at, job.id)):
        table.add_row(*_row(job, now))
    parts: list[RenderableType] = [table] if jobs else [styled(f"no jobs in {root}", "bright_black")]
    parts += [styled(f"✗ {name} cannot be read: {what}", "red") for name, what in unreadable]
    parts += _about_manager(manager, [job for job in jobs if not job.ended])
    return Group(*parts)


def _row(job: JobState, now: float) -> list[Text]:
    counts = Counter(task.phase for task in job.tasks.values())
    done = len(job.tasks) - counts["queued"] - counts["running"]
    return [
        styled(job.id, "bold"),
        styled(job.phase, PHASE_STYLES.get(job.phase, "")),
        styled(job.reason or ""),
        styled(f"{done}/{len(job.tasks)}"),
        styled(counts["running"] or ""),
        styled(f"{job.usage.runner_seconds:.2f}"),
        styled(took(job, now)),
        styled(f"{ago(now - job.submitted_at)} ago"),
    ]


def took(job: JobState, now: float) -> str:
    """Return how long a job took, or has run so far."""
    if job.started_at is None:
        return ""
    return format_duration(max(0.0, (job.finished_at if job.finished_at is not None else now) - job.started_at))


def ago(seconds: float) -> str:
    """Return an age in its largest unit only."""
    for size, unit in ((86_400, "d"), (3_600, "h"), (60, "m")):
        if seconds >= size:
            return f"{int(seconds // size)}{unit}"
    return f"{max(0, int(seconds))}s"


def _about_manager(manager: Presence, open_jobs: list[JobState]) -> list[RenderableType]:
    lines: list[RenderableType] = [styled(f"✗ {problem}", "red") for problem in manager.problems]
    if manager.backend_problem is not None:
        lines.append(styled(f"✗ backend {manager.backend} cannot answer: {manager.backend_problem}", "red"))
    if open_jobs and manager.running is False:
        lines.append(styled("no manager is running: start one with `air-executor manager`", "yellow"))
    waiting = [(job.id, manager.waiting[job.id]) for job in open_jobs if job.id in manager.waiting]
    lines += [styled(f"{name} is waiting: {what}", "yellow") for name, what in waiting[:WAITING_SHOWN]]
    if len(waiting) > WAITING_SHOWN:
        lines.append(styled(f"and {len(waiting) - WAITING_SHOWN} more jobs are waiting for their backend", "yellow"))
    left = next((job.id for job in open_jobs if manager.passes_over(job.id, job.submitted_by)), None)
    if left is not None:
        only = jobs_text(manager.only or ())
        text = f"the running manager handles only {only}; to run job {left}: `air-executor run {left}`"
        lines.append(styled(text, "yellow"))
    return lines


def job_page(
    job: JobState, manager: Presence, runners: Mapping[str, RunnerFacts], now: float, *, everything: bool
) -> RenderableType:
    """Return one job with its tasks; `runners` are those of its running tasks."""
    return Group(
        *_header(job, now),
        *_about_manager(manager, [] if job.ended else [job]),
        "",
        _tasks(job, runners, now, everything=everything),
    )


def _header(job: JobState, now: float) -> list[Text]:
    head = styled(f"{job.id} ", "bold")
    head.append_text(styled(job.phase, PHASE_STYLES.get(job.phase, "")))
    if job.reason and job.reason != "ok":
        head.append_text(styled(f" ({job.reason}{f': {job.message}' if job.message else ''})"))
    counts = Counter(task.phase for task in job.tasks.values())
    usage = job.usage
    about = [styled(line) for line in (job.spec.description or "").splitlines()]
    lines = [head, *about, styled("tasks: " + ", ".join(f"{count} {phase}" for phase, count in counts.items()))]
    times = f"submitted {to_text(job.submitted_at)}"
    if job.started_at is not None:
        seconds = took(job, now)
        times += f", took {seconds}" if job.ended else f", started {seconds} ago"
    lines.append(styled(times))
    efficiency = f", {usage.work_seconds / usage.runner_seconds:.1%} efficiency" if usage.runner_seconds else ""
    cost = f", cost {money(usage.cost)} {usage.currency or ''}".rstrip() if usage.cost else ""
    lines.append(
        styled(
            f"{usage.runs} run{'' if usage.runs == 1 else 's'}, {usage.runner_seconds:.2f} runner-seconds: "
            f"{usage.work_seconds:.2f} working, {usage.idle_seconds:.2f} overhead{efficiency}{cost}"
        )
    )
    options = [
        f"max_runners {job.max_runners}",
        f"on_failure {job.spec.on_failure}",
        f"pool {job.pool}",
    ]
    options += [f"priority {job.priority}"] if job.priority else []
    options += [f"after {', '.join(job.after_uids)}"] if job.after_uids else []
    if job.spec.params:
        lines.append(styled(f"params: {params_text(job.spec.params)}"))
    return [*lines, styled(", ".join(options), "bright_black")]


def _tasks(job: JobState, runners: Mapping[str, RunnerFacts], now: float, *, everything: bool) -> RenderableType:
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("task", overflow="fold")
    table.add_column("phase", no_wrap=True)
    table.add_column("runs", justify="right", no_wrap=True)
    table.add_column("took", justify="right", no_wrap=True)
    table.add_column("why", overflow="fold", ratio=1)
    children: dict[str | None, list[TaskState]] = {}
    for task in job.tasks.values():
        parent = task.queued_by if task.queued_by in job.tasks else None
        children.setdefault(parent, []).append(task)
    limit = None if everything else CHILDREN_SHOWN
    shown = 0
    # No recursion: the tree can be as deep as a job has tasks. Entries: indentation, task or a line about hidden tasks.
    stack: list[tuple[str, str, TaskState | str]] = _level(children.get(None, []), "", limit, root=True)
    while stack:
        branch, below, item = stack.pop()
        if isinstance(item, str):
            table.add_row(styled(f"{branch}{item}", "bright_black"))
            continue
        if not everything and shown >= TASKS_SHOWN:
            table.add_row(styled(f"… and {len(job.tasks) - shown} more (--all)", "bright_black"))
            break
        shown += 1
        table.add_row(styled(f"{branch}{item.id}"), *_task_cells(item, runners.get(item.id), now))
        stack += _level(children.get(item.id, []), below, limit, root=False)
    return table


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


def _task_cells(task: TaskState, runner: RunnerFacts | None, now: float) -> list[Text]:
    work = sum(attempt.work for attempt in task.attempts[-1:])
    took = format_duration(work) if task.attempts else ""
    if isinstance(task.status, Running):
        took = format_duration(max(0.0, round(now - task.status.since)))
    style = PHASE_STYLES.get(task.phase, "")
    return [styled(task.phase, style), styled(task.runs or ""), styled(took), styled(_why(task, runner, now))]


def _why(task: TaskState, runner: RunnerFacts | None, now: float) -> str:
    status = task.status
    history = history_text(task)
    if isinstance(status, Done):
        parts = [] if status.phase == "succeeded" else [outcome_text(status)]
    elif isinstance(status, Running):
        parts = [f"in {runner_text(runner)}"] if runner is not None and runner.name else []
        parts += [stop_text(status)] if status.stop else []
    elif status.waits_until is not None and status.waits_until > now:
        verb = "retries" if status.retrying else "starts"
        parts = [f"{verb} in {format_duration(round(status.waits_until - now, 1))}"]
    else:
        parts = [f"after {', '.join(task.after)}"] if task.after else []
    text = ", ".join([*parts, *([history] if history else [])])
    return text if len(text) <= WHY_SHOWN else f"{text[: WHY_SHOWN - 1]}…"
