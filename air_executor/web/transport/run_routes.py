"""The addresses under which runs without a volume reach their manager: `/transport/v1/…`, each with its run's token.

They are no part of the API: their only client is `air-carrier`, of the same version.
"""

from __future__ import annotations

import asyncio
import functools
import itertools
import logging
import time
from collections.abc import Awaitable, Callable, Iterator
from typing import TYPE_CHECKING, NamedTuple

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response, StreamingResponse
from starlette.routing import BaseRoute, Mount, Route

from air_executor.errors import AirExecutorError, BadInputError, NotFoundError
from air_executor.store.run_tokens import RunAddress, RunTokens
from air_executor.web.access import RUNS
from air_executor.web.problem_details import BodyTooLargeError
from air_executor.web.transport.run_delivery import ClaimedError, RunDelivery, SizeLimit

if TYPE_CHECKING:
    from air_executor.store.object_workspaces import ObjectWorkspaces
    from air_executor.web.state_cache import StateCache

log = logging.getLogger(__name__)

MAX_PIECE = 4 << 20
"""Bytes of one request."""
APPLY_WITHIN = 20.0
"""Seconds until who has sent a workspace is told to ask again: proxies wait for an answer for 60 by default."""
TAR = "application/x-tar"
NEW_TOKEN = "Air-Run-Token"  # noqa: S105 - the name of a header
"""Header of an answer with the token to use from then on."""
ANSWER = "Air-Run-Answer"
"""Header of a refusal that is the manager's, and not that of something in between."""
HOLDER = "Air-Holder"
"""Header of a request: who has claimed the run."""


class _RunRequest(NamedTuple):
    request: Request
    address: RunAddress
    holder: str


Answer = Callable[[_RunRequest], Awaitable[Response]]


def run_routes(cache: StateCache, limit: SizeLimit, objects: ObjectWorkspaces | None = None) -> list[BaseRoute]:
    """Return the routes for one state directory.

    `limit`: of what one run has changed in its workspace; `objects`: the workspaces in an object store.
    """
    routes = _RunRoutes(cache, limit, objects)
    return [
        Mount(
            RUNS.rstrip("/"),
            routes=[
                Route("/v1/claim", routes.answer(routes.claim, claimed=False), methods=["POST"]),
                Route("/v1/inputs", routes.answer(routes.inputs)),
                Route("/v1/workspace", routes.answer(routes.workspace), methods=["GET"]),
                Route("/v1/workspace", routes.answer(routes.apply_workspace), methods=["POST"]),
                Route("/v1/files/{name}", routes.answer(routes.append), methods=["PATCH"]),
                Route("/v1/result", routes.answer(routes.result), methods=["PUT"]),
                Route("/v1/outcome", routes.answer(routes.outcome), methods=["PUT"]),
            ],
        )
    ]


class _RunRoutes:
    def __init__(self, cache: StateCache, limit: SizeLimit, objects: ObjectWorkspaces | None) -> None:
        self._tokens = RunTokens(cache.client.layout)
        self._delivery = RunDelivery(cache, limit, objects)
        self._applying: dict[RunAddress, asyncio.Future[None]] = {}
        """Workspaces to which changes are applied, or were while nobody asked."""

    def answer(self, handler: Answer, *, claimed: bool = True) -> Callable[[Request], Awaitable[Response]]:
        """Return a handler of requests with a valid token; `claimed`: by the runner that has claimed the run."""

        @functools.wraps(handler)
        async def answered(request: Request) -> Response:
            try:
                found = await run_in_threadpool(self._read_token, request)
                if found is None:
                    return _text(401, "the token of the run is not valid, or has expired")
                address, fresh = found
                holder = request.headers.get(HOLDER, "")
                if claimed:
                    await run_in_threadpool(self._delivery.check_holder, address, holder)
                response = await handler(_RunRequest(request, address, holder))
            except ClaimedError as error:
                return _text(409, str(error))
            except NotFoundError as error:
                return _text(410, str(error))
            except (BadInputError, BodyTooLargeError) as error:
                return _text(422, str(error))
            except (AirExecutorError, OSError) as error:
                log.warning("a run cannot deliver: %s", error)
                return _text(503, str(error))
            if fresh is not None:
                response.headers[NEW_TOKEN] = fresh
            return response

        return answered

    def _read_token(self, request: Request) -> tuple[RunAddress, str | None] | None:
        kind, _, token = request.headers.get("authorization", "").partition(" ")
        return self._tokens.read(token.strip(), time.time()) if kind.lower() == "bearer" else None

    async def claim(self, asked: _RunRequest) -> Response:
        await run_in_threadpool(self._delivery.claim, asked.address, asked.holder)
        return Response(None, 204)

    async def inputs(self, asked: _RunRequest) -> Response:
        machine = asked.request.query_params.get("machine", "")
        found = await run_in_threadpool(self._delivery.inputs, asked.address, machine)
        return StreamingResponse(found, media_type=TAR)

    async def workspace(self, asked: _RunRequest) -> Response:
        found = await run_in_threadpool(_begun, self._delivery, asked.address)
        return StreamingResponse(found, media_type=TAR)

    async def apply_workspace(self, asked: _RunRequest) -> Response:
        task = self._applying.get(asked.address)
        if task is None:
            task = asyncio.ensure_future(run_in_threadpool(self._delivery.apply_workspace, asked.address))
            task.add_done_callback(lambda done: done.cancelled() or done.exception())  # where nobody asks again
            self._applying[asked.address] = task
        done, _ = await asyncio.wait({task}, timeout=APPLY_WITHIN)
        if not done:
            return _text(503, "the files are being written")
        self._applying.pop(asked.address, None)
        task.result()
        return Response(None, 204)

    async def append(self, asked: _RunRequest) -> Response:
        offset = asked.request.query_params.get("offset", "")
        if not (offset.isascii() and offset.isdigit() and len(offset) < 20):  # noqa: PLR2004 - fits a file's size
            raise BadInputError("offset: must be a number of bytes")
        data = await _body(asked.request)
        name = asked.request.path_params["name"]
        size = await run_in_threadpool(self._delivery.append, asked.address, name, int(offset), data)
        return PlainTextResponse(str(size))

    async def result(self, asked: _RunRequest) -> Response:
        await run_in_threadpool(self._delivery.put_result, asked.address, await _body(asked.request))
        return Response(None, 204)

    async def outcome(self, asked: _RunRequest) -> Response:
        started, ended = (_seconds(asked.request, name) for name in ("started_ago", "ended_ago"))
        data = await _body(asked.request)
        await run_in_threadpool(self._delivery.put_outcome, asked.address, data, started, ended)
        return Response(None, 204)


def _begun(delivery: RunDelivery, address: RunAddress) -> Iterator[bytes]:
    """Return a stream that has begun, so that what cannot be read at all becomes an answer that says so."""
    parts = delivery.workspace(address)
    return itertools.chain((next(parts, b""),), parts)


def _seconds(request: Request, name: str) -> float:
    try:
        found = float(request.query_params.get(name, ""))
    except ValueError:
        found = float("nan")
    if not 0 <= found < 1e10:  # noqa: PLR2004 - 300 years
        msg = f"{name}: must be a number of seconds"
        raise BadInputError(msg)
    return found


async def _body(request: Request) -> bytes:
    data = bytearray()
    async for part in request.stream():
        data += part
        if len(data) > MAX_PIECE:
            msg = f"more than {MAX_PIECE >> 20} MiB at a time"
            raise BodyTooLargeError(msg)
    return bytes(data)


def _text(status: int, message: str) -> Response:
    return PlainTextResponse(f"{message}\n", status, {"Cache-Control": "no-store", ANSWER: "1"})
