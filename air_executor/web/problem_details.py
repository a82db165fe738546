"""Errors of the API as problem details (RFC 9457), with the messages of the command line."""

from __future__ import annotations

import json
from collections.abc import Mapping
from http import HTTPStatus
from typing import TYPE_CHECKING

from starlette.responses import PlainTextResponse, Response

from air_executor.errors import (
    AirExecutorError,
    AlreadyExistsError,
    BackendUnavailableError,
    BadInputError,
    NotFoundError,
    StoreError,
)

if TYPE_CHECKING:
    from air_executor.model.callers import Role

MEDIA_TYPE = "application/problem+json"
UNBUFFERED: Mapping[str, str] = {"X-Accel-Buffering": "no"}
"""Of a stream: nginx, as an Ingress too, would hold events back."""
API_HEADERS: Mapping[str, str] = {
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'; sandbox",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
}
_KINDS: tuple[tuple[type[AirExecutorError], int, str], ...] = (
    (NotFoundError, 404, "not-found"),
    (AlreadyExistsError, 409, "already-exists"),
    (BadInputError, 422, "bad-input"),
    (BackendUnavailableError, 503, "backend-unavailable"),
    (StoreError, 503, "cannot-be-read-or-written"),
)


class NotApplicableError(AirExecutorError):
    """The manager refused a request: it does not fit how the job stands."""


class ForbiddenError(AirExecutorError):
    """The caller's role does not allow this."""

    @classmethod
    def needs(cls, role: Role, have: Role) -> ForbiddenError:
        """Return the error of a caller that needs another role."""
        return cls(f"this takes the role {role}; your token has the role {have}")


class NoTokenError(AirExecutorError):
    """The caller sent no token, and this takes one."""

    @classmethod
    def needs(cls, role: Role) -> NoTokenError:
        """Return the error of a caller that needs a role."""
        return cls(f"this takes a token; to make one: `air-executor token create NAME --role {role}`")


class TooOftenError(AirExecutorError):
    """The caller asks for too much at a time."""


class UnsupportedError(AirExecutorError):
    """The body of a request has a type that is not read."""


class BodyTooLargeError(AirExecutorError):
    """The body of a request is too large."""


class BodyTimeoutError(AirExecutorError):
    """The body of a request does not come."""


class ClientLeftError(AirExecutorError):
    """A client has ended its connection within a request."""


_OWN: tuple[tuple[type[AirExecutorError], int, str], ...] = (
    (NotApplicableError, 409, "refused"),
    (ForbiddenError, 403, "forbidden"),
    (NoTokenError, 401, "unauthorized"),
    (TooOftenError, 429, "too-many-requests"),
    (UnsupportedError, 415, "unsupported-media-type"),
    (BodyTooLargeError, 413, "too-large"),
    (BodyTimeoutError, 408, "timeout"),
    (ClientLeftError, 400, "client-left"),
)


def problem(status: int, kind: str, detail: str, headers: Mapping[str, str] | None = None) -> Response:
    """Return an error; `kind` is a stable word for programs, `detail` a message for people."""
    record = {
        "type": f"urn:air-executor:problem:{kind}",
        "title": HTTPStatus(status).phrase,
        "status": status,
        "detail": detail,
    }
    # Half a surrogate pair in a message cannot be UTF-8, but can be escaped.
    text = json.dumps(record).encode()
    return Response(text, status, {**API_HEADERS, **(headers or {})}, media_type=MEDIA_TYPE)


def problem_of(error: AirExecutorError) -> Response:
    """Return what the API answers to an error."""
    for kind, status, word in (*_OWN, *_KINDS):
        if isinstance(error, kind):
            more = {401: {"WWW-Authenticate": "Bearer"}}.get(status, {"Retry-After": "1"} if status >= 429 else None)  # noqa: PLR2004 - too many, or not now
            return problem(status, word, str(error), more)
    return problem(500, "error", str(error))


def as_problem(refusal: PlainTextResponse) -> Response:
    """Return a plain refusal as problem details, with its status and its other headers."""
    words = {401: "unauthorized", 403: "forbidden", 421: "wrong-host", 503: "unavailable"}
    made = problem(refusal.status_code, words[refusal.status_code], bytes(refusal.body).decode().strip())
    made.raw_headers += [pair for pair in refusal.raw_headers if pair[0] == b"www-authenticate"]
    return made
