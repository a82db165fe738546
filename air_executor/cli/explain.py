"""`air-executor explain`: why something is not running, or how it ended, in one line."""

from __future__ import annotations

import time
from typing import Annotated

import typer

from air_executor.cli.session import session_of, task_id
from air_executor.cli.terminal import print_json, say
from air_executor.core.explanation import explain_job, explain_task


def explain(
    ctx: typer.Context,
    job: Annotated[str, typer.Argument(metavar="JOB")],
    task: Annotated[str | None, typer.Argument(metavar="TASK", help="Default: the whole job.")] = None,
) -> None:
    """Explain in one line why a job or task isn't running, or how it ended.

    Limits are those of the running manager; without one, those of the settings of this shell.
    """
    session = session_of(ctx)
    client = session.client()
    state = client.status(job)
    task = task_id(state, task)
    settings = None if state.ended else session.reader_settings()
    context = client.explain_context(state, client.job_facts(), time.time(), settings)
    text = explain_job(state, context) if task is None else explain_task(state, state.tasks[task], context)
    if session.json:
        print_json(
            {
                "job": state.id,
                "task": task,
                "phase": state.phase if task is None else state.tasks[task].phase,
                "explanation": text,
            }
        )
    else:
        say(text)
