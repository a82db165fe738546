"""`air-executor mcp`, driven by the client of the official SDK: over files, and on a server with roles."""

from __future__ import annotations

import asyncio
import importlib.util
import json
import os
import signal
import subprocess
import sys
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from air_executor.client import job_tools
from tests.api.conftest import ServedApi
from tests.client.conftest import PATIENCE
from tests.client.test_remote_commands import url
from tests.lanes import missing

Call = Callable[..., Awaitable[Any]]
Talk = Callable[[Call], Awaitable[None]]


@pytest.fixture(autouse=True)
def library() -> None:
    """The SDK of the extra `mcp`."""
    if importlib.util.find_spec("mcp") is None:
        missing("the extra mcp is not installed")


def talk(env: dict[str, str], what: Talk) -> list[Any]:
    """Start the program as an agent would, call tools, and return the tools that it offered."""
    from mcp import Client, StdioServerParameters  # noqa: PLC0415 - optional

    kept = {name: value for name, value in os.environ.items() if not name.startswith("AIR_")}
    command = StdioServerParameters(command=sys.executable, args=["-m", "air_executor", "mcp"], env={**kept, **env})

    async def run() -> list[Any]:
        async with Client(command, read_timeout_seconds=PATIENCE) as client:

            async def call(name: str, **arguments: Any) -> Any:  # noqa: ANN401 - of any tool
                found = await client.call_tool(name, arguments)
                text = "".join(getattr(part, "text", "") for part in found.content)
                return text if found.is_error else json.loads(text)

            await what(call)
            return list((await client.list_tools()).tools)

    with ThreadPoolExecutor(1) as apart:  # Playwright's loop may run in this thread, from a test before
        return apart.submit(asyncio.run, run()).result()


def on_server(served: ServedApi, role: str) -> dict[str, str]:
    """Return the environment of an agent with a token of this role."""
    return {"AIR_SERVER": url(served), "AIR_TOKEN": served.tokens[role]}


@pytest.mark.parametrize("kind", ["files", "server"])
def test_an_agent_runs_a_job_reads_it_and_mends_it(served: ServedApi, outside: Path, kind: str) -> None:
    """Submit, wait, see what failed and why, queue more, retry, answer a question."""
    env = {"AIR_STATE_DIR": served.client.layout.root} if kind == "files" else on_server(served, "operator")
    name = f"agent-{kind}"
    workspace = Path(served.client.layout.workspace(name))
    tasks = [
        {"id": "fails", "command": "echo trying; cat $AIR_WORKSPACE/code 2>/dev/null || exit 5"},
        {"id": "after", "command": "echo done", "after": ["fails"]},
    ]

    async def work(call: Call) -> None:
        made = await call("submit_job", definition={"id": name, "tasks": tasks})
        assert made["id"] == name
        assert (await call("wait_for_job", job=name))["ended"] is True
        status = await call("job_status", job=name)
        assert (status["phase"], status["tasks"][0]["id"], status["tasks"][0]["exit_code"]) == ("failed", "fails", 5)
        assert "exit code 5" in (await call("explain", job=name, task="fails"))["explanation"]
        assert (await call("read_output", job=name, task="fails"))["output"] == "trying\n"
        assert (await call("add_tasks", job=name, tasks=[{"id": "ask", "approve": "really?"}]))["applied"] is True
        assert (await call("approve", job=name, values={"a": "b"}))["applied"] is True
        await asyncio.to_thread(workspace.joinpath("code").write_text, "0")
        assert (await call("retry", job=name))["applied"] is True
        assert (await call("wait_for_job", job=name))["phase"] == "succeeded"
        assert name in [one["id"] for one in (await call("list_jobs", phase="succeeded"))["jobs"]]
        assert "has already ended" in await call("cancel", job=name)
        assert "no job nobody" in await call("job_status", job="nobody")
        assert "definition" in await call("submit_job", definition={"id": "x", "tasks": [{"comand": "true"}]})

    tools = talk(env, work)
    assert {tool.name for tool in tools} == {tool.__name__ for tool in job_tools.JobTools(served.client).all()}
    reading = {tool.name for tool in tools if tool.annotations.read_only_hint}
    assert reading.isdisjoint(job_tools.CHANGING)
    assert all(tool.description and tool.input_schema["type"] == "object" for tool in tools)


def test_what_a_token_may_not_an_agent_may_not(served: ServedApi, outside: Path) -> None:
    """A viewer reads; the refusal names the role, and the token is in none of the answers."""
    served.submit("not-yours", role="other")

    async def work(call: Call) -> None:
        assert (await call("job_status", job="not-yours"))["owner"] == "other"
        for answer in (
            await call("submit_job", definition={"id": "no", "tasks": [{"command": "true"}]}),
            await call("cancel", job="not-yours"),
        ):
            assert "takes the role submitter; your token has the role viewer" in answer
            assert served.tokens["viewer"] not in answer

    talk(on_server(served, "viewer"), work)


def test_answers_are_bounded(served: ServedApi, outside: Path) -> None:
    """A log of megabytes, a result of many kilobytes, and hundreds of tasks do not fill a model's memory."""
    big = "import json,os; json.dump({'v': 'x' * 10_000}, open(os.environ['AIR_RESULT'], 'w')); print('y' * 3_000_000)"
    tasks: list[dict[str, Any]] = [{"id": "big", "command": [sys.executable, "-c", big]}]
    tasks += [
        {"id": f"t{n}", "command": "true", "only_if": {"result": "big.v", "eq": "no"}, "after": ["big"]}
        for n in range(300)
    ]

    async def work(call: Call) -> None:
        assert (await call("submit_job", definition={"id": "large", "tasks": tasks}))["id"] == "large"
        await call("wait_for_job", job="large", seconds=60)
        output = await call("read_output", job="large", task="big", max_bytes=job_tools.MAX_LOG)
        assert (output["bytes"], len(output["output"])) == (3_000_001, job_tools.MAX_LOG)
        assert "max_bytes" in await call("read_output", job="large", task="big", max_bytes=10**9)
        status = await call("job_status", job="large")
        assert (len(status["tasks"]), status["more_tasks"]) == (job_tools.MOST_TASKS, 201)
        done = await call("job_status", job="large", phase="succeeded")
        assert len(done["tasks"][0]["result"]) <= job_tools.MAX_RESULT + 1

    talk(on_server(served, "operator"), work)


def test_an_interrupt_ends_it_while_stdin_stays_open(tmp_path: Path) -> None:
    """Agents stop their servers so, and so does Ctrl-C: nothing waits for the rest of stdin."""
    hello = {"protocolVersion": "2024-11-05", "capabilities": {}, "clientInfo": {"name": "x", "version": "1"}}
    line = json.dumps({"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": hello})
    with subprocess.Popen(
        [sys.executable, "-m", "air_executor", "--state-dir", str(tmp_path / ".air-executor"), "mcp"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as server:
        assert server.stdin is not None
        assert server.stdout is not None
        server.stdin.write(f"{line}\n")
        server.stdin.flush()
        assert "Air-Executor runs jobs" in server.stdout.readline()
        server.send_signal(signal.SIGINT)
        try:
            assert server.wait(timeout=PATIENCE) == -signal.SIGINT
        finally:
            server.kill()
