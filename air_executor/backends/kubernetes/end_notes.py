"""Notes which commands have ended while their carriers have not: one that never began would be waited for.

Of a runner that was killed before its claim the carrier in its pod sees nothing, neither a file nor a process, as of
one whose image is still being pulled. Used by the backend, for runs whose files come over HTTP.
"""

from __future__ import annotations

from collections.abc import Collection

from air_executor.backends.base import NoteEnd
from air_executor.backends.kubernetes.runner_cache import TrackedRunner

NOTE_AFTER = 2.0
"""Seconds after the end of a command: by then most carriers have delivered, and left."""


class EndNotes:
    """The commands of one manager's runs."""

    def __init__(self, note: NoteEnd) -> None:
        self._note = note
        self._noted: set[str] = set()
        """Uids of Jobs."""

    def look(self, runners: Collection[TrackedRunner], now: float) -> None:
        """Note the ends of which the runners tell, once each; `now` in monotonic seconds."""
        late = [one for one in runners if any(_is_late(since, now) for since in one.delivering_since)]
        for one in late:
            if one.uid not in self._noted and one.task:
                self._note(one.slot, one.run, one.task)
        self._noted = {one.uid for one in late}


def _is_late(since: float, now: float) -> bool:
    return now - since > NOTE_AFTER
