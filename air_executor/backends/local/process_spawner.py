"""Starts a runner as a process: in a session of its own, with default signals and no descriptor but the slot's.

Called by `local_backend` with the slot's lock held. The launcher starts what it can, for it is faster.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import signal
from collections.abc import Iterable, Mapping, Sequence

from air_executor.backends.base import Launch
from air_executor.backends.local import python_path, shell_environment, slot_file
from air_executor.backends.local.launcher import LauncherLostError, RunnerLauncher
from air_executor.backends.local.processes import LOCK_FD
from air_executor.backends.local.run_cgroup import RunCgroup
from air_executor.errors import BackendUnavailableError, SpawnRejectedError
from air_executor.model.names import Host
from air_executor.runner import native

GROUP_FD = LOCK_FD + 1
"""The descriptor under which a runner gets the folder of its run's cgroup."""
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
        self._launcher: RunnerLauncher | None = None
        self._reset: tuple[bytes | None] | None = None
        """The program that `shell_environment.find_env` returned, once it was asked."""
        null = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
        self._null = fcntl.fcntl(null, fcntl.F_DUPFD_CLOEXEC, _LOWEST_FD)
        os.close(null)

    def runner(self, launch: Launch) -> list[str]:
        """Return the words that start the runner: one of the native one, more of the script, which takes no cgroup."""
        return launch.runner(launch.bin_dir, self._machine)

    def start(self, launch: Launch, runner: list[str], fd: int, group: RunCgroup | None = None) -> int:
        """Start a run that inherits the locked descriptor of its slot's file; return the runner's pid.

        `runner`: what `runner` returned. `group`: the run's cgroup, if it has one.

        Raises:
            SpawnRejectedError: no process can get this command or environment.
            BackendUnavailableError: the system has no room for it now.
            LauncherLostError: unknown; it may or may not have been started.
        """
        workdir = launch.folder if launch.workdir is None else os.path.join(launch.folder, launch.workdir)
        arguments = launch.arguments(launch.out_dir, workdir, "local" if group is None else "cgroup")
        slot_file.write_header(fd, slot_file.SlotHeader(self._host, launch.run, launch.grace))
        try:
            words = [_utf8(word) for word in (*runner, *arguments)]
            variables = self._variables(launch, os.path.dirname(runner[-1]))
            inherited = [fd] if group is None else [fd, group.open()]
            try:
                if len(runner) > 1:
                    return self._spawn(self._shell, words, self._for_script(variables), inherited, _inheritable())
                pid = self._launch(runner[0], words, variables, inherited)
                return pid or self._spawn(runner[0], words, {**self._environ, **variables}, inherited)
            finally:
                for other in inherited[1:]:
                    os.close(other)
        except (OSError, ValueError) as error:  # ValueError: a NUL byte, a `=` in a name, text that cannot be encoded
            msg = f"run {launch.run}: cannot start {runner[-1]} with its command and environment: {error}"
            if isinstance(error, OSError) and error.errno in _TEMPORARY:
                raise BackendUnavailableError(msg) from error
            raise SpawnRejectedError(msg) from error

    def _launch(
        self, program: str, words: list[bytes], variables: Mapping[bytes, bytes], inherited: Sequence[int]
    ) -> int | None:
        """Let the launcher start it; return the runner's pid, or None if it was not started."""
        try:
            if self._launcher is None:
                self._launcher = RunnerLauncher(program, self._environ, self._null, _DEFAULT_SIGNALS)
            return self._launcher.start(words, variables, inherited)
        except OSError:  # there can be no launcher, or it has ended meanwhile
            self._drop_launcher()
            return None
        except LauncherLostError:
            self._drop_launcher()
            raise

    def _spawn(
        self,
        program: str,
        words: list[bytes],
        environ: Mapping[bytes, bytes],
        inherited: Sequence[int],
        closed: Iterable[int] = (),
    ) -> int:
        """Start it here. The native runner closes what else it inherits by itself, before anything else."""
        copies = [fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, _LOWEST_FD) for fd in inherited]
        try:
            return os.posix_spawn(
                program,
                words,
                environ,
                file_actions=(
                    *((os.POSIX_SPAWN_DUP2, fd, number) for number, fd in enumerate(copies, LOCK_FD)),
                    *((os.POSIX_SPAWN_DUP2, self._null, number) for number in range(3)),
                    *((os.POSIX_SPAWN_CLOSE, other) for other in closed),
                ),
                setsid=True,
                setsigmask=(),
                setsigdef=_DEFAULT_SIGNALS,
            )
        finally:
            for copy in copies:
                os.close(copy)

    def _variables(self, launch: Launch, helpers: str) -> dict[bytes, bytes]:
        """Return the variables that give the task its own environment: bytes, whatever the manager's locale.

        `helpers` is the folder of the programs that help a task.
        """
        given = {**launch.env, **launch.secrets}
        env = {
            _utf8(name): _utf8(value) if given.get(name) == value else os.fsencode(value)
            for name, value in launch.environment(launch.out_dir, launch.workspace).items()
        }
        folder = python_path.folder_for(launch.bin_dir)
        self._append(env, b"PYTHONPATH", folder)
        self._append(env, b"PATH", f"{folder}{helpers.removeprefix(launch.bin_dir)}")
        return env

    def _append(self, env: dict[bytes, bytes], name: bytes, folder: str) -> None:
        """Append a folder to a search path."""
        before = env.get(name, self._environ.get(name))
        env[name] = b"%b:%b" % (before, os.fsencode(folder)) if before else os.fsencode(folder)

    def _for_script(self, variables: Mapping[bytes, bytes]) -> dict[bytes, bytes]:
        """Return the environment of the runner that is a script."""
        if self._reset is None:
            self._reset = (shell_environment.find_env(),)
        return shell_environment.through_shell({**self._environ, **variables}, *self._reset)

    @property
    def launcher_pid(self) -> int:
        """The pid of the launcher, even if it has ended; 0: there is none."""
        return 0 if self._launcher is None else self._launcher.pid

    def _drop_launcher(self) -> None:
        if self._launcher is not None:
            self._launcher.close()
            self._launcher = None

    def close(self) -> None:
        """End the launcher and close our descriptors; idempotent."""
        self._drop_launcher()
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
