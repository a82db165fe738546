"""The processes of a Linux machine: a pidfd is a process, whatever becomes of its pid; `/proc` shows what each one has.

Chosen by `system_processes`. As child subreaper, this process gets the orphans of all its descendants.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import select
import signal
import time
from collections.abc import Callable, Collection

from air_executor.backends.local import proc_reader
from air_executor.backends.local.processes import HeldProcess, Process, complete, may_signal_group
from air_executor.model.names import Slot

_SETTLED_SECONDS = 5.0
"""From this age on a process is not about to exec another program."""
_PR_SET_CHILD_SUBREAPER = 36


class LinuxProcesses:
    """Processes by pidfd and `/proc`."""

    sees_orphans = True

    def __init__(self, children: str) -> None:
        """Become a child subreaper; `children` is the kernel's file with the children of this process.

        Raises:
            OSError: this system or sandbox does not allow it.
        """
        # Orphans of our runners then become our children, wherever in the tree they are, and cannot end unnoticed.
        if ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) != 0:
            raise OSError(ctypes.get_errno(), "prctl(PR_SET_CHILD_SUBREAPER)")
        self._children = os.open(children, os.O_RDONLY | os.O_CLOEXEC)
        self._exits = select.epoll()
        self._held: dict[int, HeldProcess] = {}
        self._unmanaged: dict[int, bytes] = {}
        """Processes that belong to no run: pid and start time. They are not read again."""
        self._ticks = os.sysconf("SC_CLK_TCK")

    def scan(self, below: str, groups: Collection[int] = ()) -> list[Process]:
        """See `Processes`."""
        settled = (time.clock_gettime(time.CLOCK_BOOTTIME) - _SETTLED_SECONDS) * self._ticks
        found: list[Process] = []
        unmanaged: dict[int, bytes] = {}
        seen = {os.getpid()}
        again = True
        with complete():
            # A process that ended before it was read may have left a child that is not in our list yet.
            while again:
                again = False
                for pid in [int(name) for name in os.listdir("/proc") if name.isdigit()]:
                    if pid in seen:
                        continue
                    seen.add(pid)
                    fields = proc_reader.stat(pid)
                    if fields is None:
                        again = True
                        continue
                    start, group = fields[proc_reader.START], int(fields[proc_reader.GROUP])
                    if group not in groups and self._unmanaged.get(pid) == start:
                        unmanaged[pid] = start
                        continue
                    environ = proc_reader.environ(pid, fields)
                    if environ is None and int(start) >= settled:
                        raise OSError(errno.EAGAIN, f"process {pid} does not show its environment yet")
                    process = proc_reader.inspect(pid, fields, environ, below)
                    if process.locks or "AIR_RUN_ID" in process.variables or group in groups:
                        found.append(process)
                    elif proc_reader.stat(pid) is None:
                        again = True
                    elif int(start) < settled and environ is not None:
                        unmanaged[pid] = start
        self._unmanaged = unmanaged
        return found

    def hold(self, pid: int, start: float | None, slot: Slot) -> HeldProcess | None:
        """See `Processes`."""
        try:
            fd = os.pidfd_open(pid)
        except ProcessLookupError:
            return None
        # Only now that the pid cannot change hands does its start time prove anything.
        if start is not None and proc_reader.start_time(pid) != start:
            os.close(fd)
            return None
        held = HeldProcess(pid, start or 0.0, slot, fd)
        self._held[fd] = held
        self._exits.register(fd, select.EPOLLIN)
        return held

    def release(self, held: HeldProcess) -> None:
        """See `Processes`."""
        if held.fd >= 0:
            # Closing is not enough: a program that reads our descriptors at that instant keeps the file in the epoll,
            # which would then report the next process that gets this number.
            self._exits.unregister(held.fd)
            del self._held[held.fd]
            os.close(held.fd)
            held.fd = -1

    def exited(self) -> list[HeldProcess]:
        """See `Processes`."""
        ended = [self._held[fd] for fd, _ in self._exits.poll(0)]
        for held in ended:
            self.release(held)
        return ended

    def signal(self, held: HeldProcess, number: int, *, group: int | None = None) -> None:
        """See `Processes`. A process that belongs to another user by now refuses, and stays listed."""
        if held.fd < 0:
            return
        with contextlib.suppress(ProcessLookupError, PermissionError):
            signal.pidfd_send_signal(held.fd, 0)
            if may_signal_group(group, held):
                os.killpg(group, number)
            else:
                signal.pidfd_send_signal(held.fd, number)

    def children(self) -> set[int]:
        """See `Processes`. The kernel gives orphans to our first thread, so its list is the one that matters."""
        with complete():
            pids, offset = b"", 0
            while part := os.pread(self._children, 65536, offset):
                pids += part
                offset += len(part)
        return {int(pid) for pid in pids.split()}

    def on_exit(self, wake: Callable[[], None]) -> int | None:  # noqa: ARG002 - the descriptor suffices
        """See `Processes`."""
        return self._exits.fileno()

    def close(self) -> None:
        """See `Processes`."""
        for held in list(self._held.values()):
            self.release(held)
        self._exits.close()
        if self._children >= 0:
            os.close(self._children)
            self._children = -1
