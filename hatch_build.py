"""Builds the native runner into the wheel where there is a C compiler; without one the runner script serves."""

from __future__ import annotations

import runpy
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface


class NativeRunnerHook(BuildHookInterface[Any]):
    """Called by hatchling, for a wheel and for an editable installation."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:  # noqa: ARG002 - hatchling's interface
        """Build what is not built yet; a release has built for all machines beforehand."""
        native = runpy.run_path(str(Path(self.root) / "air_executor" / "runner" / "native.py"))
        why = native["build_here"]()
        if why is not None:
            self.app.display_warning(f"no native runner, the script serves: {why}")
