"""Tools for agents at `/mcp` of a manager, driven by the official SDK's client: a call is its token's."""

from __future__ import annotations

import asyncio
import importlib.util
import json
import subprocess
import sys
from collections.abc import Awaitable, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from air_executor.client.job_tools import JobTools
from tests.api.conftest import ServedApi
from tests.client.conftest import PATIENCE
from tests.lanes import missing

Call = Callable[..., Awaitable[Any]]


@pytest.fixture(scope="module")
def agents(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServedApi]:
    """A manager with tools for agents."""
    if importlib.util.find_spec("mcp") is None:
        missing("the extra mcp is not installed")
    made = ServedApi(tmp_path_factory.mktemp("agents"))
    made.start(AIR_MCP="true")
    yield made
    made.stop()


def talk(served: ServedApi, role: str | None, what: Callable[[Call], Awaitable[None]]) -> list[str]:
    """Connect with the token of a role, call tools, and return the names of those that were offered."""
    import httpx2  # noqa: PLC0415 - of the SDK
    from mcp import Client  # noqa: PLC0415 - optional
    from mcp.client.streamable_http import streamable_http_client  # noqa: PLC0415

    sent = {} if role is None else {"Authorization": f"Bearer {served.tokens[role]}"}

    async def run() -> list[str]:
        async with httpx2.AsyncClient(headers=sent, timeout=PATIENCE) as http:
            transport = streamable_http_client(f"http://127.0.0.1:{served.port}/mcp", http_client=http)
            async with Client(transport, read_timeout_seconds=PATIENCE) as client:

                async def call(name: str, **arguments: Any) -> Any:  # noqa: ANN401 - of any tool
                    found = await client.call_tool(name, arguments)
                    text = "".join(getattr(part, "text", "") for part in found.content)
                    return text if found.is_error else json.loads(text)

                await what(call)
                return [tool.name for tool in (await client.list_tools()).tools]

    with ThreadPoolExecutor(1) as apart:  # Playwright's loop may run in this thread, from a test before
        return apart.submit(asyncio.run, run()).result()


def test_an_agent_runs_a_job(agents: ServedApi) -> None:
    """Submit, wait, read, queue more; the job is the token's, and the audit log says so."""

    async def work(call: Call) -> None:
        tasks = [{"id": "says", "command": "echo hello"}]
        assert (await call("submit_job", definition={"id": "by-agent", "tasks": tasks}))["id"] == "by-agent"
        assert (await call("wait_for_job", job="by-agent"))["phase"] == "succeeded"
        assert (await call("read_output", job="by-agent", task="says"))["output"] == "hello\n"
        assert (await call("add_tasks", job="by-agent", tasks=[{"id": "more", "command": "exit 3"}]))["applied"] is True
        assert (await call("wait_for_job", job="by-agent"))["phase"] == "failed"
        assert "exit code 3" in (await call("explain", job="by-agent", task="more"))["explanation"]
        assert (await call("retry", job="by-agent"))["applied"] is True
        assert "no job nobody" in await call("job_status", job="nobody")

    offered = talk(agents, "submitter", work)
    assert set(offered) == {tool.__name__ for tool in JobTools(agents.client).all()}
    assert agents.client.status("by-agent").owner == "submitter"
    lines = [line for line in agents.audit if line["job"] == "by-agent"]
    assert {(line["who"], line["origin"]) for line in lines} == {("submitter", "127.0.0.1")}
    assert {"submit", "retry"} <= {line["action"] for line in lines}


@pytest.mark.parametrize(("role", "words"), [("viewer", "takes the role submitter"), ("submitter", "belongs to other")])
def test_roles(agents: ServedApi, role: str, words: str) -> None:
    """A viewer reads, a submitter changes only its own; no answer has a token."""
    if "others" not in agents.client.ids():
        agents.submit("others", "sleep 1000", role="other")

    async def work(call: Call) -> None:
        assert (await call("job_status", job="others"))["owner"] == "other"
        refused = await call("cancel", job="others")
        assert words in refused
        assert agents.tokens[role] not in refused

    talk(agents, role, work)


def test_who_is_nobody(agents: ServedApi) -> None:
    """On loopback reading is open, as for the API; a change takes a token, and a wrong one is refused."""

    async def work(call: Call) -> None:
        await call("list_jobs")
        assert "token" in await call("submit_job", definition={"id": "no", "tasks": [{"command": "true"}]})

    talk(agents, None, work)
    agents.tokens["wrong"] = "air_" + "x" * 43
    ping = {"jsonrpc": "2.0", "id": 1, "method": "ping"}
    accepts = "application/json, text/event-stream"
    assert agents.ask("POST", "/mcp", ping, prefix="", role="wrong", Accept=accepts).status == 401
    evil = agents.ask("POST", "/mcp", ping, prefix="", role="admin", Accept=accepts, Origin="https://evil.example")
    assert evil.status == 403
    huge = agents.ask("POST", "/mcp", {**ping, "params": {"x": "y" * (5 << 20)}}, prefix="", role="admin")
    assert huge.status in {406, 413}


def test_many_agents_wait_and_the_page_answers(agents: ServedApi) -> None:
    """Calls that wait have threads of their own: nobody else waits for them."""
    agents.submit("slow", "sleep 1000", role="other")

    async def work(call: Call) -> None:
        waits: list[asyncio.Future[Any]] = [
            asyncio.ensure_future(call("wait_for_job", job="slow", seconds=4)) for _ in range(30)
        ]
        await asyncio.sleep(1)
        page = await asyncio.to_thread(agents.ask, "GET", "/", prefix="")
        assert page.status == 200
        assert not any(one.done() for one in waits)
        assert {one["ended"] for one in await asyncio.gather(*waits)} == {False}

    talk(agents, "viewer", work)


def test_without_the_setting_there_is_nothing(served: ServedApi) -> None:
    """No path."""
    assert served.ask("POST", "/mcp", {}, prefix="", role="admin").status == 404


@pytest.mark.parametrize(("mcp", "expected"), [("", "False"), ("true", "True")])
def test_what_is_not_served_is_not_imported(tmp_path: Path, mcp: str, expected: str) -> None:
    """Without the setting nothing of the SDK; `wiring` checks that it is there, without an import."""
    program = (
        "import sys; from air_executor.settings import load; from air_executor.metrics.health import Health\n"
        "from air_executor.web.application import check, make_application\n"
        f"settings = load({{}}, {{'AIR_MCP': {mcp or 'false'!r}}}, '.')\n"
        "check(settings)\n"
        "assert not {'mcp', 'uvicorn', 'starlette'} & set(sys.modules)\n"
        "make_application(settings, lambda: b'', Health('local', 60.0))\n"
        "print('mcp' in sys.modules)"
    )
    words = [sys.executable, "-c", program]
    assert subprocess.run(words, cwd=tmp_path, capture_output=True, text=True, check=True).stdout.strip() == expected
