"""Import Airflow once, then fork one child per workload, so that a task instance does not pay for the import.

`fork_client` starts it, with the listening socket as its stdin, and it exits when no client has connected for a while.
It has one thread, as forking is not safe with more. When a client disconnects, the session of its child is killed.
Knows nothing of executors, jobs or state directories.
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
from air_executor.backends.local import cgroup_files

_REQUEST_TIMEOUT = 10.0
"""Seconds within which a client must send its request."""
_PR_SET_PDEATHSIG = 1
_STREAMS = 3


@dataclass(frozen=True, slots=True)
class _Child:
    pid: int
    pidfd: int
    client: socket.socket


class ForkServer:
    """One loop that serves clients and their children."""

    def __init__(self, listener: socket.socket, path: str, idle: float) -> None:
        self._listener = listener
        self._path = path
        self._idle = idle
        self._selector = selectors.DefaultSelector()
        self._selector.register(listener, selectors.EVENT_READ)
        self._children: set[_Child] = set()

    def serve(self) -> None:
        """Serve until no client has connected for the idle time."""
        while True:
            ready = self._selector.select(None if self._children else self._idle)
            if not ready and self._stop_listening():
                return
            for event, _ in ready:
                if event.data is None:
                    self._accept()
                elif event.data in self._children:
                    self._handle(event.data, of_client=event.fileobj is event.data.client)

    def _stop_listening(self) -> bool:
        """Stop listening, unless a client is connecting; return whether it was possible."""
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
        client.settimeout(_REQUEST_TIMEOUT)
        fds: list[int] = []
        try:
            head, fds, _, _ = socket.recv_fds(client, 10, _STREAMS + 1)
            with client.makefile("rb") as file:
                request = json.loads(file.read(int(head)))
            self._fork(client, request, fds)
        except (OSError, ValueError):  # it has disconnected, or is no client of ours
            traceback.print_exc()
            client.close()
        finally:
            for fd in fds:
                os.close(fd)

    def _fork(self, client: socket.socket, request: dict[str, Any], fds: list[int]) -> None:
        server = os.getpid()
        group = cgroup_files.run_group_of(_peer(client))
        pid = os.fork()
        if pid == 0:
            self._run_child(server, request, fds, client, group)
        child = _Child(pid, os.pidfd_open(pid), client)
        client.settimeout(0)  # all that is sent fits into the buffer
        self._children.add(child)
        self._selector.register(client, selectors.EVENT_READ, child)
        self._selector.register(child.pidfd, selectors.EVENT_READ, child)
        with contextlib.suppress(OSError):
            client.send(b"%d\n" % pid)

    def _run_child(
        self, server: int, request: dict[str, Any], fds: list[int], client: socket.socket, group: str | None
    ) -> NoReturn:
        """Run the workload in the child, with the descriptors, folder and environment of its client."""
        code = 1
        try:
            os.setsid()
            if group is not None:  # so that the end of the client's run is that of this process
                cgroup_files.join(group)
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
        except BaseException:  # noqa: BLE001 - no exception may reach the loop of the server
            traceback.print_exc()
        finally:
            with contextlib.suppress(OSError, ValueError):
                sys.stdout.flush()
                sys.stderr.flush()
            os._exit(code)

    def _handle(self, child: _Child, *, of_client: bool) -> None:
        """Pass signals on to a child; reap it when it has exited or its client has disconnected."""
        if of_client:
            try:
                signals = child.client.recv(16)
            except BlockingIOError:
                return
            except OSError:
                signals = b""
            if signals:
                for number in signals:
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


def _peer(client: socket.socket) -> int:
    """Return the pid of the process at the other end."""
    credentials = client.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 3 * 4)
    return int.from_bytes(credentials[:4], sys.byteorder)


def main(path: str, idle: float) -> None:
    """Serve on the socket that is stdin."""
    cgroup_files.leave_run()
    listener = socket.socket(fileno=os.dup(0))
    null = os.open(os.devnull, os.O_RDONLY)
    for number in (0, RUNNER_LOCK):  # RUNNER_LOCK, so that no other descriptor gets its number
        os.dup2(null, number, inheritable=False)
    os.close(null)
    os.chdir("/")
    workload.preload()
    gc.collect()
    gc.freeze()  # else a collection in a child would copy the memory that it shares with the server
    ForkServer(listener, path, idle).serve()


if __name__ == "__main__":
    main(sys.argv[1], float(sys.argv[2]))
