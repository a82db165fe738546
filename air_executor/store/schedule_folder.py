"""A folder of job files (`AIR_JOBS_DIR`) whose schedules are applied when the files change.

The manager calls it. A file that is wrong is said, and what was applied before stays; where a file is gone, or has
another schedule now, so is its schedule. Files are read in the manager's thread, so their sizes are bounded. What is
passed over (no folder yet, jobs that run once) is logged.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator

from air_executor.errors import AirExecutorError, BadInputError, NotFoundError
from air_executor.model.source import one_line
from air_executor.store import files
from air_executor.store.job_file import read_regular
from air_executor.store.schedule_file import checked_schedule, unless_stored
from air_executor.store.schedules import Schedules

log = logging.getLogger(__name__)

ENDINGS = (".yaml", ".yml", ".json")
MAX_YAML, MAX_JSON = 128 << 10, 2 << 20
"""Bytes of one file: reading that much takes a second or two."""


class ScheduleFolder:
    """One folder."""

    def __init__(self, folder: str, schedules: Schedules) -> None:
        self._folder = folder
        self._schedules = schedules
        self._seen: dict[str, tuple[int, int, int]] = {}
        self._began = False
        self._missing = False
        """There was no such folder when it was last looked at."""
        self._holds: dict[str, str | None] = {}
        """For each file that could be read, the name of its schedule; None: it has none."""
        self._owners: dict[str, str] = {}
        """The file that holds each schedule."""
        self.problems: dict[str, str] = {}
        """What is wrong with which file, for as long as it is so."""

    def apply(self, now: float) -> Iterator[str | None]:
        """Apply what has changed since the last call; yield after each such file what is wrong with it, once."""
        try:
            names = sorted(name for name in files.list_dir(self._folder) if name.endswith(ENDINGS))
        except AirExecutorError as error:
            yield str(error)
            return
        if self._is_missing(names):
            return  # not mounted yet, perhaps: nothing is deleted
        moved = False
        for name in names:
            stamp = self._stamp(name)
            if stamp is not None and self._seen.get(name) != stamp:
                self._seen[name] = stamp
                self.problems.pop(name, None)
                try:
                    moved |= self._apply_one(name, now)
                except AirExecutorError as error:
                    self.problems[name] = one_line(str(error))
                yield self.problems.get(name)
        gone = self._seen.keys() - names
        for name in gone:
            del self._seen[name]
            self.problems.pop(name, None)
            self._hold(name, None)
            self._holds.pop(name, None)
        if gone or moved:
            for name in self.problems:  # their names may be free now
                self._seen.pop(name, None)
        if gone or moved or not self._began:
            self._began = True
            yield from self._delete(set(names))

    def _is_missing(self, names: list[str]) -> bool:
        """Tell whether the folder does not exist, and log that once."""
        missing = not names and not os.path.isdir(self._folder)
        if missing and not self._missing:
            log.info("AIR_JOBS_DIR: there is no folder %s; its job files are applied once it exists", self._folder)
        self._missing = missing
        return missing

    def _stamp(self, name: str) -> tuple[int, int, int] | None:
        try:
            found = os.stat(f"{self._folder}/{name}")
        except OSError:
            return None
        return found.st_mtime_ns, found.st_ino, found.st_size

    def _apply_one(self, name: str, now: float) -> bool:
        """Apply one file; tell whether it holds another schedule than before."""
        path = f"{self._folder}/{name}"
        data = read_regular(path, MAX_JSON if name.endswith(".json") else MAX_YAML)
        made = checked_schedule(data, path, now, source=name)
        if made is None:
            log.info("%s is not applied: it has neither name nor schedule, so it is to be submitted", path)
        else:
            owner = self._owners.get(made.name, name)
            if owner != name:
                msg = f"{path}: name: {made.name} is the name in {owner}, too; choose another one"
                raise BadInputError(msg)
            if (changed := unless_stored(made, self._schedules)) is not None:
                self._schedules.save(changed)
        return self._hold(name, None if made is None else made.name)

    def _hold(self, name: str, schedule: str | None) -> bool:
        """Note which schedule a file holds; tell whether it was another one before."""
        before = self._holds.get(name)
        if before is not None and before != schedule:
            del self._owners[before]
        if schedule is not None:
            self._owners[schedule] = name
        known = name in self._holds
        self._holds[name] = schedule
        return known and before != schedule

    def _delete(self, names: set[str]) -> Iterator[str]:
        """Delete the schedules whose files are gone, or hold another one."""
        for name in self._schedules.names():
            try:
                source = self._schedules.load(name).source
                if source is not None and (source not in names or self._holds.get(source, name) != name):
                    self._schedules.delete(name)
            except NotFoundError:
                continue
            except AirExecutorError as error:
                yield str(error)
