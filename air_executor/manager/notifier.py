"""Sends what is in the outbox, from one thread for each target, and decides what became of it.

A thread has one notification at a time and no state; it can hang as long as it likes. What it reports is decided in the
manager's own thread, so a manager that is killed in between sends again, with the same key: at least once.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from queue import SimpleQueue

from air_executor.errors import AirExecutorError, BadInputError, NotFoundError, StoreError
from air_executor.manager.checkpointer import Checkpointer
from air_executor.manager.manager_state import ManagerState
from air_executor.model.events import NoticeSettled
from air_executor.model.state import JobState
from air_executor.notify.delivery import Delivery, JobGoneError, Undelivered

log = logging.getLogger(__name__)

GIVE_UP_AFTER = 86_400.0
"""Seconds after which a notification that fails again is given up."""
LINGER = 10.0
"""Seconds that `run` waits at its end until each of its notifications was tried once."""

_Result = tuple[Undelivered, AirExecutorError | None]


class Notifier:
    """The sender of one manager's notifications."""

    def __init__(self, state: ManagerState, checkpointer: Checkpointer, wake: Callable[[], None]) -> None:
        """`wake` ends the manager's sleep, from any thread."""
        options = state.options
        self._state = state
        self._checkpointer = checkpointer
        self._deliver = Delivery(
            state.jobs.layout,
            options.secrets_dir,
            secrets_known=not options.secrets_by_name,
            page=options.page,
        )
        self._outbox = state.outbox
        self._wake = wake
        self._couriers: dict[str, SimpleQueue[Undelivered | None]] = {}
        self._results: SimpleQueue[_Result] = SimpleQueue()
        self._lingers_until = 0.0
        state.dropped.append(self._outbox.forget)

    def take(self, job: JobState) -> None:
        """Add what a job that was found has left to be delivered."""
        self._outbox.add(job, job.undelivered)

    def send(self) -> None:
        """Hand to the threads what is due; the journal holds all of it."""
        for one in self._outbox.take_due(self._is_saved):
            courier = self._couriers.get(one.notice.to)
            if courier is None:
                courier = self._couriers[one.notice.to] = SimpleQueue()
                name = f"notify-{one.notice.to}"
                threading.Thread(target=self._carry, args=(courier,), name=name, daemon=True).start()
            courier.put(one)

    def _is_saved(self, job: str) -> bool:
        """Make sure that the volume has a job as it was decided: the threads read it there."""
        state = self._state
        if job in state.index.dirty:
            try:
                state.journal.sync()
                with state.guard(job):
                    self._checkpointer.save_now(job)
            except StoreError as error:
                log.error("job=%s notification delayed: %s", job, error)  # noqa: TRY400 - a full disk is no bug
        return job not in state.unsaved and job not in state.index.dirty

    def _carry(self, courier: SimpleQueue[Undelivered | None]) -> None:
        while (one := courier.get()) is not None:
            error: AirExecutorError | None = None
            try:
                self._deliver(one)
            except AirExecutorError as failed:
                error = failed
            except Exception as failed:
                log.exception("job=%s notification to %s", one.job, one.notice.to)
                error = AirExecutorError(f"a bug in Air-Executor ({type(failed).__name__}); report it")
            self._results.put((one, error))
            self._wake()

    def settle(self, now: float) -> None:
        """Decide what became of what the threads have tried."""
        for _ in range(self._results.qsize()):
            one, error = self._results.get()
            try:
                self._settle(one, error, now)
            except AirExecutorError as refused:  # the volume, say: the same is decided again
                log.error("job=%s notification to %s: %s", one.job, one.notice.to, refused)  # noqa: TRY400 - no bug
                self._results.put((one, error))

    def _settle(self, one: Undelivered, error: AirExecutorError | None, now: float) -> None:
        on, to = one.notice.on, one.notice.to
        if isinstance(error, JobGoneError):
            self._outbox.done(one)
        elif error is None:
            self._decide(one, None, now)
            self._outbox.recovered(to)
            log.info("job=%s notification of %s to %s delivered", one.job, on, to)
        else:
            self._outbox.failed(one, str(error))
            log.warning("job=%s notification of %s to %s failed: %s", one.job, on, to, error)
            for old in self._outbox.overdue(to, now - GIVE_UP_AFTER):
                self._decide(old, str(error), now)
                log.error("job=%s notification of %s to %s given up: %s", old.job, old.notice.on, to, error)

    def _decide(self, one: Undelivered, failed: str | None, now: float) -> None:
        try:
            job = self._state.find(one.job)
        except (NotFoundError, BadInputError) as gone:  # what the job had to tell goes with it
            log.warning("job=%s notification to %s dropped: %s", one.job, one.notice.to, gone)
        else:
            if job.state.uid == one.uid and one.notice in job.state.notices:
                with self._state.guard(one.job):
                    self._state.decide(job, NoticeSettled(now, *one.notice.name, failed))
        self._outbox.done(one)

    def lingers(self) -> bool:
        """Tell whether a manager that has nothing else to do shall wait for a first try."""
        if not self._outbox.untried():
            return False
        now = self._state.clock.steady()
        self._lingers_until = self._lingers_until or now + LINGER
        return now < self._lingers_until

    def close(self) -> None:
        """Let the idle threads go; one that hangs ends with the process."""
        for courier in self._couriers.values():
            courier.put(None)
