"""The processes of this machine: which carry the marks of a run, when they end, and how to signal exactly them.

The one place that knows the difference between Linux (`/proc`, pidfd, child subreaper: here) and other systems
(`psutil` and polling: `portable.py`). Only the local backend calls it. Knows nothing of what is in a slot's file, or
of jobs.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import select
import signal
import sys
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Protocol, TypeGuard

from air_executor.errors import BackendUnavailableError
from air_executor.model.names import Slot

LOCK_FD = 9
"""The descriptor under which a runner and its heirs hold their slot's lock."""

_SETTLED_SECONDS = 5.0
"""From this age on a process is not about to exec into something else."""
_EXEC_SECONDS = 0.001
_EXEC_LOOKS = 1000
"""An exec has taken 24 ms on a busy machine; on a slow volume it takes as long as reading the program."""
_KERNEL_THREAD = 0x00200000
_PR_SET_CHILD_SUBREAPER = 36
_GONE = {errno.ENOENT, errno.ESRCH}
_REFUSED = {errno.EACCES, errno.EPERM}


@dataclass(frozen=True, slots=True)
class Process:
    """A live process that may belong to a run. `pid` and `start` together are its identity on this boot."""

    pid: int
    start: float
    """In the platform's own unit; only ever compared for equality."""
    parent: int
    group: int
    session: int
    variables: Mapping[str, str]
    """The `AIR_*` part of its environment."""
    locks: tuple[str, ...]
    """Paths of files whose lock it holds through a descriptor of its own."""
    command: tuple[str, ...]
    """Its first two words."""


@dataclass(eq=False, slots=True)
class HeldProcess:
    """A process that we hold on to, so that it cannot be mistaken for another one that got its pid."""

    pid: int
    start: float
    slot: Slot
    fd: int = -1
    told: int = field(default=0)
    """The last signal that it was sent."""


class Processes(Protocol):
    """What the local backend needs to know of the processes around it."""

    sees_orphans: bool
    """Whatever our children leave behind becomes our child."""

    def scan(self, below: str, groups: Collection[int] = ()) -> list[Process]:
        """Return all live processes but ours that have `AIR_RUN_ID`, hold a lock below that path, or are in a group.

        Raises:
            BackendUnavailableError: the list would be incomplete.
        """

    def hold(self, pid: int, start: float | None, slot: Slot) -> HeldProcess | None:
        """Hold on to a process; without `start` it must be an unreaped child. None if it is gone.

        Raises:
            OSError: out of descriptors.
        """

    def release(self, held: HeldProcess) -> None:
        """Let go; idempotent."""

    def exited(self) -> list[HeldProcess]:
        """Return, once each, the held processes that have ended since; they are released."""

    def signal(self, held: HeldProcess, number: int, *, group: int | None = None) -> None:
        """Send a signal to exactly that process, or to this group if it is in it; nothing happens if it is gone."""

    def children(self) -> set[int]:
        """Return our children, orphans that came to us included; nothing where orphans do not come to us."""

    def on_exit(self, wake: Callable[[], None]) -> int | None:
        """Return a descriptor that is readable while `exited` has something, or call `wake` when a process ends."""

    def close(self) -> None:
        """Stop the thread and let go of everything."""


def choose() -> Processes:
    """Return what fits this system: pidfd and `/proc` where the kernel has them, else `psutil`."""
    children = f"/proc/{os.getpid()}/task/{os.getpid()}/children"
    if sys.platform == "linux" and hasattr(signal, "pidfd_send_signal") and os.access(children, os.R_OK):
        with contextlib.suppress(OSError):  # a kernel before 5.3, or a sandbox without pidfd
            os.close(os.pidfd_open(os.getpid()))
            return LinuxProcesses(children)
    from air_executor.backends.local.psutil_processes import PsutilProcesses  # noqa: PLC0415 - a slow import that Linux can spare

    return PsutilProcesses()


class LinuxProcesses:
    """Kernel truth: a pidfd is a process, whatever becomes of its number; `/proc` shows what each one carries."""

    sees_orphans = True

    def __init__(self, children: str) -> None:
        # Orphans of our runners then come to us, wherever in the tree they are, and cannot vanish unseen.
        if ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) != 0:
            raise OSError(ctypes.get_errno(), "prctl(PR_SET_CHILD_SUBREAPER)")
        self._children = os.open(children, os.O_RDONLY | os.O_CLOEXEC)
        self._exits = select.epoll()
        self._held: dict[int, HeldProcess] = {}
        self._strangers: dict[int, bytes] = {}
        self._ticks = os.sysconf("SC_CLK_TCK")

    def scan(self, below: str, groups: Collection[int] = ()) -> list[Process]:
        """See `Processes`. What was found to be a stranger's once is recognised by pid and start time."""
        settled = (time.clock_gettime(time.CLOCK_BOOTTIME) - _SETTLED_SECONDS) * self._ticks
        found: list[Process] = []
        strangers: dict[int, bytes] = {}
        looked_at = {os.getpid()}
        again = True
        with answering():
            # What ended before we looked at it may have left a child that is not in our list yet.
            while again:
                again = False
                for pid in [int(name) for name in os.listdir("/proc") if name.isdigit()]:
                    if pid in looked_at:
                        continue
                    looked_at.add(pid)
                    words = _stat(pid)
                    if words is None:
                        again = True
                        continue
                    start, group = words[19], int(words[2])
                    if group not in groups and self._strangers.get(pid) == start:
                        strangers[pid] = start
                        continue
                    environ = _environ(pid, words)
                    if environ is None and int(start) >= settled:
                        raise OSError(errno.EAGAIN, f"process {pid} does not show yet what it is")
                    process = _inspect(pid, words, environ, below)
                    if process.locks or "AIR_RUN_ID" in process.variables or group in groups:
                        found.append(process)
                    elif _stat(pid) is None:
                        again = True
                    elif int(start) < settled and environ is not None:
                        strangers[pid] = start
        self._strangers = strangers
        return found

    def hold(self, pid: int, start: float | None, slot: Slot) -> HeldProcess | None:
        """See `Processes`."""
        try:
            fd = os.pidfd_open(pid)
        except ProcessLookupError:
            return None
        # Only now that the number cannot change hands does its start time prove anything.
        if start is not None and _start(pid) != start:
            os.close(fd)
            return None
        held = HeldProcess(pid, start or 0.0, slot, fd)
        self._held[fd] = held
        self._exits.register(fd, select.EPOLLIN)
        return held

    def release(self, held: HeldProcess) -> None:
        """See `Processes`."""
        if held.fd >= 0:
            # Closing is not enough: whoever looks at our descriptors at that instant keeps the file in the epoll, and
            # it would then speak for the next process that gets its number.
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
        """See `Processes`. What belongs to another user by now refuses, and stays listed."""
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
        with answering():
            pids, offset = b"", 0
            while part := os.pread(self._children, 65536, offset):
                pids += part
                offset += len(part)
        return {int(pid) for pid in pids.split()}

    def on_exit(self, wake: Callable[[], None]) -> int | None:  # noqa: ARG002
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


@contextlib.contextmanager
def answering() -> Iterator[None]:
    """Turn what keeps us from seeing all processes into "unknown", which must not read as "none"."""
    try:
        yield
    except OSError as error:
        msg = f"cannot list the processes of this machine: {error}"
        raise BackendUnavailableError(msg) from error


def _read(path: str) -> bytes | None:
    """Return a file of `/proc`; None if its process is gone, nothing if we may not look."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError as error:
        return _excuse(error)
    try:
        data = part = os.read(fd, 65536)
        while part:
            part = os.read(fd, 65536)
            data += part
    except OSError as error:
        return _excuse(error)
    finally:
        os.close(fd)
    return data


def _excuse(error: OSError) -> bytes | None:
    """Anything but "gone" and "not yours" (no descriptors left, no memory) means that we did not look."""
    if error.errno in _GONE:
        return None
    if error.errno in _REFUSED:
        return b""
    raise error


def _start(pid: int) -> float | None:
    stat = _read(f"/proc/{pid}/stat")
    return float(stat[stat.rindex(b")") + 2 :].split(None, 20)[19]) if stat else None


def _environ(pid: int, stat: list[bytes]) -> bytes | None:
    """Return what a process was started with, nothing if it is gone; None if it cannot be told.

    In the middle of an exec there is neither environment nor command line; the kernel then sets one after the other, so
    only who has a command line and a moment later still no environment was started without one.
    """
    path = f"/proc/{pid}/environ"
    environ = _read(path)
    if environ != b"" or int(stat[6]) & _KERNEL_THREAD:
        return environ or b""
    for _ in range(_EXEC_LOOKS):
        command = _read(f"/proc/{pid}/cmdline")
        time.sleep(_EXEC_SECONDS)
        environ = _read(path)
        if environ or command or _stat(pid) is None:
            return environ or b""
    return None


def _stat(pid: int) -> list[bytes] | None:
    """Return what `/proc` says of a process after its name, None if it has ended or we may not look."""
    stat = _read(f"/proc/{pid}/stat")
    words = stat[stat.rindex(b")") + 2 :].split(None, 20) if stat else [b"X"]
    return None if words[0] in b"ZXx" else words


def _inspect(pid: int, stat: list[bytes], environ: bytes | None, below: str) -> Process:
    variables = {}
    for entry in (environ or b"").split(b"\0"):
        if entry.startswith(b"AIR_"):
            name, _, value = entry.partition(b"=")
            variables[os.fsdecode(name)] = os.fsdecode(value)
    locks = tuple(_locks(pid, below))
    command = (_read(f"/proc/{pid}/cmdline") or b"").split(b"\0", 2)[:2] if locks or variables else []
    return Process(
        pid=pid,
        start=float(stat[19]),
        parent=int(stat[1]),
        group=int(stat[2]),
        session=int(stat[3]),
        variables=variables,
        locks=locks,
        command=tuple(os.fsdecode(word) for word in command),
    )


def _locks(pid: int, below: str) -> Iterator[str]:
    """Yield the files below a path whose lock this process shares. To read such a file proves nothing."""
    try:
        names = os.listdir(f"/proc/{pid}/fd")
    except OSError as error:
        _excuse(error)
        return
    for name in names:
        try:
            target = os.readlink(f"/proc/{pid}/fd/{name}")
        except OSError as error:
            _excuse(error)
            continue
        if target.startswith(below) and b"FLOCK" in (_read(f"/proc/{pid}/fdinfo/{name}") or b""):
            yield target


def may_signal_group(group: int | None, held: HeldProcess) -> TypeGuard[int]:
    """Tell whether a process that was just proven to be itself is in that group, and we are not."""
    return bool(group) and os.getpgid(held.pid) == group != os.getpgrp()
