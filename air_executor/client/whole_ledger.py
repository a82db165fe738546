"""The ledger of a state directory: the runs of its jobs, archived ones included, and of those that were deleted.

Used by the reports.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from air_executor.client.job_access import Charges
from air_executor.core.cost_query import CostWindow, keep
from air_executor.core.cost_report import CostReport, cost_report
from air_executor.core.focus_export import as_focus_csv
from air_executor.core.ledger import Ledger
from air_executor.core.spending_limits import SpendingLimit, spendings
from air_executor.model.state import JobState
from air_executor.store.all_runs import whole_ledger
from air_executor.store.deleted_runs import DeletedRuns

if TYPE_CHECKING:
    from air_executor.client.directory_client import Client


def read_ledger(client: Client, jobs: Sequence[str]) -> tuple[Ledger, list[tuple[str, str]]]:
    """Return all runs of some jobs or of all, and what cannot be read, with the errors: ids of jobs, or paths.

    A name stands for its newest run.

    Raises:
        NotFoundError: one of the jobs neither exists nor was deleted.
    """
    unreadable: list[tuple[str, str]] = []
    others: set[str] = set()
    deleted = []
    for line in DeletedRuns(client.layout).lines():
        if isinstance(line, tuple):
            unreadable.append(line)
        elif not jobs or line.job in jobs:
            deleted.append(line)
    gone = {line.job for line in deleted}
    wanted = {job if job in gone else client.status(job).id for job in jobs}

    def states() -> Iterator[JobState]:
        for found in client.ledger():
            if isinstance(found, JobState):
                if not wanted or found.id in wanted:
                    yield found
                else:
                    others.add(found.uid)
            elif not wanted or found[0] in wanted:
                unreadable.append(found)

    return whole_ledger(states(), (line for line in deleted if line.uid not in others)), unreadable


def report_of(
    client: Client,
    jobs: Sequence[str],
    now: float,
    budgets: Sequence[SpendingLimit],
    **how: Any,  # noqa: ANN401 - arguments of `cost_report`
) -> tuple[CostReport, list[tuple[str, str]]]:
    """Return the cost report of some jobs, or of all with what is used of `budgets`. Raises as `read_ledger`."""
    ledger, unreadable = read_ledger(client, jobs)
    found = cost_report(ledger, now, **how)
    return found if jobs else replace(found, budgets=spendings(budgets, ledger, now)), unreadable


def charges_of(
    client: Client, jobs: Sequence[str], since: float | None, until: float | None, filters: Sequence[tuple[str, str]]
) -> Charges:
    """Return what some jobs or all of them cost, as charges. Raises as `read_ledger`."""
    ledger, unreadable = read_ledger(client, jobs)
    kept = keep(ledger, filters)
    left_out = sum(sums.usage.runs for sums in kept.earlier)
    return Charges(as_focus_csv(CostWindow(since, until).cut(kept)), left_out, unreadable)
