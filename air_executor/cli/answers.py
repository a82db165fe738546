"""Commands that answer what a task asks: `approve` and `reject`. Each writes a request file, as the other verbs do."""

from __future__ import annotations

import getpass
from typing import TYPE_CHECKING, Annotated, Any

import typer

from air_executor.cli.session import session_of
from air_executor.cli.verbs import print_answers
from air_executor.core.questions import asking_task
from air_executor.model.pairs import read_pairs

if TYPE_CHECKING:
    from air_executor.model.records import Op

JobName = Annotated[str, typer.Argument(metavar="JOB")]
TaskName = Annotated[str | None, typer.Argument(metavar="TASK", help="Default: the only task that asks.")]


def approve(
    ctx: typer.Context,
    job: JobName,
    task: TaskName = None,
    *,
    values: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="NAME=VALUE", help="A value for the result of the task; may be repeated."),
    ] = None,
) -> None:
    """Approve what a task asks: it succeeds, and its job goes on.

    Later tasks find the values of --set among their inputs.
    """
    _answer(ctx, "approve", job, task, values=read_pairs(values or (), "--set"))


def reject(
    ctx: typer.Context,
    job: JobName,
    task: TaskName = None,
    *,
    reason: Annotated[str | None, typer.Option("--reason", metavar="TEXT", help="Why; shown with the task.")] = None,
) -> None:
    """Reject what a task asks: the task fails with the reason `declined`."""
    _answer(ctx, "reject", job, task, message=reason)


def _answer(ctx: typer.Context, op: Op, job: str, task: str | None, **more: Any) -> None:  # noqa: ANN401 - see `Request`
    session = session_of(ctx)
    client = session.client()
    state = client.status(job)
    answer = client.ask(op, job, asking_task(state, task), by=_user(), **more)
    print_answers(session, op, [(state.id, answer)])


def _user() -> str:
    """Return who answers: the name of the user, or its number where that has none."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        import os  # noqa: PLC0415 - rarely needed

        return f"uid {os.getuid()}"
