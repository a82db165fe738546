"""A platform's refusals: the server answered, and refused. Raised by `docker.engine` and `kubernetes.api_connection`.

No answer at all is a `BackendUnavailableError` instead, because then nothing is known. None of these leaves a backend.
"""

from __future__ import annotations

from air_executor.errors import AirExecutorError

NOT_FOUND, CONFLICT = 404, 409
_WRONG_IN_ITSELF = frozenset({400, 413, 422})
"""Bad Request, Content Too Large, Unprocessable Content."""


class RefusedError(AirExecutorError):
    """The server refused a request. The message is its own."""

    def __init__(self, message: str, status: int) -> None:
        super().__init__(message)
        self.status = status
        """HTTP status."""

    @property
    def permanent(self) -> bool:
        """The request is wrong in itself: it would be refused again."""
        return self.status in _WRONG_IN_ITSELF


class MissingError(RefusedError):
    """The object does not exist."""


class ConflictError(RefusedError):
    """The name is taken, or the object is not the one, or not in the state, that the request needs."""
