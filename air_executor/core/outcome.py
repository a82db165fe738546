"""How a task ended, in a few words for people: the reason, and the meaning of the exit code."""

from __future__ import annotations

import signal

from air_executor.model import state as s
from air_executor.model.state import Done, Running, TaskState

DEADLINE_PASSED = "the deadline of its job passed"
CLEANUP_OVER = "the time for clean-up tasks of its job passed"
_NOT_FOUND, _NOT_EXECUTABLE, _SIGNALLED = 127, 126, 128

_WORDS = {
    s.TIMEOUT: "timed out",
    s.STALLED: "stalled",
    s.OOM: "ran out of memory",
    s.CANCELLED: "cancelled",
    s.LOST: "its runner was lost",
    s.EVICTED: "its runner was evicted",
    s.START_FAILED: "its runner could not be started",
    s.REJECTED: "a result or a task it queued is invalid",
    s.BUDGET: "the job exceeds max_tasks",
    s.UPSTREAM: "another task did not succeed",
    s.OK: "its `when` condition was not met",
    s.REQUEUE: "it will run again at no charge",
    s.AGAIN: "it asked to run again later",
    s.DECLINED: "rejected",
    s.ONLY_IF: "its `only_if` is not met",
    s.SKIP_ON: "its exit code says that there is nothing to do",
}


def exit_text(code: int) -> str:
    """Return an exit code with its conventional meaning."""
    if code == _NOT_FOUND:
        return "exit code 127: command not found"
    if code == _NOT_EXECUTABLE:
        return "exit code 126: not executable"
    if code > _SIGNALLED:
        try:
            return f"exit code {code}: killed by {signal.Signals(code - _SIGNALLED).name}"
        except ValueError:
            pass
    return f"exit code {code}"


def reason_text(reason: str, exit_code: int | None) -> str:
    """Return why a run ended, in words."""
    if reason == s.ERROR:
        return "failed" if exit_code is None else exit_text(exit_code)
    return _WORDS.get(reason, reason)


def ended_by_job(message: str | None) -> bool:
    """Tell whether a limit of its job ended a run or a task, by its message."""
    return message is not None and message.startswith((DEADLINE_PASSED, CLEANUP_OVER))


def stop_text(run: Running) -> str:
    """Return why a run is being stopped; "" if it isn't."""
    return f"is being stopped: {run.stop_message or reason_text(run.stop, None)}" if run.stop else ""


def phase_text(task: TaskState) -> str:
    """Return the phase of a task, and that its failure is allowed."""
    return "failed (allowed)" if task.phase == s.FAILED and not task.has_failed else task.phase


def outcome_text(done: Done) -> str:
    """Return why a task ended, with its message if there is one."""
    if done.phase == s.SUCCEEDED:
        return "ok"
    if done.message and (done.reason == s.DECLINED or ended_by_job(done.message)):
        return done.message
    if done.message and done.reason == s.ERROR and done.exit_code is not None:
        return f"exit code {done.exit_code}: {done.message}"
    text = reason_text(done.reason, done.exit_code)
    return f"{text}: {done.message}" if done.message else text
