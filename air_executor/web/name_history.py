"""The runs of one name in time: their durations as bars, oldest first. Pure: no files, no HTTP."""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from air_executor.model.times import format_duration
from air_executor.store.job_summary import JobSummary
from air_executor.web.schedule_list import NEVER, ScheduleEntry

RUNS_SHOWN = 60
RUNS_IN_LIST = 20
"""Runs of each name in the list of names."""
LEAST_HEIGHT = 2.0
"""Percent of the height: a run that took no time is seen, too."""
GAP = 0.2
"""Share of a bar's place that stays free beside it."""


@dataclass(frozen=True, slots=True)
class RunBar:
    """One run; positions in percent."""

    id: str
    phase: str
    title: str
    x: float
    width: float
    y: float
    height: float


def runs_of(jobs: Iterable[JobSummary], name: str) -> list[JobSummary]:
    """Return the runs of a name that are not archived, newest first."""
    found = [job for job in jobs if job.name == name]
    return sorted(found, key=lambda job: (job.submitted_at, job.id), reverse=True)


def took(job: JobSummary, now: float) -> float | None:
    """Return for how many seconds a run took, or takes already; None: it has not started."""
    if job.started_at is None:
        return None
    return max(0.0, (now if job.finished_at is None else job.finished_at) - job.started_at)


@dataclass(frozen=True, slots=True)
class NameEntry:
    """A name in the list of names: its newest runs, and what is known of its schedule."""

    name: str
    runs: Sequence[JobSummary]
    """Newest first."""
    schedule: ScheduleEntry | None

    @property
    def place(self) -> tuple[float, float, str]:
        """Where it stands in the list: what runs next is first, then what ran last."""
        upcoming = NEVER if self.schedule is None else self.schedule.next_at
        return upcoming, -self.runs[0].submitted_at if self.runs else 0.0, self.name

    @property
    def told(self) -> str:
        """Its runs in words."""
        counts = Counter(job.phase for job in self.runs)
        return ", ".join(f"{count} {phase}" for phase, count in counts.items()) or "no runs"


def names(jobs: Iterable[JobSummary], schedules: Iterable[ScheduleEntry]) -> list[NameEntry]:
    """Return all names that have runs or a schedule, in the order of the list."""
    runs: dict[str, list[JobSummary]] = {}
    for job in jobs:
        if job.name is not None:
            runs.setdefault(job.name, []).append(job)
    known = {one.name: one for one in schedules}
    found = []
    for name in runs.keys() | known.keys():
        newest = heapq.nlargest(RUNS_IN_LIST, runs.get(name, ()), key=lambda job: (job.submitted_at, job.id))
        found.append(NameEntry(name, newest, known.get(name)))
    return sorted(found, key=lambda one: one.place)


def bars(newest_first: Sequence[JobSummary], now: float) -> tuple[list[RunBar], float]:
    """Return the bars of the newest runs, and the duration in seconds that has the full height."""
    shown = newest_first[:RUNS_SHOWN][::-1]
    longest = max((took(job, now) or 0.0 for job in shown), default=0.0) or 1.0
    place = 100 / max(1, len(shown))
    found = []
    for number, job in enumerate(shown):
        seconds = took(job, now)
        height = max(LEAST_HEIGHT, (seconds or 0.0) / longest * 100)
        words = "not started" if seconds is None else format_duration(round(seconds, 2))
        found.append(
            RunBar(
                job.id,
                job.phase,
                f"{job.id} {job.phase}, {words}",
                round(number * place, 3),
                round(place * (1 - GAP), 3),
                round(100 - height, 3),
                round(height, 3),
            )
        )
    return found, longest
