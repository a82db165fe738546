"""A manager that spawns one run, says so, and waits to be killed: `python -m tests.backends.spawn_once JSON`."""

from __future__ import annotations

import json
import os
import signal
import sys

from air_executor.backends.base import Launch
from air_executor.backends.local.local_backend import LocalBackend
from air_executor.backends.local.processes import choose
from air_executor.backends.local.psutil_processes import PsutilProcesses
from air_executor.model.names import Slot
from air_executor.store.layout import Layout
from tests.backends.rig import HOST

if __name__ == "__main__":
    root, portable, fields = json.loads(sys.argv[1])
    processes = PsutilProcesses() if portable else choose()
    backend = LocalBackend(Layout(root), HOST, environ=os.environ, processes=processes)
    fields["slot"] = Slot(*fields["slot"])
    backend.spawn(Launch(**fields))
    sys.stdout.write("spawned\n")
    sys.stdout.flush()
    signal.pause()
