"""How a decision changes a job. `apply` is the only writer of a `LiveJob`, live and in recovery alike.

Deterministic: the same job and the same events give the same job, whatever the time and the machine. What follows from
an event without further choice (skips, a finished tree, the job's own end) happens here and needs no line of its own.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace

from air_executor.core.attempts import note_attempt, note_stay
from air_executor.core.clock_step import shift_times
from air_executor.core.indexed_job import IndexedJob
from air_executor.core.late_fields import LATE_FIELDS, is_list
from air_executor.core.ledger import waste_of
from air_executor.core.memory import memory_of
from air_executor.core.outcome import CLEANUP_OVER
from air_executor.core.rerun import tasks_to_rerun
from air_executor.core.retrying import tasks_to_retry
from air_executor.model import state as s
from air_executor.model.events import (
    Asked,
    ClockStepped,
    DeadlinePassed,
    Ended,
    Event,
    Joined,
    KeepEnded,
    Late,
    Memoized,
    NoticeSettled,
    OverBudget,
    Released,
    Requested,
    Resolved,
    Started,
    StopRequested,
    UpstreamFailed,
)
from air_executor.model.keep import KeptRunner
from air_executor.model.reports import ProgressReport
from air_executor.model.state import Done, Queued, Running, TaskState
from air_executor.model.times import to_text
from air_executor.model.usage import stages


class LiveJob(IndexedJob):
    """A job that decisions change."""

    __slots__ = ()

    def apply(self, event: Event, epoch: int) -> bool:  # noqa: C901 - one case for each event
        """Carry out one decision of the manager with this epoch; tell whether the job has ended by it."""
        job = self.state
        job.epoch = epoch
        job.version += 1
        match event:
            case Started():
                self._start(event)
            case Ended():
                self._end(event)
            case KeepEnded():
                self._end_keep(event)
            case StopRequested():
                self._ask_stop(event.seq, event.reason, event.message, hopeless=event.permanent)
            case Requested():
                self._request(event)
            case Resolved():
                self._resolve(event)
            case Joined():
                self._join(event)
            case Memoized():
                self._reuse(event)
            case Released():
                job.phase = s.QUEUED
                self._ready_from(event.at)
            case DeadlinePassed() | UpstreamFailed() | OverBudget():
                self._cut_short(event)
            case ClockStepped():
                shift_times(job, self.progress.queued(), event.by, event.at)
                self._rebuild(job.submitted_at)
            case Late() | Asked() | NoticeSettled():
                self._tell(event)
        return self._finish(event.at) or (self._keep_budget(event.at) and self._finish(event.at))

    def report(self, seq: int, progress: ProgressReport | None, reported: dict[str, float]) -> None:
        """Show what an open run has reported. No decision: a later look at its file shows the same again."""
        task = self.state.tasks[self.progress.runs[seq]]
        if isinstance(task.status, Running):
            task.run = replace(task.status, progress=progress, reported=dict(reported))

    def note_node_wait(self, seq: int, seconds: float | None) -> None:
        """Show for how long the runner of an open run had no node. No decision, as above."""
        task = self.state.tasks[self.progress.runs[seq]]
        if isinstance(task.status, Running):
            task.run = replace(task.status, node_wait=seconds)

    # One event each

    def _cut_short(self, event: DeadlinePassed | UpstreamFailed | OverBudget) -> None:
        if isinstance(event, OverBudget):
            self._exceed(event.name, event.used, event.at)
        elif isinstance(event, UpstreamFailed):
            self.state.message = f"job {event.job}, which it waits for, did not succeed"
            self._stop_all(event.at, s.UPSTREAM)
        elif event.cleanup:
            self._end_cleanup(event.at, CLEANUP_OVER)
        else:
            self._stop_all(event.at, s.TIMEOUT)

    def _start(self, event: Started) -> None:
        job = self.state
        task = job.tasks[event.task]
        job.seq = max(job.seq, event.seq)
        if job.started_at is None:
            job.started_at = event.at
        job.earlier_runs = {}
        if job.deadline_from is None and job.spec.deadline is not None:
            job.deadline_from = event.at
        if job.cleanup_from is None and job.stop in (s.TIMEOUT, s.BUDGET):  # after a rewind
            job.cleanup_from = event.at
        if job.spec.lock is not None and job.locked_since is None:
            job.locked_since = event.at
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
            origin=event.origin,
        )
        task.ready_at = None
        self.progress.started(task, run)

    def _end(self, event: Ended) -> None:
        job = self.state
        task = job.tasks[self.progress.runs[event.seq]]
        run = task.status
        assert isinstance(run, Running)  # noqa: S101 - `runs` lists running tasks only
        spent = stages(event.moments)
        succeeded = waste_of(event.reason, followed=False) is None
        job.usage.add(spent, event.moments.cpu, event.cost, event.currency, event.reported, succeeded=succeeded)
        note_attempt(task, run, event, spent)
        if event.reason in (s.REQUEUE, s.AGAIN):
            self._run_again(task, run, event)
            return
        if event.retry_at is not None and (job.stop is None or self.progress.spares(task)):
            if event.reason in s.USERS_FAULT:
                task.charged += 1
            else:
                task.faults += 1
            task.ready_at = max(event.at, event.retry_at)
            self._requeue(task, run, Queued(waits_until=event.retry_at, retrying=True), event.at)
            return
        if event.keep_until is not None:
            job.kept[task.id] = _kept(run, event, event.keep_until)
        phase = _PHASES.get(event.reason, s.FAILED)
        done = Done(phase, event.reason, to_text(event.at), event.exit_code, event.message, event.result)
        self._settle(task, done, event.queued, event.at)

    def _end_keep(self, event: KeepEnded) -> None:
        """Count what a runner that stayed has used since its run was committed."""
        kept = self.state.kept.pop(event.task)
        self.state.usage.add_stay(event.seconds, event.cost, kept.currency)
        note_stay(self.state.tasks[event.task], event)

    def _release(self, tasks: Iterable[str], at: float) -> None:
        """Let go of runners that stay."""
        kept = self.state.kept
        kept.update({name: replace(kept[name], until=min(kept[name].until, at)) for name in tasks if name in kept})

    def _resolve(self, event: Resolved) -> None:
        task = self.state.tasks[event.task]
        if event.reason != s.OK:
            self._settle(task, Done(s.FAILED, event.reason, to_text(event.at), message=event.message), (), event.at)
        elif is_list(task):
            self._settle(task, Done(s.SUCCEEDED, s.OK, to_text(event.at)), event.tasks, event.at)
        elif task.unresolved is not None:
            for name in LATE_FIELDS & task.unresolved.fields.keys():
                setattr(task, name, getattr(event.tasks[0], name))
            task.resolved = True

    def _run_again(self, task: TaskState, run: Running, event: Ended) -> None:
        """Queue a task again that is charged nothing: it asked for that, or its run was stopped for our own sake."""
        job = self.state
        if event.reason == s.REQUEUE:
            task.runs -= 1
        else:
            task.again += 1
            task.again_since = run.since if task.again_since is None else task.again_since
            task.charged = task.faults = 0
            self._queue(event.queued, task.id, event.at)
        if job.stop is None or self.progress.spares(task):
            task.ready_at = event.at if event.retry_at is None else max(event.at, event.retry_at)
            self._requeue(task, run, Queued(event.retry_at), event.at)
        else:
            self._close_one(task, self._drop(job.stop, event.at), event.at)

    def _requeue(self, task: TaskState, run: Running, status: Queued, at: float) -> None:
        """Queue a task again, unless what it waited for has run again since and ended otherwise."""
        self.progress.requeued(task, run, status)
        self._close([task], at)

    def _request(self, event: Requested) -> None:
        job = self.state
        if event.budget:
            job.spec.budget = {**job.spec.budget, **event.budget}
        match event.op:
            case "add":
                self._reopen_job(event.at)
                self._queue(event.tasks, None, event.at)
            case "cancel":
                self._cancel(event)
            case "pause":
                job.phase = s.PAUSED
            case "resume":
                self._end_pause(event.at)
            case "retry":
                if event.earlier_runs is not None:
                    job.earlier_runs = event.earlier_runs
                    job.backfill = True
                self._queue_again(tasks_to_retry(job, event.task), event.at)
            case "rerun":
                self._rerun(event)
            case "approve" | "reject" | "expire":
                self._answer(event, job.tasks[event.task or ""])
            case _:  # `confirm-gone` says something about a runner, nothing about the job
                pass

    def _cancel(self, event: Requested) -> None:
        job = self.state
        self._release(list(job.kept) if event.task is None else [event.task], event.at)
        if job.ended:
            return
        if event.task is None:
            # The first cancel leaves clean-up tasks their chance; asked again, it limits their time, and then ends it.
            self._end_pause(event.at)
            if job.stop != s.CANCELLED:
                job.stop = s.CANCELLED
                self._stop_runs(s.CANCELLED)
                self._drop_queued(event.at)
            elif job.cleanup_from is None:
                job.cleanup_from = event.at
            else:
                self._end_cleanup(event.at)
            return
        task = job.tasks[event.task]
        if isinstance(task.status, Running):
            self._ask_stop(task.status.seq, s.CANCELLED)
        elif isinstance(task.status, Queued):
            self._close_one(task, Done(s.CANCELLED, s.CANCELLED, to_text(event.at)), event.at)
            self._stop_after(task, event.at)

    def _answer(self, event: Requested, task: TaskState) -> None:
        """End a task that asked for approval."""
        phase, reason = _ANSWERS[event.op]
        self._settle(
            task, Done(phase, reason, to_text(event.at), message=event.message, result=event.result), (), event.at
        )

    def _join(self, event: Joined) -> None:
        """End a task whose child job has ended."""
        phase: s.TaskPhase = s.SUCCEEDED if event.phase == s.SUCCEEDED else s.FAILED
        done = Done(phase, event.reason, to_text(event.at), message=event.message, result=event.result)
        task = self.state.tasks[event.task]
        self._close_one(task, done, event.at)
        self._stop_after(task, event.at)

    def _reuse(self, event: Memoized) -> None:
        """End a task that has the result of an earlier run."""
        task = self.state.tasks[event.task]
        task.cached = event.reused
        self._settle(task, Done(s.SUCCEEDED, s.OK, to_text(event.at), result=event.result), (), event.at)

    def _rerun(self, event: Requested) -> None:
        job = self.state
        again, superseded = tasks_to_rerun(job, event.task, downstream=event.downstream)
        for changed in event.tasks:
            for name in LATE_FIELDS:
                setattr(job.tasks[changed.id or ""], name, getattr(changed, name))
        for task in superseded:
            task.status = Done(s.SKIPPED, s.OK, to_text(event.at))
            task.superseded = True
        self._queue_again(again, event.at)
        for task in again:
            task.rerun = True

    def _queue_again(self, tasks: Iterable[TaskState], at: float) -> None:
        self._reopen_job(at)
        for task in tasks:
            self._release([task.id], at)
            task.status = Queued()
            task.charged = task.faults = task.again = 0
            task.again_since = task.ready_at = None
            task.resolved = task.rerun = False
            task.cached = None
        self._rebuild(at)

    def _reopen_job(self, at: float) -> None:
        job = self.state
        job.stop = job.message = job.cleanup_from = None
        job.cleanup_over = False
        if job.phase != s.PAUSED:
            job.over_budget = None
        if job.ended:
            job.reopened_from = job.phase
            job.phase = s.QUEUED if job.started_at is None else s.RUNNING
            job.reason = job.finished_at = None
            job.deadline_from = None if job.started_at is None else at

    def _tell(self, event: Late | Asked | NoticeSettled) -> None:
        job = self.state
        if isinstance(event, Asked):
            for name in self.progress.asking - self.progress.asking_now():
                task = job.tasks[name]
                until = task.status.waits_until if isinstance(task.status, Queued) else None
                task.ready_at = event.at if until is None else max(event.at, until)
        if not isinstance(event, NoticeSettled):
            job.late_since = event.at if isinstance(event, Late) else job.late_since
            return
        about = (event.version, event.on, event.to)
        kept = [notice for notice in job.notices if notice.name != about or event.failed is not None]
        job.notices = [replace(one, failed=event.failed) if one.name == about else one for one in kept]


def _kept(run: Running, event: Ended, until: float) -> KeptRunner:
    runner = None if run.origin is None else run.origin.runner
    since = round(event.moments.gone, 3)  # as exact as it is written
    return KeptRunner(event.seq, run.slot, since, until, event.backend, runner, event.price, event.currency)


_ANSWERS: Mapping[str, tuple[s.TaskPhase, str]] = {
    "approve": (s.SUCCEEDED, s.OK),
    "reject": (s.FAILED, s.DECLINED),
    "expire": (s.FAILED, s.TIMEOUT),
}
"""Phase and reason of a task that asked for approval, by what became of it."""
_PHASES: Mapping[str, s.TaskPhase] = {s.OK: s.SUCCEEDED, s.CANCELLED: s.CANCELLED, s.SKIP_ON: s.SKIPPED}
"""The phase of a task after its last run, by its reason; after any other it has failed."""
