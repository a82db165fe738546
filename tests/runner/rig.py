"""Starts a runner as the local backend does, in a session of its own with the slot's lock as fd 9.

The contract is the same for every runner program: `runner` is the words that start it, `sh air-runner` or another one.
"""

from __future__ import annotations

import atexit
import contextlib
import fcntl
import functools
import json
import os
import shutil
import signal
import tempfile
import time
import uuid
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil
import pytest

import air_executor.errors
from air_executor.backends.local.shell_environment import find_env, through_shell
from air_executor.runner import native
from tests.lanes import missing

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

RUNNERS = Path(air_executor.errors.__file__).parent / "runner"
SCRIPT = str(RUNNERS / "air-runner")
NATIVE = str(RUNNERS / (native.this_machine() or "none") / "air-runner")
PATH = os.environ["PATH"]
RESET = find_env()


SANITIZE = bool(os.environ.get("AIR_TEST_SANITIZE"))
"""Whether all tests of the native runner use a sanitized build, as in `make sanitize`."""


def require_native() -> str:
    """Return the native runner of the package, or one that is built now; without a compiler, skip the test."""
    if native.this_machine() in native.builds() and not SANITIZE:
        return NATIVE
    return built(native.SANITIZED if SANITIZE else native.FLAGS)


def require_compiler() -> str:
    """Return a C compiler for the native runner; skip the test where there is none."""
    compiler = shutil.which("cc")
    if native.this_machine() is None or compiler is None:
        missing("there is no C compiler here, or no native runner for this machine; on Debian: apt-get install gcc")
    return compiler


@functools.cache
def built(flags: tuple[str, ...]) -> str:
    """Build the native runner with these flags, for this process; return its path."""
    program = f"{tempfile.mkdtemp(prefix='air-runner-')}/{native.NAME}"
    atexit.register(shutil.rmtree, os.path.dirname(program))
    native.compile_to(program, [require_compiler()], flags)
    return program


def _replacing(programs: Mapping[str, Path | None]) -> list[str]:
    """Return the words that start something in a mount namespace where other files lie at the programs' paths."""
    if os.geteuid() != 0 or shutil.which("unshare") is None:
        pytest.skip("only root can put another program in the place of a system's")
    mounts = [f"mount --bind {new or os.devnull} {os.path.realpath(path)}" for path, new in programs.items()]
    return ["unshare", "--mount", "--propagation", "private", "sh", "-c", " && ".join([*mounts, 'exec "$@"']), "sh"]


def until(condition: Callable[[], Any], seconds: float = 300.0) -> Any:  # noqa: ANN401 - whatever the condition gives
    """Return the first true value of `condition`, or fail when there is none in time."""
    end = time.monotonic() + seconds
    while not (value := condition()):
        assert time.monotonic() < end, "it did not happen in time"
        time.sleep(0.005)
    return value


class Runner:
    """One started runner."""

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self._status: int | None = None

    def status(self) -> int | None:
        """Return the exit status (negative: the signal that ended it), or None while it lives."""
        if self._status is None:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            self._status = os.waitstatus_to_exitcode(status) if pid else None
        return self._status

    def wait(self, seconds: float = 300.0) -> int:
        """Return the exit status once it has ended."""
        until(lambda: self.status() is not None, seconds)
        assert self._status is not None
        return self._status

    def send(self, number: signal.Signals) -> None:
        """Send a signal to the runner alone, which may have ended: until its status is taken, the pid is its own."""
        assert self._status is None, "the runner's status has been taken"
        os.kill(self.pid, number)


class Rig:
    """One run directory, one slot file, and as many runners as a test likes to start on them."""

    def __init__(self, folder: Path, shell: list[str], program: str = SCRIPT) -> None:
        self.shell = shell
        self.program = program
        self.folder = folder
        self.out = folder / "out"
        self.work = folder / "work"
        self.slot = folder / "runner.pid"
        self.stdin = folder / "stdin"
        self.stdout = folder / "stdout"
        self.stderr = folder / "stderr"
        self.marker = uuid.uuid4().hex
        self.runners: list[Runner] = []
        self.out.mkdir()
        self.work.mkdir()

    @property
    def is_native(self) -> bool:
        """Tell whether it is the native runner, which measures more and needs no program."""
        return not self.shell

    def start(
        self,
        *command: str,
        timeout: str = "-",
        grace: str = "100",
        mode: str = "local",
        env: Mapping[str, str] | None = None,
        out: str | None = None,
        workdir: str | None = None,
        locked: bool = True,
        replaced: Mapping[str, Path | None] | None = None,
    ) -> Runner:
        """Start a runner for `command`, with the slot locked if that mode has one.

        `replaced` programs are what it is told here for the runner and all that it starts; None: not executable.
        """
        runner = [self.program, out or str(self.out), workdir or str(self.work), timeout, grace, mode, *command]
        before = [] if replaced is None else _replacing(replaced)
        is_local = mode == "local"
        return self.start_program(
            *before, *self.shell, *runner, env=env, locked=locked and is_local, exact=not is_local
        )

    def start_program(
        self, *argv: str, env: Mapping[str, str] | None = None, locked: bool = True, exact: bool = False
    ) -> Runner:
        """Start any program in the place of a runner; `exact`: with this environment, though a shell may change it."""
        append = os.O_WRONLY | os.O_CREAT | os.O_APPEND
        actions: list[tuple[int, ...] | tuple[int, int, str, int, int]] = [
            (os.POSIX_SPAWN_OPEN, 0, str(self.stdin), os.O_RDONLY | os.O_CREAT, 0o644),
            (os.POSIX_SPAWN_OPEN, 1, str(self.stdout), append, 0o644),
            (os.POSIX_SPAWN_OPEN, 2, str(self.stderr), append, 0o644),
        ]
        fd = -1
        if locked:
            fd = os.open(self.slot, append | os.O_CLOEXEC, 0o644)
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            actions.append((os.POSIX_SPAWN_DUP2, fd, 9))
        program = shutil.which(argv[0])
        assert program is not None
        pid = os.posix_spawn(
            program,
            list(argv),
            self._environ(env or {}, exact=exact),
            file_actions=actions,
            setsid=True,
            setsigdef=[signal.SIGPIPE, signal.SIGINT],
        )
        if fd >= 0:
            os.close(fd)
        self.runners.append(Runner(pid))
        return self.runners[-1]

    def _environ(self, env: Mapping[str, str], *, exact: bool) -> dict[bytes, bytes]:
        given = {"PATH": PATH, **env, "AIR_RUN_ID": self.marker}
        encoded = {os.fsencode(name): os.fsencode(value) for name, value in given.items()}
        # What the local backend does for a runner that is a shell script.
        return through_shell(encoded, RESET) if self.shell and not exact else encoded

    def run(self, *command: str, **options: Any) -> int:  # noqa: ANN401 - as for start
        """Start a runner, wait for it, and return its exit status."""
        return self.start(*command, **options).wait()

    def script(self, text: str, **options: Any) -> int:  # noqa: ANN401 - as for start
        """Run a line of sh to its end."""
        return self.run("sh", "-c", text, **options)

    @property
    def log(self) -> bytes:
        """What the command has written."""
        return (self.out / "output.log").read_bytes()

    @property
    def local_outcome(self) -> str:
        """Name of the file that says how a local run ended."""
        return "claim" if self.is_native else "exit.json"

    @property
    def outcome(self) -> Path:
        """The file that says how the run ended, whatever its mode."""
        own = self.out / "exit.json"
        return own if own.exists() else self.out / self.local_outcome

    @property
    def has_outcome(self) -> bool:
        """Tell whether the outcome is there and complete."""
        return self.outcome.exists() and self.outcome.read_bytes().endswith(b"\n")

    @property
    def exit(self) -> dict[str, Any]:
        """The outcome; it must be one complete line."""
        text = self.outcome.read_text()
        assert text.endswith("}\n")
        assert text.count("\n") == 1
        value: dict[str, Any] = json.loads(text)
        return value

    def slot_is_free(self) -> bool:
        """Tell whether nothing holds the slot's lock."""
        with open(self.slot, "ab") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                return False
        return True

    def alive(self, *, runners: bool = True) -> list[psutil.Process]:
        """Return every process that carries this run's mark, also the runner's own parts unless told otherwise."""
        found = []
        for process in psutil.process_iter():
            with contextlib.suppress(psutil.Error, OSError):
                if process.environ().get("AIR_RUN_ID") != self.marker or process.status() == psutil.STATUS_ZOMBIE:
                    continue
                if runners or self.program not in process.cmdline():
                    found.append(process)
        return found

    def clean_up(self) -> None:
        """End what the test has left running."""
        for process in self.alive():
            with contextlib.suppress(psutil.Error):
                process.kill()
        for runner in self.runners:
            runner.wait()
