"""`air-executor backfill`: create the runs that a schedule would have had."""

from __future__ import annotations

from typing import Annotated

import typer

from air_executor.cli.session import Session, session_of
from air_executor.cli.terminal import note, print_json, say
from air_executor.errors import BadInputError
from air_executor.store.presence import start_command


def backfill(  # noqa: PLR0917 - a command has its options as arguments
    ctx: typer.Context,
    name: Annotated[str, typer.Argument(metavar="NAME")],
    since: Annotated[str | None, typer.Option("--from", metavar="TIME", help="First day (in UTC), or time.")] = None,
    until: Annotated[
        str | None, typer.Option("--to", metavar="TIME", help="Last day, which counts, or time, which does not.")
    ] = None,
    max_active: Annotated[
        int, typer.Option("--max-active", metavar="N", min=1, help="Maximum number of these runs at once.")
    ] = 1,
    newest_first: Annotated[bool, typer.Option("--newest-first", help="Begin with the newest time.")] = False,
    retry: Annotated[bool, typer.Option("--retry", help="Also retry the runs that failed or were cancelled.")] = False,
    cancel: Annotated[bool, typer.Option("--cancel", help="Cancel all unfinished runs of backfills of NAME.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show the runs, and create none.")] = False,
) -> None:
    """Create the runs that a schedule would have had, oldest first.

    Times that have a run already, or have not come yet, are left out. The running manager, or the next one, runs them.
    """
    session = session_of(ctx)
    schedules = session.client().schedules
    if cancel:
        _cancel(session, name)
        return
    if since is None or until is None:
        msg = "backfill: give --from and --to, or --cancel"
        raise BadInputError(msg)
    how = {"newest_first": newest_first, "retry": retry, "dry_run": dry_run}
    found = schedules.backfill(name, since, until, max_active=max_active, **how)
    if session.json:
        print_json({"created": found.created, "left_out": found.left_out, "retried": found.retried, "dry_run": dry_run})
        return
    for run in found.created:
        say(run)
    if found.left_out:
        failed, done = len(found.unsuccessful), len(found.retried)
        again = f"; {failed} of them did not succeed: --retry continues them" if failed else ""
        if done:
            again = f"; those that did not succeed {'would be' if dry_run else 'are'} retried: {done}"
        note(f"{len(found.left_out)} times have a run already{again}")
    if found.created and not dry_run and session.client().presence().running is False:
        note(f"Queued: no manager is running; they run when one starts (`{start_command()}`)")
    if not found.created and not found.left_out:
        note(f"{name} has no time between these that has passed")


def _cancel(session: Session, name: str) -> None:
    cancelled = session.client().schedules.cancel_backfill(name)
    if session.json:
        print_json({"cancelled": cancelled})
        return
    for run in cancelled:
        say(run)
    if not cancelled:
        note(f"no backfill of {name} has unfinished runs")
