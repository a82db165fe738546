"""Starts that the server refuses for now: a full quota, a missing right, a webhook that does not answer.

Nothing of such a run exists, so it waits, at nobody's expense, and its Job is requested again and again. Used by the
manager's thread alone.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass

from air_executor.backends.base import Launch, RunnerStatus
from air_executor.model.names import Slot

log = logging.getLogger(__name__)

FIRST_PAUSE, LONGEST_PAUSE = 2.0, 30.0
"""Seconds between two requests for the same Job: twice as many each time."""


@dataclass(slots=True)
class _RefusedStart:
    launch: Launch
    message: str
    since: float
    next_try: float
    pause: float = FIRST_PAUSE


class RefusedStarts:
    """The refused starts of one state directory. All times are monotonic seconds."""

    def __init__(self) -> None:
        self._open: dict[Slot, _RefusedStart] = {}
        self._waited: dict[Slot, float] = {}
        """For how many seconds runs waited whose Job exists now."""
        self._said: set[str] = set()

    def __contains__(self, slot: object) -> bool:
        """Tell whether a start of this slot waits."""
        return slot in self._open

    def refuse(self, launch: Launch, message: str, now: float) -> None:
        """Note that the Job of a run was refused, and try again later. Each reason is logged once while it lasts."""
        known = self._open.get(launch.slot)
        if known is None:
            self._open[launch.slot] = _RefusedStart(launch, message, now, now + FIRST_PAUSE)
        else:
            known.message = message
            known.pause = min(LONGEST_PAUSE, 2 * known.pause)
            known.next_try = now + known.pause
        if message not in self._said:
            self._said.add(message)
            log.warning("job=%s task=%s waiting: %s", launch.slot.job, launch.task, message)

    def due(self, now: float) -> list[Launch]:
        """Return the runs whose Jobs are to be requested again."""
        return [one.launch for one in self._open.values() if one.next_try <= now]

    def created(self, slot: Slot, now: float) -> None:
        """Note that the Job of a run exists."""
        if (one := self._open.pop(slot, None)) is not None:
            self._waited[slot] = now - one.since
            if not self._open:
                self._said.clear()

    def drop(self, slot: Slot) -> None:
        """Forget what is known of a slot, because its run was stopped or has ended."""
        self._open.pop(slot, None)
        self._waited.pop(slot, None)
        if not self._open:
            self._said.clear()

    def statuses(self) -> dict[Slot, RunnerStatus]:
        """Return the waiting runs as the manager sees them: they have no node, and may start at any time."""
        return {
            slot: RunnerStatus(one.launch.run, alive=True, message=one.message, node_wait=None)
            for slot, one in self._open.items()
        }

    def with_wait(self, found: Mapping[Slot, RunnerStatus]) -> dict[Slot, RunnerStatus]:
        """Return the runners with the time in which their Jobs were refused: nothing of them existed then."""
        more = {
            slot: found[slot]._replace(node_wait=wait + seconds)
            for slot, seconds in self._waited.items()
            if slot in found and (wait := found[slot].node_wait) is not None
        }
        return {**found, **more}
