"""Starts the runs of schedules when their time comes, and follows a folder of job files.

Each firing is a job whose id is made of the name and the scheduled time, created exclusively: two managers, a crash or
a clock that is set back cannot make two. The loop calls `fire` in every cycle; it costs nothing until a time comes.
Trouble of one schedule is said, and leaves all others alone.
"""

from __future__ import annotations

import heapq
import logging
from collections.abc import Iterator
from dataclasses import dataclass, field

from air_executor.core.timetable import Timetable
from air_executor.core.transitions import LiveJob
from air_executor.core.upcoming import timetable_of
from air_executor.errors import AirExecutorError, AlreadyExistsError
from air_executor.manager.manager_state import ManagerState
from air_executor.model.definition import ScheduleFile
from air_executor.model.problems import InvalidError, lines
from air_executor.model.times import to_text
from air_executor.store.inbox import Inbox
from air_executor.store.named_runs import NamedRuns
from air_executor.store.schedule_folder import ScheduleFolder
from air_executor.store.schedules import Schedules

log = logging.getLogger(__name__)

SLICE = 0.05
"""Seconds of one cycle for firing."""
LOOK_EVERY = 1.0
"""Seconds between two looks for schedules that have changed."""
SHARE = 0.003
"""Share of the manager's time that these looks may take: those at thousands of files are rarer."""
RESCAN_EVERY = 60.0
"""Seconds between two looks at each schedule."""
SET_BACK = 60.0
"""Seconds that the clock must have been set back for its times to count again."""
SETTLED_AFTER = 2.0
"""Seconds for which a folder's time may hide a further change."""


@dataclass(slots=True)
class _KnownSchedule:
    """One schedule, as it was read."""

    stamp: tuple[int, int]
    file: ScheduleFile | None = None
    timetable: Timetable | None = None
    settled: float = 0.0
    waiting: list[float] = field(default_factory=list)
    """Times whose runs are to be created now."""
    newest: float = 0.0
    """The time that is settled once those are."""


class ScheduleRunner:
    """The schedules of one manager."""

    def __init__(self, state: ManagerState, inbox: Inbox, folder: str | None) -> None:
        """`folder` holds job files whose schedules are applied when they change; None: there is none."""
        self._state = state
        self._schedules = Schedules(state.jobs.layout)
        self._runs = NamedRuns(state.jobs, inbox)
        self._folder = None if folder is None else ScheduleFolder(folder, self._schedules)
        self._entries: dict[str, _KnownSchedule] = {}
        self._times: list[tuple[float, str]] = []
        """When each schedule is looked at next; entries that are out of date are passed over."""
        self._next: dict[str, float] = {}
        self._following: Iterator[str | None] | None = None
        """A look at the folder of job files that has not come to its end."""
        self._unread: list[str] = []
        """Schedules that are new or have changed."""
        self._next_look = 0.0
        self._look_took = 0.0
        self._next_rescan = 0.0
        self._folder_changed_at = -1.0
        self._fired_at = 0.0

    # Times

    def next_time(self) -> float | None:
        """Return when `fire` will next have something to do, in Unix seconds, or None; 0: at once."""
        if self._unread or self._following is not None:
            return 0.0
        return self._next_firing()

    def _next_firing(self) -> float | None:
        while self._times and self._next.get(self._times[0][1]) != self._times[0][0]:
            heapq.heappop(self._times)
        return self._times[0][0] if self._times else None

    def _look_at(self, name: str, time: float | None) -> None:
        self._next.pop(name, None)
        if time is not None:
            self._next[name] = time
            heapq.heappush(self._times, (time, name))

    # Steps

    def fire(self, now: float) -> None:
        """See what has changed, and create the runs whose time has come, as much as a cycle has time for."""
        steady = self._state.clock.steady
        if now < self._fired_at - SET_BACK:
            for name in self._entries:
                self._plan(name, now)
        self._fired_at = now
        if steady() >= self._next_look:
            self._look(now)
        until = steady() + SLICE
        if self._following is not None and self._follow(until):
            self._reload(now)
        while self._unread and steady() < until:
            name = self._unread.pop()
            self._entries[name] = self._read(name, self._schedules.changed_at(name))
            self._plan(name, now)
        until = steady() + SLICE
        while (at := self._next_firing()) is not None and at <= now and steady() < until:
            name = heapq.heappop(self._times)[1]
            try:
                self._fire_one(name, now)
            except AirExecutorError as error:  # the volume, say: the same time is tried again
                log.error("schedule=%s trying again: %s", name, error)  # noqa: TRY400 - no bug
                self._look_at(name, now + LOOK_EVERY)
            except Exception:
                log.exception("schedule=%s stopped by a bug in Air-Executor; report it", name)
                self._look_at(name, None)

    def _look(self, now: float) -> None:
        """Find the schedules that have changed. Looks that take long are rare, so that they cost little."""
        begun = self._state.clock.steady()
        if self._following is None and self._folder is not None:
            self._following = self._folder.apply(now)
            self._follow(begun + SLICE)
        self._reload(now)
        took = self._state.clock.steady() - begun
        # The shorter of two in a row: the first one, or one on a busy machine, takes long without many files.
        self._next_look = begun + min(RESCAN_EVERY, max(LOOK_EVERY, min(took, self._look_took) / SHARE))
        self._look_took = took

    def _follow(self, until: float) -> bool:
        """Apply files of the folder; tell whether all of them are."""
        for problem in self._following or ():
            if problem is not None:
                log.error("%s", problem)
            if self._state.clock.steady() >= until:
                return False
        self._following = None
        if self._folder is not None:
            self._state.rejected_files = dict(self._folder.problems)
        return True

    def _reload(self, now: float) -> None:
        changed_at = self._schedules.folder_changed_at()
        settled = changed_at == self._folder_changed_at and now - changed_at > SETTLED_AFTER
        if settled and self._state.clock.steady() < self._next_rescan:
            return
        try:
            names = self._schedules.names()
        except AirExecutorError as error:
            log.error("the schedules cannot be read: %s", error)  # noqa: TRY400 - no bug
            return
        self._folder_changed_at = changed_at
        self._next_rescan = self._state.clock.steady() + RESCAN_EVERY
        for name in self._entries.keys() - names:
            del self._entries[name]
            self._look_at(name, None)
        known = {name: entry.stamp for name, entry in self._entries.items()}
        self._unread = [name for name in names if known.get(name) != self._schedules.changed_at(name)]

    def _read(self, name: str, stamp: tuple[int, int]) -> _KnownSchedule:
        entry = _KnownSchedule(stamp)
        try:
            found = self._schedules.load(name)
            if not found.paused:
                entry.timetable = timetable_of(found)
                entry.settled = max(found.since, self._schedules.settled(name))
            entry.file = found
        except InvalidError as error:
            log.error("schedule=%s cannot run: %s", name, "; ".join(lines(error.problems)))  # noqa: TRY400 - no bug
        except AirExecutorError as error:
            log.error("schedule=%s cannot run: %s", name, error)  # noqa: TRY400 - no bug
        return entry

    def _plan(self, name: str, now: float) -> None:
        """Look at a schedule again at its next time, or now if there is one that has passed."""
        entry = self._entries[name]
        if entry.settled > now + SET_BACK:  # the clock was ahead: times that have a run keep it, the others come
            self._schedules.settle(name, now)
            entry.settled = now
        if entry.timetable is None:
            self._look_at(name, None)
        elif entry.waiting:
            self._look_at(name, now)
        else:
            time = entry.timetable.next_after(entry.settled)
            self._look_at(name, None if time is None else entry.timetable.starts_at(time))

    def _fire_one(self, name: str, now: float) -> None:
        entry = self._entries[name]
        if entry.timetable is None or entry.file is None:
            return
        if not entry.waiting:
            entry.waiting, entry.newest = entry.timetable.due(entry.settled, now)
        if entry.waiting:
            self._create(entry.file, entry.waiting[0])
            settled = entry.waiting.pop(0)
        if not entry.waiting:
            settled = entry.newest
        if settled > entry.settled:
            self._schedules.settle(name, settled)
            entry.settled = settled
        elif not entry.waiting:  # all of it was too late: go on with what comes
            entry.settled = max(entry.settled, now - 1)
        self._plan(name, now)

    def _create(self, schedule: ScheduleFile, time: float) -> None:
        try:
            created = self._runs.create_scheduled(schedule, time, round(self._state.clock.wall(), 3))
        except AlreadyExistsError as error:
            log.warning("schedule=%s time=%s left out: %s", schedule.name, to_text(time), error)
            return
        if created is not None:  # otherwise a run from before a crash, or of a backfill
            log.info("schedule=%s time=%s job=%s", schedule.name, to_text(time), created.id)
            self._state.admit(LiveJob(self._state.jobs.load(created.id)))
