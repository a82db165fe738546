"""The program in processes of its own, forked from one that has imported it: a fresh one imports for half a second.

For tests of what the program does, not of how it starts. A process has what `subprocess.Popen` would give it.
"""

from __future__ import annotations

import fcntl
import logging
import multiprocessing
import os
import signal
import subprocess
import sys
import termios
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import cache
from multiprocessing import forkserver
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import IO, Any, NoReturn

import pytest

import air_executor

PACKAGES = ("backends/local", "cli", "core", "manager", "metrics", "model", "notify", "settings", "store", "web")
"""What a manager and most commands use."""
PIPE, DEVNULL = subprocess.PIPE, subprocess.DEVNULL
_APPEND = os.O_WRONLY | os.O_CREAT | os.O_APPEND
_ROOT = Path(__file__).parents[1]
Stream = str | int | IO[Any]
"""A file that is appended to, PIPE, DEVNULL, a descriptor or what has one."""


def _modules() -> Iterator[str]:
    root = Path(air_executor.__path__[0])
    for path in (*root.glob("*.py"), *(path for package in PACKAGES for path in root.glob(f"{package}/*.py"))):
        if not path.stem.startswith("__"):
            yield ".".join(("air_executor", *path.relative_to(root).with_suffix("").parts))


_CONTEXT = multiprocessing.get_context("forkserver")
_CONTEXT.set_forkserver_preload([*sorted(_modules()), "tests.warm"])


@cache
def _serve() -> None:
    """Start the process that is forked, where it finds the tests."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", str(_ROOT), prepend=os.pathsep)
        forkserver.ensure_running()


def forked(target: Callable[..., object], *arguments: object) -> BaseProcess:
    """Return a process, which has begun to call a function in the environment of the one that is forked."""
    _serve()
    process = _CONTEXT.Process(target=target, args=arguments)
    process.start()
    return process


class Program:
    """One run of `air-executor`, which has begun when this is made."""

    def __init__(
        self,
        arguments: Sequence[str],
        *,
        cwd: str | os.PathLike[str] | None = None,
        env: Mapping[str, str] | None = None,
        stdin: Stream = DEVNULL,
        stdout: Stream = PIPE,
        stderr: Stream = PIPE,
        text: bool = True,
        terminal: bool = False,
    ) -> None:
        """`terminal`: it has a session of its own, and its stdin is the terminal of that."""
        _serve()
        self.args = ["air-executor", *arguments]
        self.stdout, out = _opened(stdout, text=text)
        self.stderr, err = _opened(stderr, text=text)
        theirs = (_opened(stdin, text=text)[1], out, err)
        environ = dict(os.environ if env is None else env)
        given = (arguments, os.fspath(cwd or os.getcwd()), environ, theirs)
        self._process = _CONTEXT.Process(target=_run, args=given, kwargs={"terminal": terminal})
        try:
            self._process.start()
        finally:
            for stream in theirs:
                stream.close()
        assert self._process.pid is not None
        self.pid = self._process.pid

    @property
    def returncode(self) -> int | None:
        """Its exit code, negative after a signal; None while it runs."""
        return self._process.exitcode

    def poll(self) -> int | None:
        """Return its exit code, negative after a signal; None while it runs."""
        return self._process.exitcode

    def wait(self, timeout: float | None = None) -> int:
        """Wait for its end and return its exit code.

        Raises:
            TimeoutExpired: it still runs after that many seconds.
        """
        self._process.join(timeout)
        if (code := self.poll()) is None:
            assert timeout is not None
            raise subprocess.TimeoutExpired(self.args, timeout)
        return code

    def communicate(self, timeout: float | None = None) -> tuple[Any, Any]:
        """Wait for its end and return what it has written into pipes since they were last read.

        Raises:
            TimeoutExpired: it still runs after that many seconds.
        """
        with ThreadPoolExecutor(2) as readers:
            read = [readers.submit(_rest, stream) for stream in (self.stdout, self.stderr)]
            try:
                self.wait(timeout)
            except subprocess.TimeoutExpired:
                self.kill()
                raise
            out, err = (one.result() for one in read)
        return out, err

    def send_signal(self, number: int) -> None:
        """Send it a signal, unless it has ended."""
        if self.poll() is None:
            with suppress(ProcessLookupError):
                os.kill(self.pid, number)

    def terminate(self) -> None:
        """Send SIGTERM."""
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        """Send SIGKILL."""
        self.send_signal(signal.SIGKILL)


def _rest(stream: IO[Any] | None) -> Any:  # noqa: ANN401 - text or bytes
    if stream is None or stream.closed:
        return None
    with stream:
        return stream.read()


def _opened(stream: Stream, *, text: bool) -> tuple[IO[Any] | None, Connection]:
    """Return our end of a pipe, and what the program gets."""
    ours = None
    if stream == PIPE:
        end, fd = os.pipe()
        ours = open(end, "r" if text else "rb", **({"encoding": "utf-8"} if text else {}))  # type: ignore[call-overload] # noqa: SIM115 - the test's
    elif stream == DEVNULL:
        fd = os.open(os.devnull, os.O_RDWR)
    elif isinstance(stream, str):
        fd = os.open(stream, _APPEND, 0o644)
    else:
        fd = os.dup(stream if isinstance(stream, int) else stream.fileno())
    return ours, Connection(fd)


def _run(
    arguments: Sequence[str], cwd: str, env: dict[str, str], streams: Sequence[Connection], *, terminal: bool
) -> NoReturn:
    from air_executor.cli.app import run  # noqa: PLC0415 - imported by then, and nothing for who starts this
    from air_executor.web import server_process  # noqa: PLC0415 - as above

    os.chdir(cwd)
    os.environ.clear()
    os.environ.update(env)
    for number, stream in enumerate(streams):
        os.dup2(stream.fileno(), number)
        stream.close()
    if terminal:
        os.setsid()
        fcntl.ioctl(0, termios.TIOCSCTTY, 0)
    sys.stdin = open(0, encoding="utf-8", closefd=False)  # noqa: SIM115 - as Python opens them
    sys.stdout, sys.stderr = (
        open(number, "w", encoding="utf-8", closefd=False, buffering=1 if number == 2 or os.isatty(number) else -1)  # noqa: SIM115
        for number in (1, 2)
    )
    server_process.spawn = _spawned_server  # type: ignore[assignment]
    sys.exit(run(arguments))


class _ForkedServer:
    """The server of a manager that is forked too, as much of `subprocess.Popen` as is used."""

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self.returncode: int | None = None

    def wait(self) -> int:
        """Wait for its end and return its exit code."""
        self.returncode = os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])
        return self.returncode

    def terminate(self) -> None:
        """Send SIGTERM."""
        self._send(signal.SIGTERM)

    def kill(self) -> None:
        """Send SIGKILL."""
        self._send(signal.SIGKILL)

    def _send(self, number: int) -> None:
        if self.returncode is None:
            os.kill(self.pid, number)


def _spawned_server(words: list[str], _: Mapping[str, str], descriptors: tuple[int, ...]) -> _ForkedServer:
    from air_executor.cli import http_server  # noqa: PLC0415 - as above

    if pid := os.fork():
        return _ForkedServer(pid)
    try:
        os.setpgid(0, 0)
        for fd in {int(name) for name in os.listdir("/proc/self/fd")} - {0, 1, 2, *descriptors}:
            with suppress(OSError):
                os.close(fd)
        sys.stderr = open(2, "w", encoding="utf-8", closefd=False, buffering=1)  # noqa: SIM115 - as above
        logging.getLogger("air_executor").handlers.clear()
        sys.argv = words[-len(descriptors) - 1 :]
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, signal.SIG_DFL)
        http_server.main()
    except BaseException:  # noqa: BLE001 - as Python itself ends
        traceback.print_exc()
        os._exit(1)
    os._exit(0)
