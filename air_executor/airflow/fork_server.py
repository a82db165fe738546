"""Import Airflow once, then fork one child per workload: what a task instance costs then is the task.

`fork_client` starts it where none listens, with the listening socket as its stdin, and it leaves when nobody came for a
while. One thread, or forking would not be safe. A child's life hangs on its client: when that goes, the child's
session is killed. Knows nothing of executors, jobs or state directories.
"""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import gc
import json
import os
import selectors
import signal
import socket
import sys
import traceback
from dataclasses import dataclass
from typing import Any, NoReturn

from air_executor.airflow import workload
from air_executor.airflow.fork_client import RUNNER_LOCK, kill_session

_PATIENCE = 10.0
"""Seconds for a client to say what it wants; it has it at hand."""
_PR_SET_PDEATHSIG = 1
_STREAMS = 3


@dataclass(frozen=True, slots=True)
class _Child:
    pid: int
    pidfd: int
    client: socket.socket


class ForkServer:
    """Clients and their children, in one loop."""

    def __init__(self, listener: socket.socket, path: str, idle: float) -> None:
        self._listener = listener
        self._path = path
        self._idle = idle
        self._selector = selectors.DefaultSelector()
        self._selector.register(listener, selectors.EVENT_READ)
        self._children: set[_Child] = set()

    def serve(self) -> None:
        """Serve until there is nothing to do for the idle time."""
        while True:
            ready = self._selector.select(None if self._children else self._idle)
            if not ready and self._leave():
                return
            for event, _ in ready:
                if event.data is None:
                    self._accept()
                elif event.data in self._children:
                    self._attend(event.data, of_client=event.fileobj is event.data.client)

    def _leave(self) -> bool:
        """Stop listening, unless a client is just making sure that somebody does."""
        lock = os.open(f"{self._path}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if self._selector.select(0):
                return False
            with contextlib.suppress(FileNotFoundError):
                os.unlink(self._path)
            self._listener.close()
        except BlockingIOError:
            return False
        finally:
            os.close(lock)
        return True

    def _accept(self) -> None:
        client, _ = self._listener.accept()
        client.settimeout(_PATIENCE)
        fds: list[int] = []
        try:
            head, fds, _, _ = socket.recv_fds(client, 10, _STREAMS + 1)
            with client.makefile("rb") as file:
                request = json.loads(file.read(int(head)))
            self._fork(client, request, fds)
        except (OSError, ValueError):  # it has gone, or is none of ours
            traceback.print_exc()
            client.close()
        finally:
            for fd in fds:
                os.close(fd)

    def _fork(self, client: socket.socket, request: dict[str, Any], fds: list[int]) -> None:
        server = os.getpid()
        pid = os.fork()
        if pid == 0:
            self._become(server, request, fds, client)
        child = _Child(pid, os.pidfd_open(pid), client)
        client.settimeout(0)  # nothing we send fills its buffer
        self._children.add(child)
        self._selector.register(client, selectors.EVENT_READ, child)
        self._selector.register(child.pidfd, selectors.EVENT_READ, child)
        with contextlib.suppress(OSError):
            client.send(b"%d\n" % pid)

    def _become(self, server: int, request: dict[str, Any], fds: list[int], client: socket.socket) -> NoReturn:
        """Be the child: what its client would have been without us."""
        code = 1
        try:
            os.setsid()
            ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
            if os.getppid() != server:
                os._exit(1)
            self._selector.close()
            self._listener.close()
            client.close()
            for other in self._children:
                other.client.close()
                os.close(other.pidfd)
            for number, fd in enumerate(fds[:_STREAMS]):
                os.dup2(fd, number)
            if len(fds) > _STREAMS:
                os.dup2(fds[_STREAMS], RUNNER_LOCK, inheritable=False)
            for fd in fds:
                os.close(fd)
            os.chdir(request["cwd"])
            os.environ.clear()
            os.environ.update(request["env"])
            code = workload.execute(request["file"])
        except BaseException:  # noqa: BLE001 - whatever it is must not reach the server's loop
            traceback.print_exc()
        finally:
            with contextlib.suppress(OSError, ValueError):
                sys.stdout.flush()
                sys.stderr.flush()
            os._exit(code)

    def _attend(self, child: _Child, *, of_client: bool) -> None:
        if of_client:
            try:
                told = child.client.recv(16)
            except BlockingIOError:
                return
            except OSError:
                told = b""
            if told:
                for number in told:
                    signal.pidfd_send_signal(child.pidfd, number)
                return
            kill_session(child.pid)
        _, status = os.waitpid(child.pid, 0)
        code = os.waitstatus_to_exitcode(status)
        with contextlib.suppress(OSError):
            child.client.send(b"%d\n" % (code if code >= 0 else 128 - code))
        self._selector.unregister(child.client)
        self._selector.unregister(child.pidfd)
        self._children.remove(child)
        child.client.close()
        os.close(child.pidfd)


def main(path: str, idle: float) -> None:
    """Serve on the socket that is our stdin."""
    listener = socket.socket(fileno=os.dup(0))
    null = os.open(os.devnull, os.O_RDONLY)
    for number in (0, RUNNER_LOCK):  # the second so that no other descriptor gets the number
        os.dup2(null, number, inheritable=False)
    os.close(null)
    os.chdir("/")
    workload.preload()
    gc.collect()
    gc.freeze()  # or every collection in a child would copy the pages that it shares with us
    ForkServer(listener, path, idle).serve()


if __name__ == "__main__":
    main(sys.argv[1], float(sys.argv[2]))
