"""A manager that serves its page, and a real Chromium that opens it; without one tests skip, and in CI fail."""

from __future__ import annotations

import http.client
import json
import os
import shutil
import signal
import socket
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, ConsoleMessage, Dialog, Error, Page, expect, sync_playwright

from air_executor.client import Client
from air_executor.core.submission import parse_job
from air_executor.model.callers import Role
from air_executor.model.state import JobState
from air_executor.store.schedule_file import schedule_of
from air_executor.store.schedules import Schedules
from air_executor.store.tokens import Tokens
from tests.conftest import wait_for
from tests.crash import processes
from tests.forked import Program
from tests.lanes import missing

PATIENCE = 240.0
expect.set_options(timeout=PATIENCE * 1000)


@dataclass(frozen=True)
class HttpAnswer:
    """A response of the server."""

    status: int
    headers: dict[str, str]
    text: str


class ServedProject:
    """A state directory, and a manager that serves it."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.client = Client(f"{root}/.air-executor")
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = int(probe.getsockname()[1])
        self.url = f"http://127.0.0.1:{self.port}"
        self._manager: Program | None = None

    def start(self, **environment: str) -> None:
        """Start the manager and wait until it answers."""
        outside = {name: value for name, value in os.environ.items() if not name.startswith("AIR_")}
        with open(f"{self.root}/manager.log", "ab") as log:
            self._manager = Program(
                ["--state-dir", self.client.layout.root, "manager"],
                cwd=self.root,
                env={**outside, "AIR_HTTP_PORT": str(self.port), "AIR_MAX_RUNNERS": "4", **environment},
                stdout=log,
                stderr=log,
            )
        wait_for(self._answers, PATIENCE, "the manager to serve its page")

    def _answers(self) -> bool:
        assert self._manager is not None
        assert self._manager.poll() is None, Path(f"{self.root}/manager.log").read_text()
        try:
            return self.get("/").status in (200, 401)
        except OSError:
            return False

    def get(self, path: str) -> HttpAnswer:
        """Ask for a path, without a browser, exactly as it is."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=PATIENCE)
        try:
            connection.request("GET", path)
            answer = connection.getresponse()
            return HttpAnswer(answer.status, dict(answer.getheaders()), answer.read().decode())
        finally:
            connection.close()

    def terminate(self) -> None:
        """Tell the manager to stop, and wait until it has."""
        assert self._manager is not None
        self._manager.send_signal(signal.SIGTERM)
        self._manager.wait(PATIENCE)

    def stop(self) -> None:
        """Leave nothing running."""
        if self._manager is not None and self._manager.poll() is None:
            self._manager.kill()
            self._manager.wait(PATIENCE)
        processes.clear(str(self.root))

    def submit(self, name: str, tasks: Sequence[dict[str, Any]], **fields: object) -> JobState:
        """Submit a job."""
        return self.client.submit(parse_job({"id": name, "tasks": tasks, **fields}))

    def schedule(self, definition: dict[str, Any]) -> None:
        """Apply a definition with a schedule."""
        schedules = Schedules(self.client.layout)
        self.client.jobs.prepare()
        made = schedule_of(json.dumps(definition).encode(), "definition.json", time.time(), schedules)
        assert made is not None
        schedules.save(made)

    def token(self, role: Role) -> str:
        """Return a new token of a role, with its name."""
        return Tokens(self.client.layout.tokens).create(role, role, now=time.time(), expires_at=None)

    def ended(self, name: str) -> JobState:
        """Wait for a job's end and return it."""
        state = self.client.wait(name, PATIENCE)
        assert state.ended, state.phase
        return state

    def open_gate(self, name: str, job: str) -> None:
        """Let tasks of a job go on that wait for a file of this name in their workspace."""
        Path(self.client.layout.workspace(job), name).touch()


def gated(name: str, before: str = "true", after: str = "true", **fields: object) -> dict[str, Any]:
    """Return a task that waits in the middle until `ServedProject.open_gate` lets it go on."""
    command = f'{before}; while [ ! -e "$AIR_WORKSPACE/{name}.gate" ]; do sleep 0.02; done; {after}'
    return {"id": name, "command": command, "grace": 1, **fields}


@pytest.fixture
def served(tmp_path: Path) -> Iterator[ServedProject]:
    """A state directory whose manager serves its page."""
    made = ServedProject(tmp_path)
    made.start()
    yield made
    made.stop()


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    """A headless Chromium, the machine's own."""
    path = shutil.which("chromium") or shutil.which("google-chrome")
    if path is None:
        missing("chromium is not installed; on Debian: apt-get install chromium")
    flags = ["--no-sandbox"] if os.geteuid() == 0 else []
    with sync_playwright() as playwright:
        made = playwright.chromium.launch(executable_path=path, args=flags, timeout=PATIENCE * 1000)
        yield made
        made.close()


@dataclass
class PageErrors:
    """The errors of one page."""

    page: Page
    refusals: bool = False
    """The API may refuse something: the browser notes that on the console."""
    trouble: list[str] = field(default_factory=list)

    def said(self, message: ConsoleMessage) -> None:
        """Record an error on the console."""
        refused = self.refusals and message.text.startswith("Failed to load resource: the server responded")
        if message.type in ("error", "warning") and not refused:
            self.trouble.append(message.text)

    def failed(self, error: Error) -> None:
        """Record an uncaught error of the script."""
        self.trouble.append(str(error))

    def asked(self, dialog: Dialog) -> None:
        """Record a dialog that a script opened."""
        self.trouble.append(f"dialog: {dialog.message}")
        dialog.dismiss()


@pytest.fixture
def look(browser: Browser) -> Iterator[Callable[..., Page]]:
    """Open an address in a window of its own; at the end, nothing may have gone wrong in any of them."""
    opened: list[PageErrors] = []

    def open_page(url: str, *, refusals: bool = False, **options: Any) -> Page:  # noqa: ANN401 - of a browser's context
        context = browser.new_context(**{"viewport": {"width": 1280, "height": 800}, **options})
        page = context.new_page()
        page.set_default_timeout(PATIENCE * 1000)
        watched = PageErrors(page, refusals)
        opened.append(watched)
        # A broken policy or a refused request is an error on the console, too.
        page.on("console", watched.said)
        page.on("pageerror", watched.failed)
        page.on("dialog", watched.asked)
        page.goto(url)
        return page

    yield open_page
    for watched in opened:
        watched.page.context.close()
    assert [one.trouble for one in opened if one.trouble] == []
