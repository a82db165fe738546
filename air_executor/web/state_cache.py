"""What the page has read of the state directory, kept while the files have not changed.

Every client of the page shares it, so ten people who look at a job of 5,000 tasks cost one reading. It reads as anybody
beside the manager would, and knows nothing of HTTP. Safe from any thread.
"""

from __future__ import annotations

import os
import threading
import time
from collections import Counter, OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Generic, TypeVar

from air_executor.client import Client
from air_executor.core.cost_report import CostReport, reckon
from air_executor.core.ledger import read
from air_executor.errors import AirExecutorError, NotFoundError
from air_executor.model.state import ENDED_PHASES, JobState
from air_executor.store import files

T = TypeVar("T")

JOBS_KEPT = 8
"""Whole jobs in memory: those that people look at now."""
UNSETTLED = 0.1
"""Seconds; volumes' clocks tick in steps of a few milliseconds."""
REST = 30
"""A reading that took a second is not repeated for this many seconds: so little of the manager's time is the page's."""


@dataclass(frozen=True, slots=True)
class JobSummary:
    """One job in the list of all."""

    id: str
    uid: str
    phase: str
    reason: str | None
    message: str | None
    queue: str
    submitted_at: float
    started_at: float | None
    finished_at: float | None
    counts: Mapping[str, int]
    """Tasks by phase."""
    runner_seconds: float
    costs: Mapping[str, float]
    """By currency."""

    @property
    def ended(self) -> bool:
        """Whether nothing is left to do."""
        return self.phase in ENDED_PHASES

    @property
    def total(self) -> int:
        """Number of tasks."""
        return sum(self.counts.values())


@dataclass(frozen=True, slots=True)
class Unreadable:
    """A job whose state cannot be read."""

    id: str
    problem: str


@dataclass(slots=True)
class _Kept(Generic[T]):
    version: str
    value: T
    again_at: float
    """On the monotonic clock."""


class StateCache:
    """One state directory, as it was when last read."""

    def __init__(self, client: Client) -> None:
        self.client = client
        self.lock = threading.RLock()
        """Held by whoever reads, or works on a job that others may have too."""
        self._lines: dict[str, tuple[str, JobSummary | Unreadable]] = {}
        self._jobs: OrderedDict[str, _Kept[JobState]] = OrderedDict()
        self._costs: OrderedDict[str, _Kept[CostReport]] = OrderedDict()
        self._all: _Kept[list[JobSummary | Unreadable]] | None = None

    def version_of_all(self) -> str:
        """Return what changes whenever any job may have, without looking at each of them.

        The journal grows with each decision of the manager, but checkpoints, which are what can be read, come after it:
        they are built in `tmp/` and renamed out of it.
        """
        layout = self.client.layout
        folders = [f"{layout.tmp}/{name}" for name in sorted(_names(layout.tmp))]
        return "|".join([*map(_settled, folders), _stamp(layout.jobs), _stamp(layout.manager)])

    def version_of(self, job: str) -> str:
        """Return what changes whenever this job's state, or the manager, may have."""
        layout = self.client.layout
        return f"{_stamp(layout.state(job))}|{_stamp(layout.manager)}"

    def lines(self) -> tuple[list[JobSummary | Unreadable], str]:
        """Return all jobs that are not archived, and the version that this is.

        Raises:
            StoreError: the volume refused.
        """
        with self.lock:
            version = self.version_of_all()
            kept = self._all
            if kept is not None and (kept.version == version or time.monotonic() < kept.again_at):
                return kept.value, kept.version
            begun = time.monotonic()
            found = {name: self._line(name) for name in self.client.jobs.ids()}
            self._lines = {name: entry for name, entry in found.items() if entry is not None}
            lines = [entry[1] for entry in self._lines.values()]
            self._all = _Kept(version, lines, _rested(begun))
            return lines, version

    def _line(self, name: str) -> tuple[str, JobSummary | Unreadable] | None:
        stamp = _stamp(self.client.layout.state(name))
        kept = self._lines.get(name)
        if kept is not None and kept[0] == stamp:
            return kept
        try:
            return stamp, line_of(self.client.jobs.load(name))
        except NotFoundError:
            return None
        except AirExecutorError as error:
            return stamp, Unreadable(name, str(error))

    def job(self, name: str) -> tuple[JobState, str]:
        """Return a job, archived ones included, and the version that this is. Read it; change nothing of it.

        Raises:
            NotFoundError: there is none.
            CorruptFileError, FormatTooNewError, StoreError: it cannot be read.
        """
        with self.lock:
            version = self.version_of(name)
            kept = self._jobs.get(name)
            if kept is not None and (kept.version == version or time.monotonic() < kept.again_at):
                self._jobs.move_to_end(name)
                return kept.value, kept.version
            begun = time.monotonic()
            state = self.client.status(name)
            _keep(self._jobs, name, _Kept(version, state, _rested(begun)))
            return state, version

    def cost(self, job: JobState, version: str) -> CostReport:
        """Return what a job has cost so far beside the pool that would have carried it."""
        with self.lock:
            kept = self._costs.get(job.uid)
            if kept is not None and (kept.version == version or time.monotonic() < kept.again_at):
                return kept.value
            begun = time.monotonic()
            found = reckon(read([job]), time.time())
            _keep(self._costs, job.uid, _Kept(version, found, _rested(begun)))
            return found


def line_of(job: JobState) -> JobSummary:
    """Return a job as a line of the list."""
    usage = job.usage
    costs = dict(usage.other_costs)
    if usage.cost:
        costs[usage.currency or ""] = usage.cost
    return JobSummary(
        id=job.id,
        uid=job.uid,
        phase=job.phase,
        reason=job.reason,
        message=job.message,
        queue=job.pool,
        submitted_at=job.submitted_at,
        started_at=job.started_at,
        finished_at=job.finished_at,
        counts=Counter(task.phase for task in job.tasks.values()),
        runner_seconds=usage.runner_seconds,
        costs=costs,
    )


def _keep(place: OrderedDict[str, _Kept[T]], name: str, entry: _Kept[T]) -> None:
    place[name] = entry
    place.move_to_end(name)
    while len(place) > JOBS_KEPT:
        place.popitem(last=False)


def _rested(begun: float) -> float:
    now = time.monotonic()
    return now + REST * (now - begun)


def _names(folder: str) -> list[str]:
    try:
        return files.list_dir(folder)
    except AirExecutorError:
        return []


def _settled(folder: str) -> str:
    """Return the stamp of a folder, another one for as long as a second change could leave the same."""
    fresh = "~" if abs(time.time() - files.changed_at(folder)) < UNSETTLED else ""
    return f"{_stamp(folder)}{fresh}"


def _stamp(path: str) -> str:
    try:
        info = os.stat(path)
    except OSError:
        return "-"
    return f"{info.st_ino:x}.{info.st_size:x}.{info.st_mtime_ns:x}"
