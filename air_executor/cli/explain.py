"""`air-executor explain`: why something is not running, or how it ended, in one line."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Annotated

import typer

from air_executor.cli.session import session_of
from air_executor.cli.terminal import print_json, say
from air_executor.core.explanation import ExplainContext, explain_job, explain_task
from air_executor.errors import NotFoundError
from air_executor.model.state import RUNNING, JobState
from air_executor.store.presence import read_presence

if TYPE_CHECKING:
    from air_executor.client import Client
    from air_executor.settings import Settings


def explain(
    ctx: typer.Context,
    job: Annotated[str, typer.Argument(metavar="JOB")],
    task: Annotated[str | None, typer.Argument(metavar="TASK", help="Default: the whole job.")] = None,
) -> None:
    """Say in one line why a job or a task is not running, or how it ended.

    Limits are those of this shell's settings; a manager that was started with other flags has its own.
    """
    session = session_of(ctx)
    client = session.client()
    state = client.status(job)
    if task is not None and task not in state.tasks:
        msg = f"job {job} has no task {task}; `air-executor status {job}` lists them"
        raise NotFoundError(msg)
    around = _around(client, session.settings(), state)
    text = explain_job(state, around) if task is None else explain_task(state, state.tasks[task], around)
    if session.json:
        print_json(
            {
                "job": job,
                "task": task,
                "phase": state.phase if task is None else state.tasks[task].phase,
                "explanation": text,
            }
        )
    else:
        say(text)


def _around(client: Client, settings: Settings, state: JobState) -> ExplainContext:
    if state.ended:
        return ExplainContext(time.time())
    running: dict[str, int] = {}
    for other in client.all():
        if isinstance(other, JobState) and not other.ended:
            count = sum(task.phase == RUNNING for task in other.tasks.values())
            running[other.queue] = running.get(other.queue, 0) + count
    manager = read_presence(client.layout)
    return ExplainContext(
        backend=manager.backend if manager.running is not False else settings.backend,
        host=manager.record.get("host") if manager.running is not False else None,
        backend_problem=manager.backend_problem,
        waiting=manager.waiting.get(state.id),
        runners=client.runners(state),
        now=time.time(),
        manager=manager.running,
        passed_over_for=(manager.only or ()) if manager.passes_over(state.id, state.submitted_by) else (),
        jobs={
            name: phase for name, uid in state.after_uids.items() if (phase := _phase(client, name, uid)) is not None
        },
        running=sum(running.values()),
        max_runners=settings.max_runners,
        running_in_queue=running.get(state.queue, 0),
        queue_limit=settings.queues.get(state.queue),
    )


def _phase(client: Client, name: str, uid: str) -> str | None:
    try:
        found: JobState | None = client.status(name)
    except NotFoundError:
        return None
    if found is not None and found.uid != uid:
        found = client.jobs.archived(name, uid)
    return None if found is None else found.phase
