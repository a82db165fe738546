"""What a Pod's object says of the services of its task. Pure; `object_status` makes of it what it means for the run."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from air_executor.backends.container.platform_text import brief, parse_time
from air_executor.model.times import format_duration

PREFIX = "service-"
"""Begins the names of their containers."""


@dataclass(frozen=True, slots=True)
class ServiceStatus:
    """One service."""

    name: str
    status: Mapping[str, Any]
    """Of its container."""
    started: bool
    """It can be used."""
    limit: float | None
    """Maximum seconds until it can; None if it can as soon as it runs."""
    restarted: bool
    """It has ended, and its node has started it again, as it does with native sidecars."""
    hide: Callable[[str], str] = str
    """Removes the values of variables from a message."""

    @property
    def runs(self) -> bool:
        """Whether its program runs."""
        return "running" in self._state

    @property
    def waiting(self) -> Mapping[str, Any]:
        """Why it does not run yet."""
        found: Mapping[str, Any] = self._state.get("waiting") or {}
        return found

    @property
    def pending_text(self) -> str:
        """What the task waits for."""
        if self.limit is None:
            return f"waiting for service {self.name} to start"
        return f"waiting for service {self.name} to be ready (at most {format_duration(self.limit)})"

    def end(self, *, was_started: bool) -> str | None:
        """Return how it ended; None if it has not. `was_started`: it could be used before, which its end hides."""
        ended = self._state.get("terminated")
        if ended is None and self.restarted:
            ended = (self.status.get("lastState") or {}).get("terminated") or {}
        if ended is None:
            return None
        lines = [line for line in str(ended.get("message") or "").splitlines() if line.strip()]
        words = f": {brief(self.hide(lines[-1]))}" if lines else ""
        if ended.get("reason") in {"StartError", "ContainerCannotRun"}:
            return f"service {self.name} could not be started{words}"
        if self.limit is not None and not was_started and _seconds(ended) >= self.limit - 1:
            return f"service {self.name} was not ready within {format_duration(self.limit)}{words}"
        how = ", out of memory" if ended.get("reason") == "OOMKilled" else ""
        return f"service {self.name} ended with exit code {ended.get('exitCode')}{how}{words}"

    @property
    def _state(self) -> Mapping[str, Any]:
        found: Mapping[str, Any] = self.status.get("state") or {}
        return found


def read_services(pod: Mapping[str, Any], hide: Callable[[str], str]) -> Iterator[ServiceStatus]:
    """Yield the services of a Pod, in the order in which they start; `hide` as there."""
    spec, status = pod.get("spec") or {}, pod.get("status") or {}
    known = [*(status.get("initContainerStatuses") or ()), *(status.get("containerStatuses") or ())]
    by_name = {one.get("name"): one for one in known}
    for one in (*(spec.get("initContainers") or ()), *(spec.get("containers") or ())):
        if one["name"].startswith(PREFIX):
            found = by_name.get(one["name"], {})
            yield ServiceStatus(
                one["name"].removeprefix(PREFIX),
                found,
                started=bool(found.get("started")),
                limit=_limit(one.get("startupProbe")),
                restarted=int(found.get("restartCount") or 0) > 0,
                hide=hide,
            )


def _limit(probe: Mapping[str, Any] | None) -> float | None:
    return None if probe is None else float(probe["failureThreshold"] * probe["periodSeconds"])


def _seconds(ended: Mapping[str, Any]) -> float:
    begun, over = parse_time(ended.get("startedAt")), parse_time(ended.get("finishedAt"))
    return 0.0 if begun is None or over is None else over - begun
