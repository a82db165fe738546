"""Opening the log of a run, which its task could have made anything: a link, a fifo, a folder."""

from __future__ import annotations

import os
import stat
from typing import TYPE_CHECKING, BinaryIO

if TYPE_CHECKING:
    from air_executor.client import Client
    from air_executor.core.state import JobState


def open_log(client: Client, job: JobState, task: str, seq: int) -> BinaryIO | None:
    """Return a run's log, opened for reading without a buffer, or None if there is none that is a regular file.

    Of an archived job too. Never follows a link and never waits for a writer.
    """
    path = os.fspath(client.log(job.id, task, seq))
    archived = f"{client.layout.archive}/{job.id}-{job.uid}"
    if os.path.isdir(archived):
        path = path.replace(client.layout.job(job.id), archived, 1)
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return None
    if not stat.S_ISREG(os.fstat(fd).st_mode):
        os.close(fd)
        return None
    return os.fdopen(fd, "rb", buffering=0)
