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
from air_executor.backends.local.processes import LOCK_FD
from air_executor.errors import BackendUnavailableError, SpawnRejectedError
from air_executor.model.names import Host

_LOWEST_FD = LOCK_FD + 1
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
        self._reset: tuple[bytes | None] | None = None
        """The program that `shell_environment.find_env` returned, once it was asked."""
        null = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
        self._null = fcntl.fcntl(null, fcntl.F_DUPFD_CLOEXEC, _LOWEST_FD)
        os.close(null)

    def start(self, launch: Launch, fd: int) -> int:
        """Start a run that inherits the locked descriptor of its slot's file; return the runner's pid.

        Raises:
            SpawnRejectedError: no process can get this command or environment.
            BackendUnavailableError: the system has no room for it now.
        """
        workdir = launch.project if launch.workdir is None else os.path.join(launch.project, launch.workdir)
        words = launch.command(launch.bin_dir, launch.out_dir, workdir, "local")
        slot_file.write_header(fd, slot_file.SlotHeader(self._host, launch.run, launch.grace))
        inherited = fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, _LOWEST_FD) if fd == LOCK_FD else fd
        try:
            return os.posix_spawn(
                self._shell,
                [_utf8(word) for word in words],
                self._environment(launch),
                file_actions=(
                    (os.POSIX_SPAWN_DUP2, inherited, LOCK_FD),
                    (os.POSIX_SPAWN_DUP2, self._null, 0),
                    (os.POSIX_SPAWN_DUP2, self._null, 1),
                    (os.POSIX_SPAWN_DUP2, self._null, 2),
                    *((os.POSIX_SPAWN_CLOSE, other) for other in _inheritable()),
                ),
                setsid=True,
                setsigmask=(),
                setsigdef=_DEFAULT_SIGNALS,
            )
        except (OSError, ValueError) as error:  # ValueError: a NUL byte, a `=` in a name, text that cannot be encoded
            msg = f"run {launch.run}: cannot start {self._shell} with its command and environment: {error}"
            if isinstance(error, OSError) and error.errno in _TEMPORARY:
                raise BackendUnavailableError(msg) from error
            raise SpawnRejectedError(msg) from error
        finally:
            if inherited != fd:
                os.close(inherited)

    def _environment(self, launch: Launch) -> dict[bytes, bytes]:
        """Return the environment of the shell that gives the task its own: bytes, whatever the manager's locale."""
        if self._reset is None:
            self._reset = (shell_environment.find_env(),)
        given = {**launch.env, **launch.secrets}
        env = dict(self._environ)
        for name, value in launch.environment(launch.out_dir, launch.workspace).items():
            env[_utf8(name)] = _utf8(value) if given.get(name) == value else os.fsencode(value)
        folder = os.fsencode(python_path.folder_for(launch.bin_dir))
        before = env.get(b"PYTHONPATH")
        env[b"PYTHONPATH"] = b"%b:%b" % (before, folder) if before else folder
        return shell_environment.through_shell(env, *self._reset)

    def close(self) -> None:
        """Close our descriptors; idempotent."""
        if self._null >= 0:
            os.close(self._null)
            self._null = -1


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
