"""`air-executor manager`: manage a state directory until stopped."""

from __future__ import annotations

import contextlib
import signal
from typing import Annotated, Any

import typer

from air_executor.cli import lossy_stderr
from air_executor.cli.flags import BackendOption
from air_executor.cli.session import session_of
from air_executor.cli.signals import handling
from air_executor.cli.terminal import note

NAMED = 5
"""How many tasks the last line names."""


def manager(
    ctx: typer.Context,
    *,
    stop_runners: Annotated[bool, typer.Option("--stop-runners", help="Stop the runners before exiting.")] = False,
    backend: BackendOption = None,
    max_runners: Annotated[int | None, typer.Option(help="Maximum number of concurrent runners.")] = None,
    poll_interval: Annotated[
        str | None, typer.Option(metavar="DURATION", help="Polling interval when no event arrives.")
    ] = None,
    from_files: Annotated[
        bool, typer.Option("--from-files", help="Ignore the journal and start from the state files, to rewind.")
    ] = False,
    no_events: Annotated[bool, typer.Option("--no-events", help="Poll only; do not watch for events.")] = False,
) -> None:
    """Manage a state directory until stopped.

    SIGTERM or Ctrl-C stops the manager. Runners continue, and the next manager adopts them; with --stop-runners they
    are stopped within their grace period and their tasks are queued again. Exits with 5 if another manager holds the
    directory.
    """
    lossy_stderr.never_wait()
    session = session_of(ctx)
    session.start_logging(info=True)
    settings = session.settings(
        backend=backend, max_runners=max_runners, poll_interval=poll_interval, events=False if no_events else None
    )
    from air_executor.manager.lease import refuse_second  # noqa: PLC0415
    from air_executor.store.layout import Layout  # noqa: PLC0415
    from air_executor.store.presence import show_token_command  # noqa: PLC0415
    from air_executor.store.probe import require  # noqa: PLC0415
    from air_executor.wiring import make_manager, make_service  # noqa: PLC0415

    if not (settings.backend == "kubernetes" and settings.kubernetes.lease):  # a Lease has words of its own
        refuse_second(Layout(settings.state_dir))
    require(settings.state_dir)
    service = make_service(settings)
    made = make_manager(
        settings,
        from_files=from_files,
        observer=service and service.observer,
        page=service and service.server.page,
    )

    def stop(*_: Any) -> None:  # noqa: ANN401 - signal and frame
        made.stop(runners=stop_runners)

    with (
        handling(signal.SIGTERM, stop),
        handling(signal.SIGINT, stop),
        contextlib.nullcontext() if service is None else service.server,
    ):
        if made.start():
            limits = f"backend {settings.backend}, at most {settings.max_runners} runners"
            seen = "" if service is None else f"; {service.server.url}"
            note(f"managing {made.layout.root} ({limits}, epoch {made.epoch}){seen}")
            if service is not None and service.first_token:
                note(f"the page takes a token: `{show_token_command()}` prints it; in a browser it is the password")
            made.run()
            left = [f"{run.job.state.id}/{run.task.id}" for run in made.open_runs.by_slot.values()]
        else:
            left = []  # it stood by
    note(_farewell(left))


def _farewell(left: list[str]) -> str:
    """Return the last line: that the manager has stopped, and the runners of which tasks go on."""
    from air_executor.core.end_reasons import count_text  # noqa: PLC0415

    if not left:
        return "stopped"
    more = f" and {len(left) - NAMED} more" if len(left) > NAMED else ""
    runners = f"{count_text(len(left), 'runner')} {'goes' if len(left) == 1 else 'go'} on"
    return f"stopped; {runners}, for the next manager to adopt: {', '.join(left[:NAMED])}{more}"
