"""The page of `status`: all jobs in groups, with why those that do not run don't."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from air_executor.cli.manager_notes import manager_notes
from air_executor.cli.table import Cell, Line, line, table
from air_executor.cli.terminal import PHASE_STYLES
from air_executor.core.job_cost import money
from air_executor.core.task_groups import counts_text
from air_executor.model.times import format_duration

if TYPE_CHECKING:
    from air_executor.store.job_summary import JobSummary
    from air_executor.store.presence import Presence

GROUP_SHOWN = 20
"""Jobs of a group that are shown without --all."""
_MOST_CURRENCIES = 3
_LONGEST_CURRENCY = 16
_GROUPS = (("running",), ("failed", "cancelled"), ("queued", "paused", "pending"), ("succeeded",))
"""Phases of the jobs of each group, in the order of the page."""


@dataclass(frozen=True, slots=True)
class Remark:
    """What only the whole state of a job tells."""

    why: str = ""
    costs: Mapping[str, float] | None = None
    """Of its open runs, by currency."""


@dataclass(frozen=True, slots=True)
class JobsPage:
    """The parts of the page."""

    jobs: Sequence[JobSummary]
    unreadable: Sequence[tuple[str, str]]
    manager: Presence
    requests: Sequence[str]
    remark: Callable[[JobSummary], Remark]
    now: float
    root: str
    filtered: bool
    """Jobs are only those that were asked for."""

    def lines(self, width: int | None, *, everything: bool) -> list[Line]:
        """Return the page. `everything`: no group is cut."""
        rows: list[list[Cell]] = []
        cut: list[Line] = []
        for phases in _GROUPS:
            group = [job for job in self.jobs if job.phase in phases]
            group.sort(key=lambda job: (job.finished_at or job.submitted_at, job.id), reverse=True)
            shown = group if everything else group[:GROUP_SHOWN]
            rows += [self._row(job) for job in shown]
            if len(group) > len(shown):
                rest = Counter(job.phase for job in group[len(shown) :])
                text = ", ".join(f"{number:,} {phase}" for phase, number in rest.items())
                cut.append(line(f"… and {text} (--all)", "bright_black"))
        header = ("job", "phase", "tasks", "took", "runner-s", "cost", "age", "why")
        lines = table(header, rows, width, right=(3, 4, 5, 6), spare=(4, 6, 3, 5)) if rows else [self._nothing()]
        lines += cut
        for name, what in self.unreadable:
            # Where the manager could not read it either, its words also say what to do.
            if not any(problem.startswith(f"job {name}: ") for problem in self.manager.problems):
                lines.append(line(f"✗ {name} cannot be read: {what}", "red"))
        notes = manager_notes(self.manager, [job for job in self.jobs if not job.ended], self.requests)
        return [*lines, line(""), self._totals(), *notes] if rows else [*lines, *notes]

    def _nothing(self) -> Line:
        if self.filtered:
            return line("no such jobs", "bright_black")
        missing = ", which does not exist" if os.path.isabs(self.root) and not os.path.isdir(self.root) else ""
        return line(f"no jobs in {self.root}{missing}", "bright_black")

    def _totals(self) -> Line:
        phases = Counter(job.phase for job in self.jobs)
        order = [phase for group in _GROUPS for phase in group]
        counts = ", ".join(f"{phases[phase]:,} {phase}" for phase in order if phases[phase])
        text = f"{len(self.jobs):,} job{'' if len(self.jobs) == 1 else 's'}: {counts}"
        if self.manager.running and self.manager.max_runners is not None and not self.filtered:
            running = sum(job.counts["running"] for job in self.jobs)
            text += f" · {running} of {self.manager.max_runners} runners of the manager"
            in_use: Counter[str] = Counter()
            for job in self.jobs:
                in_use.update(job.in_use)
            pools = [f"{name} {in_use[name]} of {most}" for name, most in (self.manager.pools or {}).items()]
            text += f" · pools: {', '.join(pools)}" if pools else ""
        return line(text)

    def _row(self, job: JobSummary) -> list[Cell]:
        remark = self.remark(job)
        return [
            Cell(job.id, "bold"),
            Cell(job.phase, PHASE_STYLES.get(job.phase, "")),
            Cell(counts_text(job.counts)),
            Cell(took_text(job, self.now)),
            Cell(f"{job.runner_seconds:.2f}" if job.runner_seconds else ""),
            Cell(costs_text(job.costs, remark.costs)),
            Cell(ago(self.now - job.submitted_at)),
            Cell(remark.why, "yellow" if not job.ended else ""),
        ]


def costs_text(*costs: Mapping[str, float] | None) -> str:
    """Return the sum of costs, by currency; "" if there are none. Of very many currencies, how many."""
    total: Counter[str] = Counter()
    for part in costs:
        total.update(part or {})
    paid = {currency: amount for currency, amount in total.items() if amount}
    if len(paid) > _MOST_CURRENCIES:
        return f"{len(paid)} currencies"
    return ", ".join(f"{money(amount)} {currency[:_LONGEST_CURRENCY]}".rstrip() for currency, amount in paid.items())


def took_text(job: JobSummary, now: float) -> str:
    """Return how long a job has taken so far."""
    if job.started_at is None:
        return ""
    took = max(0.0, (job.finished_at if job.finished_at is not None else now) - job.started_at)
    return format_duration(took if job.ended else round(took))


def ago(seconds: float) -> str:
    """Return an age in its largest unit only."""
    for size, unit in ((86_400, "d"), (3_600, "h"), (60, "m")):
        if seconds >= size:
            return f"{int(seconds // size)}{unit}"
    return f"{max(0, int(seconds))}s"
