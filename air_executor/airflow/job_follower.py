"""See a job through from Airflow's side: its output as it comes, then what became of it.

Called by operators and triggers, one step at a time, so that each can wait in its own way. Knows nothing of Airflow.
"""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Callable
from typing import Any

from air_executor.airflow.attach import AttachedJob
from air_executor.airflow.job_target import JobTarget
from air_executor.airflow.notes import JobRef
from air_executor.airflow.task_log import TaskLog
from air_executor.client import Client
from air_executor.core.job_cost import money
from air_executor.errors import NotFoundError, StoreError
from air_executor.model.state import SKIPPED, SUCCEEDED, Done, JobState, TaskState
from air_executor.model.usage import Usage
from air_executor.store.presence import read_presence

OUTCOME_KEY = "outcome"
"""The XCom that has it."""
MOST_TASKS = 200
"""How many tasks an outcome lists: Airflow keeps it in its database."""
PATIENCE = 300.0
"""Seconds that a volume may refuse before a task that waits for a job gives up."""
CHECK_SECONDS = 15.0
"""Between two looks whether a manager is at work."""
MOST_LINES = 50
"""How many lines one step shows, so that a job that prints much does not keep others' lines from being shown."""
_FIRST_PAUSE, _GROWTH = 0.05, 1.3


class JobFollower:
    """One job, followed to its end."""

    def __init__(self, client: Client, job: JobRef, show: Callable[[str], None], longest_pause: float) -> None:
        self._client = client
        self._job = job
        self._show = show
        self._log = TaskLog(client, job)
        self._longest_pause = float(longest_pause)
        self._pause = _FIRST_PAUSE
        self._seen: tuple[int, int, int] | None = None
        self._failing_since: float | None = None
        self._stopped = False
        self._state: JobState | None = None
        self._checked = time.monotonic()
        self._managed = True

    def step(self) -> float | JobState:
        """Show what came since; return how many seconds to wait before the next step, or what the job ended as.

        Zero seconds means that there is more to show now.

        Raises:
            NotFoundError: somebody has removed the job.
            CorruptFileError: its state cannot be read.
            StoreError: the volume has refused for five minutes.
        """
        try:
            state, more = self._look()
        except StoreError as error:
            if self._failing_since is None:
                self._failing_since = time.monotonic()
                self._show(f"The job goes on, but cannot be looked at now: {error}")
            elif time.monotonic() - self._failing_since > PATIENCE:
                raise
            return self._longest_pause
        self._failing_since = None
        if more:
            return 0.0
        if state.ended:
            return state
        self._check_manager()
        self._pause = min(self._longest_pause, self._pause * _GROWTH)
        return self._pause

    def stop(self) -> None:
        """Show nothing more, not even what a step in another thread has found: the next one to follow the job does."""
        self._stopped = True

    def settle(self) -> None:
        """Note that Airflow has all that was shown, so that the next one to follow the job repeats nothing.

        A volume that refuses that makes the next one repeat a few seconds.
        """
        with contextlib.suppress(StoreError):
            self._log.settle()

    def _check_manager(self) -> None:
        """Say when nobody looks after the job any more, and when somebody does again."""
        if time.monotonic() - self._checked < CHECK_SECONDS:
            return
        self._checked = time.monotonic()
        managed = read_presence(self._client.layout).running is not False
        if managed != self._managed:
            where = self._client.layout.root
            self._show(
                f"A manager is at work in {where} again"
                if managed
                else f"No manager is at work in {where} any more: what runs goes on, nothing new starts"
            )
        self._managed = managed

    def _look(self) -> tuple[JobState, bool]:
        """Show some of what came since; return the job's state, and whether there is more."""
        changed = self._client.changed_at(self._job.id)
        if self._state is None or changed != self._seen:
            self._state = find(self._client, self._job)
            self._seen = changed
        for number, line in enumerate(self._log.new_lines(self._state)):
            if self._stopped or number == MOST_LINES:
                return self._state, True
            self._show(line)
        return self._state, False


def find(client: Client, job: JobRef) -> JobState:
    """Return the state of this job, not that of another which has got its name.

    Raises:
        NotFoundError: it was removed.
        CorruptFileError: its state cannot be read.
        StoreError: the volume refused.
    """
    state = client.status(job.id)
    if state.uid != job.uid:
        msg = f"job {job.id} was removed, and there is another of its name now"
        raise NotFoundError(msg)
    return state


def announce(log: logging.Logger, taken: AttachedJob, place: JobTarget) -> None:
    """Write into the task's log which job it is, where, and what is amiss there."""
    page = place.page_of(taken.state.id)
    how = "Attached to" if taken.attached else "Submitted"
    log.info("%s job %s in %s%s", how, taken.state.id, place.state_dir, f", {page}" if page else "")
    well, said = place.check()
    if not well:
        log.warning("%s", said)


def outcome(state: JobState, page: str | None) -> dict[str, Any]:
    """Return what became of a job and of each of its tasks, the queued ones included, as Airflow shows and keeps it."""
    tasks = list(state.tasks.values())
    return {
        "job": state.id,
        "phase": state.phase,
        "reason": state.reason,
        **({"message": state.message} if state.message else {}),
        **({"page": page} if page else {}),
        "runs": state.usage.runs,
        "runner_seconds": round(state.usage.runner_seconds, 3),
        "cost": {currency: round(amount, 6) for currency, amount in _costs(state.usage).items()},
        "tasks": [_task(task) for task in tasks[:MOST_TASKS]],
        **({"more_tasks": len(tasks) - MOST_TASKS} if len(tasks) > MOST_TASKS else {}),
    }


def _task(task: TaskState) -> dict[str, Any]:
    status = task.status
    ended = {"reason": status.reason, "message": status.message} if isinstance(status, Done) else {}
    said = {"queued_by": task.queued_by, **ended}
    attempts = [
        {"run": one.seq, "reason": one.reason, "runner_seconds": round(one.runner_seconds, 3), "cost": one.cost}
        for one in task.attempts
    ]
    return {
        "id": task.id,
        "phase": task.phase,
        **{k: v for k, v in said.items() if v is not None},
        "attempts": attempts,
    }


def bill_of(state: JobState) -> str:
    """Return the line that closes the log of a job."""
    usage = state.usage
    cost = "".join(f", {money(amount)} {currency}" for currency, amount in _costs(usage).items())
    return f"job {state.id} {state.phase}: {usage.runs} runs, {usage.runner_seconds:.3f} runner-seconds{cost}"


def _costs(usage: Usage) -> dict[str, float]:
    return {**({usage.currency: usage.cost} if usage.currency else {}), **usage.other_costs}


def what_failed(state: JobState) -> str:
    """Return why a job did not succeed: its reason, and the tasks that caused it."""
    lines = [f"job {state.id} {state.phase} ({state.reason}){f': {state.message}' if state.message else ''}"]
    for task in state.tasks.values():
        status = task.status
        if isinstance(status, Done) and status.phase not in (SUCCEEDED, SKIPPED):
            code = f", exit code {status.exit_code}" if status.exit_code else ""
            said = f": {status.message}" if status.message else ""
            lines.append(f"task {task.id} {status.phase} ({status.reason}{code}){said}")
    return "; ".join(lines[: MOST_TASKS // 10])
