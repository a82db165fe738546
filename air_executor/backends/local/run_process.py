"""Finds the process of a running task on this machine, with its variables and its working directory.

Called by `wiring` for `air-executor shell`, in another process than the manager's.
"""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from air_executor.backends.local import proc_reader
from air_executor.errors import NotFoundError

RUN = b"AIR_RUN_ID"


@dataclass(frozen=True, slots=True)
class RunProcess:
    """A process of a run."""

    pid: int
    parent: int
    command: tuple[bytes, ...]
    environment: Mapping[bytes, bytes]
    workdir: str


def find(run: str, among: Iterable[RunProcess] | None = None) -> RunProcess:
    """Return the task's own process: the first one below the runner; the runner itself if there is none.

    `among`: processes of any runs; None: all of this machine.

    Raises:
        NotFoundError: no process of the run can be seen from here.
    """
    known = processes() if among is None else among
    found = {one.pid: one for one in known if one.environment.get(RUN) == run.encode()}
    runners = [one for one in found.values() if one.parent not in found]
    if not runners:
        msg = (
            f"no process of run {run} is visible here: it has just ended, or runs on another machine or as another user"
        )
        raise NotFoundError(msg)
    runner = min(runners, key=lambda one: one.pid)
    # A runner that is a shell script has parts of its own below it.
    tasks = [one for one in found.values() if one.parent == runner.pid and one.command != runner.command]
    return min(tasks, key=lambda one: one.pid, default=runner)


def processes() -> Iterator[RunProcess]:
    """List the processes of runs that this one may look at."""
    if sys.platform != "linux":
        yield from polled()
        return
    for pid in [int(name) for name in os.listdir("/proc") if name.isdigit()]:
        fields, environ = proc_reader.stat(pid), proc_reader.read(f"/proc/{pid}/environ")
        if fields is None or not environ or RUN not in environ:
            continue
        with contextlib.suppress(OSError):  # it has ended
            command = tuple((proc_reader.read(f"/proc/{pid}/cmdline") or b"").split(b"\0"))
            pairs = (entry.partition(b"=") for entry in environ.split(b"\0") if b"=" in entry)
            variables = {name: value for name, _, value in pairs}
            yield RunProcess(pid, int(fields[proc_reader.PARENT]), command, variables, os.readlink(f"/proc/{pid}/cwd"))


def polled() -> Iterator[RunProcess]:
    """List them where there is no `/proc`."""
    import psutil  # noqa: PLC0415 - the dependency exists only there

    for one in psutil.process_iter():
        with contextlib.suppress(psutil.Error, OSError):  # it has ended, or is another user's
            variables = {os.fsencode(name): os.fsencode(value) for name, value in one.environ().items()}
            if RUN in variables:
                command = tuple(map(os.fsencode, one.cmdline()))
                yield RunProcess(one.pid, one.ppid(), command, variables, one.cwd())
