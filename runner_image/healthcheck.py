#!/opt/air-executor/bin/python -I
"""Health check of the manager in this container: does it process a request without effect?

A live process is not enough: a manager that hangs, or whose volume hangs, processes no requests.
"""

from __future__ import annotations

import os
import sys
import time

from air_executor.errors import StoreError
from air_executor.model.records import Request
from air_executor.store import files
from air_executor.store.inbox import Inbox
from air_executor.store.layout import Layout

PATIENCE = 5.0
"""Timeout in seconds; without events, a manager polls once a second."""


def main(state_dir: str) -> None:
    """Exit with 0 if the manager of the state directory processes the request in time, else with 1 and the reason."""
    inbox = Inbox(Layout(state_dir))
    try:
        name = inbox.post(Request("wake", "healthcheck"), time.time())
        if inbox.wait(name, PATIENCE):
            return
        files.remove(f"{inbox.layout.inbox}/{name}")
    except StoreError as error:
        sys.exit(str(error))
    sys.exit(f"the manager has not processed a request for {PATIENCE:g} s")


if __name__ == "__main__":
    main(os.environ.get("AIR_STATE_DIR") or ".air-executor")
