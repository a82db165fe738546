"""Makes the carriers of one manager's runs, each with the token of its run. Used by the backend."""

from __future__ import annotations

from collections.abc import Collection

from air_executor.backends.base import Launch, MakeToken
from air_executor.backends.docker.carrier_spec import carrier_container
from air_executor.backends.docker.container_cache import Container
from air_executor.backends.docker.container_spec import EngineConfig
from air_executor.backends.docker.images import ImageFacts
from air_executor.backends.docker.service_spec import ServiceContainer

TELL_AFTER, TELL_AGAIN = 2.0, 60.0
"""Seconds."""


class Carriers:
    """The carriers of one state directory; `authorities` are certificates that they trust, as PEM."""

    def __init__(self, config: EngineConfig, make_token: MakeToken, authorities: str | None) -> None:
        self._config = config
        self._make_token = make_token
        self._authorities = authorities
        self._alone: dict[str, float] = {}
        """By id: when a carrier is to be told that its runner has ended, monotonic seconds."""

    def to_tell(self, alone: Collection[Container], now: float) -> list[Container]:
        """Return those of all carriers without a runner to be told now; one that sees an outcome ends first."""
        self._alone = {one.id: self._alone.get(one.id, now + TELL_AFTER) for one in alone}
        due = [one for one in alone if self._alone[one.id] <= now]
        self._alone.update((one.id, now + TELL_AGAIN) for one in due)
        return due

    def make(self, launch: Launch, image: ImageFacts) -> ServiceContainer:
        """Return the carrier of a run; `image` is the one that it is of.

        Raises:
            StoreError: the key of tokens cannot be read.
        """
        token = self._make_token(launch.slot, launch.run, launch.task)
        return carrier_container(self._config, launch, token, self._authorities, image)
