"""`air-executor mcp`: jobs as tools of the Model Context Protocol, over stdin and stdout.

What the tools may do is what this user may do with the files, or what the role of the token allows on a server.
"""

from __future__ import annotations

import signal
import sys

import typer

from air_executor.cli.session import session_of
from air_executor.cli.signals import handling
from air_executor.cli.terminal import note


def serve_mcp(ctx: typer.Context) -> None:
    """Offer jobs as tools to an agent, over stdin and stdout (MCP).

    A coding agent starts this command by itself. The tools list, submit, explain, cancel, retry and approve jobs, and
    read their output; with AIR_SERVER on a manager's server, within the role of the token.
    """
    from air_executor.client.agent_server import check_library, make_agent_server  # noqa: PLC0415 - for this alone
    from air_executor.client.job_tools import JobTools  # noqa: PLC0415

    check_library()
    import anyio.to_thread  # noqa: PLC0415 - comes with the SDK

    server = make_agent_server(JobTools(session_of(ctx).client()).all(), anyio.to_thread.run_sync)
    if sys.stdin.isatty():
        note("waiting for an agent on stdin; an agent starts this command by itself, from its configuration")
    # The default action ends the process: the SDK's own would wait for the thread that reads stdin, until stdin ends.
    with handling(signal.SIGINT, signal.SIG_DFL):
        server.run("stdio")
