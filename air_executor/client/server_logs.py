"""The logs of runs behind a server, read in ranges: after an interruption the next range follows the last one."""

from __future__ import annotations

from typing import TYPE_CHECKING, BinaryIO, cast

from air_executor.client.server_file import ServerFile
from air_executor.errors import NotFoundError
from air_executor.store.log_times import LogTimes

if TYPE_CHECKING:
    from air_executor.client.connection import Connection
    from air_executor.model.state import JobState


class ServerLogs:
    """See `LogAccess`."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def open(self, job: JobState, task: str, seq: int, service: str | None = None) -> BinaryIO | None:
        """Return the log of a run or a service, opened for reading, or None if there is none."""
        asked = [("uid", job.uid), *([] if service is None else [("service", service)])]
        log = ServerFile(self._connection, _path(job, task, seq), asked)
        try:
            log.size()
        except NotFoundError:
            return None
        return cast("BinaryIO", log)

    def size(self, job: JobState, task: str, seq: int) -> int | None:  # noqa: ARG002 - as declared
        """Return None: only reading it tells."""
        return None

    def times(self, job: JobState, task: str, seq: int, log: BinaryIO) -> LogTimes:  # noqa: ARG002 - as declared
        """Return when the lines of a log were written."""
        found = self._connection.json(f"{_path(job, task, seq)}/times", [("uid", job.uid)])
        return LogTimes(list(found["sizes"]), list(found["times"]), float(found["modified"]))

    def is_removed(self, job: JobState, task: str, seq: int) -> bool:
        """Tell whether the files of a run that has ended are gone."""
        return any(one.seq == seq for one in job.tasks[task].attempts) and self.open(job, task, seq) is None


def _path(job: JobState, task: str, seq: int) -> str:
    return f"/jobs/{job.id}/tasks/{task}/attempts/{seq}/log"
