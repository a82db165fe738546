"""`air-executor add`: add tasks to an existing job."""

from __future__ import annotations

from typing import Annotated

import typer

from air_executor.cli import job_input
from air_executor.cli.session import command_given, session_of
from air_executor.cli.verbs import print_answers


def add(
    ctx: typer.Context,
    *,
    job: Annotated[str, typer.Argument(metavar="JOB")],
    words: Annotated[
        list[str],
        typer.Argument(
            metavar="FILE | -- COMMAND…",
            help="A command, or a file (`-` for stdin) with one JSON task per line, as in $AIR_QUEUE.",
        ),
    ],
    task: Annotated[str | None, typer.Option("--id", metavar="TASK", help="Task id. Default: generated.")] = None,
    after: Annotated[
        list[str] | None,
        typer.Option(metavar="TASK", help="Task that must succeed first, with every task it queued. Repeatable."),
    ] = None,
    priority: Annotated[int | None, typer.Option(help="Priority within the job; higher starts first.")] = None,
    env: job_input.Env = None,
    timeout: job_input.Timeout = None,
    retries: job_input.Retries = None,
    retry_delay: job_input.RetryDelay = None,
    delay: job_input.Delay = None,
    workdir: job_input.Workdir = None,
) -> None:
    """Add tasks to a job; an ended job is reopened."""
    session = session_of(ctx)
    tasks = job_input.read_tasks(
        words,
        {
            "id": task,
            "after": after,
            "priority": priority,
            "env": env,
            "timeout": timeout,
            "retries": retries,
            "retry_delay": retry_delay,
            "delay": delay,
            "workdir": workdir,
        },
        command=command_given(ctx),
    )
    print_answers(session, "add", [(job, session.client().add(job, tasks))])
