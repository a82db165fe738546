"""`air-executor submit`: submit a job to the state directory, with or without a manager."""

from __future__ import annotations

import typer

from air_executor.cli import job_input
from air_executor.cli.session import command_given, session_of
from air_executor.cli.start_command import start_command
from air_executor.cli.terminal import note, print_json, say


def submit(
    ctx: typer.Context,
    *,
    words: job_input.Words,
    max_runners: job_input.MaxRunners = None,
    pool: job_input.Pool = None,
    queue: job_input.Queue = None,
    priority: job_input.Priority = None,
    after: job_input.After = None,
    env: job_input.Env = None,
    timeout: job_input.Timeout = None,
    retries: job_input.Retries = None,
    retry_delay: job_input.RetryDelay = None,
    delay: job_input.Delay = None,
    workdir: job_input.Workdir = None,
) -> None:
    """Submit a job and print its id.

    The job is stored durably when this returns. The running manager, or the next one, runs it.
    """
    session = session_of(ctx)
    job = job_input.read_job(
        words,
        job_input.job_fields(max_runners=max_runners, pool=pool, queue=queue, priority=priority, after=after),
        {
            "env": env,
            "timeout": timeout,
            "retries": retries,
            "retry_delay": retry_delay,
            "delay": delay,
            "workdir": workdir,
        },
        command=command_given(ctx),
    )
    job_input.warn_of(job)
    client = session.client()
    state = client.submit(job)
    if session.json:
        print_json({"id": state.id, "uid": state.uid, "phase": state.phase})
    else:
        say(state.id)
    from air_executor.store.presence import read_presence  # noqa: PLC0415 - after the submission

    manager = read_presence(client.layout)
    to_run = f"to run this job: `air-executor run {state.id}`"
    if manager.running is False:
        note(f"Queued: no manager is running; it runs when one starts (`{start_command()}`); {to_run}")
    elif manager.passes_over(state.id, state.submitted_by):
        note(f"the running manager handles only job {', '.join(manager.only or ())}; {to_run}")
