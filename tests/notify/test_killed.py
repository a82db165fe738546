"""Real managers that are killed at random instants while jobs fail: every failure is told, each with one key."""

from __future__ import annotations

import os
import random
import signal
import time
from pathlib import Path

from air_executor.client import Client
from air_executor.core.submission import parse_job
from tests.conftest import wait_for
from tests.crash import processes
from tests.forked import Program
from tests.notify.receivers import Webhook

JOBS = 15


def test_every_failure_is_told(tmp_path: Path, ops: Webhook) -> None:
    """At least once; the target is down for a while, too."""
    client = Client(tmp_path / ".air-executor")
    for number in range(JOBS):
        tasks = [{"id": "work", "command": "exit 3"}]
        client.submit(parse_job({"id": f"j{number}", "notify": [{"on": "failure", "to": "ops"}], "tasks": tasks}))
    chance = random.Random(5)
    environment = {**os.environ, "AIR_HTTP_PORT": "0", "AIR_MAX_RUNNERS": "2"}
    words, log = ["--state-dir", client.layout.root, "manager"], str(tmp_path / "manager.log")

    def start() -> Program:
        return Program(words, cwd=tmp_path, env=environment, stdout=log, stderr=log)

    def told() -> bool:
        return {body["job"] for body in ops.got} == {f"j{number}" for number in range(JOBS)} and not any(
            client.status(f"j{number}").notices for number in range(JOBS)
        )

    try:
        for life in range(8):
            ops.status = 500 if life in (2, 3) else 200
            manager = start()
            time.sleep(chance.uniform(0.4, 1.2))
            manager.send_signal(signal.SIGKILL)
            manager.wait()
        manager = start()
        wait_for(told, 60, "every failure to be told")
        manager.terminate()
        manager.wait(30)
    finally:
        processes.clear(str(tmp_path))
    keys = {body["key"] for body in ops.got}
    assert len(keys) == JOBS
