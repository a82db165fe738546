"""A scrape of a manager that works: counters of open runs are those of now, whatever its poll interval is."""

from __future__ import annotations

import re
import socket
import time
from pathlib import Path

from air_executor.metrics.definitions import PREFIX
from tests.conftest import wait_for
from tests.managers.rig import PATIENCE, Project
from tests.metrics.rig import get

BUSY = re.compile(rf'^{PREFIX}runner_seconds_total{{.*state="busy"}} (.*)$', re.MULTILINE)


def test_counters_of_open_runs_do_not_lag(tmp_path: Path) -> None:
    """Between two polls, which are a minute apart here, they still grow with the time."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    project = Project(tmp_path / "project")

    def busy() -> float:
        return sum(map(float, BUSY.findall(get(port, "/metrics").body)))

    try:
        manager = project.start("--poll-interval", "60s", AIR_HTTP_PORT=str(port))
        project.await_work(manager)
        project.submit({"id": "j", "tasks": [{"id": "a", "command": "sleep 60", "grace": 0}]})
        wait_for(lambda: busy() > 0, PATIENCE, "the run to be metered")
        before, since = busy(), time.monotonic()
        time.sleep(0.5)
        passed = time.monotonic() - since
        assert busy() - before >= passed - 0.05
        assert project.stop(manager) == 0
    finally:
        project.clear()
