"""`air-executor wait`: wait for jobs to end."""

from __future__ import annotations

import time
from typing import Annotated

import typer

from air_executor.cli.flags import read_duration
from air_executor.cli.session import session_of
from air_executor.cli.terminal import note, print_json, say

TIMED_OUT = 124
"""The exit code of coreutils' `timeout`; 1 would mean a failed job."""


def wait(
    ctx: typer.Context,
    jobs: Annotated[list[str], typer.Argument(metavar="JOB…")],
    timeout: Annotated[
        str | None,
        typer.Option(metavar="DURATION", help="Maximum time to wait; exits with 124 when it expires."),
    ] = None,
) -> None:
    """Wait for jobs to end.

    Exits with 0 if all succeeded, 1 if any did not, and 124 if the timeout expired first.
    """
    session = session_of(ctx)
    client = session.client()
    until = None if timeout is None else time.monotonic() + read_duration("--timeout", timeout)
    states = []
    # Report an unknown id before waiting, and stay with these jobs if others get their ids.
    for job in [client.status(name) for name in jobs]:
        left = None if until is None else max(0.0, until - time.monotonic())
        states.append(client.wait(job.id, left, uid=job.uid))
        if not session.json and states[-1].ended:
            say(f"{states[-1].id} {states[-1].phase}")
    if session.json:
        from air_executor.store.job_summary import summary_of  # noqa: PLC0415
        from air_executor.store.json_output import job_line  # noqa: PLC0415

        print_json({"jobs": [job_line(summary_of(state)) for state in states]})
    waiting = [state.id for state in states if not state.ended]
    if waiting:
        note(f"not ended yet: {', '.join(waiting)}")
        raise typer.Exit(TIMED_OUT)
    raise typer.Exit(0 if all(state.phase == "succeeded" for state in states) else 1)
