"""The cgroups (version 2) of a state directory's runs: where this process may make them, and what they limit.

Called by `local_backend`; `local_check` shows what was found. A group is named after its run, in a folder of its state
directory below the manager's own group, so that the next manager finds it. Knows no slots and no jobs.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import logging
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from air_executor.backends.local import cgroup_files
from air_executor.backends.local.cgroup_files import MANAGER, RUNS, NoCgroupsError
from air_executor.backends.local.run_cgroup import RunCgroup

log = logging.getLogger(__name__)

CONTROLLERS = ("cpu", "memory", "pids")
"""What a run can be limited by."""
_CPU_PERIOD = 100_000
"""Microseconds: the kernel's default."""
_LEAST_CPU = 1000
"""Microseconds per period: the kernel refuses less."""
_RETRY_SECONDS = 1.0
_STALE_SECONDS = 600.0
"""Age from which an empty group is nobody's: a new one is filled at once, and a folder is made again when needed."""


class RunnerAccess(NamedTuple):
    """What a runner needs to start its command in the run's group."""

    group: RunCgroup
    folder_fd: int | None = None
    """The folder in which the runner makes the group itself; None: the group exists, because it has limits."""


class Cgroups:
    """The groups of the runs of one state directory."""

    def __init__(self, folder: str, home: str, pids: int | None = None) -> None:
        """Make the folder of the groups, with the controllers that its parent can pass on.

        `home` is the group of this process, in which it has to stay; `pids` limits the processes and threads of a run.

        Raises:
            OSError: it cannot be made.
        """
        self.folder = folder
        self._home = home
        self._pids = pids
        self._removable: dict[str, RunCgroup] = {}
        self._retry_at = 0.0
        self._folder_fd, self._folder_inode = -1, 0
        self.controllers: frozenset[str] = frozenset()
        """Those that limit a run."""
        self._make_folder()

    def _make_folder(self) -> None:
        with contextlib.suppress(FileExistsError):
            os.mkdir(self.folder)
        parent = os.path.dirname(self.folder)
        for name in set(CONTROLLERS).intersection(cgroup_files.words(f"{parent}/cgroup.controllers")):
            for folder in (parent, self.folder):
                # Refused where the parent has processes of its own: nothing was delegated.
                with contextlib.suppress(OSError):
                    cgroup_files.write(f"{folder}/cgroup.subtree_control", f"+{name}")
        passed_on = cgroup_files.words(f"{self.folder}/cgroup.subtree_control")
        self.controllers = frozenset(CONTROLLERS).intersection(passed_on)
        fd = os.open(self.folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        self._close_folder()
        self._folder_fd, self._folder_inode = fd, os.fstat(fd).st_ino

    def _close_folder(self) -> None:
        if self._folder_fd >= 0:
            os.close(self._folder_fd)
        self._folder_fd = -1

    def prepare(self, run: str, resources: Mapping[str, Any]) -> RunnerAccess | None:
        """Prepare the group of a run that is about to start; None, with a warning in the log, if that fails.

        A group with limits is made here. Any other one the runner makes, which costs the manager nothing.
        """
        limits = [limit for limit in _limits(resources, self._pids) if limit[0] in self.controllers]
        try:
            if not self._is_folder_open():
                self._make_folder()
            if limits:
                self._make(f"{self.folder}/{run}", limits)
        except OSError as error:
            log.warning("run %s starts without a cgroup: %s: %s", run, error.filename, error.strerror)
            self.remove(run)
            return None
        group = self._group(run)
        if limits:
            return RunnerAccess(group)
        group.made_by_runner = True
        return RunnerAccess(group, self._folder_fd)

    def _is_folder_open(self) -> bool:
        """Tell whether the open folder is still the one of that path: anybody can have removed it."""
        try:
            return os.stat(self.folder).st_ino == self._folder_inode
        except FileNotFoundError:
            return False

    def _make(self, path: str, limits: Sequence[tuple[str, str, str]]) -> None:
        with contextlib.suppress(FileExistsError):
            os.mkdir(path)
        # A task can have changed the type of a group beside it, and then none of a plain type can be made here.
        kind = cgroup_files.read(f"{path}/cgroup.type").strip()
        if kind != b"domain":
            raise OSError(errno.EOPNOTSUPP, f"its type is {kind.decode()}", path)
        for _, name, value in limits:
            cgroup_files.write(f"{path}/{name}", value)

    def runs(self) -> list[str]:
        """Return the runs that have a group."""
        try:
            with os.scandir(self.folder) as entries:
                return [entry.name for entry in entries if entry.is_dir(follow_symlinks=False)]
        except FileNotFoundError:
            return []

    def find(self, run: str) -> RunCgroup | None:
        """Return the group of a run, whose id may be anything; None if it has none."""
        if "/" in run or run in {"", ".", ".."}:
            return None
        group = self._group(run)
        return group if group.exists else None

    def _group(self, run: str) -> RunCgroup:
        return RunCgroup(self.folder, run, self._home)

    def remove(self, run: str) -> None:
        """Remove the group of a run that is over, now or later; whatever is still in it is killed."""
        self._removable[run] = self._group(run)
        self._retry_at = 0.0
        self.clean_up()

    def clean_up(self) -> None:
        """Try again to remove what could not be removed yet; cheap if there is nothing."""
        if self._removable and time.monotonic() >= self._retry_at:
            self._removable = {run: group for run, group in self._removable.items() if not group.remove()}
            self._retry_at = time.monotonic() + _RETRY_SECONDS

    def close(self, *, keep_folder: bool = False) -> None:
        """Remove the folder if no run has a group; `keep_folder`: a runner may not have made its group yet."""
        self._retry_at = 0.0
        self.clean_up()
        self._close_folder()
        if not keep_folder:
            with contextlib.suppress(OSError):
                os.rmdir(self.folder)


def open_cgroups(state_dir: str, pids: int | None = None) -> Cgroups:
    """Return the groups of a state directory, in each of which there are at most `pids` processes and threads.

    Raises:
        NoCgroupsError: this process may make none.
    """
    try:
        return _open(state_dir, pids)
    except OSError as error:
        msg = f"{error.filename}: {error.strerror}"
        raise NoCgroupsError(msg) from error


def _open(state_dir: str, pids: int | None) -> Cgroups:
    home = cgroup_files.own_group()
    base = os.path.dirname(home) if os.path.basename(home) == MANAGER else home
    # Whoever puts a process into a group must be allowed to in the nearest group above both.
    if not os.access(f"{base}/cgroup.procs", os.W_OK):
        msg = f"{base} belongs to another user, or is not visible here"
        raise NoCgroupsError(msg)
    digest = hashlib.blake2b(os.fsencode(os.path.realpath(state_dir)), digest_size=6).hexdigest()
    _remove_stale(base)
    groups = Cgroups(f"{base}/{RUNS}{digest}", home, pids)
    if not os.path.exists(f"{groups.folder}/cgroup.kill"):
        groups.close()
        msg = "the kernel is older than 5.14"
        raise NoCgroupsError(msg)
    return groups


def _remove_stale(base: str) -> None:
    """Remove empty groups that killed managers left: their state directories may never have another one."""
    folders = [path for path in _stale(base) if os.path.basename(path).startswith(RUNS)]
    for path in [*(group for folder in folders for group in _stale(folder)), *folders]:
        with contextlib.suppress(OSError):  # it is in use
            os.rmdir(path)


def _stale(folder: str) -> list[str]:
    """Return the groups below a folder in which no group was made or removed for a while."""
    latest = time.time() - _STALE_SECONDS
    with contextlib.suppress(OSError), os.scandir(folder) as entries:
        return [
            entry.path
            for entry in entries
            if entry.is_dir(follow_symlinks=False) and entry.stat(follow_symlinks=False).st_mtime < latest
        ]
    return []


def _limits(resources: Mapping[str, Any], pids: int | None) -> Iterator[tuple[str, str, str]]:
    """Yield controller, file and value for each limit of a group."""
    if (memory := resources.get("memory")) is not None:
        yield "memory", "memory.max", str(memory)
        yield "memory", "memory.swap.max", "0"
    if (cpu := resources.get("cpu")) is not None:
        yield "cpu", "cpu.max", f"{max(_LEAST_CPU, round(cpu * _CPU_PERIOD))} {_CPU_PERIOD}"
    if pids is not None:
        yield "pids", "pids.max", str(pids)
