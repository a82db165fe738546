"""The schedules of a state directory, for the command line and the API."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from air_executor.client.job_access import AppliedSchedule, BackfillResult, ScheduleRecord
from air_executor.core.submission import job_of
from air_executor.core.upcoming import schedule_record, times_of
from air_executor.errors import BadInputError, StoreError
from air_executor.model.times import to_text
from air_executor.store.backfill_runs import backfill_runs, cancel_runs
from air_executor.store.job_file import load_mapping
from air_executor.store.schedule_file import schedule_of
from air_executor.store.schedules import Schedules

if TYPE_CHECKING:
    from air_executor.client.directory_client import Client
    from air_executor.model.definition import ScheduleFile
    from air_executor.model.job import Job
    from air_executor.model.state import JobState


class DirectorySchedules:
    """See `ScheduleAccess`."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._stored = Schedules(client.layout)

    def all(self) -> tuple[list[ScheduleRecord], list[tuple[str, str]]]:
        """Return all schedules by name, and which cannot be read, with the errors: `schedules/` stands for all."""
        now = time.time()
        found, unreadable = [], []
        try:
            names = self._stored.names()
        except StoreError as error:
            return [], [("schedules/", str(error))]
        for name in names:
            try:
                found.append(schedule_record(self._stored.load(name), now))
            except StoreError as error:
                unreadable.append((name, str(error)))
        return found, unreadable

    def one(self, name: str) -> ScheduleRecord:
        """Return one schedule.

        Raises:
            NotFoundError: there is none.
            StoreError: it cannot be read.
        """
        return schedule_record(self._stored.load(name), time.time())

    def next_times(self, name: str, count: int) -> list[str]:
        """Return when the next runs of a schedule start. Raises as `one`."""
        return [to_text(at) for at in times_of(self._stored.load(name), time.time(), count)]

    def apply(self, files: Sequence[tuple[str, bytes]]) -> list[AppliedSchedule]:
        """Apply job files, given by name and content. All are checked before any is applied.

        Raises:
            AlreadyExistsError: the name of one of them is the id of a job.
            BadInputError: one of them is wrong, or has no name.
            StoreError: the volume refused; some of them may be applied.
        """
        now = round(time.time(), 3)
        found = [self._checked(data, name, now) for name, data in files]
        for made, _ in found:
            self._client.named_runs.check_name(made.name)
        self._client.jobs.prepare()
        for made, changed in found:
            if changed:
                self._stored.save(made)
        return [AppliedSchedule(schedule_record(made, now), changed) for made, changed in found]

    def check(self, name: str, data: bytes) -> AppliedSchedule:
        """Return what would become of a job file, and apply nothing.

        Raises:
            BadInputError: it is wrong, or has no name.
        """
        now = round(time.time(), 3)
        made, changed = self._checked(data, name, now)
        return AppliedSchedule(schedule_record(made, now), changed)

    def _checked(self, data: bytes, name: str, now: float) -> tuple[ScheduleFile, bool]:
        made = schedule_of(data, name, now, self._stored)
        if made is not None:
            return made, True
        raw = load_mapping(data, name)
        if "name" not in raw:
            msg = f"{name}: name: is missing: only a definition can be applied, which runs many times"
            raise BadInputError(msg)
        return self._stored.load(str(raw["name"])), False

    def pause(self, names: Sequence[str], *, paused: bool) -> list[ScheduleRecord]:
        """Pause or resume schedules, once all are found. Raises as `one`."""
        now = round(time.time(), 3)
        found = [self._stored.load(name) for name in names]
        for one in found:
            if not paused and one.paused:
                one.since = now  # what passed meanwhile is not caught up
            one.paused = paused
            self._stored.save(one)
        return [schedule_record(one, now) for one in found]

    def delete(self, names: Sequence[str]) -> list[ScheduleRecord]:
        """Delete schedules, once all are found; return them as they were. Raises as `one`."""
        found = [self.one(name) for name in names]
        for name in names:
            self._stored.delete(name)
        return found

    def job_of(self, name: str, params: Mapping[str, Any]) -> Job:
        """Return the job of a schedule with values of its parameters.

        Raises:
            NotFoundError: there is no such schedule.
            BadInputError: a value is wrong.
        """
        return job_of(self._stored.load(name), params, time.time())

    def run(self, name: str, params: Mapping[str, Any]) -> JobState:
        """Submit the next run of a schedule's job; its next time stays as it is. Raises as `job_of`."""
        return self._client.submit(self.job_of(name, params))

    def backfill(
        self, name: str, since: str, until: str, *, max_active: int, newest_first: bool, retry: bool, dry_run: bool
    ) -> BackfillResult:
        """Create the runs that a schedule would have had between two times. Raises as `backfill_runs`."""
        how = {"newest_first": newest_first, "retry": retry, "dry_run": dry_run}
        found = backfill_runs(self._client, name, since, until, max_active=max_active, **how)
        failed = [run.id for run in found.left_out if run.phase in ("failed", "cancelled")]
        return BackfillResult(found.created, [run.id for run in found.left_out], failed, found.retried)

    def cancel_backfill(self, name: str) -> list[str]:
        """Cancel all unfinished runs of a schedule that backfills made; return their ids. Raises as `one`."""
        return cancel_runs(self._client, name)
