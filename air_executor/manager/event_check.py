"""Checks whether a volume sends the events that wake a manager, by the means that it uses itself.

For `air-executor doctor` and the like.
"""

from __future__ import annotations

import os
import time

from air_executor.core.finding import FINE, WARN, Finding
from air_executor.manager.wakeups import Wakeups

EVENT_WITHIN = 2.0
"""Seconds that an event may take."""


def check_events(place: str) -> Finding:
    """Check whether a file that is renamed into a folder below `place` wakes a manager.

    Without events everything works, only later: at the next poll.

    Raises:
        OSError: the volume refused a file.
    """
    inbox, names = f"{place}/inbox", [f"{place}/staging", f"{place}/inbox/file"]
    os.mkdir(inbox)
    with open(names[0], "xb"):
        pass
    wakeups = Wakeups()
    try:
        wakeups.watch(inbox)
        until = time.monotonic() + EVENT_WITHIN
        while time.monotonic() < until:  # a watching thread does not say when it is ready, so the rename is repeated
            os.rename(*names)
            names.reverse()
            if wakeups.sleep(0.05):
                return Finding("events", FINE, "a rename is seen at once")
    finally:
        wakeups.close()
    remedy = "nothing to do: polling finds everything; a shorter AIR_POLL_INTERVAL finds it sooner"
    return Finding("events", WARN, "a rename is not seen", remedy)
