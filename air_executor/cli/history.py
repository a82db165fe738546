"""`air-executor history`: the runs of one definition, newest first."""

from __future__ import annotations

import time
from itertools import islice
from typing import TYPE_CHECKING, Annotated

import typer

from air_executor.cli.session import session_of
from air_executor.cli.terminal import PHASE_STYLES, console, note, print_json, styled
from air_executor.errors import NotFoundError

if TYPE_CHECKING:
    from rich.table import Table

    from air_executor.model.state import JobState


def history(
    ctx: typer.Context,
    name: Annotated[str, typer.Argument(metavar="NAME")],
    limit: Annotated[int, typer.Option("--limit", "-n", metavar="N", min=1, help="Number of runs to show.")] = 20,
) -> None:
    """Show the runs of a job that runs many times, newest first: parameters, outcome, duration and cost."""
    session = session_of(ctx)
    client = session.client()
    runs = list(islice(client.named_runs.newest_first(name), limit + 1))
    if not runs:
        msg = f"no runs of {name} in {client.layout.root}; `air-executor status` lists all jobs"
        raise NotFoundError(msg)
    shown = runs[:limit]
    if session.json:
        from air_executor.cli.json_output import job_line  # noqa: PLC0415
        from air_executor.store.job_summary import summary_of  # noqa: PLC0415

        print_json({"name": name, "runs": [job_line(summary_of(run)) | {"params": run.spec.params} for run in shown]})
        return
    console().print(_table(shown, time.time()))
    if len(runs) > limit:
        note(f"the newest {limit} runs; more with `--limit`")


def _table(runs: list[JobState], now: float) -> Table:
    from rich.table import Table  # noqa: PLC0415

    from air_executor.cli.jobs_page import ago, took_text  # noqa: PLC0415
    from air_executor.core.job_cost import money  # noqa: PLC0415
    from air_executor.core.param_values import params_text  # noqa: PLC0415
    from air_executor.store.job_summary import summary_of  # noqa: PLC0415

    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("run", no_wrap=True)
    table.add_column("phase", no_wrap=True)
    table.add_column("took", justify="right", no_wrap=True)
    table.add_column("cost", justify="right", no_wrap=True)
    table.add_column("submitted", no_wrap=True)
    table.add_column("params", overflow="fold")
    table.add_column("why", overflow="fold")
    for run in runs:
        table.add_row(
            styled(run.id, "bold"),
            styled(run.phase, PHASE_STYLES.get(run.phase, "")),
            styled(took_text(summary_of(run), now)),
            styled(f"{money(run.usage.cost)} {run.usage.currency or ''}".rstrip() if run.usage.cost else ""),
            styled(f"{ago(now - run.submitted_at)} ago"),
            styled(params_text(run.spec.params)),
            styled("" if run.reason in (None, "ok") else run.message or run.reason or ""),
        )
    return table
