"""Which notifications a decision queues, and what they say. Pure: who sends them, and how, is others' business."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from air_executor.core.budget import raise_hint, spending
from air_executor.core.end_reasons import count_text, job_end
from air_executor.model import state as s
from air_executor.model.job import NotifyRule
from air_executor.model.notice import Notice
from air_executor.model.plain_text import clean
from air_executor.model.state import Done, JobState, TaskState
from air_executor.model.times import to_text

FAILURE, LATE, RECOVERED, SUCCESS, APPROVAL = "failure", "late", "recovered", "success", "approval"
BUDGET = "budget"
QUESTIONS_SHOWN = 10
LONGEST_TEXT = 2000
"""Characters of a notification's text, beside the end of a log."""


def occasions_of(
    job: JobState, *, ended: bool, became_late: bool, asks: bool, overspent: bool, before: Callable[[], str | None]
) -> list[str]:
    """Return what a decision means to people. `before` returns how the last run of the job's name ended."""
    if became_late:
        return [LATE]
    found = [BUDGET] if overspent else []
    if asks and not ended:
        found.append(APPROVAL)
    return [*found, *_of_end(job, before)] if ended else found


def _of_end(job: JobState, before: Callable[[], str | None]) -> list[str]:
    if job.phase == s.CANCELLED:
        return []
    if job.phase == s.FAILED:
        return [FAILURE]
    return [SUCCESS, RECOVERED] if (job.reopened_from or before()) == s.FAILED else [SUCCESS]


def notices_of(job: JobState, occasions: Iterable[str], defaults: Sequence[NotifyRule], at: float) -> list[Notice]:
    """Return the notifications that are to be sent, each once; `defaults` are for jobs that say nothing of it."""
    rules = defaults if job.spec.notify is None else job.spec.notify
    names = dict.fromkeys((on, rule.to) for on in occasions for rule in rules if on in rule.on)
    return [Notice(at, job.version, on, to) for on, to in names]


def key_of(job: JobState, notice: Notice) -> str:
    """Return what receivers know a notification by that they get more than once."""
    return f"{job.uid}-{notice.version}-{notice.on}-{notice.to}"


@dataclass(frozen=True, slots=True)
class Message:
    """A notification as it is sent."""

    key: str
    title: str
    text: str
    facts: dict[str, Any]
    """What programs may want to know."""
    log: str = ""
    """The end of the log of the task that failed."""


def message_of(job: JobState, notice: Notice, page: str | None, log: str = "") -> Message:
    """Return what is sent. `page` is the address of the manager's page."""
    title = {
        FAILURE: f"{job.id} failed",
        LATE: f"{job.id} is late",
        RECOVERED: f"{job.spec.name or job.id} recovered: {job.id} succeeded",
        SUCCESS: f"{job.id} succeeded",
        APPROVAL: f"{job.id} asks for approval",
        BUDGET: f"{job.id} has used up its budget",
    }.get(notice.on, f"{job.id}: {notice.on}")
    link = None if page is None else f"{page.rstrip('/')}/jobs/{job.id}"
    text = {APPROVAL: _questions, BUDGET: _spent}.get(notice.on, _text)(job)
    lines = [text] if link is None else [text, link]
    facts = {
        "event": notice.on,
        "target": notice.to,
        "at": to_text(notice.at),
        "job": job.id,
        "uid": job.uid,
        "name": job.spec.name,
        "phase": job.phase,
        "reason": job.reason,
        "scheduled_at": None if job.scheduled_at is None else to_text(job.scheduled_at),
        "page": link,
    }
    return Message(key_of(job, notice), title, "\n".join(lines)[:LONGEST_TEXT], facts, log)


def test_message(target: str, now: float) -> Message:
    """Return what is sent to try a target."""
    at = to_text(now)
    facts = {"event": "test", "target": target, "at": at}
    return Message(f"test-{at}-{target}", "Air-Executor test", "This target gets notifications.", facts)


def _questions(job: JobState) -> str:
    asking = [task for task in job.tasks.values() if task.approve is not None and task.phase == s.QUEUED]
    lines = [
        f"Task {task.id} asks: {clean(task.approve)}\nair-executor approve {job.id} {task.id}"
        for task in asking[:QUESTIONS_SHOWN]
        if task.ready_at is not None
    ]
    return "\n".join(lines) or f"{_text(job)}; its question is answered by now"


def _spent(job: JobState) -> str:
    """Return what a job has used up, as it is now, and the command that goes on."""
    spent = [one.text for one in spending(job) if one.name == job.over_budget]
    return (
        "\n".join([_text(job), *(f"used: {one}" for one in spent), raise_hint(job).strip("`")]) if spent else _text(job)
    )


def _text(job: JobState) -> str:
    if job.ended:
        return clean(f"Job {job.id} {job_end(job)}")
    expected = "" if job.expect_by is None else f"; it was expected by {to_text(job.expect_by)}"
    ended = sum(isinstance(task.status, Done) for task in job.tasks.values())
    return f"Job {job.id} is {job.phase}: {ended} of {count_text(len(job.tasks), 'task')} ended{expected}"


def failed_task(job: JobState) -> TaskState | None:
    """Return the first task that failed, if it ran."""
    failed = [task for task in job.tasks.values() if task.phase == s.FAILED and task.attempts]
    return min(failed, key=lambda task: task.finished_at or "", default=None)


def notice_lines(job: JobState) -> list[str]:
    """Return what is to say about notifications that are not delivered: one line each."""
    return [
        f"notification of {notice.on} to {notice.to} "
        + (
            f"is not delivered yet, since {to_text(notice.at)}"
            if notice.failed is None
            else f"given up: {notice.failed}"
        )
        for notice in job.notices
    ]
