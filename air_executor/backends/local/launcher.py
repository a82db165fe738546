"""The manager's end of `air-launcher`, a child process that starts native runners as the manager's own children.

`os.posix_spawn` returns only once the new process has replaced its image, and the launcher before that; see
`runner/launcher.c`. It dies with the manager. Used by `process_spawner`; knows no slots and no runs.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import struct
from collections.abc import Mapping, Sequence

from air_executor.errors import BackendUnavailableError

NAME = "air-launcher"
"""The name under which the runner's program is the launcher."""
MOST_BYTES = 1 << 16
"""Maximum size of words and environment, half of what every Linux takes: for more, see what it says."""
_SOCKET_FD = 3
_HEAD = struct.Struct("=II")
_ANSWER = struct.Struct("=i")
_PATIENCE = struct.pack("@ll", 10, 0)
"""A `struct timeval`: how long a launcher may take to answer."""


class LauncherLostError(BackendUnavailableError):
    """The launcher has ended, or does not answer: nobody knows whether it has started a runner."""

    def __init__(self) -> None:
        super().__init__("the launcher of runners was lost during a start; the next start begins another one")


class RunnerLauncher:
    """One launcher process."""

    def __init__(self, program: str, environ: Mapping[bytes, bytes], null: int, signals: Sequence[int]) -> None:
        """Start it. Runners inherit its environment, `null` as descriptors 0 to 2, and the defaults of `signals`.

        Raises:
            OSError: it cannot be started.
        """
        self._room = MOST_BYTES - sum(len(name) + len(value) + 2 for name, value in environ.items())
        self._socket, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        try:
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, _PATIENCE)
            self.pid = os.posix_spawn(
                program,
                [NAME],
                environ,
                file_actions=(
                    (os.POSIX_SPAWN_DUP2, theirs.fileno(), _SOCKET_FD),
                    *((os.POSIX_SPAWN_DUP2, null, number) for number in range(_SOCKET_FD)),
                ),
                setsid=True,  # a Ctrl-C is the manager's
                setsigmask=(),
                setsigdef=signals,
            )
        except BaseException:
            self._socket.close()
            raise
        finally:
            theirs.close()

    def start(self, words: Sequence[bytes], variables: Mapping[bytes, bytes], fds: Sequence[int]) -> int | None:
        """Start a runner with these words, further variables, and descriptors from 9 on; return its pid.

        None: the launcher cannot start it; `os.posix_spawn` can, or tells why not.

        Raises:
            OSError: the launcher has ended, and has not started it.
            LauncherLostError: it may or may not have been started.
        """
        texts = [*map(b"=".join, variables.items()), *words, b""]
        data = b"\0".join(texts)
        is_plain = data.count(b"\0") < len(texts) and not any(b"=" in name for name in variables)
        if not is_plain or len(data) > self._room:
            return None
        socket.send_fds(self._socket, [_HEAD.pack(len(variables), len(words)), data], fds)
        try:
            answer = self._socket.recv(_ANSWER.size)
        except OSError as error:
            raise LauncherLostError from error
        if not answer:
            raise LauncherLostError
        (pid,) = _ANSWER.unpack(answer)
        return pid if pid > 0 else None

    def close(self) -> None:
        """End and reap it."""
        self._socket.close()
        with contextlib.suppress(ProcessLookupError, ChildProcessError):
            os.kill(self.pid, signal.SIGKILL)
            os.waitpid(self.pid, 0)
