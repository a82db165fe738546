"""The exception tree of Air-Executor, with the exit code of each error.

The command line prints an `AirExecutorError` as one line on stderr and exits with its `exit_code`. Any other exception
is a bug. A message names what failed, the path or id, and what to do. Imports nothing of the project.
"""

from __future__ import annotations


class AirExecutorError(Exception):
    """Base class of all expected failures."""

    exit_code = 1


class BadInputError(AirExecutorError):
    """A job file, task line, flag, request or setting is invalid; nothing was done."""

    exit_code = 2


class NotFoundError(AirExecutorError):
    """The named job, task, run or file does not exist."""

    exit_code = 3


class AlreadyExistsError(AirExecutorError):
    """The id is taken."""

    exit_code = 4


class ManagerHeldError(AirExecutorError):
    """Another manager holds the state directory."""

    exit_code = 5


class BackendUnavailableError(AirExecutorError):
    """The backend does not answer. Temporary: the state of its runners is unknown."""

    exit_code = 6


class UnsupportedBackendError(BackendUnavailableError):
    """The backend answers, but is of a kind that cannot be used. Permanent; nothing is concluded of its runners."""

    exit_code = 2


class DeniedError(AirExecutorError):
    """A server refused: it takes a token, or one with another role."""

    exit_code = 7


class ServerUnavailableError(AirExecutorError):
    """A server cannot be reached, or answers nothing that makes sense."""

    exit_code = 8


class SpawnRejectedError(AirExecutorError):
    """The backend can never start this run (invalid image, argument list too long). Permanent."""


class DuplicateRunnerError(AirExecutorError):
    """The slot's name is taken on the platform; no second runner was started."""


class StoreError(AirExecutorError):
    """The volume refused a read or a write (full, read-only, I/O error)."""


class PathBlockedError(StoreError):
    """Something is in the way at one path (permissions, a file where a folder belongs); the volume works elsewhere."""


class CorruptFileError(StoreError):
    """A state file is unreadable or invalid. It is never overwritten."""


class FormatTooNewError(StoreError):
    """A file was written by a newer version of Air-Executor."""


class LeaseUnsureError(StoreError):
    """The manager cannot confirm its lease on the state directory. Temporary: it takes no action meanwhile."""


class DirectoryLostError(AirExecutorError):
    """The manager no longer owns the state directory (its lock or journal was replaced)."""


class DirectoryMovedError(AirExecutorError):
    """The state directory is no longer at its path, but still exists. The manager leaves it alone."""
