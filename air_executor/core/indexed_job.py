"""What follows from a decision without further choice: skips, stops, a used-up budget, a finished tree, the job's end.

`transitions` decides which of it an event calls for. Nothing here has a line in the journal: it is the same whenever
the events are replayed.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

from air_executor.core.budget import Spent, used_up
from air_executor.core.conditions import unmet
from air_executor.core.new_task import new_task
from air_executor.core.outcome import CLEANUP_OVER, DEADLINE_PASSED
from air_executor.core.progress import Progress, Readiness
from air_executor.model import state as s
from air_executor.model.job import Task
from air_executor.model.state import Done, JobState, Queued, Running, TaskState
from air_executor.model.times import to_text
from air_executor.model.types import fit


class IndexedJob:
    """A job with the indexes that make its steps cheap, and what follows from them."""

    __slots__ = ("progress", "state")

    def __init__(self, state: JobState) -> None:
        self.state = state
        self.progress = Progress(state)
        self._close(self.progress.queued(), state.finished_at or state.submitted_at)

    def _settle(self, task: TaskState, done: Done, queued: Iterable[Task], at: float) -> None:
        """End a task without a retry, and do what that means for its job."""
        job = self.state
        if done.phase == s.SUCCEEDED:
            self._queue(queued, task.id, at)
        self._close_one(task, done, at)
        if done.reason == s.BUDGET and job.stop is None:
            job.message = done.message
            self._stop_all(at, s.BUDGET)
        else:
            self._stop_after(task, at)

    def _stop_after(self, task: TaskState, at: float) -> None:
        """Start nothing more if a task has failed and its job says so."""
        job = self.state
        if job.stop is None and job.spec.on_failure == "stop" and task.has_failed:
            job.stop = s.FAILED
            self._drop_queued(at)

    def _ask_stop(self, seq: int, reason: str, message: str | None = None, *, hopeless: bool = False) -> None:
        task = self.state.tasks[self.progress.runs[seq]]
        run = task.status
        if isinstance(run, Running) and run.stop is None:
            task.status = replace(run, stop=reason, stop_message=message, hopeless=hopeless)

    def _queue(self, tasks: Iterable[Task], queued_by: str | None, at: float) -> None:
        """Append tasks to the queue; all of them exist before any is judged, so they may name each other."""
        job = self.state
        added = []
        superseded = False
        cleans_up = self.progress.cleans_up
        for queued in tasks:
            task = new_task(queued, queued_by=queued_by, at=at)
            if (before := job.tasks.pop(task.id, None)) is not None:
                task.runs, task.attempts = before.runs, before.attempts
                superseded = True
            job.tasks[task.id] = task
            if not superseded:
                self.progress.admit(task)
            added.append(task)
        if superseded or (cleans_up and not self.progress.cleans_up):  # clean-up that was ready waits again
            self._rebuild(at)
        if job.stop is not None:
            dropped = self._drop(job.stop, at)
            for task in added:
                if not self.progress.spares(task):
                    self._close_one(task, dropped, at)
        self._close([t for t in added if isinstance(t.status, Queued)], at)

    def _drop(self, stop: str, at: float) -> Done:
        """Return the end of a queued task in a job that stops."""
        if stop == s.CANCELLED:
            return Done(s.CANCELLED, s.CANCELLED, to_text(at))
        if stop == s.TIMEOUT:
            return Done(s.SKIPPED, s.TIMEOUT, to_text(at), message=CLEANUP_OVER if self.state.cleanup_over else None)
        return Done(s.SKIPPED, s.UPSTREAM, to_text(at))

    def _drop_queued(self, at: float) -> None:
        assert self.state.stop is not None  # noqa: S101 - callers have just set it
        dropped = self._drop(self.state.stop, at)
        for task in self.progress.queued():
            runs_on = task.id in self.progress.joining and self.state.stop == s.FAILED  # its child job does
            if isinstance(task.status, Queued) and not runs_on and not self.progress.spares(task):
                self._close_one(task, dropped, at)

    def _stop_runs(self, reason: str, message: str | None = None) -> None:
        for task, run in self.progress.open_runs():
            if not self.progress.spares(task):
                self._ask_stop(run.seq, reason, message)

    def _stop_all(self, at: float, why: str) -> None:
        job = self.state
        job.stop = why
        self._end_pause(at)
        if why != s.UPSTREAM and job.cleanup_from is None:
            job.cleanup_from = at
        self._stop_runs(*((s.TIMEOUT, DEADLINE_PASSED) if why == s.TIMEOUT else (s.CANCELLED, None)))
        self._drop_queued(at)

    def _end_pause(self, at: float) -> None:
        """Go on: by request, or because the job is ended, which a pause must not keep from its clean-up."""
        job = self.state
        if job.phase == s.PAUSED:
            job.phase = s.QUEUED if job.started_at is None else s.RUNNING
            job.over_budget = None
            self._ready_from(at)

    def _ready_from(self, at: float) -> None:
        """Note that what is ready could not have started before: its job was paused or pending."""
        for task in self.progress.queued():
            if task.ready_at is not None and task.ready_at < at:
                task.ready_at = at

    def _end_cleanup(self, at: float, message: str | None = None) -> None:
        """End what a stop has spared."""
        job = self.state
        job.cleanup_over = True
        self._stop_runs(s.TIMEOUT if job.stop == s.TIMEOUT else s.CANCELLED, message)
        self._drop_queued(at)

    def _keep_budget(self, at: float) -> bool:
        """Pause or stop a job whose ended runs have used up its budget; tell whether it was."""
        job = self.state
        if not job.spec.budget or job.stop is not None or job.phase not in (s.QUEUED, s.RUNNING):
            return False
        spent = used_up(job)
        if spent is not None:
            self._exceed(spent.name, spent.used, at)
        return spent is not None

    def _exceed(self, name: str, used: float, at: float) -> None:
        job = self.state
        job.over_budget = name
        if job.spec.on_budget == "pause":
            job.phase = s.PAUSED
            return
        job.message = f"it has used {Spent(name, used, job.spec.budget[name]).text} of its budget"
        self._stop_all(at, s.BUDGET)

    def _rebuild(self, at: float) -> None:
        self.progress = Progress(self.state)
        self._close(self.progress.queued(), at)

    def _close_one(self, task: TaskState, done: Done, at: float) -> None:
        self._close(self.progress.ended(task, done), at)

    def _close(self, touched: Iterable[TaskState], at: float) -> None:
        """Place the queued tasks given, end those that will not run, and go on with what that touches."""
        work = list(touched)
        while work:
            task = work.pop()
            if not isinstance(task.status, Queued):
                continue
            if task.only_if is not None and self.progress.readiness(task) is Readiness.READY:
                judged = self._judge(task, task.only_if, at)
                if judged is not None:
                    work += judged
                    continue
            if task.delay_after and task.ready_at is None and self.progress.readiness(task) is Readiness.READY:
                task.status = Queued(max(at + task.delay_after, task.status.waits_until or at))
            verdict = self.progress.place(task)
            if verdict in (Readiness.UPSTREAM, Readiness.NOT_NEEDED):
                reason = s.UPSTREAM if verdict is Readiness.UPSTREAM else s.OK
                work += self.progress.ended(task, Done(s.SKIPPED, reason, to_text(at)))
            elif task.approve is not None and self.state.waits_for_jobs:
                continue  # it asks once they have ended, which the manager tells by an event of its own
            elif verdict is Readiness.READY and task.ready_at is None:
                until = task.status.waits_until
                task.ready_at = at if until is None else max(at, until)

    def _judge(self, task: TaskState, condition: Mapping[str, Any], at: float) -> list[TaskState] | None:
        """End a task whose condition is not met; return what that touches, or None if it is met."""
        if (why := unmet(self.state, condition)) is None:
            return None
        phase: s.TaskPhase = s.FAILED if why.reason == s.REJECTED else s.SKIPPED
        touched = self.progress.ended(task, Done(phase, why.reason, to_text(at), message=fit(why.message)))
        self._stop_after(task, at)
        return touched

    def _finish(self, at: float) -> bool:
        """End the job if nothing is queued or running any more; tell whether it has ended now."""
        job = self.state
        if job.ended or job.phase == s.PENDING or self.progress.open:
            return False
        bad = self.progress.failed > 0
        ended = job.tasks.values() if job.stop or bad else ()
        ends = [t.status for t in ended if isinstance(t.status, Done)]
        if job.stop == s.CANCELLED and any(d.reason == s.CANCELLED for d in ends):
            job.phase, job.reason = s.CANCELLED, s.CANCELLED
        elif job.stop in (s.TIMEOUT, s.BUDGET, s.UPSTREAM) and any(d.reason != s.OK for d in ends):
            job.phase, job.reason = s.FAILED, job.stop
        elif bad:
            first = min((t for t in ended if t.has_failed), key=lambda t: (t.phase == s.CANCELLED, t.finished_at or ""))
            job.phase, job.reason = s.FAILED, first.reason
        else:
            job.phase, job.reason = s.SUCCEEDED, s.OK
        job.finished_at = at
        job.locked_since = None
        return True
