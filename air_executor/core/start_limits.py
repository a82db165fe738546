"""Which limit keeps a task from starting: that of its job, of a pool, or of the manager."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from air_executor.core.pool_limits import limit_of, pool_text
from air_executor.core.progress import Progress
from air_executor.model.state import JobState, TaskState

if TYPE_CHECKING:
    from air_executor.core.explanation import ExplainContext


class Limit(NamedTuple):
    """A limit that is reached."""

    of: str
    used: int
    limit: int
    needs: int = 1
    weighted: bool = False
    """It is counted in weights, not in runners."""


def never_fits(job: JobState, task: TaskState, context: ExplainContext) -> str | None:
    """Return why a task can never start within the limits of its pools; None if it can."""
    for pool, needs in job.pools_of(task).items():
        if needs > context.pools.get(pool, needs):
            return f"it needs {needs} of pool {pool}, whose limit is {context.pools[pool]} (AIR_POOLS)"
    return None


def limit_reached(
    job: JobState, progress: Progress, context: ExplainContext, task: TaskState | None = None
) -> Limit | None:
    """Return the first limit that keeps a task of a job, or any of them, from starting; None if none does."""
    if len(progress.slots) >= job.max_runners:
        return Limit("its job", len(progress.slots), job.max_runners)
    for pool, needs in ({job.pool: 1} if task is None else job.pools_of(task)).items():
        used = context.in_use.get(pool, 0)
        limit = limit_of(context.pools, pool)
        if limit is not None and used + needs > limit:
            weighted = task is not None and pool in (task.pools or ())
            return Limit(pool_text(pool), used, limit, needs, weighted)
    if context.max_runners is not None and context.running >= context.max_runners:
        return Limit("the manager", context.running, context.max_runners)
    return None
