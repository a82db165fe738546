"""`air-executor history`: the runs of one definition, newest first."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Annotated

import typer

from air_executor.cli.session import session_of
from air_executor.cli.table import Cell, Line, print_lines, table, terminal_width
from air_executor.cli.terminal import PHASE_STYLES, note, print_json

if TYPE_CHECKING:
    from air_executor.client.job_access import NamedRun


def history(
    ctx: typer.Context,
    name: Annotated[str, typer.Argument(metavar="NAME")],
    limit: Annotated[int, typer.Option("--limit", "-n", metavar="N", min=1, help="Number of runs to show.")] = 20,
) -> None:
    """Show the runs of a job that runs many times, newest first: parameters, outcome, duration and cost."""
    session = session_of(ctx)
    runs = session.client().history(name, limit + 1)
    shown = runs[:limit]
    if session.json:
        from air_executor.store.json_output import job_line  # noqa: PLC0415

        print_json({"name": name, "runs": [job_line(job) | {"params": params} for job, params in shown]})
        return
    print_lines(_table(shown, time.time(), terminal_width()))
    if len(runs) > limit:
        note(f"the newest {limit} runs; more with `--limit`")


def _table(runs: list[NamedRun], now: float, width: int | None) -> list[Line]:
    from air_executor.cli.jobs_page import ago, costs_text, took_text  # noqa: PLC0415
    from air_executor.core.value_text import params_text  # noqa: PLC0415

    rows = []
    for run, params in runs:
        why = "" if run.reason in (None, "ok") else run.message or run.reason or ""
        rows.append(
            [
                Cell(run.id, "bold"),
                Cell(run.phase, PHASE_STYLES.get(run.phase, "")),
                Cell(took_text(run, now)),
                Cell(costs_text(run.costs)),
                Cell(ago(now - run.submitted_at)),
                Cell(params_text(params)),
                Cell(why),
            ]
        )
    return table(("run", "phase", "took", "cost", "age", "params", "why"), rows, width, right=(2, 3, 4), spare=(4,))
