"""Settings: flag > environment > `air-executor.toml` in the project folder > default, and the source of each value.

The command line loads them and passes them to `wiring`. Imports are lazy: `locate_state_dir` needs the standard library
alone, `reader_settings` imports pydantic, and only `load` imports pydantic-settings.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

from air_executor.settings.project import DEFAULT, DIRECTORY, FILE, find_project, locate_state_dir

if TYPE_CHECKING:
    from air_executor.settings.declarations import (
        CostSettings,
        DockerSettings,
        KubernetesSettings,
        ReaderSettings,
        TransportSettings,
    )
    from air_executor.settings.effective_settings import Settings, all_settings, effective, load
    from air_executor.settings.reader import reader_settings
    from air_executor.settings.setting_info import SettingInfo

__all__ = [
    "DEFAULT",
    "DIRECTORY",
    "FILE",
    "CostSettings",
    "DockerSettings",
    "KubernetesSettings",
    "ReaderSettings",
    "SettingInfo",
    "Settings",
    "TransportSettings",
    "all_settings",
    "effective",
    "find_project",
    "load",
    "locate_state_dir",
    "reader_settings",
]

_MODULES = {
    "declarations": ("CostSettings", "DockerSettings", "KubernetesSettings", "ReaderSettings", "TransportSettings"),
    "effective_settings": ("Settings", "all_settings", "effective", "load"),
    "reader": ("reader_settings",),
    "setting_info": ("SettingInfo",),
}


def __getattr__(name: str) -> object:
    for module, names in _MODULES.items():
        if name in names:
            return getattr(importlib.import_module(f"{__name__}.{module}"), name)
    msg = f"module {__name__!r} has no attribute {name!r}"
    raise AttributeError(msg)
