"""A state directory to measure on, and a real manager as a process of its own beside it.

Every row uses it; it knows nothing of what is measured. It looks at files and at `/proc`, as any user could, so that
the manager under test does not know that it is watched.
"""

from __future__ import annotations

import json
import os
import shlex
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from importlib import resources
from types import TracebackType
from typing import Self

from air_executor.client import Client
from air_executor.core.submission import parse_job
from air_executor.model.state import JobState
from air_executor.runner import native
from air_executor.web.server_process import PROGRAM as SERVER

PATIENCE = 600.0
"""Seconds until a measurement that does not end is given up."""
LOOK = 0.02
"""Seconds between two looks at whether something has ended; each costs a few system calls."""
_HEAD = 512
_TICKS = os.sysconf("SC_CLK_TCK")
_PAGE = os.sysconf("SC_PAGE_SIZE")
ENDED = (b'"phase": "succeeded"', b'"phase": "failed"', b'"phase": "cancelled"')


class Place:
    """A folder with a state directory; its manager is gone when the `with` ends.

    The folder stays until the whole benchmark has ended: after a deletion ext4 looks for every new file at the inodes
    it has just freed, and for up to half a minute each creation in that corner of the volume takes 20 times as long.
    """

    def __init__(self, **settings: str) -> None:
        self.folder = tempfile.mkdtemp(prefix="air-bench-")
        self.client = Client(f"{self.folder}/.air-executor")
        self.layout = self.client.layout
        keep = {name: value for name, value in os.environ.items() if not name.startswith("AIR_")}
        self.env = {**keep, "AIR_STATE_DIR": self.layout.root, "AIR_HTTP_PORT": "0", **settings}
        self._manager: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    # The manager

    def start(self, *arguments: str) -> float:
        """Start a manager and wait until it has taken the directory; return how many seconds that took."""
        begun = time.monotonic()
        with open(f"{self.folder}/manager.log", "ab") as log:
            self._manager = subprocess.Popen(
                [sys.executable, "-m", "air_executor", "manager", *arguments],
                cwd=self.folder,
                env=self.env,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        while self._holder() != self._manager.pid:
            if self._manager.poll() is not None or time.monotonic() - begun > PATIENCE:
                msg = f"the manager did not start:\n{self.log()}"
                raise RuntimeError(msg)
            time.sleep(0.002)
        return time.monotonic() - begun

    def _holder(self) -> int | None:
        try:
            with open(self.layout.manager, encoding="utf-8") as file:
                return int(json.load(file)["pid"])
        except FileNotFoundError:
            return None

    def log(self) -> str:
        """Return what the manager has said so far."""
        with open(f"{self.folder}/manager.log", encoding="utf-8") as file:
            return file.read()[-4000:]

    @property
    def pid(self) -> int:
        """The manager's process id."""
        assert self._manager is not None  # noqa: S101 - rows start it first
        return self._manager.pid

    def cpu(self) -> float:
        """Return the seconds of CPU that the manager itself has used, without its runners."""
        with open(f"/proc/{self.pid}/stat", encoding="ascii") as file:
            words = file.read().rpartition(")")[2].split()
        return (int(words[11]) + int(words[12])) / _TICKS

    def cpu_exactly(self) -> float:
        """Return the same in nanoseconds' steps, for a manager that does next to nothing, with that of its server."""
        return cpu_of_process(self.pid) + self.cpu_of_server()

    def cpu_of_cycle(self) -> float:
        """Return the seconds of CPU that the manager's own thread has used."""
        return _cpu(f"/proc/{self.pid}/task/{self.pid}")

    def cpu_of_server(self) -> float:
        """Return the seconds of CPU that the process of the server has used; 0 before it has begun."""
        threads = set(os.listdir(f"/proc/{self.pid}/task")) - {str(self.pid)}  # the first one starts runners, which end
        for pid in (pid for thread in threads for pid in _read(f"/proc/{self.pid}/task/{thread}/children").split()):
            if SERVER.encode() in _read(f"/proc/{pid.decode()}/cmdline"):
                return cpu_of_process(int(pid))
        return 0.0

    def memory(self) -> int:
        """Return the manager's resident memory in bytes."""
        with open(f"/proc/{self.pid}/statm", encoding="ascii") as file:
            return int(file.read().split()[1]) * _PAGE

    def stop(self) -> None:
        """Stop the manager, if there is one, and wait until it has gone."""
        if self._manager is None:
            return
        self._manager.send_signal(signal.SIGTERM)
        try:
            self._manager.wait(30)
        except subprocess.TimeoutExpired:
            self._manager.kill()
            self._manager.wait()
        self._manager = None

    # Jobs

    def submit(self, name: str, tasks: Iterable[str | list[str] | dict[str, object]], **fields: object) -> JobState:
        """Submit a job whose tasks are given as commands, or as whole tasks."""
        whole = [task if isinstance(task, dict) else {"command": task} for task in tasks]
        return self.client.submit(parse_job({"id": name, "tasks": whole, **fields}))

    def wait(self, names: Iterable[str]) -> float:
        """Wait until the jobs' last checkpoints are on the volume; return when the last one was, in Unix seconds."""
        until = time.monotonic() + PATIENCE
        for name in names:
            while not self.has_ended(name):
                if time.monotonic() > until:
                    msg = f"job {name} does not end:\n{self.log()}"
                    raise RuntimeError(msg)
                time.sleep(LOOK)
        return max(os.stat(self.layout.state(name)).st_mtime for name in names)

    def has_ended(self, name: str) -> bool:
        """Tell whether the job's checkpoint on the volume says that it has ended."""
        # The phase comes early in the file, and parsing all of it would take time from what is measured.
        with open(self.layout.state(name), "rb") as file:
            return any(phase in file.read(_HEAD) for phase in ENDED)


def cpu_of_process(pid: int) -> float:
    """Return the seconds of CPU that the living threads of a process have used, in nanoseconds' steps."""
    return sum(_cpu(f"/proc/{pid}/task/{thread}") for thread in os.listdir(f"/proc/{pid}/task"))


def _cpu(thread: str) -> float:
    return int(_read(f"{thread}/schedstat").split()[0]) / 1e9


def _read(path: str) -> bytes:
    with open(path, "rb") as file:
        return file.read()


def runner_words(*, script: bool = False) -> str:
    """Return, as words of sh, the runner that the package under test starts here; `script`: the one in sh."""
    folder = resources.files("air_executor") / "runner"
    if not script and (machine := native.this_machine()) in native.builds():
        return shlex.quote(str(folder / str(machine) / native.NAME))
    return f"sh {shlex.quote(str(folder / 'air-runner'))}"


@contextmanager
def volume(folder: str | None) -> Iterator[str]:
    """Put all that is measured below a new folder there (None: where temporary files go), gone afterwards."""
    with tempfile.TemporaryDirectory(prefix="air-bench-", dir=folder, ignore_cleanup_errors=True) as root:
        tempfile.tempdir = root
        try:
            yield root
        finally:
            tempfile.tempdir = None


def install_runner(folder: str) -> None:
    """Write what a manager installs in `bin/`, for a side of a comparison that has none."""
    from air_executor.wiring import runner_files  # noqa: PLC0415 - imports much

    for name, content in runner_files().items():
        path = f"{folder}/{name}"
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "wb") as file:
            file.write(content)
        os.chmod(path, 0o755)  # noqa: S103 - tasks of another user execute it
