"""Every exception that Air-Executor raises on purpose, and the exit code each one means.

The command line turns an `AirExecutorError` into one line on stderr and `exit_code`; anything else is a bug
and shows as one. Messages name what failed, which path or id, and what to do. Imports nothing of the project.
"""

from __future__ import annotations


class AirExecutorError(Exception):
    """Base of all expected failures."""

    exit_code = 1


class BadInputError(AirExecutorError):
    """A job file, task line, flag, request or setting is wrong; nothing was done."""

    exit_code = 2


class NotFoundError(AirExecutorError):
    """The job, task, run or file that was named does not exist."""

    exit_code = 3


class AlreadyExistsError(AirExecutorError):
    """The id is taken."""

    exit_code = 4


class ManagerHeldError(AirExecutorError):
    """Another manager holds the state directory."""

    exit_code = 5


class BackendUnavailableError(AirExecutorError):
    """The backend cannot answer now. Temporary: nothing may be concluded about its runners."""

    exit_code = 6


class SpawnRejectedError(AirExecutorError):
    """The backend will never start this run as it stands (impossible image, argument list too long). Permanent."""


class DuplicateRunnerError(AirExecutorError):
    """The slot's name is taken on the platform, so no second runner was started."""


class StoreError(AirExecutorError):
    """The volume refused a read or a write (full, read-only, I/O error)."""


class CorruptFileError(StoreError):
    """A state file cannot be read as what it should be. It is never overwritten."""


class FormatTooNewError(StoreError):
    """A file was written by a newer Air-Executor than this one."""


class LeaseUnsureError(StoreError):
    """The manager cannot prove now that the state directory is still its own. Temporary: it does nothing meanwhile."""


class DirectoryLostError(AirExecutorError):
    """The manager no longer owns the state directory (its lock or journal was replaced)."""
