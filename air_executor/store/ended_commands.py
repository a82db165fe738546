"""Notes for runs without a volume that their platform has seen their command end, whatever came of it.

Beside the command its carrier waits for it to begin. Where it ended before it could, only the platform knows: the
manager notes it in the run's directory, and the carrier, which asks, is told to leave.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable

from air_executor.errors import StoreError
from air_executor.model.names import Slot, parse_run_id
from air_executor.store import files
from air_executor.store.layout import Layout
from air_executor.store.run_logs import folder_of

log = logging.getLogger(__name__)

NAME = "command-ended"
"""In a run's directory."""


def noter_of(layout: Layout) -> Callable[[Slot, str, str], None]:
    """Return what notes that the command of a run has ended, given slot, run id and task id."""

    def note(slot: Slot, run: str, task: str) -> None:
        found = parse_run_id(run)
        if found is None or not task:
            return
        try:
            files.write_new(f"{folder_of(layout.run(slot.job, found[1], task))}/{NAME}", b"", sync=False)
        except FileExistsError:
            pass
        except StoreError as error:
            log.warning("job=%s task=%s run=%s its carrier is not told of its end: %s", slot.job, task, run, error)

    return note


def is_noted(folder: str) -> bool:
    """Tell whether the command of the run with this directory is known to have ended."""
    return os.path.lexists(f"{folder}/{NAME}")
