"""The runners that stay after their run has failed, by slot: an index over what the states of jobs say of them.

`ManagerState` keeps it current; the supervisor, the scheduler and the open runs leave these slots alone. Reads no file,
and decides nothing.
"""

from __future__ import annotations

from dataclasses import dataclass

from air_executor.core.ledger import Origin, origin_of
from air_executor.model.keep import KeptRunner
from air_executor.model.names import Slot, run_id
from air_executor.model.state import JobState


@dataclass(slots=True)
class KeptSlot:
    """One runner that stays."""

    slot: Slot
    run: str
    task: str
    kept: KeptRunner
    origin: Origin
    """What its cost is grouped by."""
    seen: bool = False
    """This manager has seen it alive since its run was committed."""


class KeptRunners:
    """The runners that stay."""

    def __init__(self) -> None:
        self.by_slot: dict[Slot, KeptSlot] = {}
        self._jobs: dict[str, list[Slot]] = {}

    def note(self, job: JobState) -> None:
        """Note what a job says now of its runners that stay."""
        before = {slot: self.by_slot.pop(slot) for slot in self._jobs.pop(job.id, ())}
        for task, kept in job.kept.items():
            if task not in job.tasks:  # somebody has edited the file
                continue
            slot, run = Slot(job.id, kept.slot), run_id(job.uid, kept.seq)
            seen = slot in before and before[slot].run == run and before[slot].seen
            self.by_slot[slot] = KeptSlot(slot, run, task, kept, origin_of(job, job.tasks[task]), seen)
            self._jobs.setdefault(job.id, []).append(slot)

    def forget(self, job: str) -> None:
        """Drop those of a job that is gone or quarantined."""
        for slot in self._jobs.pop(job, ()):
            del self.by_slot[slot]
