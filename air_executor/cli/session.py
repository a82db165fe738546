"""What one call of the program knows: its shared options, and how it reaches the state directory.

Commands get it from their context. Settings and pydantic are loaded only by those that ask for them.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

if TYPE_CHECKING:
    import typer

    from air_executor.client import Client
    from air_executor.settings import ReaderSettings, Settings


@dataclass(slots=True)
class Session:
    """One call of the program."""

    state_dir: str | None = None
    json: bool = False
    verbose: bool = False
    debug: bool = False

    def client(self) -> Client:
        """Return the client for the state directory of this call."""
        from air_executor.client import Client  # noqa: PLC0415 - not for `schema` and `completion`
        from air_executor.settings import locate_state_dir  # noqa: PLC0415

        self.start_logging()
        return Client(locate_state_dir(self.state_dir)[0])

    def settings(self, **flags: Any) -> Settings:  # noqa: ANN401 - values of flags
        """Return the settings in force; flags that were not given are None.

        Raises:
            BadInputError: one of them is wrong.
        """
        from air_executor.cli.terminal import note  # noqa: PLC0415
        from air_executor.settings import load  # noqa: PLC0415

        self.start_logging()
        settings = load({"state_dir": self.state_dir, **flags})
        for warning in settings.warnings:
            note(f"warning: {warning}")
        return settings

    def reader_settings(self) -> ReaderSettings:
        """Return the settings that a reading command needs; quicker than `settings`.

        Raises:
            BadInputError: one of them is wrong.
        """
        from air_executor.settings import reader_settings  # noqa: PLC0415

        return reader_settings(self.state_dir)

    def start_logging(self, *, info: bool = False) -> None:
        """Log to stderr what -v and --debug say, or `info`; without any of them only warnings."""
        if not (info or self.verbose or self.debug):
            return  # warnings reach stderr anyway
        import logging  # noqa: PLC0415 - 15 ms

        root = logging.getLogger("air_executor")
        if not root.handlers:
            handler = logging.StreamHandler(sys.stderr)
            handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
            root.addHandler(handler)
            root.propagate = False
        root.setLevel(logging.DEBUG if self.debug else logging.INFO)


def session_of(ctx: typer.Context) -> Session:
    """Return the session that a command runs in."""
    return cast("Session", ctx.find_root().obj)
