"""The processes of a machine without pidfd, by polling `psutil`.

For macOS, and for Linux where the kernel or a sandbox withholds what `linux_processes` needs. Identity is the pid with
its creation time, so between check and signal there is an instant in which a pid could change hands.
"""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Callable, Collection, Iterator

import psutil

from air_executor.backends.local.processes import LOCK_FD, HeldProcess, Process, complete, may_signal_group
from air_executor.model.names import Slot

_POLL_SECONDS = 0.05


class PsutilProcesses:
    """Processes by `psutil`."""

    sees_orphans = False

    def __init__(self) -> None:
        self._held: dict[HeldProcess, psutil.Process] = {}
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None

    def scan(self, below: str, groups: Collection[int] = ()) -> list[Process]:
        """See `Processes`."""
        found = []
        seen = {0, os.getpid()}
        again = True
        with _complete():
            # A process that ended before it was read may have left a child that is not in our list yet.
            while again:
                again = False
                for candidate in psutil.process_iter():
                    if candidate.pid in seen:
                        continue
                    seen.add(candidate.pid)
                    try:
                        process = _inspect(candidate, below)
                    except (psutil.NoSuchProcess, ProcessLookupError):
                        again = True
                        continue
                    except (psutil.AccessDenied, PermissionError):
                        continue  # a kernel thread, or another user's process
                    if process is None:
                        again = True
                    elif process.locks or "AIR_RUN_ID" in process.variables or process.group in groups:
                        found.append(process)
        return found

    def hold(self, pid: int, start: float | None, slot: Slot) -> HeldProcess | None:
        """See `Processes`."""
        with contextlib.suppress(psutil.NoSuchProcess):
            process = psutil.Process(pid)
            if start is None or process.create_time() == start:
                held = HeldProcess(pid, process.create_time(), slot)
                self._held[held] = process
                return held
        return None

    def release(self, held: HeldProcess) -> None:
        """See `Processes`."""
        self._held.pop(held, None)

    def exited(self) -> list[HeldProcess]:
        """See `Processes`."""
        with _complete():
            ended = [held for held, process in self._held.items() if not _lives(process)]
        for held in ended:
            self.release(held)
        return ended

    def signal(self, held: HeldProcess, number: int, *, group: int | None = None) -> None:
        """See `Processes`. The gap between check and signal is as narrow as this system allows."""
        with contextlib.suppress(ProcessLookupError, PermissionError):
            if held not in self._held or not _lives(self._held[held]):
                return
            if may_signal_group(group, held):
                os.killpg(group, number)
            else:
                os.kill(held.pid, number)

    def children(self) -> set[int]:
        """See `Processes`."""
        return set()

    def on_exit(self, wake: Callable[[], None]) -> int | None:
        """See `Processes`."""

        def watch() -> None:
            while not self._stop.wait(_POLL_SECONDS):
                with contextlib.suppress(psutil.Error, OSError):  # a hint only, and the next poll follows at once
                    if not all(_lives(process) for process in tuple(self._held.values())):
                        wake()

        self._thread = threading.Thread(target=watch, name="air-exits", daemon=True)
        self._thread.start()
        return None

    def close(self) -> None:
        """See `Processes`."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join()
        self._held.clear()


def _inspect(candidate: psutil.Process, below: str) -> Process | None:
    if candidate.status() == psutil.STATUS_ZOMBIE:
        return None
    locks, variables, command = [], {}, []
    with contextlib.suppress(psutil.AccessDenied):
        variables = {name: value for name, value in candidate.environ().items() if name.startswith("AIR_")}
        # psutil does not show locks, but a mere reader of the file will not have it open under our number.
        locks = [file.path for file in candidate.open_files() if file.fd == LOCK_FD and file.path.startswith(below)]
        command = candidate.cmdline()[:2]
    return Process(
        pid=candidate.pid,
        start=candidate.create_time(),
        parent=candidate.ppid(),
        group=os.getpgid(candidate.pid),
        session=os.getsid(candidate.pid),
        variables=variables,
        locks=tuple(locks),
        command=tuple(command),
    )


def _lives(process: psutil.Process) -> bool:
    try:
        # psutil notices when the pid has changed hands, even after the clock was set.
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


@contextlib.contextmanager
def _complete() -> Iterator[None]:
    with complete():
        try:
            yield
        except psutil.Error as error:
            raise OSError(str(error)) from error
