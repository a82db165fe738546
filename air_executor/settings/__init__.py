"""Settings: flag > environment > `air-executor.toml` in the project folder > default, and where each came from.

The command line loads them and hands them to `wiring`; nothing else reads the environment for settings. Standard
library alone and loaded on demand, so that `status` finds its state directory in no time.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from air_executor.settings.project import DEFAULT, DIRECTORY, FILE, find_project, locate_state_dir

if TYPE_CHECKING:
    from air_executor.settings.declarations import (
        CostSettings,
        DockerSettings,
        KubernetesSettings,
        SettingInfo,
        Settings,
        all_settings,
        effective,
        load,
    )

__all__ = [
    "DEFAULT",
    "DIRECTORY",
    "FILE",
    "CostSettings",
    "DockerSettings",
    "KubernetesSettings",
    "SettingInfo",
    "Settings",
    "all_settings",
    "effective",
    "find_project",
    "load",
    "locate_state_dir",
]


def __getattr__(name: str) -> object:
    if name not in __all__:
        msg = f"module {__name__!r} has no attribute {name!r}"
        raise AttributeError(msg)
    from air_executor.settings import declarations  # noqa: PLC0415 - finding the state directory does not need it

    return getattr(declarations, name)
