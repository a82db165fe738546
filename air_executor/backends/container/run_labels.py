"""The labels that identify a runner on its platform: state directory, job uid, run and slot, never the name alone.

Both container platforms use the same keys, except for the separator that each one's convention asks for.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

from air_executor.backends.base import Launch
from air_executor.model.names import Slot


class LabeledRun(NamedTuple):
    """The run that labels name."""

    slot: Slot
    run: str


@dataclass(frozen=True, slots=True)
class RunLabels:
    """The label keys of one platform."""

    separator: str

    def key(self, name: str) -> str:
        """Return a key."""
        return f"air-executor{self.separator}{name}"

    def selector(self, instance: str) -> str:
        """Return the selector of all objects of one state directory."""
        return f"{self.key('instance')}={instance}"

    def make(self, instance: str, launch: Launch) -> dict[str, str]:
        """Return the labels of a run in the state directory with this identity."""
        return {
            self.key("instance"): instance,
            self.key("job"): launch.slot.job,
            self.key("uid"): launch.uid,
            self.key("run"): launch.run,
            self.key("slot"): str(launch.slot.number),
        }

    def parse(self, labels: Mapping[str, str]) -> LabeledRun | None:
        """Return the run that an object's labels name; None if they aren't a runner's."""
        job, run, number = labels.get(self.key("job")), labels.get(self.key("run")), labels.get(self.key("slot"), "")
        if not job or not run or not number.isdecimal():
            return None
        return LabeledRun(Slot(job, int(number)), run)
