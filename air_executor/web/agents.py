"""`/mcp`: jobs as tools of agents, over the protocol's streamable HTTP. Imported only where the settings ask for it.

A tool is a client of the API in this process: roles, limits and the audit log are the same, and a call is its caller's.
There are no sessions: whoever sends a request is who it says, and any manager can answer.
"""

from __future__ import annotations

import asyncio
import contextvars
import functools
from collections.abc import Callable, Mapping
from concurrent.futures import TimeoutError as AnswerTimeoutError
from typing import TYPE_CHECKING, Any, BinaryIO
from urllib.parse import unquote, urlsplit

import anyio
import anyio.to_thread
from mcp.server.transport_security import TransportSecuritySettings

from air_executor.client.agent_server import Tool, make_agent_server
from air_executor.client.connection import TIMEOUT, Connection, HttpAnswer
from air_executor.client.job_tools import JobTools
from air_executor.client.server_address import ServerAddress
from air_executor.client.server_client import ServerClient
from air_executor.errors import ServerUnavailableError

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

PATH = "/mcp"
MAX_CALLS = 16
"""Tools that run at once, for they may wait for minutes; further ones wait for them."""
MAX_BODY = 4 << 20
_SELF = ServerAddress(secure=False, host="127.0.0.1", port=80, prefix="")
_request: contextvars.ContextVar[Scope] = contextvars.ContextVar("agents_request")
"""The request in which a tool is called; unset, no tool works."""


class Agents:
    """Passes requests of agents on to the SDK."""

    def __init__(self, api: ASGIApp) -> None:
        """`api` is the application with the API at its full path."""
        self._api = api
        self._app: ASGIApp | None = None
        self._starting = asyncio.Lock()
        self._running: asyncio.Task[None] | None = None
        self._limiter: anyio.CapacityLimiter | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request."""
        async with self._starting:
            if self._app is None:
                self._app = await self._start()
        token = _request.set(scope)
        try:
            await self._app(scope, receive, send)
        finally:
            _request.reset(token)

    async def _start(self) -> ASGIApp:
        loop = asyncio.get_running_loop()
        self._limiter = anyio.CapacityLimiter(MAX_CALLS)
        made = [_tool(name, lambda: InnerConnection(self._api, loop, _request.get())) for name in _names()]
        server = make_agent_server(made, functools.partial(anyio.to_thread.run_sync, limiter=self._limiter))
        app = server.streamable_http_app(
            streamable_http_path=PATH,
            json_response=True,
            stateless_http=True,
            max_request_body_size=MAX_BODY,
            # `Access` has checked both already, for every path.
            transport_security=TransportSecuritySettings(enable_dns_rebinding_protection=False),
        )
        ready = asyncio.Event()

        async def run() -> None:
            async with server.session_manager.run():
                ready.set()
                await asyncio.Event().wait()  # until the server's loop ends

        self._running = asyncio.create_task(run())
        await ready.wait()
        return app


def _names() -> list[str]:
    return [tool.__name__ for tool in JobTools(ServerClient(_SELF.url, None)).all()]


def _tool(name: str, connect: Callable[[], Connection]) -> Tool:
    """Return a tool that works on a connection made for each call."""
    shown: Tool = getattr(JobTools(ServerClient(_SELF.url, None)), name)

    @functools.wraps(shown)
    def call(*arguments: Any, **named: Any) -> dict[str, Any]:  # noqa: ANN401 - those of any tool
        client = ServerClient(_SELF.url, None, connection=connect())
        found: dict[str, Any] = getattr(JobTools(client), name)(*arguments, **named)
        return found

    return call


class InnerConnection(Connection):
    """The API of this process, asked by who sent a request."""

    def __init__(self, api: ASGIApp, loop: asyncio.AbstractEventLoop, request: Scope) -> None:
        super().__init__(_SELF, None, lambda _: None)
        self._api = api
        self._loop = loop
        self._request = request

    def _exchange(
        self,
        method: str,
        target: str,
        body: bytes | BinaryIO | None,
        headers: Mapping[str, str],
        *,
        again: bool,  # noqa: ARG002 - nothing breaks here
    ) -> HttpAnswer:
        """Call the API; from a thread of its own, never from the loop."""
        data = body or b"" if body is None or isinstance(body, bytes) else body.read()
        asked = asyncio.run_coroutine_threadsafe(self._call(method, target, data, headers), self._loop)
        try:
            return asked.result(TIMEOUT)
        except AnswerTimeoutError:
            asked.cancel()
            msg = f"no answer within {TIMEOUT:.0f} s; whether the request took effect is not known"
            raise ServerUnavailableError(msg) from None

    async def _call(self, method: str, target: str, body: bytes, headers: Mapping[str, str]) -> HttpAnswer:
        parts = urlsplit(target)
        sent = {**headers, "content-length": str(len(body))} if body else headers
        scope: Scope = {
            "type": "http",
            "asgi": {"version": "3.0"},
            "http_version": "1.1",
            "method": method,
            "scheme": "http",
            "path": unquote(parts.path),
            "raw_path": parts.path.encode(),
            "query_string": parts.query.encode(),
            "root_path": "",
            "headers": [(name.lower().encode(), value.encode()) for name, value in sent.items()],
            "client": self._request.get("client"),
            "server": self._request.get("server"),
            "state": {name: self._request["state"][name] for name in ("caller", "origin")},
        }
        given: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]
        found: list[Message] = []

        async def receive() -> Message:
            if not given:
                await asyncio.Event().wait()  # nobody hangs up here
            return given.pop()

        async def send(message: Message) -> None:
            found.append(message)

        await self._api(scope, receive, send)
        start = found[0]
        answered = {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in start["headers"]}
        return HttpAnswer(start["status"], answered, b"".join(one.get("body", b"") for one in found[1:]))
