"""Finds which processes belong to which slot, among all of this machine, whatever manager started them.

A process belongs to a slot if it keeps the slot's locked file open, if its environment says so, or if it is in the
process group of a runner that has ended. Called by `local_backend`; starts, ends and remembers nothing.
"""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Iterator, Mapping
from typing import Protocol

from air_executor.backends.local.processes import Process, Processes
from air_executor.errors import BackendUnavailableError
from air_executor.model.names import Slot

_NUMBER = re.compile(r"[0-9]{1,9}")


class Paths(Protocol):
    """The part of a state directory's layout that the backend needs."""

    root: str
    jobs: str

    def slot_file(self, slot: Slot) -> str:
        """Return the file whose lock is the slot."""

    def slot_of(self, path: str) -> Slot | None:
        """Return the slot of a slot file."""

    def job_of_workspace(self, path: str) -> str | None:
        """Return the job of a workspace."""


class ProcessFinder:
    """Finds the processes of one state directory's slots."""

    def __init__(self, paths: Paths, processes: Processes) -> None:
        self._paths = paths
        self._processes = processes

    def scan(self, orphaned_groups: Mapping[int, Slot]) -> dict[Slot, list[Process]]:
        """Return the processes of each slot that has any.

        Args:
            orphaned_groups: process groups whose leader, a runner, has ended: what is left of them belongs to its slot.

        Raises:
            BackendUnavailableError: the processes cannot be read.
        """
        # The kernel shows paths without links.
        real_jobs = os.path.realpath(self._paths.jobs) + "/"
        processes = self._processes.scan(real_jobs, orphaned_groups)
        pids = {process.pid for process in processes}
        found: dict[Slot, list[Process]] = {}
        for process in processes:
            slot = self._slot_of(process, real_jobs)
            # While a group has members no new process gets its number, so a live leader would not be our runner.
            if slot is None and process.group not in pids:
                slot = orphaned_groups.get(process.group)
            if slot is not None:
                found.setdefault(slot, []).append(process)
        return found

    def slots_on_disk(self) -> Iterator[Slot]:
        """Yield each slot that has a file.

        Raises:
            BackendUnavailableError: the jobs cannot be listed.
        """
        try:
            with os.scandir(self._paths.jobs) as entries:  # a link is no job, wherever it leads
                jobs = [entry.name for entry in entries if entry.is_dir(follow_symlinks=False)]
            for job in jobs:
                # A folder that another user closed is a job that this manager cannot read, and leaves alone.
                with contextlib.suppress(FileNotFoundError, NotADirectoryError, PermissionError):
                    for name in os.listdir(f"{self._paths.jobs}/{job}"):
                        if slot := self._paths.slot_of(f"{self._paths.jobs}/{job}/{name}"):
                            yield slot
        except FileNotFoundError:
            return
        except OSError as error:
            msg = f"cannot list {self._paths.jobs}: {error.strerror}"
            raise BackendUnavailableError(msg) from error

    def _slot_of(self, process: Process, real_jobs: str) -> Slot | None:
        for path in process.locks:
            if slot := self._paths.slot_of(self._our_path(path, real_jobs)):
                return slot
        workspace = process.variables.get("AIR_WORKSPACE")
        if not workspace or "AIR_RUN_ID" not in process.variables:
            return None
        job = self._paths.job_of_workspace(self._our_path(os.path.realpath(workspace), real_jobs))
        number = process.variables.get("AIR_SLOT", "")  # a task's children can have any
        return Slot(job, int(number) if _NUMBER.fullmatch(number) else 0) if job else None

    def _our_path(self, path: str, real_jobs: str) -> str:
        return f"{self._paths.jobs}/{path[len(real_jobs) :]}" if path.startswith(real_jobs) else path


def is_runner(process: Process) -> bool:
    """Tell whether it is a runner: its subshells lead no session, and a daemon has another name."""
    # The first word is the native runner, or the second one a shell's script.
    return process.session == process.pid and any(word.endswith("/air-runner") for word in process.command[:2])
