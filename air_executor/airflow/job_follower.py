"""Follow a job from Airflow's side: show its output as it is printed, then say how it ended.

Called by operators and triggers one step at a time, because each of them waits in its own way. Knows nothing of
Airflow.
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
from air_executor.core.questions import asking_now, asks
from air_executor.errors import NotFoundError, StoreError
from air_executor.model.state import SKIPPED, SUCCEEDED, Done, JobState, TaskState
from air_executor.model.usage import Usage
from air_executor.store.presence import read_presence

OUTCOME_KEY = "outcome"
"""Key of the XCom with the outcome."""
MAX_TASKS = 200
"""Number of tasks that an outcome lists: Airflow keeps it in its database."""
STORE_TIMEOUT = 300.0
"""Seconds for which the volume may be unreadable before the Airflow task fails."""
MANAGER_CHECK_INTERVAL = 15.0
"""Seconds between two checks that a manager is running."""
LINES_PER_STEP = 50
"""Lines that one step shows, so that a job that prints much does not hold up the lines of others."""
_FIRST_PAUSE, _GROWTH = 0.05, 1.3


class JobFollower:
    """One job, followed to its end."""

    def __init__(self, client: Client, job: JobRef, show: Callable[[str], None], poll_interval: float) -> None:
        self._client = client
        self._job = job
        self._show = show
        self._log = TaskLog(client, job)
        self._poll_interval = float(poll_interval)
        self._pause = _FIRST_PAUSE
        self._state: JobState | None = None
        self._changed_at: tuple[int, int, int] | None = None
        """Identifies the version of the state file that `_state` was read from."""
        self._failing_since: float | None = None
        self._in_use_since: float | None = None
        self._stopped = False
        self._asked: set[str] = set()
        """Tasks whose question was shown."""
        self._manager_checked = time.monotonic()
        self._managed = True

    def step(self) -> float | JobState:
        """Show new output; return the seconds to wait before the next step, or the final state of the job.

        Zero seconds means that there is more output to show now.

        Raises:
            NotFoundError: the job was removed.
            CorruptFileError: its state cannot be read.
            StoreError: the volume has been unreadable for five minutes.
        """
        try:
            state, more = self._poll()
        except StoreError as error:
            if self._failing_since is None:
                self._failing_since = time.monotonic()
                self._show(f"The state directory cannot be read now, the job continues: {error}")
            elif time.monotonic() - self._failing_since > STORE_TIMEOUT:
                raise
            return self._poll_interval
        self._failing_since = None
        if self._log.in_use:
            return self._wait_for_log(state)
        self._in_use_since = None
        if more:
            return 0.0
        if state.ended:
            return state
        self._check_manager()
        self._pause = min(self._poll_interval, self._pause * _GROWTH)
        return self._pause

    def stop(self) -> None:
        """Show nothing more, not even from a step that runs in another thread: the next process shows it."""
        self._stopped = True

    def all_written(self) -> None:
        """Note that Airflow has written everything that was shown, so that the next process repeats nothing.

        If the volume refuses that, the next process repeats a few seconds.
        """
        with contextlib.suppress(StoreError):
            self._log.all_written()

    def _wait_for_log(self, state: JobState) -> float | JobState:
        """Wait for another process that shows the log, such as a paused triggerer; after the job for a limited time."""
        if self._in_use_since is None:
            self._in_use_since = time.monotonic()
            self._show("Another process is showing the output of this job: waiting until it stops")
        elif state.ended and time.monotonic() - self._in_use_since > STORE_TIMEOUT:
            self._show(f"The output was not shown to its end; see: air-executor logs {state.id}")
            return state
        return self._poll_interval

    def _check_manager(self) -> None:
        """Say when no manager is running any more, and when one is running again."""
        if time.monotonic() - self._manager_checked < MANAGER_CHECK_INTERVAL:
            return
        self._manager_checked = time.monotonic()
        managed = read_presence(self._client.layout).running is not False
        if managed != self._managed:
            where = self._client.layout.root
            self._show(
                f"A manager is running in {where} again"
                if managed
                else f"No manager is running in {where} any more: running tasks go on, no new ones start"
            )
        self._managed = managed

    def _poll(self) -> tuple[JobState, bool]:
        """Show new output; return the job's state, and whether there is more output."""
        changed_at = self._client.changed_at(self._job.id)
        if self._state is None or changed_at != self._changed_at:
            self._state = status_of(self._client, self._job)
            self._changed_at = changed_at
            self._show_questions(self._state)
        for number, line in enumerate(self._log.new_lines(self._state)):
            if self._stopped or number == LINES_PER_STEP:
                return self._state, True
            self._show(line)
        return self._state, False

    def _show_questions(self, state: JobState) -> None:
        """Show what tasks ask, once each."""
        asking = asking_now(state)
        for task in asking:
            if task.id not in self._asked:
                question = asks(state, task, time.time())
                self._show(f"Task {task.id} {question}; the button Air-Executor job leads to its page")
        self._asked = {task.id for task in asking}


def status_of(client: Client, job: JobRef) -> JobState:
    """Return the state of this job, never of a later one that reuses its id.

    Raises:
        NotFoundError: the job was removed.
        CorruptFileError: its state cannot be read.
        StoreError: the volume refused.
    """
    state = client.status(job.id)
    if state.uid != job.uid:
        msg = f"job {job.id} was removed, and another job has its id now"
        raise NotFoundError(msg)
    return state


def log_start(log: logging.Logger, attached: AttachedJob, target: JobTarget) -> None:
    """Write to the task's log which job it has and where, and warn if that job cannot run there."""
    job = attached.state.id
    page = target.page_of(job)
    verb = "Attached to" if attached.existed else "Submitted"
    log.info("%s job %s in %s%s", verb, job, target.state_dir, f", {page}" if page else "")
    healthy, message = target.check()
    if not healthy:
        log.warning("%s", message)


def outcome_of(state: JobState, page: str | None) -> dict[str, Any]:
    """Return the outcome of a job and of each of its tasks, including queued ones, as Airflow shows and keeps it."""
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
        "tasks": [_task_outcome(task) for task in tasks[:MAX_TASKS]],
        **({"more_tasks": len(tasks) - MAX_TASKS} if len(tasks) > MAX_TASKS else {}),
    }


def _task_outcome(task: TaskState) -> dict[str, Any]:
    status = task.status
    ended = {"reason": status.reason, "message": status.message} if isinstance(status, Done) else {}
    optional = {"queued_by": task.queued_by, **ended}
    attempts = [
        {"run": one.seq, "reason": one.reason, "runner_seconds": round(one.runner_seconds, 3), "cost": one.cost}
        for one in task.attempts
    ]
    return {
        "id": task.id,
        "phase": task.phase,
        **{name: value for name, value in optional.items() if value is not None},
        "attempts": attempts,
    }


def summary_of(state: JobState) -> str:
    """Return the last line of a job's log: how it ended, its runs, its runner-seconds, its cost."""
    usage = state.usage
    cost = "".join(f", {money(amount)} {currency}" for currency, amount in _costs(usage).items())
    return f"job {state.id} {state.phase}: {usage.runs} runs, {usage.runner_seconds:.3f} runner-seconds{cost}"


def _costs(usage: Usage) -> dict[str, float]:
    return {**({usage.currency: usage.cost} if usage.currency else {}), **usage.other_costs}


def failure_of(state: JobState) -> str:
    """Return why a job did not succeed: its reason, and the tasks that failed with theirs."""
    lines = [f"job {state.id} {state.phase} ({state.reason}){f': {state.message}' if state.message else ''}"]
    for task in state.tasks.values():
        status = task.status
        if isinstance(status, Done) and status.phase not in (SUCCEEDED, SKIPPED):
            code = f", exit code {status.exit_code}" if status.exit_code else ""
            message = f": {status.message}" if status.message else ""
            lines.append(f"task {task.id} {status.phase} ({status.reason}{code}){message}")
    return "; ".join(lines[: MAX_TASKS // 10])
