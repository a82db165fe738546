"""One invocation of the program: its shared options, and access to the state directory.

Commands get the session from their context. Settings and pydantic load only on demand.
"""

from __future__ import annotations

import os
import shlex
import sys
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, cast

from air_executor.errors import BadInputError

if TYPE_CHECKING:
    import typer

    from air_executor.client import Client
    from air_executor.client.job_access import JobAccess
    from air_executor.client.server_client import ServerClient
    from air_executor.model.state import JobState
    from air_executor.settings import ReaderSettings, Settings


SERVER = "AIR_SERVER"
"""Variable with the address of a server."""
COMMAND_WORDS = "air_executor.command_words"
"""In a context's `meta`: whether words follow a `--`."""


@dataclass(slots=True)
class Session:
    """One invocation of the program."""

    state_dir: str | None = None
    server: str | None = None
    json: bool = False
    verbose: bool = False
    debug: bool = False
    _server: ServerClient | None = field(default=None, init=False)

    @property
    def server_address(self) -> str | None:
        """Address of the server that the commands use in place of files; None: files."""
        if self.server is not None and self.state_dir is not None:
            raise BadInputError("--server and --state-dir: give one of them")
        return self.server or (os.environ.get(SERVER) or None if self.state_dir is None else None)

    @property
    def place_options(self) -> str:
        """The options that choose the place of the jobs, as they were given: for commands to type next."""
        given = {"--state-dir": self.state_dir, "--server": self.server}
        return "".join(f" {name} {shlex.quote(value)}" for name, value in given.items() if value)

    def start_command(self) -> str:
        """Return the command that starts a manager for the session's jobs."""
        from air_executor.store.presence import start_command  # noqa: PLC0415 - where there is no manager

        given = f" --state-dir {shlex.quote(self.state_dir)}" if self.state_dir else ""
        return start_command() + given

    def client(self) -> JobAccess:
        """Return a client for the session's server, or else for its state directory.

        Raises:
            BadInputError: the address of the server, or the token, is wrong.
        """
        return self.server_client() or self.directory()

    def server_client(self) -> ServerClient | None:
        """Return a client for the session's server; None: it has none."""
        address = self.server_address
        if address is not None and self._server is None:
            from air_executor.cli.terminal import note  # noqa: PLC0415
            from air_executor.client.credentials import find_token  # noqa: PLC0415 - only for servers
            from air_executor.client.server_client import ServerClient  # noqa: PLC0415

            self.start_logging()
            self._server = ServerClient(address, find_token(address, os.environ), report=note)
        return self._server

    def close(self) -> None:
        """Close the connections to the server."""
        if self._server is not None:
            self._server.close()

    def directory(self, command: str | None = None) -> Client:
        """Return a client for the session's state directory.

        Raises:
            BadInputError: the session has a server, and this command works on files alone.
        """
        if command is not None and self.server_address is not None:
            what = "--server" if self.server else SERVER
            msg = f"{command}: works on a state directory, not on a server; leave out {what}, or give --state-dir"
            raise BadInputError(msg)
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

        from air_executor.cli.log_lines import LineFormatter, RepeatFilter  # noqa: PLC0415

        root = logging.getLogger("air_executor")
        # No line shows what these look up for each; the library's manual names them.
        logging.logThreads = logging.logProcesses = logging.logMultiprocessing = False
        logging._srcfile = None  # noqa: SLF001
        if not root.handlers:
            handler = logging.StreamHandler(sys.stderr)
            handler.setFormatter(LineFormatter())
            handler.addFilter(RepeatFilter())
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
    from air_executor.core.task_lookup import task_of  # noqa: PLC0415 - only for errors

    return task_of(job, task).id


def session_of(ctx: typer.Context) -> Session:
    """Return the session of a command."""
    return cast("Session", ctx.find_root().obj)


def command_given(ctx: typer.Context) -> bool:
    """Return whether the arguments have a command after `--`; none of its words is a file or a job."""
    return command_words(ctx) > 0


def command_words(ctx: typer.Context) -> int:
    """Return how many of the arguments are the command after `--`."""
    return int(ctx.meta[COMMAND_WORDS])
