"""A Docker Engine of a test's own, to be stopped and killed: same program, other folders, another network namespace.

The engine that DOCKER_HOST names may have others' containers, which a restart would end.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import signal
import socket
import struct
import subprocess
import sys
import tempfile
from pathlib import Path

import docker
import pytest

from tests.conftest import wait_for

PATIENCE = 120.0
"""Seconds for an engine to start or to stop."""


class OwnEngine:
    """One engine, not running at first; root alone can have one."""

    def __init__(self, beside: str, *, live_restore: bool) -> None:
        """`beside` is the socket of the engine whose program is used."""
        if os.geteuid() != 0:
            pytest.skip("starting a Docker Engine takes root")
        with socket.socket(socket.AF_UNIX) as connection:
            connection.connect(beside)
            peer = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
        pid = struct.unpack("3i", peer)[0]
        try:
            self._program = os.readlink(f"/proc/{pid}/exe")
            environ = Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
        except OSError as error:
            pytest.skip(f"the engine's program is out of reach: {error}")
        if os.path.basename(self._program) != "dockerd":
            pytest.skip(f"behind the engine's socket is {self._program}, which cannot be started a second time")
        path = next(entry.partition(b"=")[2] for entry in environ if entry.startswith(b"PATH="))
        self._environ = {"PATH": os.fsdecode(path)}
        self._folder = tempfile.mkdtemp(prefix="air-engine-")  # a short path: sockets lie below it
        self._own = f"air-engine-{secrets.token_hex(4)}"  # not the folder's name, which may have two _ in a row
        self._network = _namespace()
        self._live_restore = live_restore
        self._process: subprocess.Popen[bytes] | None = None
        self.address = f"unix://{self._folder}/socket"

    def start(self) -> None:
        """Start it, and wait until it answers."""
        options = {"data-root": "data", "exec-root": "exec", "pidfile": "pid"}
        command = [
            *("nsenter", f"--net=/proc/self/fd/{self._network}", self._program, "--host", self.address),
            *(f"--{name}={self._folder}/{place}" for name, place in options.items()),
            # Where containerd is the machine's, others' containers are in it too.
            *(f"--containerd-namespace={self._own}", f"--containerd-plugins-namespace={self._own}-plugins"),
            f"--live-restore={str(self._live_restore).lower()}",
        ]
        with open(f"{self._folder}/log", "ab") as log:
            self._process = subprocess.Popen(
                command, env=self._environ, stdout=log, stderr=log, pass_fds=[self._network], start_new_session=True
            )
        wait_for(self._answers, timeout=PATIENCE, what="the engine to start")

    def stop(self, *, kill: bool = False) -> None:
        """Stop it, or kill it, and wait until it is gone."""
        assert self._process is not None
        self._process.send_signal(signal.SIGKILL if kill else signal.SIGTERM)
        self._process.wait(PATIENCE)
        self._process = None
        wait_for(lambda: not self._has_containerd(), PATIENCE, "the engine's containerd to go")

    def _has_containerd(self) -> bool:
        """Tell whether its own containerd, which dies with it, is still there.

        An engine that starts meanwhile would ask the dying one for its containers, and take them for ended.
        """
        try:
            pid = int(Path(self._folder, "exec/containerd/containerd.pid").read_text())
            return Path(f"/proc/{pid}/comm").read_text().strip() == "containerd"
        except (OSError, ValueError):  # none of its own, or gone
            return False

    def load(self, image: bytes) -> None:
        """Let it have an image."""
        with contextlib.closing(self.client()) as client:
            answer = list(client.load_image(image))  # type: ignore[no-untyped-call]
            assert client.images(), f"the engine did not take the image: {answer}"

    def client(self) -> docker.APIClient:
        """Return a client of it."""
        return docker.APIClient(self.address, version="auto", timeout=30)

    def _answers(self) -> bool:
        assert self._process is not None
        if self._process.poll() is not None:
            log = Path(self._folder, "log").read_text(errors="replace")
            pytest.fail(f"the engine did not start:\n{log[-2000:]}")
        with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(5)
            connection.connect(self.address.removeprefix("unix://"))
            connection.sendall(b"GET /_ping HTTP/1.0\r\n\r\n")
            return b" 200 " in connection.recv(64)
        return False

    def close(self) -> None:
        """Leave nothing behind: no container, process, mount or file. Its log goes where a failing test shows it."""
        sys.stdout.write(Path(self._folder, "log").read_text(errors="replace")[-5000:])
        if self._process is None:
            self.start()
        with contextlib.closing(self.client()) as client:
            for one in client.containers(all=True):
                client.remove_container(one["Id"], force=True)
        self.stop()
        os.close(self._network)
        mounts = [line.split()[1] for line in Path("/proc/self/mounts").read_text().splitlines()]
        for mount in sorted((one for one in mounts if one.startswith(self._folder + "/")), reverse=True):
            subprocess.run(["umount", mount], check=True)
        shutil.rmtree(self._folder)


def _namespace() -> int:
    """Return a descriptor that holds a new network namespace."""
    command = ["unshare", "--net", "sh", "-c", "echo; exec cat"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.read(1)
        found = os.open(f"/proc/{process.pid}/ns/net", os.O_RDONLY)
        assert process.stdin is not None
        process.stdin.close()
    return found
