"""`air-executor report`: what the jobs have cost, and what an always-on pool would have."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from air_executor.cli.session import session_of
from air_executor.cli.terminal import console, note, print_json, say, styled
from air_executor.core.bill import Bill, bill
from air_executor.core.state import JobState
from air_executor.core.times import format_duration, to_text

if TYPE_CHECKING:
    from rich.table import Table


def report(
    ctx: typer.Context,
    job: Annotated[list[str] | None, typer.Argument(metavar="JOB", help="Default: all that are not archived.")] = None,
) -> None:
    """Show runner-seconds, idle and cost, by job and in all, and what an always-on pool would have cost.

    The pool has as many runners as there were at once at most, and exists exactly from the first runner's beginning to
    the last one's end: the cheapest always-on pool that could have done the same.
    """
    session = session_of(ctx)
    client = session.client()
    found = [client.status(name) for name in job] if job else list(client.all())
    states = [entry for entry in found if isinstance(entry, JobState)]
    total = bill(states)
    for entry in found:
        if isinstance(entry, tuple):
            note(f"job {entry[0]} is not in the sums, it cannot be read: {entry[1]}")
    if session.json:
        from air_executor.cli.records import bill_record  # noqa: PLC0415

        jobs = [{"id": state.id, "phase": state.phase, **bill_record(bill([state]))} for state in states]
        print_json({"jobs": jobs, "total": bill_record(total)})
        return
    console().print(_table(states, total))
    for line in _comparison(total):
        say(line)


def _table(states: list[JobState], total: Bill) -> Table:
    from rich.table import Table  # noqa: PLC0415

    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("job", overflow="fold")
    names = ["runs", "runner-s", "work", "start", "finish", "efficiency"]
    for name in [*names, "cost"] if total.cost else names:
        table.add_column(name, justify="right", no_wrap=True)
    for state in states:
        table.add_row(styled(state.id), *_cells(bill([state]), priced=bool(total.cost)))
    table.add_row(styled("total", "bold"), *_cells(total, priced=bool(total.cost)))
    return table


def _cells(one: Bill, *, priced: bool) -> list[str]:
    cells = [str(one.runs)]
    cells += [
        f"{seconds:.2f}" for seconds in (one.runner_seconds, one.work_seconds, one.start_seconds, one.finish_seconds)
    ]
    cells.append("" if one.efficiency is None else f"{one.efficiency:.1%}")
    return [*cells, f"{one.cost:.6g}"] if priced else cells


def _comparison(total: Bill) -> list[str]:
    if total.first_spawned is None or total.last_gone is None:
        return []
    window = f"{to_text(total.first_spawned)} to {to_text(total.last_gone)} ({format_duration(total.window_seconds)})"
    pool = f"always-on pool of {total.peak_runners} (the most at once) over the same window: "
    pool += f"{total.pool_seconds:.2f} runner-seconds"
    if total.pool_seconds > 0:
        pool += f"; this used {total.runner_seconds / total.pool_seconds:.1%} of that"
    if total.pool_cost is not None:
        pool += f", {total.cost:.6g} instead of {total.pool_cost:.6g}"
    return [f"window: {window}", pool]
