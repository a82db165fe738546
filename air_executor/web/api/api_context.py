"""What all routes of the API use: the state directory, the caller, the limits, and the audit log."""

# No `from __future__ import annotations`: FastAPI reads the annotations as they stand.

import secrets
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Annotated, Any

from fastapi import Depends, Request
from starlette.responses import Response

from air_executor.client import Client
from air_executor.errors import AirExecutorError
from air_executor.model import parsing
from air_executor.model.callers import ANONYMOUS, OPERATOR, SUBMITTER, VIEWER, AuditLine, Caller, Role
from air_executor.model.state import JobState
from air_executor.settings import Settings
from air_executor.settings.http_types import path_prefix
from air_executor.store.audit import AuditLog
from air_executor.web.api.uploads import Uploads
from air_executor.web.file_watch import FileWatch
from air_executor.web.problem_details import API_HEADERS, ForbiddenError, NoTokenError, TooOftenError
from air_executor.web.state_cache import StateCache
from air_executor.web.stream_limit import StreamLimit
from air_executor.web.streams import short

CHANGES_PER_SECOND = 100
"""Changes that one caller may ask for, in the long run."""
BURST = 200
"""Changes that may come at once."""
MAX_CALLERS = 1000


class ChangeRate:
    """How often each caller changes something: a token bucket for each."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._left: dict[str, tuple[float, float]] = {}
        """By caller: changes that may come at once, and when that was so, by the monotonic clock."""

    def take(self, caller: str) -> None:
        """Count one change.

        Raises:
            TooOftenError: it is one too many.
        """
        now = time.monotonic()
        with self._lock:
            left, at = self._left.pop(caller, (float(BURST), now))
            left = min(BURST, left + (now - at) * CHANGES_PER_SECOND)
            self._left[caller] = (max(0.0, left - 1), now)
            while len(self._left) > MAX_CALLERS:
                del self._left[next(iter(self._left))]
        if left < 1:
            msg = f"more than {CHANGES_PER_SECOND} changes a second; try again in a second"
            raise TooOftenError(msg)


@dataclass(slots=True)
class ApiContext:
    """One state directory, served."""

    cache: StateCache
    settings: Settings
    audit: AuditLog
    watch: FileWatch
    uploads: Uploads
    streams: StreamLimit
    rate: ChangeRate = field(default_factory=ChangeRate)

    @property
    def client(self) -> Client:
        """The client of the state directory."""
        return self.cache.client

    def address(self, path: str) -> str:
        """Return where clients find a path of the API."""
        return f"{path_prefix(self.settings.public_url)}/api/v1{path}"

    def job(self, name: str, uid: str | None = None) -> tuple[JobState, str]:
        """Return a job by its id (and uid), or the newest run of this name, and its version. Change nothing in it.

        Where reads are slow, it is some seconds old: what decides about a change reads it by `client.status`.

        Raises:
            NotFoundError: there is neither.
            StoreError: it cannot be read.
        """
        state, version = self.cache.job(name)
        if uid not in (None, state.uid):
            return self.client.status(name, uid), f"{uid}"  # archived: it does not change
        # By its name the files that tell its version are others.
        return (state, version) if state.id == name else self.cache.job(state.id)


# Dependencies are coroutines that never wait: FastAPI takes a thread for each plain function.


async def context_of(request: Request) -> ApiContext:
    """Return what this server has."""
    found: ApiContext = request.app.state.context
    return found


async def caller_of(request: Request) -> Caller:
    """Return who asks."""
    found: Caller = request.scope["state"]["caller"]
    return found


Context = Annotated[ApiContext, Depends(context_of)]
AnyCaller = Annotated[Caller, Depends(caller_of)]


@dataclass(frozen=True, slots=True)
class Change:
    """One change that is asked for: who may do it was checked, and it is counted."""

    caller: Caller
    origin: str
    context: ApiContext

    def on(self, job: str) -> None:
        """Check that the caller may change this job: submitters change only their own.

        Raises:
            ForbiddenError: it may not.
            NotFoundError: there is none; archived jobs do not change.
            StoreError: it cannot be read.
        """
        if self.caller.may(OPERATOR):
            return
        # As it is now, not as last read: its id may have been taken by another job.
        owner = self.context.client.jobs.summary(job).owner
        if owner != self.caller.name:
            whose = "was not submitted over HTTP" if owner is None else f"belongs to {owner}"
            msg = f"job {job} {whose}; a {SUBMITTER} changes only jobs of its own"
            raise ForbiddenError(msg)

    def note(self, action: str, job: str, task: str | None = None) -> AuditLine:
        """Write to the audit log what is about to be done.

        Raises:
            StoreError: it cannot be written; do nothing then.
        """
        line = AuditLine(
            at=round(time.time(), 3),
            request=secrets.token_hex(6),
            who=self.caller.name,
            role=self.caller.role,
            origin=self.origin,
            action=action,
            job=job,
            task=task,
        )
        self.context.audit.append(line)
        return line

    def refused(self, line: AuditLine, error: AirExecutorError) -> None:
        """Write that nothing came of it."""
        self.context.audit.append(replace(line, at=round(time.time(), 3), refused=str(error)[:1000]))


def needs(role: Role) -> Any:  # noqa: ANN401 - FastAPI's own
    """Return the dependency of a change that takes this role."""

    async def change(request: Request) -> Change:  # without dependencies of its own: each costs FastAPI 0.1 ms
        context: ApiContext = request.app.state.context
        caller: Caller = request.scope["state"]["caller"]
        check_role(caller, role)
        context.rate.take(caller.name)
        return Change(caller, request.scope["state"]["origin"], context)

    return Depends(change)


def check_role(caller: Caller, role: Role) -> None:
    """Raise ForbiddenError if the caller lacks a role."""
    if caller is ANONYMOUS and role != VIEWER:
        raise NoTokenError.needs(role)
    if not caller.may(role):
        raise ForbiddenError.needs(role, caller.role)


def answer(
    data: object, status: int = 200, *, version: str | None = None, headers: Mapping[str, str] | None = None
) -> Response:
    """Return data as JSON; with a `version` clients may ask whether it is still the newest."""
    found = dict(API_HEADERS) | dict(headers or {})
    if version is not None:
        found |= {"ETag": etag(version), "Cache-Control": "private, no-cache"}
    return Response(parsing.to_json(data), status, found, media_type="application/json")


def etag(version: str) -> str:
    """Return the entity tag of a version: weak, for it also changes where the content does not."""
    return f'W/"{short(version)}"'


def unchanged(request: Request, version: str) -> Response | None:
    """Return the answer to a client that has this version already, or None."""
    tag = etag(version)
    known = request.headers.get("if-none-match", "")[:1000]
    if tag not in [one.strip() for one in known.split(",")] and known.strip() != "*":
        return None
    return Response(None, 304, {**API_HEADERS, "ETag": tag, "Cache-Control": "private, no-cache"})
