"""A manager that creates one Job, says so, and waits: `python -m tests.backends.spawn_kubernetes JSON`."""

from __future__ import annotations

import json
import signal
import sys

from air_executor.backends.base import Launch
from air_executor.backends.kubernetes import make_backend
from air_executor.model.names import Slot
from tests.backends.rig import kubernetes_settings

if __name__ == "__main__":
    settings, fields = json.loads(sys.argv[1])
    backend = make_backend(kubernetes_settings(*settings), "0")
    fields["slot"] = Slot(*fields["slot"])
    backend.spawn(Launch(**fields))
    sys.stdout.write("spawned\n")
    sys.stdout.flush()
    signal.pause()
