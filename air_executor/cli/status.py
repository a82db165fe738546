"""`air-executor status`: a table of all jobs, or one job with its tasks."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Annotated

import typer

from air_executor.cli.session import session_of
from air_executor.cli.signals import LEAVE_SCREEN, SHOW_CURSOR, restoring_terminal
from air_executor.cli.terminal import console, print_json
from air_executor.store.presence import read_presence

if TYPE_CHECKING:
    from rich.console import RenderableType

    from air_executor.client import Client

REFRESH_EVERY = 0.25
"""Seconds between two reads with `--watch`: the state may be on a volume without events."""


def status(
    ctx: typer.Context,
    job: Annotated[str | None, typer.Argument(metavar="JOB", help="Default: all jobs.")] = None,
    watch: Annotated[bool, typer.Option("--watch", "-w", help="Keep refreshing.")] = False,
    everything: Annotated[bool, typer.Option("--all", "-a", help="Show all tasks, without a limit.")] = False,
) -> None:
    """Show all jobs, or one job with its tasks: phases, runs, reasons, and parent tasks."""
    session = session_of(ctx)
    client = session.client()
    if session.json:
        print_json(_data(client, job))
        return
    if watch:
        _watch(client, job, everything=everything)
    else:
        console().print(_page(client, job, everything=everything))


def _data(client: Client, job: str | None) -> object:
    from air_executor.cli.json_output import job_line, job_record  # noqa: PLC0415
    from air_executor.model.state import JobState  # noqa: PLC0415

    if job is not None:
        return job_record(client.status(job))
    found = list(client.all())
    manager = read_presence(client.layout)
    return {
        "manager": {"running": manager.running, **manager.record},
        "jobs": [job_line(state) for state in found if isinstance(state, JobState)],
        "unreadable": [{"id": entry[0], "message": entry[1]} for entry in found if isinstance(entry, tuple)],
    }


def _page(client: Client, job: str | None, *, everything: bool) -> RenderableType:
    from air_executor.cli.status_tables import job_page, jobs_page  # noqa: PLC0415

    if job is None:
        return jobs_page(client.all(), read_presence(client.layout), time.time(), client.layout.root)
    state = client.status(job)
    return job_page(state, read_presence(client.layout), client.runners(state), time.time(), everything=everything)


def _watch(client: Client, job: str | None, *, everything: bool) -> None:
    from rich.live import Live  # noqa: PLC0415

    with (
        restoring_terminal(LEAVE_SCREEN + SHOW_CURSOR),
        Live(
            _page(client, job, everything=everything),
            console=console(),
            auto_refresh=False,
            screen=console().is_terminal,
        ) as live,
    ):
        try:
            while True:
                begun = time.monotonic()
                live.update(_page(client, job, everything=everything), refresh=True)
                time.sleep(max(REFRESH_EVERY, 10 * (time.monotonic() - begun)))
        except KeyboardInterrupt:
            return
