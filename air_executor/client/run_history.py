"""The newest runs of a definition, each with why it failed. Used by the client of a state directory alone."""

from __future__ import annotations

from itertools import islice

from air_executor.client.job_access import NamedRun
from air_executor.core.end_reasons import failure_cause
from air_executor.model.state import FAILED
from air_executor.store.job_summary import summary_of
from air_executor.store.named_runs import NamedRuns


def newest_runs(runs: NamedRuns, name: str, limit: int) -> list[NamedRun]:
    """Return at most `limit` of the newest runs, archived ones included. Raises NotFoundError where there is none."""
    found = []
    for run in islice(runs.newest_first(name), limit):
        summary = summary_of(run)
        if run.phase == FAILED:
            summary.message = failure_cause(run)
        found.append(NamedRun(summary, run.spec.params))
    if not found:
        raise runs.none_of(name)
    return found
