"""A cache of the state directory for the page, valid while the files are unchanged.

All viewers share it, so ten viewers of a job with 5,000 tasks cost one read. It reads files like any other client, and
knows nothing of HTTP. Thread-safe.
"""

from __future__ import annotations

import os
import threading
import time
from collections import OrderedDict
from dataclasses import dataclass
from typing import Generic, TypeVar

from air_executor.client import Client
from air_executor.core.cost_report import CostReport, cost_report
from air_executor.core.job_facts import JobFacts
from air_executor.core.ledger import read
from air_executor.errors import AirExecutorError, NotFoundError
from air_executor.model.state import JobState
from air_executor.store import files
from air_executor.store.job_summary import JobSummary
from air_executor.store.schedules import Schedules
from air_executor.web.rest import Rest
from air_executor.web.schedule_list import ScheduleList

T = TypeVar("T")

CACHED_JOBS = 8
"""Number of whole jobs in memory: those that people view now."""
CLOCK_STEP = 0.1
"""Seconds, more than the step of a volume's clock, which is a few milliseconds."""
NEWS_WITHIN = 30.0
"""Seconds after a change through the server within which its effect is read as soon as it is on the volume."""
REST = 30
"""Seconds for which a read that took one second is not repeated: reading takes little of the server's time."""


@dataclass(frozen=True, slots=True)
class UnreadableJob:
    """A job whose state cannot be read."""

    id: str
    problem: str

    @property
    def facts(self) -> JobFacts:
        """What explanations of other jobs need."""
        return JobFacts.unreadable(self.id)


@dataclass(slots=True)
class _Cached(Generic[T]):
    version: str
    value: T
    valid_until: float
    """On the monotonic clock; until then it is used even if the version is another."""

    def serves(self, version: str, *, rests: bool = True) -> bool:
        """Tell whether it can be used for a request of this version; `rests`: or instead of it, for a while."""
        return self.version == version or (rests and time.monotonic() < self.valid_until)


class StateCache:
    """One state directory, as last read."""

    def __init__(self, client: Client) -> None:
        self.client = client
        self.schedules = ScheduleList(Schedules(client.layout))
        self._lock = threading.RLock()
        self._rest_of_all, self._rest_of_job, self._rest_of_cost = Rest(REST), Rest(REST), Rest(REST)
        self._summaries: dict[str, tuple[str, JobSummary | UnreadableJob]] = {}
        self._jobs: OrderedDict[str, _Cached[JobState]] = OrderedDict()
        self._costs: OrderedDict[str, _Cached[CostReport]] = OrderedDict()
        self._all: _Cached[list[JobSummary | UnreadableJob]] | None = None
        self._changed: dict[str, float] = {}
        """By job: until when its effect is read at once, by the monotonic clock; the earliest first."""

    def changed(self, *jobs: str) -> None:
        """Take note of a change of jobs: who made it shall see it, however long reading takes."""
        now = time.monotonic()
        with self._lock:
            for job in jobs:
                self._changed.pop(job, None)
                self._changed[job] = now + NEWS_WITHIN
            while self._changed and next(iter(self._changed.values())) <= now:
                del self._changed[next(iter(self._changed))]

    def _rests(self, job: str | None = None) -> bool:
        """Tell whether an older state of a job (None: of any) may be shown."""
        latest = next(reversed(self._changed.values()), 0.0) if job is None else self._changed.get(job, 0.0)
        return latest <= time.monotonic()

    def version_of_all(self) -> str:
        """Return a version that changes whenever any job may have changed, without checking each of them.

        The journal grows with each decision of the manager, but only checkpoints can be read, and they come later: they
        are built in `tmp/` and renamed out of it.
        """
        layout = self.client.layout
        folders = [f"{layout.tmp}/{name}" for name in sorted(_names(layout.tmp))]
        folders.append(layout.schedules)
        return "|".join([*map(_folder_stamp, folders), _stamp(layout.jobs), _stamp(layout.manager)])

    def version_of(self, job: str) -> str:
        """Return a version that changes whenever this job's state, or the manager, may have changed."""
        layout = self.client.layout
        return f"{_stamp(layout.state(job))}|{_stamp(layout.manager)}"

    def jobs(self) -> tuple[list[JobSummary | UnreadableJob], str]:
        """Return all jobs that are not archived, and their version.

        Raises:
            StoreError: the volume refused.
        """
        with self._lock:
            version = self.version_of_all()
            cached = self._all
            if cached is not None and cached.serves(version, rests=self._rests()):
                return cached.value, cached.version
            begun = time.monotonic()
            found = {name: self._summary(name) for name in self.client.jobs.ids()}
            self._summaries = {name: entry for name, entry in found.items() if entry is not None}
            summaries = [entry[1] for entry in self._summaries.values()]
            self._all = _Cached(version, summaries, self._rest_of_all.until(begun))
            return summaries, version

    def _summary(self, name: str) -> tuple[str, JobSummary | UnreadableJob] | None:
        stamp = _stamp(self.client.layout.state(name))
        cached = self._summaries.get(name)
        if cached is not None and cached[0] == stamp:
            return cached
        try:
            return stamp, self.client.jobs.summary(name)
        except NotFoundError:
            return None
        except AirExecutorError as error:
            return stamp, UnreadableJob(name, str(error))

    def job(self, name: str) -> tuple[JobState, str]:
        """Return a job, archived or not, and its version. Read it, but change nothing in it.

        Raises:
            NotFoundError: there is none.
            CorruptFileError, FormatTooNewError, StoreError: it cannot be read.
        """
        with self._lock:
            version = self.version_of(name)
            cached = self._jobs.get(name)
            if cached is not None and cached.serves(version, rests=self._rests(name)):
                self._jobs.move_to_end(name)
                return cached.value, cached.version
            begun = time.monotonic()
            state = self.client.status(name)
            _store(self._jobs, name, _Cached(version, state, self._rest_of_job.until(begun)))
            return state, version

    def cost(self, job: JobState, version: str) -> CostReport:
        """Return the cost of a job so far, compared with an always-on pool."""
        with self._lock:
            cached = self._costs.get(job.uid)
            if cached is not None and cached.serves(version):
                return cached.value
            begun = time.monotonic()
            found = cost_report(read([job]), time.time())
            _store(self._costs, job.uid, _Cached(version, found, self._rest_of_cost.until(begun)))
            return found


def _store(cache: OrderedDict[str, _Cached[T]], name: str, entry: _Cached[T]) -> None:
    cache[name] = entry
    cache.move_to_end(name)
    while len(cache) > CACHED_JOBS:
        cache.popitem(last=False)


def _names(folder: str) -> list[str]:
    try:
        return files.list_dir(folder)
    except AirExecutorError:
        return []


def _folder_stamp(folder: str) -> str:
    """Return the stamp of a folder, marked while a second change within the clock's step could leave the same stamp."""
    recent = "~" if abs(time.time() - files.changed_at(folder)) < CLOCK_STEP else ""
    return f"{_stamp(folder)}{recent}"


def _stamp(path: str) -> str:
    try:
        info = os.stat(path)
    except (OSError, ValueError):  # a null byte in what was asked for
        return "-"
    return f"{info.st_ino:x}.{info.st_size:x}.{info.st_mtime_ns:x}"
