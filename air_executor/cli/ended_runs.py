"""The lines of `run` about runs and tasks that have ended, in the order of events: one for each attempt.

Finds what is new by comparing states; whoever prints decides where. Pure.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import NamedTuple

from air_executor.core.memory import memory_of
from air_executor.core.outcome import ended_by_job, phase_text, reason_text
from air_executor.model.attempt import Attempt
from air_executor.model.names import is_generated_id
from air_executor.model.sizes import format_memory
from air_executor.model.state import (
    AGAIN,
    CANCELLED,
    OK,
    OOM,
    REQUEUE,
    SKIP_ON,
    SUCCEEDED,
    TIMEOUT,
    Done,
    JobState,
    TaskState,
)
from air_executor.model.times import format_duration, from_text


class EndedRun(NamedTuple):
    """A run, or a task that ended without one."""

    at: float
    """When it ended, in Unix seconds."""
    job: JobState
    task: str
    seq: int | None
    """Number of the run; None: the task ended without one."""
    text: str
    """Empty: nothing to report."""
    style: str


def already_ended(job: JobState) -> str:
    """Return what `run` says of a job that has nothing left to do."""
    how = "give its file or command" if job.spec.name else "give its file or command, and --replace"
    goes_on = "" if job.phase == SUCCEEDED else f"to continue it, `air-executor retry {job.id}`; "
    return f"job {job.id} has already ended ({job.phase}); {goes_on}to run it again, {how}"


class EndedRuns:
    """Remembers what was reported."""

    def __init__(self, known: Iterable[JobState] = ()) -> None:
        """What has ended in the `known` states is not reported."""
        self._seen: dict[tuple[str, str], tuple[int, bool]] = {}
        """By job and task: number of the last run reported, and whether the end of the task was."""
        self.news(known)

    def news(self, jobs: Iterable[JobState]) -> list[EndedRun]:
        """Return what has ended since the last call, in the order in which it ended."""
        found = [ended for job in jobs for task in job.tasks.values() for ended in self._of_task(job, task)]
        return sorted(found, key=lambda ended: ended.at)

    def _of_task(self, job: JobState, task: TaskState) -> Iterator[EndedRun]:
        key = job.uid, task.id
        reported, over = self._seen.get(key, (0, False))
        last = task.attempts[-1].seq if task.attempts else 0
        done = task.status if isinstance(task.status, Done) else None
        if last == reported and over == (done is not None):
            return
        self._seen[key] = last, done is not None
        for attempt in task.attempts:
            if attempt.seq > reported:
                final = done is not None and attempt.seq == last
                yield EndedRun(
                    attempt.gone_at,
                    job,
                    task.id,
                    attempt.seq,
                    *_of_attempt(_name(job, task), task, attempt, final=final),
                )
        if done is not None and last == reported:  # no run of its own ended it
            text, style = f"{_name(job, task)} {done.phase}", "yellow" if done.phase == CANCELLED else "bright_black"
            yield EndedRun(from_text(done.finished_at), job, task.id, None, text, style)


def _name(job: JobState, task: TaskState) -> str:
    """Return what a task is called where its job is known: a single command has the name of its job."""
    return job.id if len(job.tasks) == 1 and is_generated_id(task.id) else task.id


_AS_INTENDED = {
    OK: ("succeeded in", "green"),
    CANCELLED: ("was cancelled after", "yellow"),
    AGAIN: ("asked to run again after", "bright_black"),
    SKIP_ON: ("found nothing to do in", "bright_black"),
}


def _of_attempt(name: str, task: TaskState, attempt: Attempt, *, final: bool) -> tuple[str, str]:
    took = format_duration(attempt.work)
    if attempt.reason == REQUEUE:
        return "", ""
    if attempt.reason in _AS_INTENDED:
        words, style = _AS_INTENDED[attempt.reason]
        return f"{name} {words} {took}", style
    why = reason_text(attempt.reason, attempt.exit_code)
    if attempt.message and attempt.reason == TIMEOUT:
        why = attempt.message if ended_by_job(attempt.message) else f"{why}: {attempt.message}"
    if final:
        return f"{name} {phase_text(task)} in {took} ({why})", "red" if task.has_failed else "yellow"
    text = f"{name} failed in {took} ({why})"
    limit = memory_of(task) if attempt is task.attempts[-1] and attempt.reason == OOM else None
    return f"{text}, will be retried{f' with {format_memory(limit)}' if limit else ''}", "yellow"
