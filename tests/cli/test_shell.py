"""`shell`: a shell or a command beside a running task, with what the task has."""

from __future__ import annotations

import fcntl
import os
import pty
import signal
import struct
import subprocess
import sys
import termios
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from air_executor.client import Client
from air_executor.core.submission import parse_job
from tests.cli.conftest import SOON, Outcome, eventually

Air = Callable[..., Outcome]
Call = Callable[..., Outcome]
Start = Callable[..., "subprocess.Popen[str]"]

GATED = "touch begun; until [ -e go ]; do sleep 0.05; done"


@pytest.fixture
def manager(start: Start) -> Iterator[None]:
    """A running manager."""
    process = start("manager", stderr=subprocess.DEVNULL)
    yield
    process.send_signal(signal.SIGTERM)
    assert process.wait(timeout=SOON) == 0


def begin(client: Client, job: str, *tasks: str, **fields: object) -> Path:
    """Submit a job of tasks that wait for a file `go`, see that they run, and return the folder of the first."""
    listed = [{"id": task, "command": f"{GATED}; : {task}", "workdir": f"here-{task}", **fields} for task in tasks]
    folders = [Path(client.layout.root).parent / f"here-{task}" for task in tasks]
    for folder in folders:
        folder.mkdir()
    client.submit(parse_job({"id": job, "tasks": listed, "max_runners": len(tasks)}))

    def running() -> bool:
        known = client.status(job).tasks.values()
        return all(task.phase == "running" for task in known) and all((folder / "begun").exists() for folder in folders)

    eventually(running, "all tasks run")
    return folders[0]


def typed(words: list[str], *lines: str) -> tuple[int, str]:
    """Run the program at a terminal of 33 lines, type these lines, and return its exit code and what was shown."""
    outer, inner = pty.openpty()
    fcntl.ioctl(inner, termios.TIOCSWINSZ, struct.pack("HHHH", 33, 99, 0, 0))
    process = subprocess.Popen(
        [sys.executable, "-m", "air_executor", *words], stdin=inner, stdout=inner, stderr=inner, start_new_session=True
    )
    os.close(inner)
    os.write(outer, "".join(f"{line}\n" for line in lines).encode())
    shown = b""
    while True:
        try:
            data = os.read(outer, 65536)
        except OSError:  # the other side is closed
            break
        if not data:
            break
        shown += data
    os.close(outer)
    return process.wait(timeout=SOON), shown.decode(errors="replace")


def test_a_command_has_what_the_task_has(manager: None, client: Client, call: Call) -> None:
    """Variables, folder and helpers; what it queues is the task's, and its exit code is ours."""
    here = begin(client, "job", "one", env={"COLOR": "green"})
    done = call("shell", "job", "--", "sh", "-c", 'echo "$AIR_TASK_ID $AIR_RUN_ID $COLOR"; pwd; echo oh >&2; exit 7')
    uid = client.status("job").uid
    assert done == Outcome(7, f"one {uid}-1 green\n{here}\n", "oh\n")
    assert call("shell", "job", "one", "--", "air-queue", "--id", "two", "--", "true").code == 0
    (here / "go").touch()
    assert client.wait("job", SOON).phase == "succeeded"
    assert list(client.status("job").tasks) == ["one", "two"]


def test_a_shell_at_a_terminal(manager: None, client: Client) -> None:
    """What is typed is done, and the exit code is that of the shell."""
    here = begin(client, "job", "one")
    code, shown = typed(["shell", "job"], "echo $AIR_TASK_ID-is-here; stty size", "exit 5")
    assert code == 5, shown
    assert "one-is-here" in shown
    assert "33 99" in shown
    (here / "go").touch()
    assert client.wait("job", SOON).phase == "succeeded"


def test_what_cannot_be_opened(manager: None, client: Client, air: Air, call: Call) -> None:
    """Each has a line that says what to do."""
    folder = begin(client, "job", "one", "two").parent
    done = air("shell", "job", "--", "true")
    assert (done.code, done.err) == (2, "error: job job has 2 running tasks, name one: one, two\n")
    assert "a shell needs a terminal" in air("shell", "job", "one").err
    assert "a command follows `--`" in air("shell", "job", "one", "ls").err
    assert "no-such-program: No such file" in call("shell", "job", "one", "--", "no-such-program").err
    for task in ("one", "two"):
        (folder / f"here-{task}" / "go").touch()
    client.wait("job", SOON)
    assert (air("shell", "job", "--", "true").code, air("shell", "job", "one", "--", "true").code) == (3, 3)
    assert "task one of job job is not running (succeeded)" in air("shell", "job", "one", "--", "true").err
