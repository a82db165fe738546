"""How a manager behaves, as `wiring` reads it from the settings. Handed to the loop; knows no settings file."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from air_executor.core.price import Prices


@dataclass(frozen=True, slots=True)
class ManagerOptions:
    """How a manager behaves. Seconds."""

    version: str
    max_runners: int
    runner_files: Mapping[str, bytes]
    """What to put into `bin/`, by name."""
    project: str
    """The folder that relative work directories start from."""
    poll_interval: float = 1.0
    queues: Mapping[str, int] = field(default_factory=dict)
    platform_retries: int = 3
    prices: Mapping[str, Prices] = field(default_factory=dict)
    """By backend; one that is not named has none."""
    secrets_dir: str | None = None
    secrets_by_name: bool = False
    """The platform knows the secrets, so the manager need not."""
    name_prefix: str | None = None
    """Of runners' names on the platform, for people who look there; None where they have none."""
    events: bool = True
    """False: poll only."""
    from_files: bool = False
    scope: set[str] | None = None
    """The jobs to manage; None means all."""
    page: str | None = None
    """Address of the page that the manager's process serves; None: there is none."""
    visibility: float = 0.0
    """How long a file may take to appear after its writer has gone (network volumes)."""
