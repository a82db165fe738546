"""The Docker Engine's own process, found through its socket: stopped or killed, and started as it was."""

from __future__ import annotations

import os
import signal
import socket
import struct
import subprocess
import time

PATIENCE = 60.0
"""Seconds for an engine to stop, which stops its containers first, and again to start."""


def restart(path: str, *, kill: bool) -> None:
    """Stop the engine that listens at `path`, or kill it, and start it with its command line, folder and network.

    Raises:
        TimeoutError: it did not go, or did not come back.
    """
    pid = _listener(path)
    with open(f"/proc/{pid}/cmdline", "rb") as file:
        command = [os.fsdecode(word) for word in file.read().rstrip(b"\0").split(b"\0")]
    with open(f"/proc/{pid}/environ", "rb") as file:
        environ = dict(entry.partition(b"=")[::2] for entry in file.read().split(b"\0") if b"=" in entry)
    folder, output = os.readlink(f"/proc/{pid}/cwd"), os.readlink(f"/proc/{pid}/fd/1")
    with open(f"/proc/{pid}/ns/net", "rb") as net:  # a namespace without a name would go with its last process
        _end(pid, signal.SIGKILL if kill else signal.SIGTERM)
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
    until = time.monotonic() + PATIENCE
    while not answers(path):
        if time.monotonic() > until:
            msg = f"the engine at {path} did not come back within {PATIENCE:g} s"
            raise TimeoutError(msg)
        time.sleep(0.05)


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


def _end(pid: int, number: signal.Signals) -> None:
    os.kill(pid, number)
    until = time.monotonic() + PATIENCE
    while os.path.exists(f"/proc/{pid}"):
        if time.monotonic() > until:
            msg = f"the engine {pid} did not stop within {PATIENCE:g} s"
            raise TimeoutError(msg)
        time.sleep(0.01)
