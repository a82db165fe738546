"""Let the fork server run a workload, and pass on its output, signals and exit code.

`python -I -S fork_client.py FILE IDLE` is the command of a local runner. As every task instance starts one, this is a
script of its own that imports neither Airflow nor this package nor even site-packages. If no server can be started, it
replaces itself by the program that needs none.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import signal
import socket
import stat
import sys
import time
import zlib

TYPE_CHECKING = False  # importing `typing` takes longer than everything that this program does
if TYPE_CHECKING:
    from typing import NoReturn

RUNNER_LOCK = 9
"""Descriptor that the task of a local runner inherits: while a process holds it, the slot is taken."""
SERVER_DIED_EXIT = 70
_PROGRAM = "air_executor.airflow"
_ATTEMPTS = 3
_RELEVANT = ("AIRFLOW", "PYTHON", "VIRTUAL_ENV", "LD_", "PATH", "HOME")
"""Beginnings of the variables that a task and its server must have in common."""


def folder() -> str:
    """Return the folder with the sockets of this user's servers.

    Raises:
        PermissionError: it belongs to another user, or others may enter it.
    """
    base = os.environ.get("XDG_RUNTIME_DIR") or os.environ.get("TMPDIR") or "/tmp"  # noqa: S108 - checked below
    path = f"{base}/air-executor-{os.geteuid()}"
    with contextlib.suppress(FileExistsError):
        os.mkdir(path, 0o700)
    found = os.lstat(path)
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.geteuid() or found.st_mode & 0o077:
        message = f"{path} must be a folder that only user {os.geteuid()} may enter: remove it"
        raise PermissionError(message)
    return path


def key(environ: dict[str, str]) -> str:
    """Return the name of the server for this environment, this installation and this configuration."""
    home = environ.get("AIRFLOW_HOME", f"{environ.get('HOME', '')}/airflow")
    lib = f"lib/python{sys.version_info[0]}.{sys.version_info[1]}/site-packages"
    read = [environ.get("AIRFLOW_CONFIG") or f"{home}/airflow.cfg", f"{sys.executable}/../../{lib}", __file__]
    changed = []
    for path in read:
        try:
            changed.append(os.stat(os.path.normpath(path)).st_mtime_ns)
        except OSError:
            changed.append(0)
    relevant = sorted(item for item in environ.items() if item[0].startswith(_RELEVANT))
    text = repr((sys.executable, changed, relevant)).encode("utf-8", "surrogateescape")
    return f"{zlib.crc32(text):08x}{zlib.adler32(text):08x}"


def connect(path: str, idle: str) -> socket.socket:
    """Return a connection to the server at this socket; start one if none is listening.

    Raises:
        OSError: no server can be started.
    """
    client = socket.socket(socket.AF_UNIX)
    if client.connect_ex(path) == 0:
        return client
    lock = os.open(f"{path}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if client.connect_ex(path) != 0:
            _start(path, idle)
            client.connect(path)
    finally:
        os.close(lock)
    return client


def _start(path: str, idle: str) -> None:
    """Listen at this socket and start a server that inherits it; clients that connect meanwhile wait for the server."""
    with contextlib.suppress(FileNotFoundError):
        os.unlink(path)
    log = os.open(f"{path}.log", os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(path)
        os.chmod(path, 0o600)
        listener.listen(1024)
        # Independent of this run: a session of its own, without the descriptors and variables of this run.
        os.posix_spawn(
            sys.executable,
            [sys.executable, "-P", "-m", f"{_PROGRAM}.fork_server", path, idle],
            {name: value for name, value in os.environ.items() if not name.startswith("AIR_")},
            file_actions=[
                (os.POSIX_SPAWN_DUP2, listener.fileno(), 0),
                (os.POSIX_SPAWN_DUP2, log, 1),
                (os.POSIX_SPAWN_DUP2, log, 2),
                *((os.POSIX_SPAWN_CLOSE, fd) for fd in _inherited()),
            ],
            setsid=True,
            setsigmask=(),
        )
    os.close(log)


def _inherited() -> list[int]:
    found = []
    for name in os.listdir("/proc/self/fd"):
        with contextlib.suppress(OSError):
            if int(name) > 2 and os.get_inheritable(int(name)):  # noqa: PLR2004 - after stdin, stdout and stderr
                found.append(int(name))
    return found


def run_on_server(server: socket.socket, file: str) -> int | None:
    """Let the server run the workload and return its exit code; None if the server did not start it."""
    try:
        request = json.dumps({"file": file, "cwd": os.getcwd(), "env": dict(os.environ)}).encode()
        fds = [0, 1, 2, *(fd for fd in _inherited() if fd == RUNNER_LOCK)]
        socket.send_fds(server, [b"%10d" % len(request)], fds)
        server.sendall(request)
        answers = server.makefile("r")
        started = answers.readline()
    except OSError:
        return None
    if not started:
        return None
    pid = int(started)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda number, _: server.send(bytes([number])))
    try:
        ended = answers.readline()
    except OSError:
        ended = ""
    if not ended:
        kill_session(pid)
        _print_error("the fork server has died, and the task with it")
        return SERVER_DIED_EXIT
    return int(ended)


def kill_session(leader: int) -> None:
    """Kill all processes of a session until none is left, for some seconds at most."""
    for _ in range(1000):
        members = [pid for pid, session, alive in _processes() if session == leader and alive]
        if not members:
            return
        for pid in members:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        time.sleep(0.002)


def _processes() -> list[tuple[int, int, bool]]:
    found = []
    for name in os.listdir("/proc"):
        if name.isdecimal():
            with contextlib.suppress(OSError), open(f"/proc/{name}/stat", "rb") as file:
                fields = file.read().rpartition(b") ")[2].split()
                found.append((int(name), int(fields[3]), fields[0] not in (b"Z", b"X")))
    return found


def main(file: str, idle: str) -> int:
    """Run the workload in a file, by the fork server if possible."""
    try:
        path = f"{folder()}/{key(dict(os.environ))}"
        for _ in range(_ATTEMPTS):  # a server that is about to exit does not answer
            with connect(path, idle) as server:
                code = run_on_server(server, file)
            if code is not None:
                return code
        reason = f"it does not answer; see {path}.log"
    except OSError as error:
        reason = str(error)
    _print_error(f"no fork server ({reason}): running the task without one")
    return run_without_server(file)


def run_without_server(file: str) -> NoReturn:
    """Replace this program by the one that runs a workload in its own process."""
    os.execv(sys.executable, [sys.executable, "-P", "-m", f"{_PROGRAM}.workload", file])  # noqa: S606 - our own program


def _print_error(message: str) -> None:
    sys.stderr.write(f"{message}\n")
    sys.stderr.flush()


if __name__ == "__main__":
    sys.exit(main(os.path.join(os.environ.get("AIR_WORKSPACE", ""), sys.argv[1]), sys.argv[2]))
