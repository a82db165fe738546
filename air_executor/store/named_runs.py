"""The runs of definitions: jobs whose ids are a name and a number, or a name and a scheduled time.

The client creates runs that people ask for, the manager those of schedules. Both come through here, so that both give
ids by exclusive create and follow `concurrency`.
"""

from __future__ import annotations

import contextlib
import heapq
import os
import re
from collections.abc import Callable, Iterator, Sequence
from itertools import islice

from air_executor.errors import (
    AlreadyExistsError,
    BadInputError,
    NotFoundError,
    StoreError,
)
from air_executor.model.definition import ScheduleFile
from air_executor.model.job import Job
from air_executor.model.names import job_id, run_number, scheduled_id, scheduled_time
from air_executor.model.records import Request
from air_executor.model.state import JobState
from air_executor.store import files
from air_executor.store.inbox import Inbox
from air_executor.store.jobs import Jobs
from air_executor.store.run_claims import RunClaims

UID_BYTES = 12
"""Random bytes of a job's uid: 96 bits, so that no two jobs ever share one."""
RUNS_SEARCHED = 10_000
"""Runs of a name among which one is looked for by its uid."""
IDS_TRIED = 1000
"""Ids of further runs that are tried where others submit runs of the same name at the same time."""


class NamedRuns:
    """The runs of the definitions of one state directory."""

    def __init__(self, jobs: Jobs, inbox: Inbox) -> None:
        self._jobs = jobs
        self._inbox = inbox

    # Reading

    def newest_first(self, name: str) -> Iterator[JobState]:
        """Yield the runs of a definition that can be read, archived ones included.

        A run of a schedule stands at its scheduled time, also if it was submitted later.

        Raises:
            StoreError: the volume refused.
        """
        ids = self._ids()
        numbers = sorted((number for one in ids if (number := run_number(one, name)) is not None), reverse=True)
        times = sorted((time for one in ids if (time := scheduled_time(one, name)) is not None), reverse=True)
        numbered = ((run.submitted_at, run) for run in self._read(name, (job_id(name, one) for one in numbers)))
        scheduled = ((run.scheduled_at or 0.0, run) for run in self._read(name, (scheduled_id(name, t) for t in times)))
        for _, run in heapq.merge(numbered, scheduled, key=lambda pair: -pair[0]):
            yield run

    def _ids(self) -> set[str]:
        layout = self._jobs.layout
        try:
            archived = files.list_dir(layout.archive)
        except StoreError as error:
            import logging  # noqa: PLC0415 - commands that show a state do without

            logging.getLogger(__name__).warning("archived runs are left out: %s", error)
            archived = []
        return {*files.list_dir(layout.jobs), *(entry.rpartition("-")[0] for entry in archived)}

    def _read(self, name: str, ids: Iterator[str]) -> Iterator[JobState]:
        for one in ids:
            try:
                found = self._jobs.find(one)
            except StoreError:  # it may be another user's
                continue
            if found is not None and found.spec.name == name:
                yield found

    def none_of(self, name: str) -> NotFoundError:
        """Return the error that a definition has no runs, with the nearest name that may have some."""
        from air_executor.model.problems import did_you_mean  # noqa: PLC0415 - only for errors

        ids = self._ids()
        if name in ids:
            return NotFoundError(f"{name} is a job with an id, so it runs once; `air-executor status {name}` shows it")
        names = {re.sub(r"-([0-9]{8}-[0-9]{6}|[0-9]{1,9})$", "", one) for one in ids}
        hint = did_you_mean(name, names - {name}) or "; `air-executor status` lists all jobs"
        return NotFoundError(f"no runs of {name} in {self._jobs.layout.root}{hint}")

    def newest(self, name: str) -> JobState | None:
        """Return the newest run of a definition, or None."""
        return next(self.newest_first(name), None)

    def meant(self, name: str) -> JobState | None:
        """Return what a name means: the job that has this id, or else the newest of its runs and archived jobs.

        Raises:
            StoreError: the volume refused, or the job cannot be read.
        """
        try:
            return self._jobs.load(name)
        except NotFoundError:
            newest = self.newest(name)
        try:
            archived = self._jobs.archived(name)
        except StoreError:  # of the archive, perhaps
            if newest is None:
                raise
            return newest
        found = [one for one in (archived, newest) if one is not None]
        return max(found, key=lambda one: one.submitted_at, default=None)

    # Creating

    def check_id(self, job: str) -> None:
        """Refuse an id that is the name of a definition with a schedule, or whose first run is there: it would hide it.

        Only these are looked for: they take no time, however many jobs there are.

        Raises:
            AlreadyExistsError: it is.
        """
        layout = self._jobs.layout
        has_runs = False
        if os.path.isdir(layout.job(first := job_id(job, 1))):
            with contextlib.suppress(NotFoundError, StoreError):
                has_runs = self._jobs.load(first).spec.name == job
        if has_runs or os.path.exists(layout.schedule(job)):
            what = f"runs, as {first}" if has_runs else "a schedule"
            msg = f"id {job}: there is a definition of this name with {what}; choose another id, or `--name {job}`"
            raise AlreadyExistsError(msg)

    def check_name(self, name: str) -> None:
        """Refuse a name that is the id of a job, which would hide its runs.

        Raises:
            AlreadyExistsError: it is.
        """
        if os.path.isdir(self._jobs.layout.job(name)):
            then = "choose another name, or archive that job: `air-executor prune`"
            msg = f"name {name}: there is a job with this id; {then}"
            raise AlreadyExistsError(msg)

    def create(self, job: Job, make: Callable[[str], JobState], create: Callable[[JobState], None]) -> JobState:
        """Create the next run of a job's name; `make` returns its state for an id.

        Raises:
            AlreadyExistsError: the name is the id of a job, or `concurrency` forbids another run.
            StoreError: the volume refused; nothing was submitted.
        """
        name = job.name or ""
        number = self._next_number(name)
        for run in (job_id(name, one) for one in range(number, number + IDS_TRIED)):
            try:
                return self.create_as(job, run, make, create)
            except _IdTakenError:
                continue  # somebody else submitted a run of this name just now
        raise _all_taken(name)

    def create_once(
        self, job: Job, uid: str, make: Callable[[str], JobState], create: Callable[[JobState], None]
    ) -> JobState:
        """Create the next run of a job's name with this uid, or return it: several processes may do so at a time.

        Raises: as `create`.
        """
        name = job.name or ""
        claims = RunClaims(self._jobs.layout, uid)
        for _ in range(IDS_TRIED):
            run = claims.next(job_id(name, self._next_number(name)))
            found = self.with_uid(name, uid)  # after the claim: who created it may have removed an earlier one
            if found is None:
                try:
                    found = self.create_as(job, run, make, create)
                except _IdTakenError:
                    continue  # by another run, or by this one
            claims.drop()
            return found
        raise _all_taken(name)

    def with_uid(self, name: str, uid: str) -> JobState | None:
        """Return the run of a name that has this uid, if it is one of the newest; None: there is none."""
        return next((run for run in islice(self.newest_first(name), RUNS_SEARCHED) if run.uid == uid), None)

    def _next_number(self, name: str) -> int:
        self.check_name(name)
        return 1 + max((number for one in self._ids() if (number := run_number(one, name)) is not None), default=0)

    def create_as(
        self, job: Job, run: str, make: Callable[[str], JobState], create: Callable[[JobState], None]
    ) -> JobState:
        """Create a run of a job's name with this id; otherwise as `create`."""
        earlier = [] if job.concurrency == "allow" else self._unfinished(job, run)
        state = _create_after(earlier, make(run), create)
        if job.concurrency == "replace":
            for one in earlier:
                self._inbox.post(Request("cancel", one.id), state.submitted_at)
        return state

    def create_scheduled(
        self,
        schedule: ScheduleFile,
        time: float,
        now: float,
        *,
        backfill: Sequence[JobState] | None = None,
        again: bool = False,
    ) -> JobState | None:
        """Create the run of a schedule for one of its times; None: there is one. Times in Unix seconds.

        `backfill` are the runs that must have ended first, in place of what `concurrency` says. With `again`, an
        archived run does not count.

        Raises:
            AlreadyExistsError: `concurrency` forbids another run.
            BadInputError: the definition is wrong, or a job that it waits for does not exist.
            StoreError: the volume refused; nothing was submitted.
        """
        # Here, because clients that only read come without pydantic.
        from air_executor.core.submission import initial_state, job_of  # noqa: PLC0415

        run = scheduled_id(schedule.name, time)
        if not again and self._jobs.find(run) is not None:
            return None
        job = job_of(schedule, {}, time)
        upstream = [self.upstream(name) for name in job.after]

        def make(name: str) -> JobState:
            state = initial_state(job, uid=files.random_hex(UID_BYTES), now=now, id=name, upstream=upstream)
            state.scheduled_at = time
            state.backfill = backfill is not None
            return state

        try:
            if backfill is not None:
                return _create_after(backfill, make(run), self._jobs.create)
            return self.create_as(job, run, make, self._jobs.create)
        except _IdTakenError:
            return None

    def upstream(self, name: str) -> JobState:
        """Return the job that a name in `after` means; see `meant`.

        Raises:
            BadInputError: there is neither.
        """
        found = self.meant(name)
        if found is None:
            msg = f"after: job {name} does not exist; submit it first"
            raise BadInputError(msg)
        return found

    def _unfinished(self, job: Job, run: str) -> list[JobState]:
        """Return the unfinished runs of a job's name.

        Raises:
            AlreadyExistsError: there is one, and `concurrency` forbids another.
        """
        name = job.name or ""
        found = []
        for one in files.list_dir(self._jobs.layout.jobs):
            if one == run or (run_number(one, name) is None and scheduled_time(one, name) is None):
                continue
            try:
                state = self._jobs.load(one)
            except (StoreError, NotFoundError):
                continue
            if state.spec.name == name and not state.ended:
                found.append(state)
        if found and job.concurrency == "forbid":
            rule = f"`concurrency: forbid` allows one run of {name} at a time"
            msg = f"{found[0].id} is {found[0].phase}, and {rule}; wait for its end, or cancel it"
            raise AlreadyExistsError(msg)
        return found


def _all_taken(name: str) -> AlreadyExistsError:
    msg = f"name {name}: {IDS_TRIED} ids in a row are taken; choose another name"
    return AlreadyExistsError(msg)


class _IdTakenError(AlreadyExistsError):
    """The id of a run is taken."""


def _create_after(earlier: Sequence[JobState], state: JobState, create: Callable[[JobState], None]) -> JobState:
    """Create a run that starts when these runs have ended."""
    state.earlier_runs = {one.id: one.uid for one in earlier}
    try:
        create(state)
    except AlreadyExistsError as error:
        raise _IdTakenError(str(error)) from error
    return state
