"""One invocation of the program: its shared options, and access to the state directory.

Commands get the session from their context. Settings and pydantic load only on demand.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

if TYPE_CHECKING:
    import typer

    from air_executor.client import Client
    from air_executor.model.state import JobState
    from air_executor.settings import ReaderSettings, Settings


COMMAND_WORDS = "air_executor.command_words"
"""In a context's `meta`: whether words follow a `--`."""


@dataclass(slots=True)
class Session:
    """One invocation of the program."""

    state_dir: str | None = None
    json: bool = False
    verbose: bool = False
    debug: bool = False

    def client(self) -> Client:
        """Return a client for the session's state directory."""
        from air_executor.client import Client  # noqa: PLC0415 - not for `schema` and `completion`
        from air_executor.settings import locate_state_dir  # noqa: PLC0415

        self.start_logging()
        return Client(locate_state_dir(self.state_dir)[0])

    def settings(self, **flags: Any) -> Settings:  # noqa: ANN401 - values of flags
        """Return the effective settings; a flag that is not set is None.

        Raises:
            BadInputError: a setting is invalid.
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
        """Log to stderr at the level of -v, --debug or `info`; otherwise only warnings."""
        if not (info or self.verbose or self.debug):
            return  # logging prints warnings to stderr by default
        import logging  # noqa: PLC0415 - 15 ms

        root = logging.getLogger("air_executor")
        if not root.handlers:
            handler = logging.StreamHandler(sys.stderr)
            handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
            root.addHandler(handler)
            root.propagate = False
        root.setLevel(logging.DEBUG if self.debug else logging.INFO)


def task_id(job: JobState, task: str | None) -> str | None:
    """Return the id of the task that the user named, if any.

    Raises:
        NotFoundError: the job has no such task.
    """
    if task is None:
        return None
    if (found := job.task_named(task)) is not None:
        return found.id
    from air_executor.errors import NotFoundError  # noqa: PLC0415 - only for errors
    from air_executor.model.problems import did_you_mean  # noqa: PLC0415 - only for errors

    guess = did_you_mean(task, job.tasks)
    msg = f"job {job.id} has no task {task}{guess or f'; `air-executor status {job.id}` lists them'}"
    raise NotFoundError(msg)


def session_of(ctx: typer.Context) -> Session:
    """Return the session of a command."""
    return cast("Session", ctx.find_root().obj)


def command_given(ctx: typer.Context) -> bool:
    """Return whether the arguments have a command after `--`; none of its words is a file or a job."""
    return command_words(ctx) > 0


def command_words(ctx: typer.Context) -> int:
    """Return how many of the arguments are the command after `--`."""
    return int(ctx.meta[COMMAND_WORDS])
