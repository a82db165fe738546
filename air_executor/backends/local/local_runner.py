"""What holds one slot of the local backend: a runner, processes that outlived it, or an unseen holder of its lock.

Kept by `local_backend`; asks the system for nothing but the exit code of a child.
"""

from __future__ import annotations

import contextlib
import os
import pwd
import signal
from collections.abc import Collection
from dataclasses import dataclass, field

from air_executor.backends.base import RunnerStatus
from air_executor.backends.local.processes import HeldProcess, Process
from air_executor.backends.local.run_cgroup import RunCgroup
from air_executor.model.names import Slot
from air_executor.model.plain_text import clean

_UNRECORDED = 96
"""The runner's own exit status where it could not start the run, or not write down how it ended."""
_OUT_OF_CGROUP = 98
"""The runner's own exit status where it could not start the command in the run's cgroup."""
_LONGEST_NAME = 64
"""Maximum number of characters of a program's name in a message."""


@dataclass(eq=False, slots=True)
class LocalRunner:
    """One runner and its processes."""

    slot: Slot
    grace: float
    status: RunnerStatus
    pid: int = 0
    """The runner's pid, which is also its group and session; 0 if it ended under an earlier manager."""
    process: HeldProcess | None = None
    """The runner's own process; None once it has ended, or if it is not visible."""
    child: bool = False
    members: list[HeldProcess] = field(default_factory=list)
    """Processes of the run that outlived the runner."""
    unseen: bool = False
    """The lock is held by an invisible process: on another host, or in another pid namespace."""
    cgroup: RunCgroup | None = None
    """The cgroup of all processes of the run but the runner; None if it has none."""
    stop_requested_at: float | None = None
    """When its removal was first requested, monotonic seconds."""

    @property
    def to_signal(self) -> list[HeldProcess]:
        """The processes that a stop has to reach: the runner, which passes it on, or else what outlived it."""
        return [self.process] if self.process else self.members

    @property
    def ended_by_itself(self) -> bool:
        """It exited, by no signal and at nobody's request."""
        code = self.status.exit_code
        return code is not None and code >= 0 and self.stop_requested_at is None

    def record_exit(self) -> None:
        """Note that the runner's own process has ended; reap it if it is ours."""
        self.process = None
        code = None
        if self.child:
            with contextlib.suppress(ChildProcessError):
                reaped, status = os.waitpid(self.pid, os.WNOHANG)
                code = os.waitstatus_to_exitcode(status) if reaped else None
        self.status = RunnerStatus(self.status.run, alive=False, exit_code=code, message=_end_of_runner(code))

    def note_holder(self, words: str) -> None:
        """Note what keeps the slot taken now that the runner has ended."""
        self.status = self.status._replace(held_by=f"its runner has ended, but {words}")


def holder_text(left: Collection[Process]) -> str:
    """Return the processes that a runner left behind, as their owner finds them."""
    first = min(left, key=lambda process: process.pid)
    program = clean(os.path.basename(first.command[0]))[:_LONGEST_NAME] if first.command else ""
    words = f"process {first.pid} ({program})" if program else f"process {first.pid}"
    more = f" and {len(left) - 1} more" if len(left) > 1 else ""
    owner = _owner(first.pid)
    if owner in (None, os.geteuid()):
        return f"{words}{more} still runs"
    return f"{words}{more} still runs, which this manager cannot stop: it belongs to user {_user_name(owner)}"


def _owner(pid: int) -> int | None:
    try:
        return os.stat(f"/proc/{pid}").st_uid
    except OSError:  # it has ended, or this system has no such folder
        return None


def _user_name(uid: int | None) -> str:
    try:
        return pwd.getpwuid(uid or 0).pw_name
    except KeyError:
        return str(uid)


def _end_of_runner(code: int | None) -> str | None:
    """Return what a runner's own exit status says, for a run that left no outcome."""
    if code is None:
        return None
    if code == _UNRECORDED:
        return "its runner could not write the run's files: is the volume full or read-only?"
    if code == _OUT_OF_CGROUP:
        return "its runner could not start the command in the run's cgroup"
    if code < 0:
        return f"its runner was ended by {_signal_name(-code)} and left no outcome"
    return f"its runner ended with exit status {code} and left no outcome"


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
