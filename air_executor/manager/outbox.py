"""The notifications that are not delivered yet, and which one each target is tried with next.

They are in the states of their jobs; this is the index over them. Each target has a queue and a back-off of its own, so
one that fails or hangs delays no other. Sends nothing, and decides nothing.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from itertools import islice

from air_executor.manager.clock import Clock
from air_executor.model.notice import Notice
from air_executor.model.state import JobState
from air_executor.model.times import format_duration
from air_executor.notify.delivery import Undelivered

FIRST_PAUSE, LONGEST_PAUSE = 5.0, 900.0
"""Seconds for which a target is not tried again after it failed once, and after it failed many times."""

MOST_GIVEN_UP = 100
"""Notifications that one failure gives up at most."""
UNSAVED_PAUSE = 0.2
"""Seconds until a target is looked at again whose jobs the volume refuses to take."""


@dataclass(slots=True)
class _Target:
    """One target."""

    waiting: dict[Undelivered, bool] = field(default_factory=dict)
    """In the order in which they are tried; True: it was tried before."""
    sending: Undelivered | None = None
    pause: float = 0.0
    not_before: float = 0.0
    """By the steady clock."""
    problem: str | None = None
    """Why the last try failed."""


class Outbox:
    """The undelivered notifications of one manager."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._targets: dict[str, _Target] = {}
        self._jobs: Counter[str] = Counter()

    def add(self, job: JobState, notices: Iterable[Notice]) -> None:
        """Add notifications of a job."""
        for notice in notices:
            one = Undelivered(job.id, job.uid, notice)
            target = self._targets.setdefault(notice.to, _Target())
            if one not in target.waiting:
                target.waiting[one] = False
                self._jobs[job.id] += 1

    def has(self, job: str) -> bool:
        """Tell whether a job has undelivered notifications."""
        return self._jobs[job] > 0

    def forget(self, job: str) -> None:
        """Drop the notifications of a job that is quarantined or no longer exists."""
        for target in self._targets.values() if self.has(job) else ():
            for one in [one for one in target.waiting if one.job == job]:
                del target.waiting[one]
        del self._jobs[job]

    def take_due(self, is_saved: Callable[[str], bool]) -> Iterator[Undelivered]:
        """Yield for each free target the notification to send now, if its job is on the volume."""
        now = self._clock.steady()
        for target in self._targets.values():
            if target.sending is None and target.waiting and target.not_before <= now:
                first = next((one for one in target.waiting if is_saved(one.job)), None)
                if first is None:
                    target.not_before = now + UNSAVED_PAUSE
                else:
                    target.sending = first
                    yield first

    def done(self, one: Undelivered) -> None:
        """Note the end of a notification: it was delivered or given up, or its job no longer exists."""
        target = self._targets[one.notice.to]
        target.sending = None
        if target.waiting.pop(one, None) is not None:
            self._jobs[one.job] -= 1
            if not self._jobs[one.job]:
                del self._jobs[one.job]

    def recovered(self, to: str) -> None:
        """Note that a target works."""
        target = self._targets[to]
        target.pause, target.problem = 0.0, None

    def failed(self, one: Undelivered, why: str) -> None:
        """Note that a try failed: its target is not tried again for a while, and the others of the target go first."""
        target = self._targets[one.notice.to]
        target.sending, target.problem = None, why
        target.pause = min(LONGEST_PAUSE, target.pause * 2 or FIRST_PAUSE)
        target.not_before = self._clock.steady() + target.pause
        if target.waiting.pop(one, None) is not None:
            target.waiting[one] = True

    def overdue(self, to: str, before: float) -> list[Undelivered]:
        """Return the notifications of a target from before a time that are not being sent, at most `MOST_GIVEN_UP`."""
        target = self._targets[to]
        old = (one for one in target.waiting if one.notice.at <= before and one is not target.sending)
        return list(islice(old, MOST_GIVEN_UP))

    def due_in(self) -> float | None:
        """Return the seconds until a target can be tried, or None."""
        waiting = [one.not_before for one in self._targets.values() if one.sending is None and one.waiting]
        return max(0.0, min(waiting) - self._clock.steady()) if waiting else None

    def untried(self) -> bool:
        """Tell whether there is a notification that was not tried yet."""
        return any(not tried for target in self._targets.values() for tried in target.waiting.values())

    def problems(self) -> dict[str, str]:
        """Return what is to say of the targets that failed, by name."""
        return {
            name: f"{len(target.waiting)} not delivered: {target.problem}; tried every {format_duration(target.pause)}"
            for name, target in self._targets.items()
            if target.waiting and target.problem is not None
        }
