"""Keeps what the services of a task printed beside the log of its run, once the run has ended.

Called by the container backends' threads before they remove a service. The task may have made anything of its run's
folder, so nothing there is followed, and what is in the way stays.
"""

from __future__ import annotations

import contextlib
import logging
import os
from collections.abc import Callable

from air_executor.model.names import Slot, parse_run_id
from air_executor.store import files, run_folder
from air_executor.store.layout import Layout
from air_executor.store.run_logs import folder_of, log_name

log = logging.getLogger(__name__)


def keeper_of(layout: Layout) -> Callable[[Slot, str, str, str, bytes], None]:
    """Return what keeps the logs of services in a state directory."""

    def keep(slot: Slot, run: str, task: str, service: str, text: bytes) -> None:
        found = parse_run_id(run)
        if found is None or not task:
            return
        try:
            _keep(folder_of(layout.run(slot.job, found[1], task)), log_name(service), text)
        except OSError as error:
            log.warning("job=%s task=%s run=%s no log of service %s: %s", slot.job, task, run, service, error.strerror)

    return keep


def _keep(folder: str, name: str, text: bytes) -> None:
    """Write a log in place of an earlier one of that name. Raises OSError."""
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    out = os.open(folder, run_folder.FLAGS)
    try:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(name, dir_fd=out)
        fd = os.open(name, flags, 0o644, dir_fd=out)
        try:
            files.write_all(fd, text)
        finally:
            os.close(fd)
    finally:
        os.close(out)
