"""The process of the server beside that of its manager: it begins, dies and ends as it shall. Real processes."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

import air_executor
from air_executor.cli.http_server import NICE
from air_executor.metrics.health import Health, shared_memory
from air_executor.web import server_process
from air_executor.web.server_process import OTHER_CODE, PROGRAM, ServerProcess
from tests.conftest import wait_for
from tests.metrics.rig import get


@dataclass
class Served:
    """A state directory, and a manager that serves it, started as a user would."""

    root: Path
    port: int
    manager: subprocess.Popen[bytes] | None = None

    def start(self, **environment: str) -> subprocess.Popen[bytes]:
        """Start a manager and wait until it holds the directory."""
        environ = {name: value for name, value in os.environ.items() if not name.startswith("AIR_")}
        begun = self.log().count("managing ")
        with open(self.root / "log", "ab") as log:
            self.manager = started = subprocess.Popen(
                [sys.executable, "-m", "air_executor", "manager"],
                cwd=self.root,
                env={**environ, "AIR_HTTP_PORT": str(self.port), **environment},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        wait_for(lambda: self.log().count("managing ") > begun or started.poll() is not None, what="the manager")
        assert started.poll() is None, self.log()
        return started

    def log(self) -> str:
        """Return what manager and server have said."""
        path = self.root / "log"
        return path.read_text() if path.exists() else ""

    def server(self) -> int | None:
        """Return the process id of the server; None: there is none."""
        assert self.manager is not None
        found = [pid for path in Path(f"/proc/{self.manager.pid}/task").iterdir() for pid in _words(path / "children")]
        servers = [int(pid) for pid in found if PROGRAM in _words(Path(f"/proc/{pid}/cmdline"))]
        assert len(servers) < 2
        return next(iter(servers), None)

    def answers(self) -> int:
        """Ask whether the manager is ready; return the process id of the server that has answered."""
        wait_for(lambda: get(self.port, "/readyz").status == 200, what="a ready manager")
        found = self.server()
        assert found is not None
        return found


def _words(path: Path) -> list[str]:
    try:
        return path.read_text().replace("\0", " ").split()
    except OSError:  # it has ended
        return []


def is_gone(pid: int) -> bool:
    """Tell whether a process has ended; one that nobody waits for counts."""
    return not _words(Path(f"/proc/{pid}/cmdline"))


@pytest.fixture
def directory(tmp_path: Path) -> Iterator[Served]:
    """A directory without a manager, and a free port."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        made = Served(tmp_path, int(probe.getsockname()[1]))
    yield made
    if made.manager is not None:
        made.manager.kill()
        made.manager.wait()


@pytest.fixture
def served(directory: Served) -> Served:
    """A manager that serves its directory."""
    directory.start()
    return directory


def test_it_begins_with_the_first_client_and_ends_with_the_manager(served: Served) -> None:
    """Until then it costs nothing. It is a polite neighbor, and Ctrl-C reaches the manager alone."""
    assert served.manager is not None
    assert served.server() is None
    server = served.answers()
    assert os.getpriority(os.PRIO_PROCESS, server) == os.getpriority(os.PRIO_PROCESS, served.manager.pid) + NICE
    assert os.getpgid(server) == server
    assert os.getsid(server) == os.getsid(served.manager.pid)
    with socket.create_connection(("127.0.0.1", served.port), timeout=60) as stream:
        stream.sendall(b"GET /events HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert stream.recv(9) == b"HTTP/1.1 "
        served.manager.terminate()
        assert served.manager.wait(60) == 0
    assert is_gone(server)
    assert served.log().endswith("stopped\n")
    assert "Traceback" not in served.log()


def test_one_that_dies_begins_again(served: Served) -> None:
    """Its clients wait, the log says what happened, and the manager's counters go on."""
    first = served.answers()
    os.kill(first, signal.SIGKILL)
    wait_for(lambda: is_gone(first), what="its end")
    assert get(served.port, "/metrics").status == 200
    assert served.answers() != first
    assert served.log().count("the HTTP server was ended by signal 9; it can start again in 1 s") == 1


def test_code_that_is_replaced_under_a_manager(directory: Served) -> None:
    """Its server cannot start with the new code: clients learn that at once, and the log says it once, in one line."""
    code = directory.root / "code" / "air_executor"
    shutil.copytree(Path(air_executor.__file__).parent, code, ignore=shutil.ignore_patterns("__pycache__"))
    directory.start(PYTHONPATH=str(code.parent))
    settings = next(path for path in (code / "settings").rglob("*.py") if "class LocalSettings" in path.read_text())
    old = settings.read_text()
    for path in code.rglob("*.py"):
        path.write_text(path.read_text().replace("LocalSettings", "OtherSettings"))
    for _ in range(4):
        found = get(directory.port, "/")
        assert (found.status, found.body) == (503, f"{OTHER_CODE}\n")
        assert int(found.headers["retry-after"]) >= 1
    assert directory.log().count("the HTTP server cannot start: ") == 1, directory.log()
    assert f"cannot start: {OTHER_CODE} (AttributeError: " in directory.log()
    assert "Traceback" not in directory.log()
    for path in code.rglob("*.py"):
        path.write_text(path.read_text().replace("OtherSettings", "LocalSettings"))
    assert settings.read_text() == old
    wait_for(lambda: get(directory.port, "/healthz").status == 200, what="a server of the old code")


def test_a_port_without_a_server_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever keeps the process from starting; a client that says nothing holds up nobody."""
    monkeypatch.setattr(server_process, "PROGRAM", "air_executor.cli.no_such_program")
    listening = server_process.listen("127.0.0.1", 0)
    port = int(listening.getsockname()[1])
    with ServerProcess(listening, shared_memory(), None, lambda: b""):
        silent = [socket.create_connection(("127.0.0.1", port), timeout=60) for _ in range(10)]
        for _ in range(3):
            found = get(port, "/metrics")
            assert (found.status, found.body) == (503, f"{server_process.AWAY}\n")
        assert all(one.recv(12) == b"HTTP/1.1 503" for one in silent)
        for one in silent:
            one.close()


def test_it_outlives_no_manager(served: Served) -> None:
    """After `kill -9` it ends, and the next manager has the port at once."""
    assert served.manager is not None
    first = served.answers()
    served.manager.kill()
    served.manager.wait()
    served.start()
    assert served.answers() != first
    wait_for(lambda: is_gone(first), what="its end")


def test_probes_do_not_ask_the_manager(served: Served) -> None:
    """One that is stopped has answers, too: whether it hangs is read from memory."""
    assert served.manager is not None
    served.answers()
    served.manager.send_signal(signal.SIGSTOP)
    try:
        assert get(served.port, "/readyz").body == "ok\n"
    finally:
        served.manager.send_signal(signal.SIGCONT)


def test_a_hung_manager_is_known_elsewhere(monkeypatch: pytest.MonkeyPatch) -> None:
    """All that probes tell is in memory that two processes share."""
    memory = shared_memory()
    try:
        ours, theirs = (Health("fake", 60.0, memory) for _ in range(2))
    finally:
        os.close(memory)
    ours.beat()
    assert (theirs.hangs(), theirs.holds) == (None, False)
    assert theirs.not_ready() == "the manager is not active: it is starting"
    ours.took_over()
    assert theirs.not_ready() == "the manager has not checked its runners yet"
    ours.backend_answers(answers=False)
    assert "fake does not answer" in str(theirs.not_ready())
    ours.backend_answers(answers=True)
    assert (theirs.not_ready(), theirs.holds) == (None, True)
    later = time.monotonic() + 61
    monkeypatch.setattr(time, "monotonic", lambda: later)
    assert theirs.hangs() == "the manager has given no sign of life for 61 s"
