"""A folder of job files (`AIR_JOBS_DIR`) whose schedules are applied when the files change.

The manager calls it. A file that is wrong is said, and what was applied before stays; where a file is gone, so is its
schedule.
"""

from __future__ import annotations

import os
from collections.abc import Iterator

from air_executor.errors import AirExecutorError, NotFoundError
from air_executor.store import files
from air_executor.store.schedule_file import schedule_from
from air_executor.store.schedules import Schedules

ENDINGS = (".yaml", ".yml", ".json")


class ScheduleFolder:
    """One folder."""

    def __init__(self, folder: str, schedules: Schedules) -> None:
        self._folder = folder
        self._schedules = schedules
        self._seen: dict[str, tuple[int, int, int]] = {}
        self._began = False

    def apply(self, now: float) -> Iterator[str]:
        """Apply what has changed since the last call; yield what is wrong, once."""
        try:
            names = sorted(name for name in files.list_dir(self._folder) if name.endswith(ENDINGS))
        except AirExecutorError as error:
            yield str(error)
            return
        if not names and not os.path.isdir(self._folder):
            return  # not mounted yet, perhaps: nothing is deleted
        for name in names:
            stamp = self._stamp(name)
            if stamp is not None and self._seen.get(name) != stamp:
                self._seen[name] = stamp
                try:
                    self._apply_one(name, now)
                except AirExecutorError as error:
                    yield str(error)
        gone = self._seen.keys() - names
        if gone or not self._began:
            self._began = True
            for name in gone:
                del self._seen[name]
            yield from self._delete(set(names))

    def _stamp(self, name: str) -> tuple[int, int, int] | None:
        try:
            found = os.stat(f"{self._folder}/{name}")
        except OSError:
            return None
        return found.st_mtime_ns, found.st_ino, found.st_size

    def _apply_one(self, name: str, now: float) -> None:
        found = schedule_from(f"{self._folder}/{name}", now, self._schedules, source=name)
        if found is not None:
            self._schedules.save(found)

    def _delete(self, names: set[str]) -> Iterator[str]:
        for name in self._schedules.names():
            try:
                source = self._schedules.load(name).source
                if source is not None and source not in names:
                    self._schedules.delete(name)
            except NotFoundError:
                continue
            except AirExecutorError as error:
                yield str(error)
