"""The way to an engine that `DOCKER_HOST=ssh://…` names: a socket here that `ssh` forwards to the engine's there.

The SDK's own way has no time limits and no streams that can be closed; a forwarded socket is one like any other. Host
names, keys and users are those of the `ssh` command and its configuration. Used by `engine` alone.
"""

from __future__ import annotations

import contextlib
import os
import select
import shutil
import subprocess
import tempfile
import threading
import time
from urllib.parse import urlsplit

from air_executor.errors import BackendUnavailableError

SCHEME = "ssh://"
SOCKET = "/var/run/docker.sock"
"""Of the engine, where the address has no path."""
WAIT = "exec sh -c 'cat; kill $PPID'"
"""What runs there: it ends with our end of its input, and takes the connection along, for `ssh` would otherwise wait
for what is still forwarded."""
CONNECT_WITHIN = 15.0
"""Seconds until the engine's machine must have taken us in."""
TRY_AGAIN = 2.0
"""Seconds after a failure in which it is not tried again."""
_OPTIONS = (
    "BatchMode=yes",  # nobody is there to ask
    "ConnectTimeout=10",
    "ControlPath=none",  # a shared connection may end with somebody else
    "ExitOnForwardFailure=yes",
    "ServerAliveCountMax=3",
    "ServerAliveInterval=10",
    "StreamLocalBindUnlink=yes",
)


class SshTunnel:
    """One forwarded socket; the `ssh` that forwards it is started again when it has ended."""

    def __init__(self, host: str) -> None:
        """`host`: what `DOCKER_HOST` says, `ssh://[user@]host[:port][/path]`; the path is that of its socket."""
        self._host = urlsplit(host)
        self._folder = tempfile.mkdtemp(prefix="air-ssh-")
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._failed_at, self._problem = float("-inf"), ""
        self.address = f"unix://{self._folder}/engine"
        """For the SDK."""

    def ensure(self) -> None:
        """Make sure that the socket leads to the engine's machine.

        Raises:
            BackendUnavailableError: `ssh` cannot reach it, or is not installed.
        """
        with self._lock:
            if self._process is not None and self._process.poll() is None:
                return
            if time.monotonic() - self._failed_at > TRY_AGAIN:
                self._problem = self._start()
            if self._problem:
                self._failed_at = time.monotonic()
                msg = f"the machine of the Docker engine cannot be reached by ssh: {self._problem}"
                raise BackendUnavailableError(msg)

    def _start(self) -> str:
        """Start `ssh`, and return what went wrong."""
        target = f"{self._host.username}@{self._host.hostname}" if self._host.username else str(self._host.hostname)
        options = [word for option in _OPTIONS for word in ("-o", option)]
        port = [] if self._host.port is None else ["-p", str(self._host.port)]
        forward = f"{self._folder}/engine:{self._host.path if len(self._host.path) > 1 else SOCKET}"
        words = ["ssh", "-T", *options, *port, "-L", forward, "--", target, WAIT]
        with open(f"{self._folder}/errors", "w+b") as errors:
            try:
                process = subprocess.Popen(
                    words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors, start_new_session=True
                )
            except OSError as error:
                return f"the command ssh cannot be started: {error.strerror}"
            if _is_ready(process):
                self._process = process
                return ""
            process.kill()
            process.communicate()
            errors.seek(0)
            said = errors.read().decode(errors="replace").strip().splitlines()
        return said[-1] if said else "no answer"

    def close(self) -> None:
        """End `ssh`, and leave no file."""
        with self._lock:
            if self._process is not None:
                self._process.kill()
                self._process.communicate()
            shutil.rmtree(self._folder, ignore_errors=True)


def _is_ready(process: subprocess.Popen[bytes]) -> bool:
    """Wait until the `cat` at the other end has answered."""
    source, sink = process.stdout, process.stdin
    if source is None or sink is None:
        return False
    with contextlib.suppress(BrokenPipeError):
        sink.write(b"\n")
        sink.flush()
    return bool(select.select([source], [], [], CONNECT_WITHIN)[0] and source.readline())


def from_environment() -> SshTunnel | None:
    """Return the tunnel that `DOCKER_HOST` asks for; None: the engine is reached otherwise."""
    host = os.environ.get("DOCKER_HOST", "")
    return SshTunnel(host) if host.startswith(SCHEME) else None
