"""Commands that send a request to the manager: `cancel`, `pause`, `resume`, `retry` and `confirm-gone`.

Each writes a request file and waits briefly for the answer.
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
    """Cancel a job, or one of its tasks.

    Running tasks are stopped within their grace period; queued tasks never run.
    """
    _ask(session_of(ctx), "cancel", job, task)


def pause(ctx: typer.Context, job: JobName) -> None:
    """Pause a job: running tasks finish, no new task starts."""
    _ask(session_of(ctx), "pause", job)


def resume(ctx: typer.Context, job: JobName) -> None:
    """Resume a paused job."""
    _ask(session_of(ctx), "resume", job)


def retry(ctx: typer.Context, job: JobName, task: TaskName = None) -> None:
    """Retry failed, cancelled and skipped tasks.

    An ended job is reopened. Tasks that succeeded are not repeated.
    """
    _ask(session_of(ctx), "retry", job, task)


def confirm_gone(ctx: typer.Context, job: JobName) -> None:
    """Confirm that a job's unreachable runners have ended.

    Use it only when you are sure, for example after the node was lost: Air-Executor then starts the tasks again.
    """
    _ask(session_of(ctx), "confirm-gone", job)


def _ask(session: Session, op: Op, job: str, task: str | None = None) -> None:
    print_answer(session, op, job, session.client().ask(op, job, task))


def print_answer(session: Session, op: Op, job: str, answer: Answer) -> None:
    """Print the answer to a request."""
    if session.json:
        print_json({"request": answer.request, "applied": answer.applied})
    elif answer.applied:
        say(f"{op} {job}: done")
    if not answer.applied:
        start = f"start one: `air-executor manager`, or `air-executor run {job}`"
        note(f"no manager has answered; the next manager applies the request ({start})")
