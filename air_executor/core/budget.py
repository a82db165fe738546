"""What a job has used of its `budget`: sums that its tasks reported, and runner-seconds. Pure.

`transitions` stops or pauses a job whose ended runs have used it up, the manager's `budget_keeper` decides the same for
open ones, and whatever shows a job takes the words from here.
"""

from __future__ import annotations

from typing import NamedTuple

from air_executor.core.ledger import open_runs
from air_executor.model.reports import add_up, amount_text
from air_executor.model.state import JobState, Running

RUNNER_SECONDS = "runner_seconds"
"""The amount of a budget that no task reports: Air-Executor itself knows it."""
WARN_AT = 0.8
"""Share of a budget from which on it is warned of."""


class Spent(NamedTuple):
    """What is used of one amount of a budget."""

    name: str
    used: float
    limit: float

    @property
    def share(self) -> float:
        """The part that is used; above 1 if it is exceeded."""
        return self.used / self.limit

    @property
    def text(self) -> str:
        """The amount for people: `4.1 of 5 usd (82 %)`."""
        return f"{amount_text(self.used)} of {amount_text(self.limit)} {self.name} ({int(self.share * 100)} %)"


def spending(job: JobState, now: float | None = None) -> list[Spent]:
    """Return what is used of each amount of a job's budget; with `now`, also by its open runs until then."""
    if not job.spec.budget:
        return []
    used = dict(job.usage.reported if now is None else reported_so_far(job))
    used[RUNNER_SECONDS] = job.usage.runner_seconds
    if now is not None:
        used[RUNNER_SECONDS] += sum(run.seconds(now) for run in open_runs(job))
    return [Spent(name, used.get(name, 0.0), limit) for name, limit in job.spec.budget.items()]


def reported_so_far(job: JobState) -> dict[str, float]:
    """Return what a job's tasks reported as used, open runs included."""
    sums = dict(job.usage.reported)
    for task in job.tasks.values():
        if isinstance(task.status, Running):
            add_up(sums, task.status.reported)
    return sums


def used_up(job: JobState, now: float | None = None) -> Spent | None:
    """Return the amount of a job's budget that is used up, the most exceeded one; None if there is none."""
    return max((one for one in spending(job, now) if one.share >= 1), key=lambda one: one.share, default=None)


def budget_lines(job: JobState, now: float) -> tuple[list[str], list[str]]:
    """Return what to say of a job's budget: amounts that are nearly or wholly used, and the others."""
    found = spending(job, None if job.ended else now)
    return [one.text for one in found if one.share >= WARN_AT], [one.text for one in found if one.share < WARN_AT]


def raise_hint(job: JobState) -> str:
    """Return the command that gives a job more."""
    verb = "retry" if job.ended else "resume"
    return f"`air-executor {verb} {job.id} --budget {job.over_budget or next(iter(job.spec.budget), 'usd')}=AMOUNT`"
