"""The cgroup (version 2) of one run: what is in it, its end, and its removal.

Made by `cgroups` or by the runner, kept by `local_backend`. A task runs as the same user and can change its own group,
nest others in it, or move this very process into it: each look is bounded, and nothing that is found raises.
"""

from __future__ import annotations

import contextlib
import fcntl
import logging
import os

from air_executor.backends.local import cgroup_files, proc_reader
from air_executor.backends.local.processes import Process

log = logging.getLogger(__name__)

_STEPS = 5000
"""Groups that one look below a run's group visits: a task can make as many there as it likes."""
_MOST_SHOWN = 100
"""Processes of one group that are watched one by one: `cgroup.kill` reaches all of them."""
_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


class RunCgroup:
    """The group of one run."""

    def __init__(self, folder: str, run: str, home: str) -> None:
        """Name the group of a run in the folder of the groups; `home` is that of this process, which has to stay."""
        self.run = run
        self._path = f"{folder}/{run}"
        self._home = home
        self.made_by_runner = False
        self._removed = False

    @property
    def exists(self) -> bool:
        """Tell whether there is such a group."""
        return os.path.isdir(self._path)

    def open(self, lowest: int = 0) -> int:
        """Return a descriptor of its folder, this number or a higher one.

        Raises:
            OSError: there is none.
        """
        fd = os.open(self._path, _FOLDER)
        try:
            return fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, lowest)
        finally:
            os.close(fd)

    def is_populated(self) -> bool:
        """Tell whether a process is in it or in a group below, if only as a zombie. Unknown is not empty."""
        try:
            return b"populated 0" not in cgroup_files.read(f"{self._path}/cgroup.events")
        except FileNotFoundError:
            return False
        except OSError:
            return True

    def is_alive(self) -> bool:
        """Tell whether a process that is no zombie is in it, or in a group below."""
        return self.is_populated() and bool(self._pids())

    def processes(self) -> list[Process]:
        """Return processes in it and in groups below, `_MOST_SHOWN` at most."""
        found = [proc_reader.identify(pid) for pid in sorted(self._pids())[:_MOST_SHOWN]]
        still = self._pids()  # a pid that was given to another process meanwhile is not in the group any more
        return [process for process in found if process is not None and process.pid in still]

    def _pids(self) -> set[int]:
        """Return pids; 0 stands for a process of another pid namespace."""
        found: set[int] = set()
        pending = [self._path]
        for _ in range(_STEPS):
            if not pending:
                break
            path = pending.pop()
            with contextlib.suppress(OSError):  # removed meanwhile, of threads only, or too deep for a path
                found.update(int(pid) for pid in cgroup_files.words(f"{path}/cgroup.procs"))
            with contextlib.suppress(OSError), os.scandir(path) as entries:
                pending += [entry.path for entry in entries if entry.is_dir(follow_symlinks=False)]
        return found - {os.getpid()}

    def kill(self) -> None:
        """Kill every process in it and in groups below."""
        cgroup_files.stay_in(self._home)  # a task can move us into its group, whose end would be ours
        with contextlib.suppress(OSError):  # it is gone, or a task has made it a group of threads
            cgroup_files.write(f"{self._path}/cgroup.kill", "1")

    def remove(self) -> bool:
        """Remove it, once the run is over, and kill what is still in it; False if that has to be tried again."""
        if self.discard():
            return True
        self.kill()
        self._remove_below()
        return self.discard()

    def discard(self) -> bool:
        """Remove it if there is nothing in it; False if there is, if only an empty group."""
        if self._removed:
            return True
        try:
            os.rmdir(self._path)
        except OSError:  # on a read-only mount, it does not tell whether there is any
            if self.exists:
                return False
            if self.made_by_runner:
                log.warning("run %s had no cgroup of its own: its runner could not make one, or use it", self.run)
        self._removed = True
        return True

    def _remove_below(self) -> None:
        """Remove the groups below it, innermost first, up to one that is in use.

        By descriptors, because a task can nest them deeper than a path can name.
        """
        names: list[str] = []
        try:
            fd = self.open()
        except OSError:
            return
        try:
            for _ in range(_STEPS):
                name = _first_below(fd)
                if name is None and not names:
                    return
                other = os.open(".." if name is None else name, _FOLDER, dir_fd=fd)
                os.close(fd)
                fd = other
                if name is None:
                    os.rmdir(names.pop(), dir_fd=fd)
                else:
                    names.append(name)
        except OSError:  # in use, or changed meanwhile
            return
        finally:
            os.close(fd)


def _first_below(fd: int) -> str | None:
    with os.scandir(fd) as entries:
        return next((entry.name for entry in entries if entry.is_dir(follow_symlinks=False)), None)
