"""Why a job or a task is not running, or how it ended, in one sentence. Pure: its surroundings are an argument.

Used by `air-executor explain` and by the page; `Client.explain_context` builds the argument for both.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from air_executor.core.end_reasons import count_text, job_end, skip_cause, task_end, tree
from air_executor.core.memory import history_text
from air_executor.core.outcome import reason_text, stop_text
from air_executor.core.progress import Progress, Readiness
from air_executor.model import state as s
from air_executor.model.state import Done, JobState, Queued, Running, TaskState
from air_executor.model.times import format_duration, to_text

NAMES_SHOWN = 5


class RunnerFacts(NamedTuple):
    """Where a run is, according to its `run.json`."""

    backend: str
    host: str
    """Of the manager that started it."""
    name: str | None = None
    """Its name on the platform, if the platform has names."""
    boot: str | None = None
    """Boot id of that host then."""


class JobFacts(NamedTuple):
    """What an explanation needs to know of each job in the state directory."""

    id: str
    uid: str | None
    """None: the job cannot be read."""
    phase: str
    pool: str
    running: int
    """Number of running tasks."""

    @classmethod
    def unreadable(cls, name: str) -> JobFacts:
        """Return what is known of a job that cannot be read."""
        return cls(name, None, "unreadable", "", 0)


class AllJobs:
    """The facts about all jobs, looked up by many explanations."""

    def __init__(self, jobs: Iterable[JobFacts]) -> None:
        self.running = 0
        self.running_by_pool: Counter[str] = Counter()
        self._by_uid: dict[str, str] = {}
        self._unreadable: dict[str, str] = {}
        for job in jobs:
            self.running += job.running
            self.running_by_pool[job.pool] += job.running
            if job.uid is None:
                self._unreadable[job.id] = job.phase
            else:
                self._by_uid[job.uid] = job.phase

    def phase(self, job: str, uid: str) -> str | None:
        """Return the phase of a job; None: it is not among them."""
        return self._by_uid.get(uid) or self._unreadable.get(job)


@dataclass(frozen=True, slots=True)
class ExplainContext:
    """The surroundings of a job. Limits are None if there are none or they are unknown."""

    now: float
    manager: bool | None = True
    """Whether a manager is running; None if that cannot be told from here."""
    only_jobs: Sequence[str] = ()
    """The jobs that the manager handles, if it handles only some and not this one."""
    start_command: str = "air-executor manager"
    """The command that starts a manager here."""
    after: Mapping[str, str] = field(default_factory=dict)
    """Phases of the jobs that this one waits for, by id; a job that no longer exists is missing."""
    running: int = 0
    """Runners of all jobs."""
    max_runners: int | None = None
    running_in_pool: int = 0
    pool_limit: int | None = None
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


def explain_job(job: JobState, context: ExplainContext) -> str:
    """Return why a job is where it is."""
    if job.ended:
        return f"job {job.id} {job_end(job)}"
    progress = Progress(job)
    running = progress.counts.get(s.RUNNING, 0)
    queued = progress.counts.get(s.QUEUED, 0)
    reason = pending_reason(job, context)
    if running:
        text = f"job {job.id} is running {running} of {len(job.tasks)} tasks, {queued} queued"
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
    status = task.status
    if isinstance(status, Done):
        return f"task {task.id} {task_end(job, task, status)}"
    if isinstance(status, Running):
        return f"task {task.id} {_running(job, task, status, context)}"
    reason = pending_reason(job, context)
    if reason:
        return f"task {task.id} is queued: its job {reason}"
    return _queued(job, task, Progress(job), context)


# Running tasks


def _running(job: JobState, task: TaskState, run: Running, context: ExplainContext) -> str:
    now = context.now
    since = format_duration(max(0.0, round(now - run.since, 1)))
    runner = context.runners.get(task.id)
    where = f" in {runner_text(runner)}" if runner is not None and runner.name else ""
    history = history_text(task)
    earlier = f"; {history}" if history else ""
    text = f"has been running for {since}{where} (run {run.seq}, attempt {task.runs}{earlier})"
    problem = unreachable(job, task.id, context)
    if run.stop is not None:
        text += f" and {stop_text(run)}"
    elif task.timeout is not None and problem is None:
        left = run.since + task.timeout - now
        text += f"; it times out in {format_duration(round(left, 1))}" if left > 0 else "; its timeout has passed"
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
    return what if what and name == f"task {task.id}" else None


def pending_reason(job: JobState, context: ExplainContext) -> str | None:  # noqa: PLR0911 - one for each
    """Return why none of a job's tasks can start."""
    if job.phase == s.PENDING:
        return f"is pending: run {job.submitted_by}, which submitted it, is not committed yet"
    if job.phase == s.PAUSED:
        return f"is paused; resume it with `air-executor resume {job.id}`"
    if job.started_at is None and (waited_for := _unfinished_jobs(job, context)) is not None:
        return f"is waiting for {waited_for}"
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
    unfinished = [name for name in job.after_uids if context.after.get(name) != s.SUCCEEDED]
    unfinished += [name for name in job.earlier_runs if context.after.get(name, s.CANCELLED) not in s.ENDED_PHASES]
    if len(unfinished) == 1 and unfinished[0] not in context.after:
        return f"job {unfinished[0]}, which no longer exists"
    named = [f"{name} ({context.after.get(name, 'no longer exists')})" for name in unfinished]
    return jobs_text(named) if named else None


def jobs_text(names: Sequence[str]) -> str:
    """Return some jobs as people list them."""
    return f"job{'' if len(names) == 1 else 's'} {_listed(names)}"


def _queued(job: JobState, task: TaskState, progress: Progress, context: ExplainContext) -> str:
    readiness = progress.readiness(task)
    name = f"task {task.id}"
    if readiness is Readiness.WAITS:
        return f"{name} is waiting for {_unfinished_tasks(job, task, progress)}"
    if readiness is not Readiness.READY:
        return f"{name} will be skipped: {skip_cause(job, task) or readiness.value}"
    until = waits_until(task)
    if until is not None and until > context.now:
        when = f"at {to_text(until)}, in {format_duration(round(until - context.now, 1))}"
        if isinstance(task.status, Queued) and task.status.retrying:
            last = task.attempts[-1] if task.attempts else None
            how = history_text(task) if last and last.reason == s.OOM else None
            message = f": {last.message}" if last and last.message else ""
            why = (
                f" (run {task.runs} ended: {how or reason_text(last.reason, last.exit_code) + message})" if last else ""
            )
            return f"{name} will be retried {when}{why}"
        return f"{name} is delayed; it starts {when}"
    if (what := needed_from_backend(task, context)) is not None:
        return f"{name} is waiting for {what}"
    return f"{name} is ready{_ready_reason(job, task, progress, context)}"


def _ready_reason(job: JobState, task: TaskState, progress: Progress, context: ExplainContext) -> str:
    """Return why a ready task has not started: a limit, or its turn."""
    place = progress.nodes[task.id].place
    before = [other for other in progress.queued() if progress.nodes[other.id].place < place]
    reached = limit_reached(job, progress, context)
    if job.max_runners == 1 and (reached is None or reached.of != "its job"):
        for other in before:
            if other.retrying:
                return f" and waits behind task {other.id}, which keeps its place in the queue until its retry"
    if reached is not None:
        named = f" (running {_listed(sorted(progress.slots.values()))})" if reached.of == "its job" else ""
        most = count_text(reached.limit, "runner")
        return f"; limit reached: {reached.of} has {reached.used} of at most {most}{named}"
    ahead = [t for t in before if progress.readiness(t) is Readiness.READY and waits_until(t) is None]
    if ahead:
        return f"; {count_text(len(ahead), 'task')} of its job {'is' if len(ahead) == 1 else 'are'} ahead of it"
    if context.manager is None:
        return "; its manager runs on another host or in another container, and its state is unknown here"
    return " and about to start"


class Limit(NamedTuple):
    """A limit that is reached."""

    of: str
    used: int
    limit: int


def limit_reached(job: JobState, progress: Progress, context: ExplainContext) -> Limit | None:
    """Return the first limit that keeps a ready task of a job from starting; None if none does."""
    if len(progress.slots) >= job.max_runners:
        return Limit("its job", len(progress.slots), job.max_runners)
    if context.pool_limit is not None and context.running_in_pool >= context.pool_limit:
        return Limit(f"pool {job.pool}", context.running_in_pool, context.pool_limit)
    if context.max_runners is not None and context.running >= context.max_runners:
        return Limit("the manager", context.running, context.max_runners)
    return None


def _unfinished_tasks(job: JobState, task: TaskState, progress: Progress) -> str:
    """Return the tasks that a task waits for."""
    needs = progress.needs(task)
    if needs is None:
        nodes = progress.nodes.values()
        open_tasks = [n.task.id for n in nodes if not isinstance(n.task.status, Done) and not n.cleanup]
        return f"all other tasks to end ({_listed(open_tasks)})"
    unfinished = [need.task for need in needs if not need.complete]
    parts = []
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
