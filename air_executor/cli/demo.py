"""`air-executor demo`: run a small job that discovers its own work, in a folder of its own."""

from __future__ import annotations

import os
import sys
import sysconfig
import tempfile
from typing import Any

import typer

from air_executor.cli.run import RunCommand
from air_executor.cli.session import session_of
from air_executor.cli.terminal import note, steady_stdout

PROGRAM = os.path.join(os.path.dirname(os.path.abspath(__file__)), "demo_job.py")
JOB = "demo"


def demo(ctx: typer.Context) -> None:
    """Run a small job that discovers its own work.

    A task looks at the standard library of your Python and queues a task for each package, which does the same for the
    packages in it. The last task waits for all of them. Everything is in a new temporary folder.
    """
    session = session_of(ctx)
    if session.state_dir is None:
        session.state_dir = os.path.join(tempfile.mkdtemp(prefix="air-executor-demo-"), ".air-executor")
    from air_executor.core.submission import parse_job  # noqa: PLC0415 - only to run

    settings = session.settings(backend="local")
    client = session.client()
    note(f"running a job in {client.layout.root}")
    states = [client.submit(parse_job(_job()))]
    with steady_stdout():
        code = RunCommand(session, settings, client, states, quiet=False).complete()
    here = f"air-executor --state-dir {client.layout.root}"
    for line in (
        f"its tasks:    {here} status {JOB}",
        f"their output: {here} logs {JOB}",
        "your own job: air-executor run hello -- echo hello",
    ):
        note(line)
    raise typer.Exit(code)


def _job() -> dict[str, Any]:
    python = [sys.executable, "-P", PROGRAM]
    library = sysconfig.get_path("stdlib")
    return {
        "id": JOB,
        "description": "Count the standard library of this Python, package by package.",
        "max_runners": min(4, os.cpu_count() or 1),
        "tasks": [
            {"id": "discover", "command": [*python, library, library]},
            {"id": "total", "after": ["discover"], "command": python},
        ],
    }
