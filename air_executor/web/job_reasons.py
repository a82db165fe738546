"""Why each job of a list is not running, or how it ended: the sentences of `explain`, for the rows that are shown.

A sentence takes the job's whole state, so each is kept while that is unchanged, and one request reads only so many:
what it does not get to has its reason from the summary, and its sentence with a later request. Thread-safe.
"""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from air_executor.core.explanation import explain_job
from air_executor.core.job_facts import AllJobs
from air_executor.errors import AirExecutorError
from air_executor.model.state import SUCCEEDED
from air_executor.web.rest import Rest
from air_executor.web.state_cache import REST

if TYPE_CHECKING:
    from air_executor.client import Client
    from air_executor.core.job_facts import JobFacts
    from air_executor.settings import Settings
    from air_executor.store.job_summary import JobSummary
    from air_executor.store.presence import Presence

MAX_KEPT = 1000
AT_ONCE = 0.3
"""Seconds that one request may take for reading jobs."""
FRESH = 2.0
"""Seconds for which the sentence of a job that has not ended is used again: other jobs, and time, change it, too."""


class JobReasons:
    """The sentences about the jobs of one state directory, as last made."""

    def __init__(self, client: Client, settings: Settings | None) -> None:
        self._client = client
        self._settings = settings
        self._lock = threading.Lock()
        self._rest = Rest(REST)
        self._kept: OrderedDict[str, tuple[tuple[int, int, int], float, str]] = OrderedDict()
        """By uid: what changes with the state, until when it is used (by the monotonic clock), and the sentence."""

    def of(
        self, shown: Sequence[JobSummary], every: Iterable[JobFacts], manager: Presence, now: float
    ) -> dict[str, str]:
        """Return a sentence for each of these jobs, by id; "" where there is nothing to say."""
        with self._lock:
            begun = time.monotonic()
            facts = AllJobs(every) if any(not job.ended for job in shown) else AllJobs(())
            found = {}
            for job in shown:
                at = self._client.changed_at(job.id)
                known = self._kept.get(job.uid)
                if known is not None and known[0] == at and time.monotonic() < known[1]:
                    found[job.id] = known[2]
                elif job.phase == SUCCEEDED:
                    found[job.id] = ""
                elif time.monotonic() - begun < AT_ONCE:
                    found[job.id] = self._made(job, at, facts, manager, now)
                else:
                    found[job.id] = _short(job) if known is None else known[2]
            return found

    def _made(self, job: JobSummary, at: tuple[int, int, int], facts: AllJobs, manager: Presence, now: float) -> str:
        begun = time.monotonic()
        try:
            state = self._client.jobs.load(job.id)
        except AirExecutorError:
            return _short(job)
        context = self._client.explain_context(state, facts, now, self._settings, manager)
        text = explain_job(state, context)
        until = float("inf") if state.ended else max(time.monotonic() + FRESH, self._rest.until(begun))
        self._kept[job.uid] = at, until, text
        self._kept.move_to_end(job.uid)
        while len(self._kept) > MAX_KEPT:
            self._kept.popitem(last=False)
        return text


def _short(job: JobSummary) -> str:
    reason = job.reason if job.reason and job.reason != "ok" else ""
    return f"{reason}: {job.message}" if reason and job.message else reason
