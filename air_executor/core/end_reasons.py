"""How a job or a task ended, in words: the second half of `explanation`. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from air_executor.core.memory import history_text
from air_executor.core.outcome import ended_by_job, outcome_text, reason_text
from air_executor.model import state as s
from air_executor.model.state import Done, JobState, TaskState
from air_executor.model.times import format_duration


def job_end(job: JobState) -> str:
    """Return how a job ended."""
    took = (
        ""
        if job.started_at is None or job.finished_at is None
        else f" after {format_duration(job.finished_at - job.started_at)}"
    )
    if job.phase == s.SUCCEEDED:
        return f"succeeded{took}: {count_text(len(job.tasks), 'task')} in {count_text(job.usage.runs, 'run')}"
    if job.phase == s.CANCELLED:
        return f"was cancelled{took}{f': {job.message}' if job.message else ''}"
    return f"failed{'' if job.stop == s.UPSTREAM else took}: {failure_cause(job)}"


def failure_cause(job: JobState) -> str:
    """Return why a failed job has failed."""
    message = f": {job.message}" if job.message else ""
    if job.stop == s.TIMEOUT:
        return f"its deadline of {format_duration(job.spec.deadline or 0)} passed{message}"
    if job.stop == s.UPSTREAM:
        return job.message or "a job that it waits for did not succeed"
    if job.reason == s.BUDGET and job.over_budget is not None:
        return job.message or f"its budget of {job.over_budget} is used up"
    if job.reason == s.BUDGET:
        return f"it would exceed max_tasks = {job.spec.max_tasks}{message}"
    failed = [(t.id, t.status) for t in job.tasks.values() if isinstance(t.status, Done) and t.has_failed]
    if not failed:
        return job.message or str(job.reason)
    name, done = min(failed, key=lambda pair: pair[1].finished_at)
    more = f" ({len(failed) - 1} more failed or were cancelled)" if len(failed) > 1 else ""
    return f"task {name}: {outcome_text(done)}{more}"


def task_end(job: JobState, task: TaskState, done: Done) -> str:
    """Return how a task ended."""
    last = task.attempts[-1] if task.attempts else None
    runs = f" after {task.runs} runs" if task.runs > 1 else ""
    history = history_text(task)
    earlier = f" ({history})" if history else ""
    if task.approve is not None and done.message:
        return f"{'succeeded' if done.phase == s.SUCCEEDED else 'failed'}: {done.message}"
    if done.phase == s.SUCCEEDED:
        if task.cached is not None:
            saved = format_duration(round(task.cached.seconds, 2))
            earlier = f": cached, from run {task.cached.run} of job {task.cached.job}, which took {saved}"
        return f"succeeded{runs}" + (f" in {format_duration(last.work)}" if last else "") + earlier
    if done.phase == s.SKIPPED:
        return f"was skipped: {why_skipped(job, task, done)}"
    if done.phase == s.CANCELLED:
        running = f" while running ({format_duration(last.work)})" if last and last.reason == s.CANCELLED else ""
        cause = f": {_budget_stop(job)}" if running and job.stop == s.BUDGET else ""
        return f"was cancelled{runs}{running}{cause}"
    if done.reason == s.TIMEOUT and task.timeout is not None and not ended_by_job(done.message):
        timeout = format_duration(task.timeout)
        message = f"; {done.message}" if done.message else ""
        return f"failed{runs}: timed out after {timeout}{message}{earlier}"
    allowed = "" if task.has_failed else "; its failure is allowed"
    return f"failed{runs}: {outcome_text(done)}{allowed}{earlier}"


def _budget_stop(job: JobState) -> str:
    return f"its job was stopped: {job.message or f'it would exceed max_tasks = {job.spec.max_tasks}'}"


def why_skipped(job: JobState, task: TaskState, done: Done) -> str:
    """Return why a task was skipped."""
    if done.reason == s.TIMEOUT:
        return done.message or f"the deadline of its job ({format_duration(job.spec.deadline or 0)}) passed"
    if task.superseded:
        return f"{task.queued_by}, which queued it, ran again since"
    if done.reason == s.OK:
        return f"its condition `when: {task.when}` was not met"
    if done.reason == s.ONLY_IF:
        return f"only_if: {done.message}"
    if done.reason == s.SKIP_ON:
        return f"exit code {done.exit_code} is one of its skip_on"
    return skip_cause(job, task) or reason_text(done.reason, None)


def skip_cause(job: JobState, task: TaskState) -> str | None:
    """Return why a task is skipped."""
    needed = tree(job, task.after)
    for other in job.tasks.values():
        if other.id in needed and isinstance(other.status, Done) and _is_cause(other):
            how = "was skipped" if other.phase == s.SKIPPED else other.phase
            return f"task {other.id} {how} ({outcome_text(other.status)})"
    if job.reason == s.UPSTREAM:
        return f"a job that its job waits for did not succeed ({', '.join(job.after_uids)})"
    if job.stop == s.BUDGET:
        return _budget_stop(job)
    for other in job.tasks.values():
        if isinstance(other.status, Done) and other.has_failed:
            return (
                f"task {other.id} {other.status.phase} ({outcome_text(other.status)}) and its job has on_failure: stop"
            )
    return None


def _is_cause(task: TaskState) -> bool:
    """Tell whether what needs an ended task is skipped because of itself."""
    return task.has_failed or task.reason in (s.SKIP_ON, s.ONLY_IF)


def tree(job: JobState, roots: Sequence[str]) -> set[str]:
    """Return the ids of these tasks and of everything they queued; parents stand before their children in a job."""
    inside = set(roots)
    for task in job.tasks.values():
        if task.queued_by in inside:
            inside.add(task.id)
    return inside


def count_text(number: int, noun: str) -> str:
    """Return a number of things, the noun in singular or plural."""
    return f"{number} {noun}{'' if number == 1 else 's'}"
