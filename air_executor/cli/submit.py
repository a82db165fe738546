"""`air-executor submit`: submit a job to the state directory, with or without a manager."""

from __future__ import annotations

from typing import TYPE_CHECKING

import typer

from air_executor.cli import job_input
from air_executor.cli.prune import archive_ended
from air_executor.cli.session import Session, session_of
from air_executor.cli.terminal import note, print_json, say

if TYPE_CHECKING:
    from collections.abc import Sequence

    from air_executor.client.job_access import Submitted
    from air_executor.model.job import Job


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
    client = session.client()
    job_input.warn_of(jobs, client.presence().pools)
    print_submitted(session, submit_jobs(session, jobs, replace=replace))


def print_submitted(session: Session, states: Sequence[Submitted]) -> None:
    """Print the ids of submitted jobs, and what they wait for if no manager takes them."""
    if session.json:
        found = [{"id": state.id, "uid": state.uid, "phase": state.phase} for state in states]
        print_json(found[0] if len(found) == 1 else found)
    for state in [] if session.json else states:
        say(state.id)
    manager, first = session.client().presence(), states[0]
    to_run = f"to run this job: `air-executor{session.place_options} run {first.id}`"
    if manager.running is False:
        note(f"Queued: no manager is running; it runs when one starts (`{session.start_command()}`); {to_run}")
    elif manager.passes_over(first.id, None):
        note(f"the running manager handles only job {', '.join(manager.only or ())}; {to_run}")


def submit_jobs(session: Session, jobs: Sequence[Job], *, replace: bool) -> Sequence[Submitted]:
    """Submit jobs; `replace`: archive ended ones of the same ids first.

    Raises:
        AlreadyExistsError: an id is taken by a job that has not ended, or that something still needs.
    """
    server = session.server_client()
    if server is not None:
        return server.submit_all(jobs, replace=replace)
    if replace:
        archive_ended(session, [job.id for job in jobs if job.id is not None])
    return session.directory().submit_all(jobs)
