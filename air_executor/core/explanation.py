"""Why something is not running, or how it ended, in one sentence. Pure: what is around a job is handed in.

Called by `air-executor explain`; later by the page.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from air_executor.core.memory import history_text
from air_executor.core.outcome import outcome_text, reason_text
from air_executor.core.progress import Progress, Readiness
from air_executor.model import state as s
from air_executor.model.state import Done, JobState, Queued, Running, TaskState
from air_executor.model.times import format_duration, to_text

NAMES_SHOWN = 5


class RunnerFacts(NamedTuple):
    """Where a run is, as its `run.json` says."""

    backend: str
    host: str
    """Of the manager that started it."""
    name: str | None = None
    """What the platform calls it, where that gives names."""


@dataclass(frozen=True, slots=True)
class ExplainContext:
    """What there is to know outside of the job. Limits are None where there is none or it is not known."""

    now: float
    manager: bool | None = True
    """Whether one is running; None if it cannot be told."""
    passed_over_for: Sequence[str] = ()
    """The only jobs that this manager takes care of, where that leaves out the one in question."""
    jobs: Mapping[str, str] = field(default_factory=dict)
    """Phases of the jobs that this one waits for."""
    running: int = 0
    """Runners of all jobs."""
    max_runners: int | None = None
    running_in_queue: int = 0
    queue_limit: int | None = None
    backend: str | None = None
    """The manager's."""
    host: str | None = None
    """The manager's."""
    backend_problem: str | None = None
    """Why the backend does not answer."""
    waiting: str | None = None
    """What the job's next task needs of the backend first, as `task <id>: <what>`."""
    runners: Mapping[str, RunnerFacts] = field(default_factory=dict)
    """Where running tasks are, by task."""


def explain_job(job: JobState, around: ExplainContext) -> str:
    """Return why a job is where it is."""
    if job.ended:
        return f"job {job.id} {_job_end(job)}"
    progress = Progress(job)
    running = progress.counts.get(s.RUNNING, 0)
    queued = progress.counts.get(s.QUEUED, 0)
    hindrance = _hindrance(job, around)
    if running:
        what = f"is running {running} of {len(job.tasks)} tasks, {queued} queued"
        lost = next((why for name in around.runners if (why := _out_of_reach(job, name, around)) is not None), None)
        return "; ".join(
            [f"job {job.id} {what}", *([f"it {hindrance}"] if hindrance else []), *([lost] if lost else [])]
        )
    if hindrance:
        return f"job {job.id} {hindrance}"
    first = next(iter(progress.queued()), None)
    if first is None:
        return f"job {job.id} has nothing left to do and is about to end"
    candidates = [task for task in progress.queued() if progress.readiness(task) is Readiness.READY]
    waits = [task for task in candidates if _waits_for_backend(task, around)]
    soonest = (
        waits[0]
        if waits
        else min(candidates, key=lambda task: (_waits_until(task) or 0.0, progress.nodes[task.id].place), default=first)
    )
    return f"job {job.id} runs nothing now: {_queued(job, soonest, progress, around)}"


def explain_task(job: JobState, task: TaskState, around: ExplainContext) -> str:
    """Return why a task is where it is."""
    status = task.status
    if isinstance(status, Done):
        return f"task {task.id} {_task_end(job, task, status)}"
    if isinstance(status, Running):
        return f"task {task.id} {_running(job, task, status, around)}"
    hindrance = _hindrance(job, around)
    if hindrance:
        return f"task {task.id} is queued: its job {hindrance}"
    return _queued(job, task, Progress(job), around)


# How things ended


def _job_end(job: JobState) -> str:  # noqa: PLR0911 - one for each way to end
    took = (
        ""
        if job.started_at is None or job.finished_at is None
        else f" after {format_duration(job.finished_at - job.started_at)}"
    )
    message = f": {job.message}" if job.message else ""
    if job.phase == s.SUCCEEDED:
        return f"succeeded{took}: {_count(len(job.tasks), 'task')} in {_count(job.usage.runs, 'run')}"
    if job.phase == s.CANCELLED:
        return f"was cancelled{took}{message}"
    if job.stop == s.TIMEOUT:
        return f"failed{took}: its deadline of {format_duration(job.spec.deadline or 0)} passed{message}"
    if job.stop == s.UPSTREAM:
        return f"failed{message or ': a job that it waits for did not succeed'}"
    if job.reason == s.BUDGET:
        return f"failed{took}: it would have had more than max_tasks = {job.spec.max_tasks} tasks{message}"
    failed = [
        (t.id, t.status)
        for t in job.tasks.values()
        if isinstance(t.status, Done) and t.status.phase in (s.FAILED, s.CANCELLED)
    ]
    if not failed:
        return f"failed{took}{message or f': {job.reason}'}"
    name, done = min(failed, key=lambda pair: pair[1].finished_at)
    more = f" ({len(failed) - 1} more failed or were cancelled)" if len(failed) > 1 else ""
    return f"failed{took}: task {name} {outcome_text(done)}{more}"


def _task_end(job: JobState, task: TaskState, done: Done) -> str:
    last = task.attempts[-1] if task.attempts else None
    runs = f" after {task.runs} runs" if task.runs > 1 else ""
    history = history_text(task)
    earlier = f" ({history})" if history else ""
    if done.phase == s.SUCCEEDED:
        return f"succeeded{runs}" + (f" in {format_duration(last.work)}" if last else "") + earlier
    if done.phase == s.SKIPPED:
        if done.reason == s.OK:
            return f"was not needed: its `when: {task.when}` did not apply"
        culprit = _culprit(job, task)
        return f"was skipped: {culprit}" if culprit else f"was skipped: {reason_text(done.reason, None)}"
    if done.phase == s.CANCELLED:
        return f"was cancelled{runs}" + (
            f" while it ran ({format_duration(last.work)})" if last and last.reason == s.CANCELLED else ""
        )
    if done.reason == s.TIMEOUT and task.timeout is not None:
        timeout = format_duration(task.timeout)
        message = f"; {done.message}" if done.message else ""
        return f"failed{runs}: killed by its timeout of {timeout}{message}{earlier}"
    return f"failed{runs}: {outcome_text(done)}{earlier}"


def _culprit(job: JobState, task: TaskState) -> str | None:
    """Return what made a task be skipped."""
    needed = _tree(job, task.after) if task.after else set(job.tasks)
    for other in job.tasks.values():
        if other.id in needed and isinstance(other.status, Done) and other.status.phase in (s.FAILED, s.CANCELLED):
            return f"task {other.id} {other.status.phase} ({outcome_text(other.status)})"
    if job.reason == s.UPSTREAM:
        return f"a job that its job waits for did not succeed ({', '.join(job.after_uids)})"
    for other in job.tasks.values():
        if isinstance(other.status, Done) and other.status.phase in (s.FAILED, s.CANCELLED):
            return (
                f"task {other.id} {other.status.phase} ({outcome_text(other.status)}) and its job has on_failure: stop"
            )
    return None


# How things go


def _running(job: JobState, task: TaskState, run: Running, around: ExplainContext) -> str:
    now = around.now
    since = format_duration(max(0.0, round(now - run.since, 1)))
    runner = around.runners.get(task.id)
    where = f" in {runner_text(runner)}" if runner is not None and runner.name else ""
    history = history_text(task)
    earlier = f"; {history}" if history else ""
    text = f"has been running for {since}{where} (run {run.seq}, attempt {task.runs}{earlier})"
    lost = _out_of_reach(job, task.id, around)
    if run.stop is not None:
        text += f" and is being stopped: {run.stop_message or reason_text(run.stop, None)}"
    elif task.timeout is not None and lost is None:
        left = run.since + task.timeout - now
        text += (
            f"; its timeout stops it in {format_duration(round(left, 1))}" if left > 0 else "; its timeout has passed"
        )
    if lost is None and around.backend_problem is not None:
        lost = f"whether it still runs cannot be told: {around.backend_problem}"
    return f"{text}; {lost}" if lost else text


def runner_text(runner: RunnerFacts) -> str:
    """Return a runner as people find it on its platform."""
    return f"container {runner.name}" if runner.backend == "docker" else f"{runner.backend} {runner.name}"


def _out_of_reach(job: JobState, task: str, around: ExplainContext) -> str | None:
    """Return what to do about a runner that the manager can neither see nor stop; None if it can."""
    runner = around.runners.get(task)
    if runner is None or around.backend is None:
        return None
    if runner.backend != around.backend:
        whose = f"the backend {runner.backend} on host {runner.host}, and the manager here looks at {around.backend}"
    elif runner.backend == "local" and around.host is not None and runner.host != around.host:
        whose = f"the backend local on host {runner.host}, and the manager here is on {around.host}"
    else:
        return None
    remedy = f"once you are sure that it is gone: `air-executor confirm-gone {job.id}`"
    return f"its runner was started by {whose}; it is booked when it has left its outcome, or {remedy}"


def _waits_for_backend(task: TaskState, around: ExplainContext) -> str | None:
    """Return what a task that is ready needs of the backend first."""
    name, _, what = (around.waiting or "").partition(": ")
    return what if what and name == f"task {task.id}" else None


def _hindrance(job: JobState, around: ExplainContext) -> str | None:  # noqa: PLR0911 - one for each
    """Return what keeps the whole job from starting anything."""
    if job.phase == s.PENDING:
        return f"is held: run {job.submitted_by}, which submits it, has not been booked yet"
    if job.phase == s.PAUSED:
        return f"is paused; let it go on with `air-executor resume {job.id}`"
    unfinished = [
        f"{name} ({around.jobs.get(name, 'gone')})" for name in job.after_uids if around.jobs.get(name) != s.SUCCEEDED
    ]
    if unfinished and job.started_at is None:
        return f"waits for {'job' if len(unfinished) == 1 else 'jobs'} {_listed(unfinished)}"
    if around.manager is False:
        return "has no manager: none is running here; start one with `air-executor manager`"
    if around.backend_problem is not None:
        return f"waits for its backend, which cannot answer: {around.backend_problem}"
    if around.passed_over_for:
        who = f"the one at work here sees only {_listed(around.passed_over_for)} through"
        return f"has no manager: {who}; be next with `air-executor run {job.id}`"
    return None


def _queued(job: JobState, task: TaskState, progress: Progress, around: ExplainContext) -> str:
    readiness = progress.readiness(task)
    name = f"task {task.id}"
    if readiness is Readiness.WAITS:
        return f"{name} waits for {_waits_for(job, task, progress)}"
    if readiness is not Readiness.READY:
        return f"{name} will be skipped: {_culprit(job, task) or readiness.value}"
    until = _waits_until(task)
    if until is not None and until > around.now:
        when = f"at {to_text(until)}, in {format_duration(round(until - around.now, 1))}"
        if isinstance(task.status, Queued) and task.status.retrying:
            last = task.attempts[-1] if task.attempts else None
            how = history_text(task) if last and last.reason == s.OOM else None
            said = f": {last.message}" if last and last.message else ""
            why = f" (run {task.runs} ended: {how or reason_text(last.reason, last.exit_code) + said})" if last else ""
            return f"{name} has its next retry {when}{why}"
        return f"{name} is delayed; it starts {when}"
    if (what := _waits_for_backend(task, around)) is not None:
        return f"{name} waits for {what}"
    return f"{name} {_behind(job, task, progress, around)}"


def _behind(job: JobState, task: TaskState, progress: Progress, around: ExplainContext) -> str:  # noqa: PLR0911
    """Return what a task that is ready waits for: a limit, or its turn."""
    running = sorted(progress.slots.values())
    if len(running) >= job.max_runners:
        limit = "the job's only runner" if job.max_runners == 1 else f"one of the job's {job.max_runners} runners"
        return f"is ready and waits for {limit}, busy with {_listed(running)}"
    if job.max_runners == 1:
        for other in progress.queued():
            if (
                progress.nodes[other.id].place < progress.nodes[task.id].place
                and isinstance(other.status, Queued)
                and other.status.retrying
            ):
                return f"is ready and waits behind task {other.id}, which keeps its place until its retry"
    if around.queue_limit is not None and around.running_in_queue >= around.queue_limit:
        has = f"{around.running_in_queue} of at most {around.queue_limit} runners"
        return f"is ready; limit reached: queue {job.pool} has {has}"
    if around.max_runners is not None and around.running >= around.max_runners:
        return f"is ready; limit reached: the manager has {around.running} of at most {around.max_runners} runners"
    ahead = [
        t
        for t in progress.queued()
        if progress.nodes[t.id].place < progress.nodes[task.id].place
        and progress.readiness(t) is Readiness.READY
        and _waits_until(t) is None
    ]
    if ahead:
        return f"is ready; {_count(len(ahead), 'task')} of its job {'is' if len(ahead) == 1 else 'are'} before it"
    if around.manager is None:
        return "is ready; its manager is on another host or in another container, and cannot be seen from here"
    return "is ready and about to start"


def _waits_for(job: JobState, task: TaskState, progress: Progress) -> str:
    needs = progress.needs(task)
    if needs is None:
        open_tasks = [
            t.id for t in job.tasks.values() if not isinstance(t.status, Done) and not progress.nodes[t.id].cleanup
        ]
        return f"all other tasks to end ({_listed(open_tasks)})"
    unfinished = [need.task for need in needs if not need.complete]
    parts = []
    for need in unfinished[:NAMES_SHOWN]:
        inside = _tree(job, [need.id])
        open_tasks = [t.id for t in job.tasks.values() if t.id in inside and not isinstance(t.status, Done)]
        own = open_tasks == [need.id]
        parts.append(
            f"{need.id} ({need.phase})"
            if own
            else f"{need.id} and what it queued ({len(open_tasks)} not done: {_listed(open_tasks)})"
        )
    return _listed(parts, len(unfinished))


def _tree(job: JobState, roots: Sequence[str]) -> set[str]:
    """Return the ids of these tasks and of everything they queued; parents stand before their children in a job."""
    inside = set(roots)
    for task in job.tasks.values():
        if task.queued_by in inside:
            inside.add(task.id)
    return inside


def _waits_until(task: TaskState) -> float | None:
    return task.status.waits_until if isinstance(task.status, Queued) else None


def _listed(names: Sequence[str], total: int | None = None) -> str:
    total = len(names) if total is None else total
    text = ", ".join(names[:NAMES_SHOWN])
    return f"{text} and {total - NAMES_SHOWN} more" if total > NAMES_SHOWN else text


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"
