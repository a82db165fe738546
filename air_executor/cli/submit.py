"""`air-executor submit`: submit a job to the state directory, with or without a manager."""

from __future__ import annotations

import typer

from air_executor.cli import job_input
from air_executor.cli.prune import archive_ended
from air_executor.cli.session import session_of
from air_executor.cli.terminal import note, print_json, say
from air_executor.store.presence import start_command


def submit(
    ctx: typer.Context,
    *,
    words: job_input.Words,
    replace: job_input.Replace = False,
) -> None:
    """Submit a job and print its id; of a file with several jobs, all of them.

    The job is stored durably when this returns. The running manager, or the next one, runs it.
    """
    session = session_of(ctx)
    jobs = job_input.read_jobs(ctx, words)
    job_input.warn_of(jobs)
    client = session.client()
    if replace:
        archive_ended(session, [job.id for job in jobs if job.id is not None])
    states = client.submit_all(jobs)
    if session.json:
        found = [{"id": state.id, "uid": state.uid, "phase": state.phase} for state in states]
        print_json(found[0] if len(found) == 1 else found)
    for state in [] if session.json else states:
        say(state.id)
    from air_executor.store.presence import read_presence  # noqa: PLC0415 - after the submission

    manager, first = read_presence(client.layout), states[0]
    to_run = f"to run this job: `air-executor run {first.id}`"
    if manager.running is False:
        note(f"Queued: no manager is running; it runs when one starts (`{start_command()}`); {to_run}")
    elif manager.passes_over(first.id, first.submitted_by):
        note(f"the running manager handles only job {', '.join(manager.only or ())}; {to_run}")
