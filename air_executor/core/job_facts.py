"""What explanations need to know of all jobs in a state directory: phases, what their tasks take, and their locks."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import NamedTuple


class JobFacts(NamedTuple):
    """What an explanation needs to know of each job in the state directory."""

    id: str
    uid: str | None
    """None: the job cannot be read."""
    phase: str
    running: int
    """Number of running tasks."""
    in_use: Mapping[str, int]
    """What those take, by pool."""
    lock: str | None = None
    """The lock that it holds."""

    @classmethod
    def unreadable(cls, name: str) -> JobFacts:
        """Return what is known of a job that cannot be read."""
        return cls(name, None, "unreadable", 0, {})


class AllJobs:
    """The facts about all jobs, looked up by many explanations."""

    def __init__(self, jobs: Iterable[JobFacts]) -> None:
        self.running = 0
        self.in_use: Counter[str] = Counter()
        """What running tasks take, by pool."""
        self.holders: dict[str, str] = {}
        """By lock, the job that holds it."""
        self._by_uid: dict[str, str] = {}
        self._unreadable: dict[str, str] = {}
        for job in jobs:
            if job.running:
                self.running += job.running
                self.in_use.update(job.in_use)
            if job.lock is not None:
                self.holders[job.lock] = job.id
            if job.uid is None:
                self._unreadable[job.id] = job.phase
            else:
                self._by_uid[job.uid] = job.phase

    def phase(self, job: str, uid: str) -> str | None:
        """Return the phase of a job; None: it is not among them."""
        return self._by_uid.get(uid) or self._unreadable.get(job)
