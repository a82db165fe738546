"""Why a job or a task is not running, or how it ended, in a few words: for the tables of `status`.

`explanation` has the whole sentences. Pure.
"""

from __future__ import annotations

from air_executor.core.end_reasons import failure_cause, why_skipped
from air_executor.core.explanation import (
    ExplainContext,
    late_text,
    limits_text,
    needed_from_backend,
    pending_reason,
    runner_text,
    unreachable,
    waits_until,
    worktree_text,
)
from air_executor.core.kept_text import kept_short
from air_executor.core.memory import history_text
from air_executor.core.outcome import outcome_text, stop_text
from air_executor.core.progress import Progress, Readiness
from air_executor.core.questions import QUESTIONS_SHOWN, asking_now, asks
from air_executor.core.start_limits import limit_reached, never_fits
from air_executor.model import state as s
from air_executor.model.reports import progress_bar
from air_executor.model.state import Done, JobState, Running, TaskState
from air_executor.model.times import format_duration, to_text

NAMES_SHOWN = 3


class ShortReasons:
    """The reasons of one job and its tasks."""

    def __init__(self, job: JobState, context: ExplainContext) -> None:
        self.job = job
        self.now = context.now
        self._context = context
        self._progress = None if job.ended else Progress(job)
        self._skipped: dict[tuple[object, ...], str] = {}
        """Why tasks are skipped, by what tells them apart: it takes a look at all tasks."""

    def of_job(self) -> str:
        """Return why the job is not running as much as it could, and whether it is late; "": nothing to say."""
        late = late_text(self.job, self.now)
        limits = limits_text(self.job, self.now) if self.job.stop is not None else None
        return "; ".join(part for part in (late, limits, self._of_job()) if part)

    def _of_job(self) -> str:
        job, progress, context = self.job, self._progress, self._context
        if progress is None:
            failed = job.phase == s.FAILED
            return failure_cause(job) if failed else job.message or "" if job.phase == s.CANCELLED else ""
        if (pending := self._pending) is not None:
            return pending
        problems = (unreachable(job, name, context) for name in context.runners)
        if (problem := next(filter(None, problems), context.waiting)) is not None:
            return problem
        ready = [t for t in progress.queued() if progress.readiness(t) is Readiness.READY]
        due = [task for task in ready if not self._waits(task)]
        if (asking := next((task for task in due if task.approve is not None), None)) is not None:
            return f"{asking.id} {asks(job, asking, context.now)}"
        if (now := next((task for task in due if task.joins is None), None)) is not None:
            return self._limit(now, progress) or ("" if progress.slots else "about to start")
        first = min(ready, key=lambda task: waits_until(task) or 0.0, default=next(iter(progress.queued()), None))
        return "" if first is None or progress.slots else f"{first.id} {self._of_queued(first, progress)}"

    def of_task(self, task: TaskState) -> str:
        """Return why a task is not running, how it ended, or where it runs."""
        status, history = task.status, history_text(task)
        if isinstance(status, Done):
            text = self._of_done(task, status)
        elif isinstance(status, Running):
            text = self._of_running(task, status)
        else:
            text = self._of_queued(task, self._progress) if self._progress is not None else ""
        stays = kept_short(self.job, task, self.now)
        return ", ".join(part for part in (text, history, stays, worktree_text(task, self._context)) if part)

    @property
    def _pending(self) -> str | None:
        """Why nothing of the job can start."""
        if self._context.manager is False and self.job.phase != s.PAUSED:
            return "no manager is running"
        found = pending_reason(self.job, self._context)
        if found is None:
            return None
        return found.removeprefix("is ").removeprefix("paused; ").removeprefix("paused: ")  # beside the phase

    def _limit(self, task: TaskState, progress: Progress) -> str:
        if (impossible := never_fits(self.job, task, self._context)) is not None:
            return f"can never start: {impossible}"
        reached = limit_reached(self.job, progress, self._context, task)
        if reached is None:
            return ""
        if reached.weighted:
            return f"needs {reached.needs}, {reached.of} has {reached.used} of {reached.limit} in use"
        return f"{reached.used} of {reached.limit} runners of {reached.of} in use"

    def _of_done(self, task: TaskState, done: Done) -> str:
        if done.phase == s.SUCCEEDED:
            answered = "" if task.approve is None else done.message or ""
            return answered if task.cached is None else f"cached, from job {task.cached.job}"
        if done.phase != s.SKIPPED:
            return outcome_text(done)
        kind = (
            done.reason,
            done.exit_code,
            done.message,
            task.when,
            task.superseded and task.queued_by,
            *task.after,
        )
        if kind not in self._skipped:
            self._skipped[kind] = why_skipped(self.job, task, done)
        return self._skipped[kind]

    def _of_running(self, task: TaskState, run: Running) -> str:
        runner = self._context.runners.get(task.id)
        parts = [] if runner is None or runner.begun else ["starting"]
        parts += [f"in {runner_text(runner)}"] if runner is not None and runner.name else []
        parts += [progress_bar(run.progress)] if run.progress is not None else []
        parts += [stop_text(run)] if run.stop else []
        parts += [words] if (words := needed_from_backend(task, self._context)) else []
        parts += [problem] if (problem := unreachable(self.job, task.id, self._context)) else []
        return ", ".join(parts)

    def _of_queued(self, task: TaskState, progress: Progress) -> str:
        if progress.readiness(task) is Readiness.READY and self._waits(task):
            checked = f"checked {task.again} ×, next" if task.again else "starts"
            verb = "is retried" if task.retrying else checked
            return f"{verb} in {format_duration(round((waits_until(task) or 0.0) - self.now, 1))}"
        return self._of_waiting(task, progress)

    def of_waiting(self, task: TaskState) -> str:
        """Return what a queued task waits for; as `of_task`, but without a delay, which changes by itself."""
        return "" if self._progress is None else self._of_waiting(task, self._progress)

    def _of_waiting(self, task: TaskState, progress: Progress) -> str:
        if progress.readiness(task) is not Readiness.READY:
            return self._of_unready(task, progress)
        pending = "its job is paused" if self.job.phase == s.PAUSED else self._pending
        if task.approve is not None and (task.ready_at is not None or pending is None):
            return asks(self.job, task, self.now)
        words = needed_from_backend(task, self._context)
        if task.joins is not None:
            words = f"waiting for job {task.id}"
        return pending or words or self._limit(task, progress) or "next in the queue"

    def _of_unready(self, task: TaskState, progress: Progress) -> str:
        if progress.readiness(task) is not Readiness.WAITS:
            return "will be skipped"
        needs = progress.needs(task)
        if needs is None:
            return "after all other tasks"
        names = [need.task.id for need in needs if not need.complete]
        return f"after {', '.join(names[:NAMES_SHOWN])}" + (
            f" and {len(names) - NAMES_SHOWN} more" if len(names) > NAMES_SHOWN else ""
        )

    def _waits(self, task: TaskState) -> bool:
        until = waits_until(task)
        return until is not None and until > self.now


def waits_of(job: JobState, now: float) -> list[str]:
    """Return what a job waits for that no runner shows: an answer, a time, or that it is resumed; for `run`."""
    if job.ended:
        return []
    if job.phase == s.PAUSED:
        return [f"job {job.id} {pending_reason(job, ExplainContext(now))}"]
    asking = [task for task in asking_now(job) if (waits_until(task) or 0.0) <= now]
    if asking:
        return [f"{task.id} {asks(job, task, None)}" for task in asking[:QUESTIONS_SHOWN]]
    later = [task for task in job.tasks.values() if (waits_until(task) or 0.0) > now]
    if not later or any(isinstance(task.status, Running) for task in job.tasks.values()):
        return []
    first = min(later, key=lambda task: waits_until(task) or 0.0)
    verb = "is retried" if first.retrying else f"checked {first.again} ×, next" if first.again else "starts"
    return [f"{first.id} {verb} at {to_text(round(waits_until(first) or 0.0))[:19]}Z"]
