"""A manager that is stopped as a process (SIGSTOP, a suspended machine), replaced, and continued."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from air_executor.client import Client
from air_executor.core.submission import parse_job
from tests.conftest import wait_for

Start = Callable[[], "subprocess.Popen[bytes]"]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Start managers of one state directory; none is left."""
    started = []

    def one() -> subprocess.Popen[bytes]:
        env = os.environ | {"AIR_HTTP_PORT": "0", "AIR_POLL_INTERVAL": "0.1s"}
        command = [sys.executable, "-m", "air_executor", "--state-dir", str(tmp_path / "state"), "manager"]
        process = subprocess.Popen(command, env=env, cwd=tmp_path, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        started.append(process)
        return process

    yield one
    for process in started:
        if process.poll() is None:
            process.kill()
        process.wait()


def test_continued_manager_leaves_with_5(tmp_path: Path, start: Start) -> None:
    """Paused, its lock removed, replaced, continued: it leaves with 5, and each task has begun exactly once."""
    client = Client(tmp_path / "state")
    marker = 'mkdir "$AIR_WORKSPACE/$AIR_TASK_ID" && while [ ! -e "$AIR_WORKSPACE/go" ]; do sleep 0.02; done'
    tasks = [{"id": name, "command": marker} for name in ("a", "b", "c")]
    client.submit(parse_job({"id": "j", "max_runners": 2, "tasks": tasks}))
    workspace = Path(client.layout.workspace("j"))
    old = start()
    wait_for(lambda: (workspace / "a").exists() and (workspace / "b").exists(), 120, "two tasks begin")
    old.send_signal(signal.SIGSTOP)
    os.unlink(client.layout.lock)
    new = start()
    wait_for(lambda: Path(client.layout.manager).read_text(encoding="utf-8").find(f'"pid": {new.pid},') > 0, 120)
    old.send_signal(signal.SIGCONT)
    client.ask("add", "j", tasks=[{"id": "d", "command": marker}])
    assert old.wait(120) == 5
    (workspace / "go").touch()
    state = client.wait("j", 120)
    assert {name: (t.phase, t.runs) for name, t in state.tasks.items()} == dict.fromkeys("abcd", ("succeeded", 1))
    new.terminate()
    assert new.wait(120) == 0
