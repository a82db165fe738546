"""Daemons that a platform consists of, found by where they listen: stopped or killed, and started as they were."""

from __future__ import annotations

import contextlib
import glob
import os
import signal
import socket
import struct
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

PATIENCE = 60.0
"""Seconds for a daemon to stop, which may have to stop others first, and again to start."""


def restart_engine(path: str, *, kill: bool) -> None:
    """Stop the Docker Engine that listens at `path`, or kill it, and start it again.

    Raises:
        TimeoutError: it did not go, or did not come back.
    """
    respawn(_listener(path), kill=kill)
    await_answer(lambda: answers(path), f"the engine at {path}")


def respawn(pid: int, *, kill: bool, patience: float = PATIENCE) -> None:
    """Stop a process, or kill it, and start it with its command line, folder, environment and network.

    It is also killed if it takes longer than `patience` seconds to stop.

    Raises:
        TimeoutError: it did not go even then.
    """
    with open(f"/proc/{pid}/cmdline", "rb") as file:
        command = [os.fsdecode(word) for word in file.read().rstrip(b"\0").split(b"\0")]
    with open(f"/proc/{pid}/environ", "rb") as file:
        environ = dict(entry.partition(b"=")[::2] for entry in file.read().split(b"\0") if b"=" in entry)
    folder, output = os.readlink(f"/proc/{pid}/cwd"), os.readlink(f"/proc/{pid}/fd/1")
    with open(f"/proc/{pid}/ns/net", "rb") as net:  # a namespace without a name would go with its last process
        if kill or not _end(pid, signal.SIGTERM, patience):
            _kill(pid)
        with open(output if os.path.isfile(output) else os.devnull, "ab") as log:
            # An orphan, whose end init notices: an engine refuses to start while a pid of its past is even a zombie.
            subprocess.run(
                ["setsid", "--fork", "nsenter", f"--net=/proc/self/fd/{net.fileno()}", *command],
                cwd=folder,
                env=environ,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                pass_fds=[net.fileno()],
                check=True,
            )


def await_answer(answers: Callable[[], bool], what: str) -> None:
    """Wait until a daemon answers again.

    Raises:
        TimeoutError: it did not come back.
    """
    until = time.monotonic() + PATIENCE
    while not answers():
        if time.monotonic() > until:
            msg = f"{what} did not come back within {PATIENCE:g} s"
            raise TimeoutError(msg)
        time.sleep(0.05)


def listener_on(port: int) -> int:
    """Return the process that listens on a TCP port of loopback.

    Raises:
        OSError: there is none, or it is not ours to see.
    """
    rows = [
        line.split() for name in ("tcp", "tcp6") for line in Path("/proc/net", name).read_text("ascii").splitlines()
    ]
    sockets = {f"socket:[{row[9]}]" for row in rows if row[3] == "0A" and row[1].endswith(f":{port:04X}")}
    for link in glob.iglob("/proc/[0-9]*/fd/*"):
        with contextlib.suppress(OSError):  # gone, or not ours
            if os.readlink(link) in sockets:
                return int(link.split("/")[2])
    msg = f"no process of this machine listens on port {port}"
    raise OSError(msg)


def answers(path: str) -> bool:
    """Tell whether an engine answers at this socket."""
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(5)
        try:
            connection.connect(path)
            connection.sendall(b"GET /_ping HTTP/1.0\r\n\r\n")
            return b" 200 " in connection.recv(64)
        except OSError:
            return False


def _listener(path: str) -> int:
    with socket.socket(socket.AF_UNIX) as connection:
        connection.connect(path)
        size = struct.calcsize("3i")
        pid: int = struct.unpack("3i", connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, size))[0]
    return pid


def _kill(pid: int) -> None:
    if not _end(pid, signal.SIGKILL, PATIENCE):
        msg = f"process {pid} did not go within {PATIENCE:g} s"
        raise TimeoutError(msg)


def _end(pid: int, number: signal.Signals, patience: float) -> bool:
    """Send a process a signal, and tell whether it went within so many seconds."""
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, number)
    until = time.monotonic() + patience
    while os.path.exists(f"/proc/{pid}"):
        if time.monotonic() > until:
            return False
        time.sleep(0.01)
    return True
