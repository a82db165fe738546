"""Starts a runner as a process: in a session of its own, with default signals and no descriptor but the slot's.

Called by `local_backend` with the slot's lock held.
"""

from __future__ import annotations

import errno
import fcntl
import os
import signal
from collections.abc import Mapping

from air_executor.backends.base import Launch, append_path
from air_executor.backends.local import slot_file
from air_executor.backends.local.processes import LOCK_FD
from air_executor.errors import BackendUnavailableError, SpawnRejectedError
from air_executor.model.names import Host

_LOWEST_FD = LOCK_FD + 1
_TEMPORARY = {errno.EAGAIN, errno.ENOMEM, errno.EMFILE, errno.ENFILE, errno.EIO}
_DEFAULT_SIGNALS = sorted(signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP})


class ProcessSpawner:
    """Starts runners on this host. Tasks inherit `environ` without the manager's own settings and secrets."""

    def __init__(self, host: Host, shell: str, environ: Mapping[str, str]) -> None:
        self._host = host
        self._shell = shell
        self._environ = {name: value for name, value in environ.items() if not name.startswith("AIR_")}
        null = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
        self._null = fcntl.fcntl(null, fcntl.F_DUPFD_CLOEXEC, _LOWEST_FD)
        os.close(null)

    def start(self, launch: Launch, fd: int) -> int:
        """Start a run that inherits the locked descriptor of its slot's file; return the runner's pid.

        Raises:
            SpawnRejectedError: no process can get this command or environment.
            BackendUnavailableError: the system has no room for it now.
        """
        env = {**self._environ, **launch.environment(launch.out_dir, launch.workspace)}
        env["PYTHONPATH"] = append_path(env.get("PYTHONPATH"), launch.bin_dir)
        workdir = launch.project if launch.workdir is None else os.path.join(launch.project, launch.workdir)
        command = launch.command(launch.bin_dir, launch.out_dir, workdir, "local")
        slot_file.write_header(fd, slot_file.SlotHeader(self._host, launch.run, launch.grace))
        inherited = fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, _LOWEST_FD) if fd == LOCK_FD else fd
        try:
            return os.posix_spawn(
                self._shell,
                command,
                env,
                file_actions=(
                    (os.POSIX_SPAWN_DUP2, inherited, LOCK_FD),
                    (os.POSIX_SPAWN_DUP2, self._null, 0),
                    (os.POSIX_SPAWN_DUP2, self._null, 1),
                    (os.POSIX_SPAWN_DUP2, self._null, 2),
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

    def close(self) -> None:
        """Close our descriptors; idempotent."""
        if self._null >= 0:
            os.close(self._null)
            self._null = -1
