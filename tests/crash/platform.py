"""What a trial does to runners, whatever they are."""

from __future__ import annotations

from typing import Protocol


class Platform(Protocol):
    """The runners of one trial, found without asking the manager."""

    def left(self) -> list[str]:
        """Return what is there."""

    def lingering(self) -> bool:
        """Tell whether something of it has ended and will go in a moment."""

    def strike(self, target: str, choice: float) -> str | None:
        """Do harm to what `choice` (0 to 1) picks; say to whom, or None if nobody was there."""

    def relent(self) -> None:
        """End a harm that lasts."""

    def clear(self) -> None:
        """Kill whatever is left."""

    def close(self) -> None:
        """Let go of the platform."""
