"""The log of a run, which its task could have made anything: a link, a fifo, a folder.

Opened by whatever shows logs: the command line and the page.
"""

from __future__ import annotations

import os
import re
import stat
from typing import BinaryIO

from air_executor.errors import NotFoundError
from air_executor.model.quote import quoted
from air_executor.model.service import NAME_PATTERN
from air_executor.model.state import JobState
from air_executor.store import run_folder
from air_executor.store.layout import Layout

LOG = "output.log"
_SERVICE = re.compile(NAME_PATTERN)


def folder_of(run: str) -> str:
    """Return the folder of what a run leaves, given its directory: that one itself, or `out/` of earlier versions."""
    earlier = f"{run}/out"
    return earlier if os.path.isdir(earlier) else run


def log_name(service: str | None) -> str:
    """Return the name of the file with what a run printed, or what a service of its task did.

    Raises:
        NotFoundError: no service can have that name.
    """
    if service is None:
        return LOG
    if not _SERVICE.fullmatch(service):
        msg = f"there is no service {quoted(service)}"
        raise NotFoundError(msg)
    return f"service-{service}.log"


def log_path(layout: Layout, job: JobState, task: str, seq: int) -> str:
    """Return where a run's log is, of an archived job too. To read it, use `open_log`."""
    run = layout.run(job.id, seq, task)
    archived = f"{layout.archive}/{job.id}-{job.uid}"
    if os.path.isdir(archived):
        run = run.replace(layout.job(job.id), archived, 1)
    return f"{folder_of(run)}/{LOG}"


def open_log(layout: Layout, job: JobState, task: str, seq: int, service: str | None = None) -> BinaryIO | None:
    """Return a run's log, opened for reading without a buffer, or None if there is none that is a regular file.

    Of an archived job too; with `service`, the log of that one. Never follows a link and never waits for a writer.

    Raises:
        NotFoundError: no service can have that name.
    """
    name = log_name(service)
    folder = os.path.dirname(log_path(layout, job, task, seq))
    try:
        out = os.open(folder, run_folder.FLAGS)
    except OSError:
        return None
    try:
        fd = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=out)
    except OSError:
        return None
    finally:
        os.close(out)
    if not stat.S_ISREG(os.fstat(fd).st_mode):
        os.close(fd)
        return None
    return os.fdopen(fd, "rb", buffering=0)
