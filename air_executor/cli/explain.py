"""`air-executor explain`: why something is not running, or how it ended, in one line; then what it runs and is for."""

from __future__ import annotations

import time
from typing import Annotated

import typer

from air_executor.cli.flags import JobArgument
from air_executor.cli.session import session_of, task_id
from air_executor.cli.table import terminal_width
from air_executor.cli.terminal import print_json, say
from air_executor.core.command_text import LONGEST, command_text
from air_executor.core.explanation import explain_job, explain_task
from air_executor.core.task_runs import attempt_lines
from air_executor.errors import NotFoundError
from air_executor.model.state import TaskState


def explain(
    ctx: typer.Context,
    job: JobArgument,
    task: Annotated[str | None, typer.Argument(metavar="TASK", help="Default: the whole job.")] = None,
) -> None:
    """Explain in one line why a job or task isn't running, or how it ended.

    Its description follows; for a task also its command and, if it has run several times, its attempts.

    Limits are those of the running manager; without one, those of the settings of this shell.
    """
    session = session_of(ctx)
    client = session.client()
    try:
        state = client.status(job)
    except NotFoundError:
        from air_executor.cli.schedule import upcoming  # noqa: PLC0415 - only where there is no job

        if not (found := upcoming(client.schedules, time.time(), job)):
            raise
        say(f"{found[0]}; it has not run yet")
        return
    task = task_id(state, task)
    settings = None if state.ended or session.server_address else session.reader_settings()
    context = client.explain_context(state, client.job_facts(), time.time(), settings)
    text = explain_job(state, context) if task is None else explain_task(state, state.tasks[task], context)
    about = state.spec.description if task is None else state.tasks[task].description
    if session.json:
        print_json(
            {
                "job": state.id,
                "task": task,
                "phase": state.phase if task is None else state.tasks[task].phase,
                "explanation": text,
                "description": about,
            }
        )
    else:
        say(text)
        if task is None and state.id != job and client.has_schedules():
            from air_executor.cli.schedule import upcoming_of  # noqa: PLC0415 - only where there may be one

            for one in upcoming_of(client, state, time.time()):
                say(one)
        for one in (about or "").splitlines():
            say(one)
        for one in _details(state.tasks[task]) if task is not None else ():
            say(one)


def _details(task: TaskState) -> list[str]:
    """Return the command of a task, and its attempts."""
    label = "command: "
    command = command_text(task, (terminal_width() or LONGEST) - len(label))
    return [*([f"{label}{command}"] if command is not None else []), *attempt_lines(task)]
