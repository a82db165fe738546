"""How a decision changes a job. `apply` is the only writer of a `LiveJob`, live and in recovery alike.

Deterministic: the same job and the same events give the same job, whatever the time and the machine. What follows from
an event without further choice (skips, a finished tree, the job's own end) happens here and needs no line of its own.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace

from air_executor.core.memory import memory_of
from air_executor.core.progress import Progress, Readiness
from air_executor.model import state as s
from air_executor.model.events import (
    ClockStepped,
    DeadlinePassed,
    Ended,
    Event,
    Released,
    Requested,
    Started,
    StopRequested,
    UpstreamFailed,
)
from air_executor.model.job import Task
from air_executor.model.state import Attempt, Done, JobState, Queued, Running, TaskState, new_task
from air_executor.model.times import to_text
from air_executor.model.usage import stages


class LiveJob:
    """A job with the indexes that make its steps cheap."""

    __slots__ = ("progress", "state")

    def __init__(self, state: JobState) -> None:
        self.state = state
        self.progress = Progress(state)
        self._close(self.progress.queued(), state.finished_at or state.submitted_at)

    def apply(self, event: Event, epoch: int) -> None:
        """Carry out one decision of the manager with this epoch."""
        job = self.state
        job.epoch = epoch
        job.version += 1
        match event:
            case Started():
                self._start(event)
            case Ended():
                self._end(event)
            case StopRequested():
                self._ask_stop(event.seq, event.reason, event.message, hopeless=event.permanent)
            case Requested():
                self._request(event)
            case Released():
                job.phase = s.QUEUED
                self._ready_from(event.at)
            case DeadlinePassed():
                self._stop_all(event.at, s.TIMEOUT)
            case UpstreamFailed():
                job.message = f"job {event.job}, which it waits for, did not succeed"
                self._stop_all(event.at, s.UPSTREAM)
            case ClockStepped():
                self._shift(event.by, event.at)
        self._finish(event.at)

    # One event each

    def _start(self, event: Started) -> None:
        job = self.state
        task = job.tasks[event.task]
        job.seq = max(job.seq, event.seq)
        if job.started_at is None:
            job.started_at = event.at
        if job.deadline_from is None and job.spec.deadline is not None:
            job.deadline_from = event.at
        if job.phase == s.QUEUED:
            job.phase = s.RUNNING
        task.runs += 1
        waited = None if task.ready_at is None else round(max(0.0, event.at - task.ready_at), 6)
        run = Running(
            event.seq,
            event.slot,
            event.at,
            ready_at=task.ready_at,
            waited=waited,
            memory_limit=memory_of(task),
            price=event.price,
            currency=event.currency,
        )
        task.ready_at = None
        self.progress.started(task, run)

    def _ask_stop(self, seq: int, reason: str, message: str | None = None, *, hopeless: bool = False) -> None:
        task = self.state.tasks[self.progress.runs[seq]]
        run = task.status
        if isinstance(run, Running) and run.stop is None:
            task.status = replace(run, stop=reason, stop_message=message, hopeless=hopeless)

    def _end(self, event: Ended) -> None:
        job = self.state
        task = job.tasks[self.progress.runs[event.seq]]
        run = task.status
        assert isinstance(run, Running)  # noqa: S101 - `runs` lists running tasks only
        spent = stages(event.moments)
        job.usage.add(spent, event.moments.cpu, event.cost, event.currency)
        task.attempts.append(
            Attempt(
                seq=event.seq,
                slot=run.slot,
                spawned_at=to_text(event.moments.spawned),
                start=spent.start,
                work=spent.work,
                finish=spent.finish,
                reason=event.reason,
                exit_code=event.exit_code,
                message=event.message,
                cpu=event.moments.cpu,
                memory=event.moments.memory,
                memory_limit=run.memory_limit,
                cost=event.cost,
                clock_stepped=event.moments.clock_stepped,
                ready_at=None if run.ready_at is None else to_text(run.ready_at),
                waited=None if run.waited is None else round(run.waited + event.delay, 6),
                node_wait=event.node_wait or None,
                backend=event.backend,
                price=event.price,
                currency=event.currency,
            )
        )
        del task.attempts[: -s.MAX_ATTEMPTS_KEPT]
        if event.reason == s.REQUEUE:
            task.runs -= 1
            if job.stop is None or self.progress.spares(task):
                task.ready_at = event.at
                self.progress.requeued(task, run, Queued())
            else:
                self._close_one(task, self._drop(job.stop, event.at), event.at)
            return
        if event.retry_at is not None and (job.stop is None or self.progress.spares(task)):
            if event.reason in s.USERS_FAULT:
                task.charged += 1
            else:
                task.faults += 1
            task.ready_at = max(event.at, event.retry_at)
            self.progress.requeued(task, run, Queued(waits_until=event.retry_at, retrying=True))
            return
        phase: s.TaskPhase = (
            s.SUCCEEDED if event.reason == s.OK else s.CANCELLED if event.reason == s.CANCELLED else s.FAILED
        )
        done = Done(phase, event.reason, to_text(event.at), event.exit_code, event.message, event.result)
        if phase == s.SUCCEEDED:
            self._queue(event.queued, task.id, event.at)
        self._close_one(task, done, event.at)
        if phase == s.SUCCEEDED or job.stop is not None:
            return
        if event.reason == s.BUDGET:
            job.message = event.message
            self._stop_all(event.at, s.BUDGET)
        elif job.spec.on_failure == "stop":
            job.stop = s.FAILED
            self._drop_queued(event.at)

    def _request(self, event: Requested) -> None:
        job = self.state
        match event.op:
            case "add":
                self._reopen_job(event.at)
                self._queue(event.tasks, None, event.at)
            case "cancel":
                self._cancel(event)
            case "pause":
                job.phase = s.PAUSED
            case "resume":
                job.phase = s.QUEUED if job.started_at is None else s.RUNNING
                self._ready_from(event.at)
            case "retry":
                self._retry(event)
            case _:  # `confirm-gone` says something about a runner, nothing about the job
                pass

    def _cancel(self, event: Requested) -> None:
        job = self.state
        if event.task is None:
            # The first cancel leaves clean-up tasks their chance; asked again, it takes them too.
            again = job.stop == s.CANCELLED
            job.stop = s.CANCELLED
            for _, run in self.progress.open_runs():
                self._ask_stop(run.seq, s.CANCELLED)
            self._drop_queued(event.at, cleanup_too=again)
            return
        task = job.tasks[event.task]
        if isinstance(task.status, Running):
            self._ask_stop(task.status.seq, s.CANCELLED)
        elif isinstance(task.status, Queued):
            self._close_one(task, Done(s.CANCELLED, s.CANCELLED, to_text(event.at)), event.at)
            if job.stop is None and job.spec.on_failure == "stop":
                job.stop = s.FAILED
                self._drop_queued(event.at)

    def _retry(self, event: Requested) -> None:
        job = self.state
        if event.task is None:
            again = [t for t in job.tasks.values() if isinstance(t.status, Done) and _may_retry(t.status)]
        else:
            chosen = job.tasks[event.task]
            since = chosen.finished_at or to_text(event.at)
            again = [t for t in job.tasks.values() if t is chosen or _skipped_since(t.status, since)]
        self._reopen_job(event.at)
        for task in again:
            task.status = Queued()
            task.charged = task.faults = 0
            task.ready_at = None
        self.progress = Progress(job)
        self._close(self.progress.queued(), event.at)

    def _reopen_job(self, at: float) -> None:
        job = self.state
        job.stop = job.message = None
        if job.ended:
            job.phase = s.QUEUED if job.started_at is None else s.RUNNING
            job.reason = job.finished_at = None
            job.deadline_from = None if job.started_at is None else at

    def _shift(self, by: float, at: float) -> None:
        job = self.state
        if job.deadline_from is not None:
            job.deadline_from += by
        for task in self.progress.queued():
            status = task.status
            if not isinstance(status, Queued):
                continue
            by_date = task.not_before is not None and not status.retrying
            if status.waits_until is not None and not by_date:
                task.status = Queued(status.waits_until + by, status.retrying)
            if task.ready_at is not None and not (by_date and task.ready_at > at - by):
                task.ready_at += by
        self.progress = Progress(job)
        self._close(self.progress.queued(), job.submitted_at)

    def _ready_from(self, at: float) -> None:
        """Note that what is ready could not have started before: its job was paused or held."""
        for task in self.progress.queued():
            if task.ready_at is not None and task.ready_at < at:
                task.ready_at = at

    # What follows

    def _queue(self, tasks: Iterable[Task], queued_by: str | None, at: float) -> None:
        """Append tasks to the queue; all of them exist before any is judged, so they may name each other."""
        job = self.state
        added = []
        for queued in tasks:
            task = new_task(queued, queued_by=queued_by, at=at)
            job.tasks[task.id] = task
            self.progress.admit(task)
            added.append(task)
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
        return Done(s.SKIPPED, s.TIMEOUT if stop == s.TIMEOUT else s.UPSTREAM, to_text(at))

    def _drop_queued(self, at: float, *, cleanup_too: bool = False) -> None:
        assert self.state.stop is not None  # noqa: S101 - callers have just set it
        dropped = self._drop(self.state.stop, at)
        for task in self.progress.queued():
            if isinstance(task.status, Queued) and (cleanup_too or not self.progress.nodes[task.id].cleanup):
                self._close_one(task, dropped, at)

    def _stop_all(self, at: float, why: str) -> None:
        self.state.stop = why
        reason, message = (s.TIMEOUT, "the deadline of its job passed") if why == s.TIMEOUT else (s.CANCELLED, None)
        for _, run in self.progress.open_runs():
            self._ask_stop(run.seq, reason, message)
        self._drop_queued(at, cleanup_too=True)

    def _close_one(self, task: TaskState, done: Done, at: float) -> None:
        self._close(self.progress.ended(task, done), at)

    def _close(self, touched: Iterable[TaskState], at: float) -> None:
        """Place the queued tasks given, end those that will not run, and go on with what that touches."""
        work = list(touched)
        while work:
            task = work.pop()
            if not isinstance(task.status, Queued):
                continue
            verdict = self.progress.place(task)
            if verdict in (Readiness.UPSTREAM, Readiness.NOT_NEEDED):
                reason = s.UPSTREAM if verdict is Readiness.UPSTREAM else s.OK
                work += self.progress.ended(task, Done(s.SKIPPED, reason, to_text(at)))
            elif verdict is Readiness.READY and task.ready_at is None:
                until = task.status.waits_until
                task.ready_at = at if until is None else max(at, until)

    def _finish(self, at: float) -> None:
        """End the job if nothing is queued or running any more."""
        job = self.state
        if job.ended or job.phase == s.PENDING or self.progress.open:
            return
        counts = self.progress.counts
        ends = [t.status for t in job.tasks.values() if isinstance(t.status, Done)] if job.stop or _bad(counts) else []
        failed = [d for d in ends if d.phase == s.FAILED]
        if job.stop == s.CANCELLED and any(d.reason == s.CANCELLED for d in ends):
            job.phase, job.reason = s.CANCELLED, s.CANCELLED
        elif job.stop in (s.TIMEOUT, s.BUDGET, s.UPSTREAM) and any(d.reason != s.OK for d in ends):
            job.phase, job.reason = s.FAILED, job.stop
        elif _bad(counts):
            first = min(failed or [d for d in ends if d.phase == s.CANCELLED], key=lambda d: d.finished_at)
            job.phase, job.reason = s.FAILED, first.reason
        else:
            job.phase, job.reason = s.SUCCEEDED, s.OK
        job.finished_at = at


def _bad(counts: Mapping[str, int]) -> bool:
    return bool(counts.get(s.FAILED) or counts.get(s.CANCELLED))


def _may_retry(done: Done) -> bool:
    return done.phase != s.SUCCEEDED and done.reason != s.OK


def _skipped_since(status: s.Status, since: str) -> bool:
    return (
        isinstance(status, Done)
        and status.phase == s.SKIPPED
        and status.reason == s.UPSTREAM
        and status.finished_at >= since
    )
