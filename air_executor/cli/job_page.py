"""The page of `status JOB`: one job with the tree of its tasks, and why those that do not run don't."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING

from air_executor.cli.jobs_page import costs_text
from air_executor.cli.manager_notes import manager_notes
from air_executor.cli.table import Cell, Line, fitted, line, table
from air_executor.cli.terminal import PHASE_STYLES
from air_executor.core.budget import budget_lines, reported_so_far
from air_executor.core.command_text import LONGEST, command_text
from air_executor.core.end_reasons import count_text
from air_executor.core.notices import notice_lines
from air_executor.core.outcome import phase_text
from air_executor.core.short_reason import ShortReasons
from air_executor.core.task_groups import TaskGroup, children, counts_text
from air_executor.core.value_text import params_text
from air_executor.model.plain_text import clean
from air_executor.model.reports import amounts_text
from air_executor.model.state import FAILED, JobState, Running, TaskState
from air_executor.model.times import format_duration, to_text

if TYPE_CHECKING:
    from air_executor.core.explanation import ExplainContext
    from air_executor.store.presence import Presence

TASKS_SHOWN = 100
CHILDREN_SHOWN = 20
LONGEST_TEXT = 200
"""Characters of the reason, and of the description, of a task."""
ABOUT_SHOWN = 10
"""Lines of a job's description."""
NOTICES_SHOWN = 5
COMMANDS_SHOWN = 20
"""Commands of failed tasks, each below its task."""


def job_page(
    job: JobState,
    manager: Presence,
    context: ExplainContext,
    open_costs: Mapping[str, float],
    *,
    requests: list[str],
    upcoming: Sequence[str] = (),
    width: int | None,
    phases: Collection[str] = (),
    everything: bool = False,
) -> list[Line]:
    """Return the lines. `upcoming`: when its definition runs next; `phases`: only the tasks in one of them.

    `everything`: no level of the tree is cut.
    """
    reasons = ShortReasons(job, context)
    return [
        *_header(job, reasons, open_costs, context.now, _about(job, width, everything=everything)),
        *manager_notes(manager, [] if job.ended else [job], requests),
        *map(line, upcoming),
        line(""),
        *_tasks(job, reasons, context.now, width, phases, everything=everything),
    ]


def _about(job: JobState, width: int | None, *, everything: bool) -> list[Line]:
    """Return the job's description."""
    lines = [line(text) for text in (job.spec.description or "").splitlines()]
    lines = lines if width is None else fitted(lines, width)
    if everything or len(lines) <= ABOUT_SHOWN:
        return lines
    more = count_text(len(lines) - ABOUT_SHOWN, "more line")
    return [*lines[:ABOUT_SHOWN], line(f"… and {more} of the description (--all)", "bright_black")]


def _header(
    job: JobState, reasons: ShortReasons, open_costs: Mapping[str, float], now: float, about: list[Line]
) -> list[Line]:
    head = [Cell(f"{job.id} ", "bold"), Cell(job.phase, PHASE_STYLES.get(job.phase, ""))]
    if job.ended and job.reason and job.reason != "ok":
        head.append(Cell(clean(f" ({job.reason}{f': {job.message}' if job.message else ''})")))
    elif not job.ended and (why := reasons.of_job()):
        head.append(Cell(clean(f": {why}"), "yellow"))
    counts: Counter[str] = Counter(task.phase for task in job.tasks.values())
    usage = job.usage
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
    if reported := reported_so_far(job):
        lines.append(line(f"reported: {amounts_text(reported)}"))
    near, others = budget_lines(job, now)
    lines += [line(f"! budget: {text}", "yellow") for text in near] + [line(f"budget: {text}") for text in others]
    options = [f"max_runners {job.max_runners}", f"on_failure {job.spec.on_failure}", f"pool {job.pool}"]
    options += [f"priority {job.priority}"] if job.priority else []
    options += [f"lock {job.spec.lock}{' (held)' if job.locked_since else ''}"] if job.spec.lock else []
    options += [f"joined by {job.joined_by}"] if job.joined_by else []
    options += [f"after {', '.join(job.after_uids)}"] if job.after_uids else []
    lines += [line(f"! {text}", "yellow") for text in notice_lines(job)[:NOTICES_SHOWN]]
    if job.expect_by is not None and not job.ended:
        options.append(f"expected by {to_text(job.expect_by)}")
    if job.spec.params:
        lines.append(line(f"params: {params_text(job.spec.params)}"))
    return [*lines, line(", ".join(options), "bright_black")]


def _tasks(
    job: JobState, reasons: ShortReasons, now: float, width: int | None, phases: Collection[str], *, everything: bool
) -> list[Line]:
    rows: list[list[Cell]] = []
    wanted: list[TaskState | TaskGroup] = [task for task in job.tasks.values() if task.phase in phases]
    below_of: dict[str | None, list[TaskState | TaskGroup]]
    below_of = {None: wanted} if phases else children(job, fold=not everything)
    total = sum(map(len, below_of.values()))
    limit = None if everything else CHILDREN_SHOWN
    shown = commands = 0
    cut: list[Line] = []
    told = ""
    # No recursion: the tree can be as deep as a job has tasks. Entries: indentation, task or a line about hidden tasks.
    stack = _level(below_of.get(None, []), "", limit, root=True)
    while stack:
        branch, below, item = stack.pop()
        if isinstance(item, str):
            rows.append([Cell(f"{branch}{item}", "bright_black")])
            continue
        if not everything and shown >= TASKS_SHOWN:
            cut.append(line(f"… and {total - shown} more (--all)", "bright_black"))
            break
        shown += 1
        if isinstance(item, TaskGroup):
            style = PHASE_STYLES.get(item.phase, "")
            rows.append([Cell(f"{branch}{item.name}"), Cell(item.phase, style), Cell(str(item.runs or "")), Cell("")])
            rows[-1].append(Cell(_shortened(clean(item.text))))
            continue
        rows.append([Cell(f"{branch}{item.id}"), *_task_cells(item, reasons, now)])
        command = command_text(item, (width or LONGEST) - len(below) - len("  $ ")) if item.phase == FAILED else None
        if command is not None and (everything or commands < COMMANDS_SHOWN):
            rows.append([Cell(f"{below}  $ {command}", "bright_black")])
            commands += 1
        about = (item.description or "").strip()
        if about != told:  # those of a fan-out are the same
            texts = about.splitlines()
            texts = texts if everything else [_shortened(text, more=len(texts) > 1) for text in texts[:1]]
            rows += [[Cell(f"{below}  {text}", "bright_black")] for text in texts]
        told = about
        stack += _level(below_of.get(item.id, []), below, limit, root=False)
    if not rows:
        return [line("no such tasks" if phases else "no tasks", "bright_black")]
    return [*table(("task", "phase", "runs", "took", "why"), rows, width, right=(2, 3), spare=(2, 3)), *cut]


def _level(
    tasks: Sequence[TaskState | TaskGroup], indent: str, limit: int | None, *, root: bool
) -> list[tuple[str, str, TaskState | TaskGroup | str]]:
    """Return the rows of one level of the tree, last one first; of many, keep those that need attention."""
    kept: list[TaskState | TaskGroup | str] = list(tasks)
    if limit is not None and len(tasks) > limit and not root:
        rank = {"failed": 0, "running": 1, "cancelled": 2, "queued": 3}
        chosen = {id(t) for t in sorted(tasks, key=lambda t: rank.get(t.phase, 4))[:limit]}
        kept = [*(t for t in tasks if id(t) in chosen)]
        rest = Counter(t.phase for t in tasks if id(t) not in chosen)
        kept.append(
            f"… and {len(tasks) - limit} more: {', '.join(f'{n} {phase}' for phase, n in rest.items())} (--all)"
        )
    rows: list[tuple[str, str, TaskState | TaskGroup | str]] = []
    for number, item in enumerate(kept, 1):
        last = number == len(kept)
        branch, below = ("", "") if root else (f"{indent}{'└ ' if last else '├ '}", f"{indent}{'  ' if last else '│ '}")
        rows.append((branch, below, item))
    return rows[::-1]


def _shortened(text: str, *, more: bool = False) -> str:
    return f"{text[: LONGEST_TEXT - 1]}…" if len(text) > LONGEST_TEXT else f"{text} …" if more else text


def _task_cells(task: TaskState, reasons: ShortReasons, now: float) -> list[Cell]:
    work = sum(attempt.work for attempt in task.attempts[-1:])
    took = format_duration(work) if task.attempts else ""
    if isinstance(task.status, Running):
        took = format_duration(max(0.0, round(now - task.status.since)))
    why = _shortened(clean(reasons.of_task(task)))
    phase = phase_text(task)
    return [Cell(phase, PHASE_STYLES.get(phase, "yellow")), Cell(str(task.runs or "")), Cell(took), Cell(why)]
