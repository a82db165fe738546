"""`air-executor add`: add tasks to an existing job."""

from __future__ import annotations

from typing import Annotated

import typer

from air_executor.cli import job_input
from air_executor.cli.flags import JobArgument
from air_executor.cli.session import session_of
from air_executor.cli.verbs import print_answers


def add(
    ctx: typer.Context,
    *,
    job: JobArgument,
    words: Annotated[
        list[str],
        typer.Argument(
            metavar="FILE | -- COMMAND…",
            help="A command, or a file (`-` for stdin): YAML, or one JSON task per line, as in $AIR_QUEUE.",
        ),
    ],
) -> None:
    """Add tasks to a job; an ended job is reopened."""
    session = session_of(ctx)
    print_answers(session, "add", [(job, session.client().add(job, job_input.read_tasks(ctx, words)))])
