"""Meters processes by what the kernel tells of each fork and exit (the process connector), to the nanosecond.

It reads no file of Air-Executor: the cost report is checked against it. Needs root. The messages are those of
Linux's `include/uapi/linux/cn_proc.h`.
"""

from __future__ import annotations

import errno
import os
import socket
import struct
import threading
import time
from dataclasses import dataclass, field
from types import TracebackType
from typing import Self

_NETLINK_CONNECTOR, _PROCESSES, _LISTEN = 11, 1, 1
_FORK, _EXEC, _EXIT = 0x1, 0x2, 0x80000000
_NETLINK_HEAD, _CONNECTOR_HEAD = struct.Struct("=IHHII"), struct.Struct("=IIIIHH")
_EVENT, _FOUR = struct.Struct("=IIQ"), struct.Struct("=IIII")
_NETLINK_DONE = 3
_RECEIVE_BUFFER_FORCE = 33
_BUFFER = 16 << 20


@dataclass(frozen=True, slots=True)
class Life:
    """A process from its fork to its exit, in nanoseconds of the monotonic clock."""

    begun: int
    ended: int


@dataclass(slots=True)
class _Alive:
    parent: int
    begun: int
    executed: bool = False
    """It is a program, and not just a copy of its parent."""


@dataclass(slots=True)
class KernelMeter:
    """Meters the programs that a process starts, and their first children, until the `with` ends."""

    parent: int
    runners: list[Life] = field(default_factory=list)
    commands: list[Life] = field(default_factory=list)
    """The first child of each."""
    lost: bool = False
    """The kernel told more than was read: the sums are too small."""
    _alive: dict[int, _Alive] = field(default_factory=dict)
    _first_children: dict[int, int] = field(default_factory=dict)
    _socket: socket.socket = field(init=False)
    _until: int | None = None
    """The end of the measurement: what happened before it may still be on its way."""
    _thread: threading.Thread = field(init=False)

    def __enter__(self) -> Self:
        self._socket = socket.socket(socket.AF_NETLINK, socket.SOCK_DGRAM, _NETLINK_CONNECTOR)
        self._socket.setsockopt(socket.SOL_SOCKET, _RECEIVE_BUFFER_FORCE, _BUFFER)
        self._socket.settimeout(0.2)
        self._socket.bind((0, _PROCESSES))
        demand = struct.pack("=I", _LISTEN)
        body = _CONNECTOR_HEAD.pack(1, 1, 0, 0, len(demand), 0) + demand
        self._socket.send(_NETLINK_HEAD.pack(_NETLINK_HEAD.size + len(body), _NETLINK_DONE, 0, 0, 0) + body)
        self._thread = threading.Thread(target=self._listen, daemon=True)
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._until = time.monotonic_ns()
        self._thread.join()
        self._socket.close()

    def _listen(self) -> None:
        while True:
            try:
                message = self._socket.recv(4096)
            except TimeoutError:
                if self._until is not None:
                    return
                continue
            except OSError as error:
                if error.errno != errno.ENOBUFS:
                    raise
                self.lost = True
                continue
            event = message[_NETLINK_HEAD.size + _CONNECTOR_HEAD.size :]
            if len(event) < _EVENT.size + _FOUR.size:
                continue
            what, _, when = _EVENT.unpack_from(event)
            if self._until is not None and when > self._until:
                return
            self._take(event, what, when)

    def _take(self, event: bytes, what: int, when: int) -> None:
        _, first, child, group = _FOUR.unpack_from(event, _EVENT.size)
        if what == _FORK and child == group and (first == self.parent or first in self._alive):
            self._alive[child] = _Alive(first, when)
            self._first_children.setdefault(first, child)
        elif what == _EXEC and (one := self._alive.get(first)) is not None:
            one.executed = True
        elif what == _EXIT:
            pid, thread_group = _FOUR.unpack_from(event, _EVENT.size)[:2]
            if pid == thread_group:
                self._end(pid, when)

    def _end(self, pid: int, when: int) -> None:
        if (one := self._alive.pop(pid, None)) is None:
            return
        life = Life(one.begun, when)
        above = self._alive.get(one.parent)
        if one.parent == self.parent:
            if one.executed:
                self.runners.append(life)
            self._first_children.pop(pid, None)
        elif above is not None and above.parent == self.parent and self._first_children.get(one.parent) == pid:
            self.commands.append(life)


def why_not() -> str | None:
    """Return why the kernel tells us nothing; None if it does."""
    try:
        with KernelMeter(parent=os.getpid()):
            return None
    except (OSError, AttributeError) as error:
        return f"no process events: {error} (Linux with CONFIG_PROC_EVENTS, as root)"
