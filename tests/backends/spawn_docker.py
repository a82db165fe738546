"""A manager that starts one container, says so, and waits: `python -m tests.backends.spawn_docker JSON`."""

from __future__ import annotations

import json
import signal
import sys

from air_executor.backends.base import Launch
from air_executor.backends.docker import make_backend
from air_executor.backends.docker.container_cache import Phase
from air_executor.model.names import Slot
from tests.backends.rig import docker_settings
from tests.conftest import wait_for

if __name__ == "__main__":
    settings, fields = json.loads(sys.argv[1])
    backend = make_backend(docker_settings(*settings), "0")
    slot = fields["slot"] = Slot(*fields["slot"])
    backend.spawn(Launch(**fields))
    cache = backend._cache
    wait_for(lambda: (one := cache.in_slot(slot)) is not None and one.phase is Phase.RUNNING, what="the start")
    sys.stdout.write("spawned\n")
    sys.stdout.flush()
    signal.pause()
