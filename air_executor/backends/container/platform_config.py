"""What all runners of one manager have in common on a container platform. Extended by each platform's own config."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from air_executor.backends.container.run_labels import RunLabels
from air_executor.model.names import Slot, runner_name


@dataclass(frozen=True, slots=True, kw_only=True)
class PlatformConfig:
    """The state directory, and the defaults of its runners."""

    label_keys: ClassVar[RunLabels]

    state_dir: str
    location: str
    """The state directory as the platform sees it: unique among all that use the same engine or cluster."""
    prefix: str
    version: str
    image: str
    """Image of tasks that name none."""
    user: tuple[int, int]
    """User and group of tasks."""

    @property
    def instance(self) -> str:
        """The identity of the state directory on its platform."""
        return hashlib.sha256(self.location.encode()).hexdigest()[:12]

    @property
    def selector(self) -> str:
        """Selects the objects of this state directory by their labels."""
        return self.label_keys.selector(self.instance)

    def name(self, slot: Slot) -> str:
        """Return the platform name of a slot's runner."""
        return runner_name(self.prefix, slot)

    def image_of(self, options: Mapping[str, Any]) -> str:
        """Return the image that a task runs in."""
        return str(options.get("image") or self.image)
