"""The logs of runs in a state directory."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, BinaryIO

from air_executor.store.run_logs import log_path, open_log

if TYPE_CHECKING:
    from air_executor.model.state import JobState
    from air_executor.store.layout import Layout
    from air_executor.store.log_times import LogTimes


class DirectoryLogs:
    """See `LogAccess`."""

    def __init__(self, layout: Layout) -> None:
        self._layout = layout

    def open(self, job: JobState, task: str, seq: int, service: str | None = None) -> BinaryIO | None:
        """Return the log of a run or a service, opened for reading without a buffer, or None if there is none."""
        return open_log(self._layout, job, task, seq, service)

    def size(self, job: JobState, task: str, seq: int) -> int | None:
        """Return how long the log of a run is; 0 if there is none."""
        try:
            return os.stat(self._path(job, task, seq), follow_symlinks=False).st_size
        except OSError:
            return 0

    def times(self, job: JobState, task: str, seq: int, log: BinaryIO) -> LogTimes:
        """Return when the lines of a log, which is open, were written."""
        from air_executor.store import log_times  # noqa: PLC0415 - few ask this

        return log_times.read(self._path(job, task, seq), log)

    def is_removed(self, job: JobState, task: str, seq: int) -> bool:
        """Tell whether the directory of a run is gone."""
        return not os.path.isdir(os.path.dirname(self._path(job, task, seq)))

    def _path(self, job: JobState, task: str, seq: int) -> str:
        return log_path(self._layout, job, task, seq)
