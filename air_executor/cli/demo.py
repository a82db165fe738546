"""`air-executor demo`: run a small job that discovers its own work, in a folder of its own."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import sys
import sysconfig
import tempfile
import threading
import webbrowser
from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated, Any

import typer

from air_executor.cli.run import INTERRUPTED, TERMINATED, RunCommand
from air_executor.cli.session import session_of
from air_executor.cli.signals import handling
from air_executor.cli.terminal import note, steady_stdout

if TYPE_CHECKING:
    from air_executor.settings import Settings

PROGRAM = os.path.join(os.path.dirname(os.path.abspath(__file__)), "demo_job.py")
JOB = "demo"


def demo(
    ctx: typer.Context,
    *,
    page: Annotated[
        bool | None,
        typer.Option("--page/--no-page", help="Serve its page, until Ctrl-C. Default: yes at a terminal."),
    ] = None,
) -> None:
    """Run a small job that discovers its own work.

    A task looks at the standard library of your Python and queues a task for each package, which does the same for the
    packages in it. The last task waits for all of them. Everything is in a new temporary folder. A browser shows the
    job's page meanwhile, where there is one.
    """
    session = session_of(ctx)
    if session.state_dir is None:
        session.state_dir = os.path.join(tempfile.mkdtemp(prefix="air-executor-demo-"), ".air-executor")
    from air_executor.core.submission import parse_job  # noqa: PLC0415 - only to run

    settings = session.settings(backend="local")
    client = session.directory()
    note(f"running a job in {client.layout.root}")
    states = [client.submit(parse_job(_job()))]
    shown = page if page is not None else sys.stdin.isatty() and sys.stderr.isatty()
    with _served(settings) if shown else contextlib.nullcontext() as url:
        if url is not None:
            note(f"its page: {url}")
            _open(url)
        with steady_stdout():
            code = RunCommand(session, settings, client, states, backend="local", quiet=False).complete()
        _say_more(client.layout.root)
        if url is not None and code not in {INTERRUPTED, TERMINATED}:
            note(f"its page stays at {url} until Ctrl-C")
            _await_interrupt()
    raise typer.Exit(code)


@contextlib.contextmanager
def _served(settings: Settings) -> Iterator[str]:
    """Serve the page of the state directory on a free port of this machine; return the address of the job's page."""
    from air_executor.wiring import make_service  # noqa: PLC0415 - only for the page

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    service = make_service(settings.model_copy(update={"http_host": "127.0.0.1", "http_port": port}))
    assert service is not None  # noqa: S101 - it has a port
    with service.server:
        yield f"http://127.0.0.1:{port}/jobs/{JOB}"


def _open(url: str) -> None:
    """Open an address in a browser that has a window; one in this terminal would hide what the job prints."""
    if sys.platform == "darwin" or os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"):
        with contextlib.suppress(webbrowser.Error):
            webbrowser.open(url)


def _await_interrupt() -> None:
    ended = threading.Event()
    with handling(signal.SIGINT, lambda *_: ended.set()), handling(signal.SIGTERM, lambda *_: ended.set()):
        ended.wait()


def _say_more(root: str) -> None:
    """Say how to look at the job, and how to run another."""
    here = f"air-executor --state-dir {root}"
    for line in (
        f"its tasks:    {here} status {JOB}",
        f"their output: {here} logs {JOB}",
        "your own job: air-executor run hello -- echo hello",
    ):
        note(line)


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
