"""Call the program: in this process if it only touches files, else as a process of its own."""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from air_executor.cli.app import run
from air_executor.client import Client
from tests.crash.processes import below
from tests.forked import Program

SOON = 180.0
"""Timeout of all waits, in seconds."""


@dataclass(frozen=True)
class Outcome:
    """The result of one call of the program."""

    code: int
    out: str
    err: str


def eventually(true: Callable[[], object], what: str) -> None:
    """Wait until a condition is true."""
    until = time.monotonic() + SOON
    while not true():
        assert time.monotonic() < until, f"not within {SOON} s: {what}"
        time.sleep(0.02)


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty project folder, which is the current one; no settings from outside."""
    folder = tmp_path / "project"
    folder.mkdir()
    monkeypatch.chdir(folder)
    for name in [name for name in os.environ if name.startswith("AIR_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("AIR_STATE_DIR", str(folder / ".air-executor"))
    return folder


@pytest.fixture
def client(project: Path) -> Client:
    """A client of the project's state directory."""
    return Client(project / ".air-executor")


@pytest.fixture
def air(project: Path, capsys: pytest.CaptureFixture[str]) -> Iterator[Callable[..., Outcome]]:
    """Call the program in this process."""

    def call(*arguments: str) -> Outcome:
        capsys.readouterr()
        code = run(arguments)
        captured = capsys.readouterr()
        return Outcome(code, captured.out, captured.err)

    yield call
    logger = logging.getLogger("air_executor")
    for handler in list(logger.handlers):  # bound to a stream that ends with this test
        logger.removeHandler(handler)
    logger.propagate = True
    logger.setLevel(logging.NOTSET)


@pytest.fixture
def start(project: Path) -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """Start the program as a process of its own; at the end, kill what is left of it.

    With an environment or other options than those of `Program`, or a file that may be full, it is started afresh.
    """
    started: list[subprocess.Popen[str]] = []

    def call(*arguments: str, **options: Any) -> subprocess.Popen[str]:  # noqa: ANN401 - those of `Popen`
        process: Any
        streams = {options.get("stdout", subprocess.PIPE), options.get("stderr", subprocess.PIPE)}
        if options.keys() <= {"cwd", "stdout", "stderr", "text"} and streams <= {subprocess.PIPE, subprocess.DEVNULL}:
            process = Program(arguments, **options)
        else:
            command = [sys.executable, "-m", "air_executor", *arguments]
            given = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True, **options}
            process = subprocess.Popen(command, **given)
        started.append(process)
        return process  # type: ignore[no-any-return]

    yield call
    for process in started:
        if process.poll() is None:
            process.kill()
        process.communicate()
    for left in below(str(project / ".air-executor")):  # a manager that was killed leaves its runners
        with contextlib.suppress(ProcessLookupError):
            os.kill(left.pid, signal.SIGKILL)


@pytest.fixture
def call(start: Callable[..., subprocess.Popen[str]]) -> Callable[..., Outcome]:
    """Run the program as a process of its own to its end; options as for `start`."""

    def wait(*arguments: str, **options: Any) -> Outcome:  # noqa: ANN401 - as for `start`
        process = start(*arguments, **options)
        out, err = process.communicate(timeout=60)
        return Outcome(process.returncode, out, err)

    return wait
