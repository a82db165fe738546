"""The schedules of a state directory, one file each, and up to which time each is settled.

Commands write the schedules, or the manager where it follows a folder; what is settled is the manager's alone.
"""

from __future__ import annotations

import contextlib
import json
import os

from air_executor.errors import BadInputError, CorruptFileError, NotFoundError
from air_executor.model import parsing, strict_json
from air_executor.model.definition import ScheduleFile
from air_executor.model.problems import InvalidError, did_you_mean, lines
from air_executor.model.times import from_text, to_text
from air_executor.store import files, permissions
from air_executor.store.layout import Layout

MAX_SCHEDULE = 64 << 20
"""Bytes of a schedule, as of a job file."""

ABSENT = (0, 0)
"""What `Schedules.changed_at` returns where there is no schedule."""


class Schedules:
    """The schedules of one state directory."""

    def __init__(self, layout: Layout) -> None:
        self._layout = layout

    def names(self) -> list[str]:
        """Return the names of all schedules, sorted."""
        found = files.list_dir(self._layout.schedules)
        return sorted(name.removesuffix(".json") for name in found if name.endswith(".json"))

    def load(self, name: str) -> ScheduleFile:
        """Return one schedule.

        Raises:
            NotFoundError: there is none.
            CorruptFileError: it cannot be read.
            StoreError: the volume refused.
        """
        path = self._layout.schedule(name)
        found = files.read(path, MAX_SCHEDULE)
        if found is None:
            hint = did_you_mean(name, self.names()) or "; `air-executor schedule list` lists them"
            msg = f"no schedule {name} in {self._layout.root}{hint}"
            raise NotFoundError(msg)
        try:
            schedule = parsing.read_stored(ScheduleFile, strict_json.loads(found[0]))
        except (BadInputError, InvalidError) as error:
            what = "; ".join(lines(error.problems)) if isinstance(error, InvalidError) else str(error)
            msg = f"{path}: {what}"
            raise CorruptFileError(msg) from None
        if schedule.name != name:
            msg = f"{path}: holds schedule {schedule.name!r}, not {name!r}"
            raise CorruptFileError(msg)
        return schedule

    def save(self, schedule: ScheduleFile) -> None:
        """Write one schedule durably.

        Raises:
            StoreError: the volume refused; the old one stands.
        """
        files.make_dir(self._layout.schedules)
        files.make_dir(self._layout.tmp)
        text = json.dumps({"format": 1, **parsing.dump(schedule)}, indent=2, ensure_ascii=False) + "\n"
        files.replace(self._layout.schedule(schedule.name), text.encode(), self._layout.tmp)
        permissions.hand_over(self._layout.schedule(schedule.name), self._layout.jobs)

    def delete(self, name: str) -> None:
        """Delete a schedule; its runs stay.

        Raises:
            NotFoundError: there is none.
        """
        try:
            os.unlink(self._layout.schedule(name))
        except OSError as error:
            files.fail("delete", self._layout.schedule(name), error)
        files.remove(self._layout.settled(name))

    EFFECTS = (delete,)
    """What changes the volume; see `files`."""

    def changed_at(self, name: str) -> tuple[int, int]:
        """Return what differs after every change of a schedule; `ABSENT` if there is none."""
        with contextlib.suppress(OSError):
            found = os.stat(self._layout.schedule(name))
            return found.st_mtime_ns, found.st_ino
        return ABSENT

    def folder_changed_at(self) -> float:
        """Return when a schedule was last added, replaced or removed, in Unix seconds; 0 if there is none."""
        return files.changed_at(self._layout.schedules)

    # What the manager has settled

    def settled(self, name: str) -> float:
        """Return the newest time of a schedule for which the manager has decided, in Unix seconds; 0 if none."""
        with contextlib.suppress(CorruptFileError, BadInputError, UnicodeError):
            found = files.read(self._layout.settled(name), 100)
            return 0.0 if found is None else from_text(found[0].decode().strip())
        return 0.0

    def settle(self, name: str, time: float) -> None:
        """Note that the manager has decided for all times of a schedule up to this one."""
        folder = os.path.dirname(self._layout.settled(name))
        files.make_dir(folder)
        files.replace(self._layout.settled(name), f"{to_text(time)}\n".encode(), self._layout.tmp, sync=False)
