"""Starts a runner as a process: in a session of its own, with default signals and no descriptor but the slot's.

Called by `local_backend` with the slot's lock held.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import signal
from collections.abc import Mapping

from air_executor.backends.base import Launch
from air_executor.backends.local import python_path, shell_environment, slot_file
from air_executor.backends.local.cgroups import RunnerAccess
from air_executor.backends.local.processes import LOCK_FD
from air_executor.errors import BackendUnavailableError, SpawnRejectedError
from air_executor.model.names import Host
from air_executor.runner import native

GROUP_FD = LOCK_FD + 1
"""The descriptor under which a runner gets its run's cgroup, or the folder in which it makes that."""
_LOWEST_FD = GROUP_FD + 1
_DESCRIPTORS = "/proc/self/fd" if os.path.isdir("/proc/self/fd") else "/dev/fd"
_TEMPORARY = {errno.EAGAIN, errno.ENOMEM, errno.EMFILE, errno.ENFILE, errno.EIO}
_DEFAULT_SIGNALS = sorted(signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP})


class ProcessSpawner:
    """Starts runners on this host. Tasks inherit `environ` without the manager's own settings and secrets."""

    def __init__(self, host: Host, shell: str, environ: Mapping[str, str], state_dir: str) -> None:
        self._host = host
        self._shell = shell
        self._environ = {
            os.fsencode(name): os.fsencode(value) for name, value in environ.items() if not name.startswith("AIR_")
        }
        self._environ[b"AIR_STATE_DIR"] = os.fsencode(state_dir)
        self._machine = native.this_machine()
        self._reset: tuple[bytes | None] | None = None
        """The program that `shell_environment.find_env` returned, once it was asked."""
        null = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
        self._null = fcntl.fcntl(null, fcntl.F_DUPFD_CLOEXEC, _LOWEST_FD)
        os.close(null)

    def runner(self, launch: Launch) -> list[str]:
        """Return the words that start the runner: one of the native one, more of the script, which takes no cgroup."""
        return launch.runner(launch.bin_dir, self._machine)

    def start(self, launch: Launch, runner: list[str], fd: int, access: RunnerAccess | None = None) -> int:
        """Start a run that inherits the locked descriptor of its slot's file; return the runner's pid.

        `runner`: what `runner` returned. `access`: to the run's cgroup, if it has one.

        Raises:
            SpawnRejectedError: no process can get this command or environment.
            BackendUnavailableError: the system has no room for it now.
        """
        workdir = launch.folder if launch.workdir is None else os.path.join(launch.folder, launch.workdir)
        is_script = len(runner) > 1
        words = [*runner, *launch.arguments(launch.out_dir, workdir, _mode(access))]
        program = self._shell if is_script else runner[0]
        slot_file.write_header(fd, slot_file.SlotHeader(self._host, launch.run, launch.grace))
        inherited = _duplicates(launch.run, fd, access)
        try:
            return os.posix_spawn(
                program,
                [_utf8(word) for word in words],
                self._environment(launch, os.path.dirname(runner[-1]), is_script=is_script),
                file_actions=(
                    *((os.POSIX_SPAWN_DUP2, fd, number) for number, fd in inherited.items()),
                    (os.POSIX_SPAWN_DUP2, self._null, 0),
                    (os.POSIX_SPAWN_DUP2, self._null, 1),
                    (os.POSIX_SPAWN_DUP2, self._null, 2),
                    # The native runner closes them by itself, before anything else.
                    *((os.POSIX_SPAWN_CLOSE, other) for other in (_inheritable() if is_script else ())),
                ),
                setsid=True,
                setsigmask=(),
                setsigdef=_DEFAULT_SIGNALS,
            )
        except (OSError, ValueError) as error:  # ValueError: a NUL byte, a `=` in a name, text that cannot be encoded
            msg = f"run {launch.run}: cannot start {program} with its command and environment: {error}"
            if isinstance(error, OSError) and error.errno in _TEMPORARY:
                raise BackendUnavailableError(msg) from error
            raise SpawnRejectedError(msg) from error
        finally:
            for copy in inherited.values():
                os.close(copy)

    def _environment(self, launch: Launch, helpers: str, *, is_script: bool) -> dict[bytes, bytes]:
        """Return the environment that gives the task its own: bytes, whatever the manager's locale.

        `helpers` is the folder of the programs that help a task.
        """
        given = {**launch.env, **launch.secrets}
        env = dict(self._environ)
        for name, value in launch.environment(launch.out_dir, launch.workspace).items():
            env[_utf8(name)] = _utf8(value) if given.get(name) == value else os.fsencode(value)
        folder = python_path.folder_for(launch.bin_dir)
        _append(env, b"PYTHONPATH", folder)
        _append(env, b"PATH", f"{folder}{helpers.removeprefix(launch.bin_dir)}")
        if not is_script:
            return env
        if self._reset is None:
            self._reset = (shell_environment.find_env(),)
        return shell_environment.through_shell(env, *self._reset)

    def close(self) -> None:
        """Close our descriptors; idempotent."""
        if self._null >= 0:
            os.close(self._null)
            self._null = -1


def _mode(access: RunnerAccess | None) -> str:
    """Return the mode of the runner, see `air-runner.c`."""
    if access is None:
        return "local"
    return "cgroup" if access.folder_fd is None else "new-cgroup"


def _duplicates(run: str, fd: int, access: RunnerAccess | None) -> dict[int, int]:
    """Return copies of what a runner inherits, by the descriptor under which it does.

    Raises:
        BackendUnavailableError: there are no descriptors left, or the run's cgroup was removed.
    """
    copies: dict[int, int] = {}
    try:
        copies[LOCK_FD] = fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, _LOWEST_FD)
        if access is not None:
            copies[GROUP_FD] = (
                access.group.open(_LOWEST_FD)
                if access.folder_fd is None
                else fcntl.fcntl(access.folder_fd, fcntl.F_DUPFD_CLOEXEC, _LOWEST_FD)
            )
    except OSError as error:
        for copy in copies.values():
            os.close(copy)
        msg = f"run {run}: cannot open what its runner inherits: {error.strerror}"
        raise BackendUnavailableError(msg) from error
    return copies


def _append(env: dict[bytes, bytes], name: bytes, folder: str) -> None:
    """Append a folder to a search path."""
    before = env.get(name)
    env[name] = b"%b:%b" % (before, os.fsencode(folder)) if before else os.fsencode(folder)


def _inheritable() -> list[int]:
    """Return the descriptors that a process started now would inherit: a lock of cron's, a pipe of make's."""
    try:
        open_now = [int(name) for name in os.listdir(_DESCRIPTORS)]
    except OSError:
        return []
    found = []
    for fd in open_now:
        with contextlib.suppress(OSError):  # the one that listed them is closed by now
            if fd not in {0, 1, 2, LOCK_FD} and os.get_inheritable(fd):
                found.append(fd)
    return found


def _utf8(text: str) -> bytes:
    """Return the bytes of a word from a job file, in which undecodable bytes stand as lone surrogates."""
    return text.encode("utf-8", "surrogateescape")
