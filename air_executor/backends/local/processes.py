"""What the local backend asks of this machine's processes, whatever the system: to find, watch and signal them.

Implemented by `linux_processes` (`/proc`, pidfd, child subreaper) and `psutil_processes` (polling); `system_processes`
chooses. Knows nothing of what is in a slot's file, or of jobs.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Protocol, TypeGuard

from air_executor.errors import BackendUnavailableError
from air_executor.model.names import Slot

LOCK_FD = 9
"""The descriptor under which a runner and its descendants hold their slot's lock."""


@dataclass(frozen=True, slots=True)
class Process:
    """A live process that may belong to a run. `pid` and `start` together are its identity on this boot."""

    pid: int
    start: float
    """Start time in the system's own unit; only compared for equality."""
    parent: int
    group: int
    session: int
    variables: Mapping[str, str]
    """The `AIR_*` part of its environment."""
    locks: tuple[str, ...]
    """Paths of files whose lock it holds through a descriptor of its own."""
    command: tuple[str, ...]
    """The first two words of its command line."""


@dataclass(eq=False, slots=True)
class HeldProcess:
    """A watched process, which cannot be mistaken for another one that got its pid."""

    pid: int
    start: float
    slot: Slot
    fd: int = -1
    last_signal: int = field(default=0)
    """The last signal sent to it."""


class Processes(Protocol):
    """The processes of this machine."""

    sees_orphans: bool
    """Whatever our children leave behind becomes our child."""

    def scan(self, below: str, groups: Collection[int] = ()) -> list[Process]:
        """Return all live processes but ours that have `AIR_RUN_ID`, hold a lock below that path, or are in a group.

        Raises:
            BackendUnavailableError: the list would be incomplete.
        """

    def hold(self, pid: int, start: float | None, slot: Slot) -> HeldProcess | None:
        """Watch a process; without `start` it must be an unreaped child. None if it has ended.

        Raises:
            OSError: out of descriptors.
        """

    def release(self, held: HeldProcess) -> None:
        """Stop watching a process; idempotent."""

    def exited(self) -> list[HeldProcess]:
        """Return, once each, the watched processes that have ended since the last call; they are released."""

    def signal(self, held: HeldProcess, number: int, *, group: int | None = None) -> None:
        """Send a signal to exactly that process, or to this group if it is in it; do nothing if it has ended."""

    def children(self) -> set[int]:
        """Return our children, adopted orphans included; nothing on systems where orphans do not come to us."""

    def on_exit(self, wake: Callable[[], None]) -> int | None:
        """Return a descriptor that is readable while `exited` has something, or call `wake` when a process ends."""

    def close(self) -> None:
        """Stop the thread and release everything."""


@contextlib.contextmanager
def complete() -> Iterator[None]:
    """Turn a failure to see all processes into "unknown", which must not read as "none".

    Raises:
        BackendUnavailableError: instead of an OSError.
    """
    try:
        yield
    except OSError as error:
        msg = f"cannot list the processes of this machine: {error}"
        raise BackendUnavailableError(msg) from error


def may_signal_group(group: int | None, held: HeldProcess) -> TypeGuard[int]:
    """Tell whether a process that was just proven to be itself is in that group, and we are not."""
    return bool(group) and os.getpgid(held.pid) == group != os.getpgrp()
