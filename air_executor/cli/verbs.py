"""Commands that ask something of the manager: `cancel`, `pause`, `resume`, `retry` and `confirm-gone`.

All work alike: a request file, and a short wait for the answer.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from air_executor.cli.session import Session, session_of
from air_executor.cli.terminal import note, print_json, say

if TYPE_CHECKING:
    from air_executor.client import Answer
    from air_executor.model.records import Op

JobName = Annotated[str, typer.Argument(metavar="JOB")]
TaskName = Annotated[str | None, typer.Argument(metavar="TASK", help="Default: the whole job.")]


def cancel(ctx: typer.Context, job: JobName, task: TaskName = None) -> None:
    """Cancel a job or one of its tasks: what runs is stopped with its grace, what is queued never runs."""
    _ask(session_of(ctx), "cancel", job, task)


def pause(ctx: typer.Context, job: JobName) -> None:
    """Pause a job: running tasks finish, nothing new starts."""
    _ask(session_of(ctx), "pause", job)


def resume(ctx: typer.Context, job: JobName) -> None:
    """Let a paused job go on."""
    _ask(session_of(ctx), "resume", job)


def retry(ctx: typer.Context, job: JobName, task: TaskName = None) -> None:
    """Queue failed, cancelled and skipped tasks again; an ended job is reopened. What succeeded is not repeated."""
    _ask(session_of(ctx), "retry", job, task)


def confirm_gone(ctx: typer.Context, job: JobName) -> None:
    """Confirm that the runners of a job are gone, where the platform cannot tell (a lost node). Be sure of it."""
    _ask(session_of(ctx), "confirm-gone", job)


def _ask(session: Session, op: Op, job: str, task: str | None = None) -> None:
    tell(session, op, job, session.client().ask(op, job, task))


def tell(session: Session, op: Op, job: str, answer: Answer) -> None:
    """Say what became of a request."""
    if session.json:
        print_json({"request": answer.request, "applied": answer.applied})
    elif answer.applied:
        say(f"{op} {job}: done")
    if not answer.applied:
        start = f"start one: `air-executor manager`, or `air-executor run {job}`"
        note(f"no manager has answered; the request stays until one does ({start})")
