"""Why a job or a task is not running, or how it ended, in one sentence. Pure: its surroundings are an argument.

Used by `air-executor explain` and by the page; `Client.explain_context` builds the argument for both.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from air_executor.core.budget import budget_lines, raise_hint, spending
from air_executor.core.conditions import condition_text
from air_executor.core.end_reasons import count_text, job_end, skip_cause, task_end, tree
from air_executor.core.kept_text import kept_lines, kept_text
from air_executor.core.memory import history_text
from air_executor.core.notices import notice_lines
from air_executor.core.outcome import reason_text, stop_text
from air_executor.core.pool_limits import pool_text
from air_executor.core.progress import Progress, Readiness
from air_executor.core.questions import QUESTIONS_SHOWN, asking_now, asks
from air_executor.core.start_limits import limit_reached, never_fits
from air_executor.model import state as s
from air_executor.model.reports import progress_text
from air_executor.model.state import Done, JobState, Queued, Running, TaskState
from air_executor.model.times import format_duration, to_text
from air_executor.model.worktree import WorktreeNote

START_MANAGER = "air-executor manager"
NAMES_SHOWN = 5


ENDING = "its command has ended, but processes that it has left have not: its runner ends them"


class RunnerFacts(NamedTuple):
    """Where a run is, according to the job's state."""

    backend: str
    host: str
    """Of the manager that started it."""
    name: str | None = None
    """Its name on the platform, if the platform has names."""
    boot: str | None = None
    """Boot id of that host then."""
    begun: bool = True
    """Its command has started; also where that cannot be told."""
    ended: bool = False
    """Its command has ended, and what that has left holds the slot."""


@dataclass(frozen=True, slots=True)
class ExplainContext:
    """The surroundings of a job. Limits are None if there are none or they are unknown."""

    now: float
    manager: bool | None = True
    """Whether a manager is running; None if that cannot be told from here."""
    only_jobs: Sequence[str] = ()
    """The jobs that the manager handles, if it handles only some and not this one."""
    start_command: str = START_MANAGER
    """The command that starts a manager here."""
    after: Mapping[str, str] = field(default_factory=dict)
    """Phases of the jobs that this one waits for, by id; a job that no longer exists is missing."""
    running: int = 0
    """Runners of all jobs."""
    max_runners: int | None = None
    in_use: Mapping[str, int] = field(default_factory=dict)
    """What running tasks of all jobs take, by pool."""
    pools: Mapping[str, int] = field(default_factory=dict)
    """Limits by pool."""
    reserved: Mapping[str, str] = field(default_factory=dict)
    """By pool, the task that is the next one to start in it, as `task of job JOB`."""
    lock_holder: str | None = None
    """The job that holds the lock of this one."""
    backend: str | None = None
    """The manager's."""
    host: str | None = None
    """The manager's."""
    boot: str | None = None
    """Boot id of the manager's host; a host can change its name, and two can have the same."""
    backend_problem: str | None = None
    """Why the backend does not answer."""
    waiting: str | None = None
    """What the job's next task needs from the backend first, as `task <id>: <what>`."""
    runners: Mapping[str, RunnerFacts] = field(default_factory=dict)
    """Where running tasks are, by task."""
    worktrees: Mapping[str, tuple[str, WorktreeNote]] = field(default_factory=dict)
    """The git worktrees that are there, by task: path and note."""


def explain_job(job: JobState, context: ExplainContext) -> str:
    """Return why a job is where it is, whether it is late, and what is not delivered of what it had to tell."""
    late = late_text(job, context.now)
    limits = limits_text(job, context.now)
    near = [] if job.ended or job.over_budget else budget_lines(job, context.now)[0]
    budget = [f"it has used {', '.join(near)} of its budget"] if near else []
    said = [*([limits] if limits else []), *([f"it is {late}"] if late else []), *budget, *notice_lines(job)]
    said += kept_lines(job, context.now, managed=context.manager is not False)
    return "; ".join([_explain_job(job, context), *said])


def limits_text(job: JobState, now: float) -> str | None:
    """Return until when an unfinished job may run, or that it was cancelled; None if it has no such limit."""
    if job.ended:
        return None
    if (cleanup := cleanup_text(job, now)) is not None:
        return cleanup
    if job.stop == s.CANCELLED:
        return "it was cancelled: only clean-up tasks go on"
    if job.stop is not None or job.deadline_at is None:
        return None
    left = format_duration(max(0.0, round(job.deadline_at - now, 1)))
    return f"its deadline passes at {to_text(job.deadline_at)}, in {left}"


def cleanup_text(job: JobState, now: float) -> str | None:
    """Return until when the clean-up tasks of a stopped job may run; None if that has no limit."""
    until = job.cleanup_until
    if job.ended or until is None:
        return None
    return f"clean-up tasks may run until {to_text(until)}, for {format_duration(max(0.0, round(until - now, 1)))}"


def late_text(job: JobState, now: float) -> str | None:
    """Return what is to say of an unfinished job that ought to have ended; None: it has time."""
    if job.ended or job.expect_by is None or job.expect_by > now:
        return None
    return f"late: it was expected by {to_text(job.expect_by)}"


def _explain_job(job: JobState, context: ExplainContext) -> str:
    if job.ended:
        return f"job {job.id} {job_end(job)}"
    progress = Progress(job)
    running = progress.counts.get(s.RUNNING, 0)
    queued = progress.counts.get(s.QUEUED, 0)
    reason = pending_reason(job, context)
    if running:
        text = f"job {job.id} is running {running} of {len(job.tasks)} tasks, {queued} queued"
        text += "".join(f"; task {one.id} {asks(job, one, context.now)}" for one in asking_now(job)[:QUESTIONS_SHOWN])
        if starting := sum(not runner.begun for runner in context.runners.values()):
            text += f", {starting} of the running not started yet"
        needed = ((task.id, needed_from_backend(task, context)) for task in job.tasks.values())
        text += next((f"; task {name}: {what}" for name, what in needed if what), "")
        lost = next((why for name in context.runners if (why := unreachable(job, name, context))), None)
        return "; ".join([text, *([f"it {reason}"] if reason else []), *([lost] if lost else [])])
    if reason:
        return f"job {job.id} {reason}"
    first = next(iter(progress.queued()), None)
    if first is None:
        return f"job {job.id} has no tasks left and is about to end"
    candidates = [task for task in progress.queued() if progress.readiness(task) is Readiness.READY]
    waits = [task for task in candidates if needed_from_backend(task, context)]
    nodes = progress.nodes
    candidates.sort(key=lambda task: (waits_until(task) or 0.0, nodes[task.id].place))
    soonest = next(iter(waits or candidates), first)
    return f"job {job.id} has no running task: {_queued(job, soonest, progress, context)}"


def explain_task(job: JobState, task: TaskState, context: ExplainContext) -> str:
    """Return why a task is where it is."""
    cleanup = cleanup_text(job, context.now) if task.when != "success" else None
    text = _explain_task(job, task, context)
    if (where := worktree_text(task, context)) is not None:
        text = f"{text}; {where}"
    return f"{text}; {cleanup}" if cleanup and not isinstance(task.status, Done) else text


def worktree_text(task: TaskState, context: ExplainContext) -> str | None:
    """Return where the worktree of a task is, and why it was kept; None: it has none."""
    found = context.worktrees.get(task.id)
    if found is None:
        return None
    path, note = found
    where = f"worktree {path} on branch {note.branch}"
    return where if note.kept is None else f"{where} was kept ({note.kept})"


def _explain_task(job: JobState, task: TaskState, context: ExplainContext) -> str:
    status = task.status
    if isinstance(status, Done):
        stays = kept_text(job, task, context.now, managed=context.manager is not False)
        return f"task {task.id} {task_end(job, task, status)}" + (f"; {stays}" if stays else "")
    if isinstance(status, Running):
        return f"task {task.id} {_running(job, task, status, context)}"
    reason = pending_reason(job, context)
    if reason and task.approve is not None and task.ready_at is not None and task.ready_at <= context.now:
        return f"task {task.id} {asks(job, task, context.now)}; its job {reason}"
    if reason:
        return f"task {task.id} is queued: its job {reason}"
    return _queued(job, task, Progress(job), context)


# Running tasks


def _running(job: JobState, task: TaskState, run: Running, context: ExplainContext) -> str:
    now = context.now
    since = format_duration(max(0.0, round(now - run.since, 1)))
    runner = context.runners.get(task.id)
    where = f" in {runner_text(runner)}" if runner is not None and runner.name else ""
    earlier = f"; {history}" if (history := history_text(task)) else ""
    begun = runner is None or runner.begun
    verb = "running" if begun else "starting"
    text = f"has been {verb} for {since}{where} (run {run.seq}, attempt {task.runs}{earlier})"
    if run.progress is not None:
        text += f", progress {progress_text(run.progress)}"
    problem = unreachable(job, task.id, context)
    if run.stop is not None:
        text += f" and {stop_text(run)}"
    elif task.timeout is not None and problem is None and begun:
        left = run.since + task.timeout - now
        text += f"; it times out in {format_duration(round(left, 1))}" if left > 0 else "; its timeout has passed"
    if run.stop is None and task.stall_timeout is not None:
        text += f"; it is stopped after {format_duration(task.stall_timeout)} without output"
    if (words := needed_from_backend(task, context)) is not None:
        text += f"; {words}"
    if problem is None and context.backend_problem is not None:
        problem = f"whether it is still running is unknown: {context.backend_problem}"
    return f"{text}; {problem}" if problem else text


def runner_text(runner: RunnerFacts) -> str:
    """Return a runner as people find it on its platform."""
    return f"container {runner.name}" if runner.backend == "docker" else f"{runner.backend} {runner.name}"


def unreachable(job: JobState, task: str, context: ExplainContext) -> str | None:
    """Return the remedy for a runner that the manager can neither see nor stop; None if it can."""
    runner = context.runners.get(task)
    if runner is None or context.backend is None:
        return None
    if runner.backend != context.backend:
        whose = f"backend {runner.backend} on host {runner.host}, but the running manager uses {context.backend}"
    elif runner.backend == "local" and not _on_our_machine(runner, context):
        whose = f"backend local on host {runner.host}, but the running manager is on {context.host}"
    else:
        return None
    remedy = f"if it is certain that the runner no longer exists: `air-executor confirm-gone {job.id}`"
    return f"its runner was started by {whose}; the run is committed once its outcome is there; {remedy}"


def _on_our_machine(runner: RunnerFacts, context: ExplainContext) -> bool:
    """Tell whether the manager runs where a local runner was started: in the same boot, or under the same name."""
    return context.host in (None, runner.host) or (runner.boot is not None and runner.boot == context.boot)


# Waiting


def needed_from_backend(task: TaskState, context: ExplainContext) -> str | None:
    """Return what a task waits for on the backend: to be started, or for its slot to be free after its end."""
    name, _, what = (context.waiting or "").partition(": ")
    if what and name == f"task {task.id}":
        return what
    runner = context.runners.get(task.id)
    return ENDING if runner is not None and runner.ended else None


def pending_reason(job: JobState, context: ExplainContext) -> str | None:  # noqa: PLR0911 - one for each
    """Return why none of a job's tasks can start."""
    if job.phase == s.PENDING:
        return f"is pending: run {job.submitted_by}, which submitted it, is not committed yet"
    if job.phase == s.PAUSED and job.over_budget is not None:
        used = next((one.text for one in spending(job, context.now) if one.name == job.over_budget), job.over_budget)
        return f"is paused: it has used {used} of its budget; resume it with {raise_hint(job)}"
    if job.phase == s.PAUSED:
        verb = "run" if context.manager is False and context.start_command == START_MANAGER else "resume"
        return f"is paused; resume it with `air-executor {verb} {job.id}`"
    if (waited_for := _unfinished_jobs(job, context)) is not None:
        return f"is waiting for {waited_for}"
    if job.spec.lock is not None and job.locked_since is None and context.lock_holder not in (None, job.id):
        return f"is waiting for lock {job.spec.lock}, which job {context.lock_holder} holds until it ends"
    if context.manager is False:
        return f"is not managed: no manager is running; start one with `{context.start_command}`"
    if context.backend_problem is not None:
        return f"is waiting for its backend, which cannot answer: {context.backend_problem}"
    if context.only_jobs:
        only = f"the running manager handles only {jobs_text(context.only_jobs)}"
        return f"is not managed: {only}; to run this one: `air-executor run {job.id}`"
    return None


def _unfinished_jobs(job: JobState, context: ExplainContext) -> str | None:
    """Return the jobs that a job waits for, each with its phase; None if all have succeeded."""
    upstream = job.after_uids if job.started_at is None else {}
    unfinished = [name for name in upstream if context.after.get(name) != s.SUCCEEDED]
    unfinished += [name for name in job.earlier_runs if context.after.get(name, s.CANCELLED) not in s.ENDED_PHASES]
    if len(unfinished) == 1 and unfinished[0] not in context.after:
        return f"job {unfinished[0]}, which no longer exists"
    named = [f"{name} ({context.after.get(name, 'no longer exists')})" for name in unfinished]
    return jobs_text(named) if named else None


def jobs_text(names: Sequence[str]) -> str:
    """Return some jobs as people list them."""
    return f"job{'' if len(names) == 1 else 's'} {_listed(names)}"


def _queued(job: JobState, task: TaskState, progress: Progress, context: ExplainContext) -> str:  # noqa: PLR0911
    readiness = progress.readiness(task)
    name = f"task {task.id}"
    if readiness is Readiness.WAITS:
        then = "" if task.only_if is None else f"; it runs only if {condition_text(task.only_if)}"
        return f"{name} is waiting for {_unfinished_tasks(job, task, progress)}{then}"
    if readiness is not Readiness.READY:
        return f"{name} will be skipped: {skip_cause(job, task) or readiness.value}"
    until = waits_until(task)
    if until is not None and until > context.now:
        return f"{name} {_delayed(task, until, context.now)}"
    if task.joins is not None:
        return f"{name} is waiting for the end of job {task.id} ({context.after.get(task.id, 'no longer exists')})"
    if task.approve is not None:
        return f"{name} {asks(job, task, context.now)}"
    if (what := needed_from_backend(task, context)) is not None:
        return f"{name} is waiting for {what}"
    if (impossible := never_fits(job, task, context)) is not None:
        return f"{name} can never start: {impossible}"
    return f"{name} is ready{_ready_reason(job, task, progress, context)}"


def _delayed(task: TaskState, until: float, now: float) -> str:
    """Return why a task starts later, and when."""
    when = f"at {to_text(until)}, in {format_duration(round(until - now, 1))}"
    if isinstance(task.status, Queued) and task.status.retrying:
        last = task.attempts[-1] if task.attempts else None
        how = history_text(task) if last and last.reason == s.OOM else None
        message = f": {last.message}" if last and last.message else ""
        why = f" (run {task.runs} ended: {how or reason_text(last.reason, last.exit_code) + message})" if last else ""
        return f"will be retried {when}{why}"
    if task.again:
        times = "once" if task.again == 1 else f"{task.again} times"
        times += "" if task.again_max is None else f" of at most {task.again_max}"
        if task.again_until is not None and task.again_since is not None:
            times += f", and may until {to_text(task.again_since + task.again_until)}"
        return f"will run again {when}; it has asked for that {times}"
    return f"is delayed; it starts {when}"


def _ready_reason(job: JobState, task: TaskState, progress: Progress, context: ExplainContext) -> str:
    """Return why a ready task has not started: a limit, or its turn."""
    place = progress.nodes[task.id].place
    before = [other for other in progress.queued() if progress.nodes[other.id].place < place]
    reached = limit_reached(job, progress, context, task)
    if job.max_runners == 1 and (reached is None or reached.of != "its job"):
        for other in before:
            if other.retrying:
                return f" and waits behind task {other.id}, which keeps its place in the queue until its retry"
    if reached is not None:
        named = f" (running {_listed(sorted(progress.slots.values()))})" if reached.of == "its job" else ""
        most = f"{reached.limit} in use" if reached.weighted else count_text(reached.limit, "runner")
        needs = "" if reached.needs == 1 else f", and it needs {reached.needs}"
        return f"; limit reached: {reached.of} has {reached.used} of at most {most}{named}{needs}"
    for pool in job.pools_of(task):
        ahead_in_pool = context.reserved.get(pool)
        if ahead_in_pool not in (None, f"{task.id} of job {job.id}"):
            return f"; task {ahead_in_pool} is ahead of it in {pool_text(pool)}"
    ahead = [t for t in before if progress.readiness(t) is Readiness.READY and waits_until(t) is None]
    if ahead:
        return f"; {count_text(len(ahead), 'task')} of its job {'is' if len(ahead) == 1 else 'are'} ahead of it"
    if context.manager is None:
        return "; its manager runs on another host or in another container, and its state is unknown here"
    return " and about to start"


def _unfinished_tasks(job: JobState, task: TaskState, progress: Progress) -> str:
    """Return the tasks that a task waits for."""
    needs = progress.needs(task)
    if needs is None:
        nodes = progress.nodes.values()
        open_tasks = [n.task.id for n in nodes if not isinstance(n.task.status, Done) and not n.cleanup]
        return f"all other tasks to end ({_listed(open_tasks)})"
    unfinished, parts = [need.task for need in needs if not need.complete], []
    for need in unfinished[:NAMES_SHOWN]:
        inside = tree(job, [need.id])
        open_tasks = [t.id for t in job.tasks.values() if t.id in inside and not isinstance(t.status, Done)]
        own = open_tasks == [need.id]
        parts.append(
            f"{need.id} ({need.phase})"
            if own
            else f"{need.id} and the tasks it queued ({len(open_tasks)} unfinished: {_listed(open_tasks)})"
        )
    return _listed(parts, len(unfinished))


def waits_until(task: TaskState) -> float | None:
    """Return until when a queued task waits; None: it does not."""
    return task.status.waits_until if isinstance(task.status, Queued) else None


def _listed(names: Sequence[str], total: int | None = None) -> str:
    total = len(names) if total is None else total
    text = ", ".join(names[:NAMES_SHOWN])
    return f"{text} and {total - NAMES_SHOWN} more" if total > NAMES_SHOWN else text
