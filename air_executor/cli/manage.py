"""`air-executor manager`: manage a state directory until told to stop."""

from __future__ import annotations

import contextlib
import signal
from typing import Annotated, Any

import typer

from air_executor.cli.session import session_of
from air_executor.cli.terminal import note


def manager(
    ctx: typer.Context,
    *,
    stop_runners: Annotated[
        bool, typer.Option("--stop-runners", help="When told to stop, stop the runners first.")
    ] = False,
    backend: Annotated[str | None, typer.Option(help="Where runners run.")] = None,
    max_runners: Annotated[int | None, typer.Option(help="How many runners there may be at once.")] = None,
    poll_interval: Annotated[
        str | None, typer.Option(metavar="DURATION", help="How often to look where no event comes.")
    ] = None,
    from_files: Annotated[
        bool, typer.Option("--from-files", help="Let the state files win over the journal (after a crash, to rewind).")
    ] = False,
    no_events: Annotated[bool, typer.Option("--no-events", help="Do not watch for events, only poll.")] = False,
) -> None:
    """Manage a state directory until told to stop (SIGTERM or Ctrl-C).

    Runners go on when the manager stops, and the next one adopts them; --stop-runners stops them first, each with its
    grace, and queues their tasks again. Exits with 5 if another manager holds the directory.
    """
    session = session_of(ctx)
    session.start_logging(info=True)
    settings = session.settings(
        backend=backend, max_runners=max_runners, poll_interval=poll_interval, events=False if no_events else None
    )
    from air_executor.wiring import make_manager, make_service  # noqa: PLC0415

    service = make_service(settings)
    made = make_manager(
        settings,
        from_files=from_files,
        observer=service and service.observer,
        page=service and service.server.page,
    )

    def stop(*_: Any) -> None:  # noqa: ANN401 - signal and frame
        made.stop(runners=stop_runners)

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, stop)
    with contextlib.nullcontext() if service is None else service.server:
        if made.start():
            limits = f"backend {settings.backend}, at most {settings.max_runners} runners"
            seen = "" if service is None else f"; {service.server.url}"
            note(f"managing {made.layout.root} ({limits}, epoch {made.epoch}){seen}")
            made.run()
    note("stopped")
