"""An engine on another machine, reached by ssh: a real sshd on loopback, with a key, in front of the engine."""

from __future__ import annotations

import contextlib
import getpass
import os
import shutil
import signal
import socket
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.conftest import wait_for
from tests.docker.test_remote_engine import PATIENCE, Site
from tests.engine import require_engine
from tests.lanes import missing

pytestmark = [pytest.mark.docker, pytest.mark.timeout(300)]


@dataclass(frozen=True)
class Sshd:
    """A server, and what the `ssh` command must be told to come in."""

    address: str
    certificates: Path
    bin: Path
    """Has an `ssh` that knows server and key."""
    process: subprocess.Popen[bytes]


@pytest.fixture
def sshd(tmp_path: Path) -> Iterator[Sshd]:
    """Start a server for the user of the test, who may come in with one key alone."""
    require_engine()
    program = shutil.which("sshd", path=f"{os.environ['PATH']}:/usr/sbin")
    client = shutil.which("ssh")
    if program is None or client is None:
        missing("sshd is not installed; on Debian: apt-get install openssh-server openssh-client")
    folder = tmp_path / "ssh"
    (folder / "bin").mkdir(parents=True)
    for name in ("host", "user"):
        words = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(folder / name)]
        subprocess.run(words, check=True, capture_output=True)
    with socket.create_server(("127.0.0.1", 0)) as unused:
        port = unused.getsockname()[1]
    key = (folder / "host.pub").read_text(encoding="ascii")
    (folder / "known").write_text(f"[127.0.0.1]:{port} {key}", encoding="ascii")
    (folder / "config").write_text(f"IdentityFile {folder}/user\nUserKnownHostsFile {folder}/known\n", encoding="ascii")
    wrapper = folder / "bin" / "ssh"
    wrapper.write_text(f'#!/bin/sh\nexec {client} -F {folder}/config "$@"\n', encoding="ascii")
    wrapper.chmod(0o755)
    if os.geteuid() == 0:
        Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)
    options = [f"HostKey={folder}/host", f"AuthorizedKeysFile={folder}/user.pub", "StrictModes=no", "UsePAM=no"]
    options += [f"Port={port}", "ListenAddress=127.0.0.1", "PidFile=none"]
    words = [program, "-D", "-e", "-f", "/dev/null", *(word for option in options for word in ("-o", option))]
    with open(folder / "log", "wb") as log:
        process = subprocess.Popen(words, stderr=log)

    def answers() -> bool:
        assert process.poll() is None, (folder / "log").read_text()
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", port)) == 0

    wait_for(answers, PATIENCE, "sshd to listen")
    path = os.environ["DOCKER_HOST"].removeprefix("unix://")
    yield Sshd(f"ssh://{getpass.getuser()}@127.0.0.1:{port}{path}", folder, folder / "bin", process)
    process.terminate()
    process.wait(PATIENCE)


@pytest.fixture
def site(tmp_path: Path, sshd: Sshd) -> Iterator[Site]:
    """A site without a manager yet; nothing of it is left."""
    (tmp_path / "project").mkdir()
    made = Site(tmp_path / "project", sshd)
    made.env["PATH"] = f"{sshd.bin}:{made.env['PATH']}"
    yield made
    made.close()


def tunnels(manager: int) -> list[int]:
    """Return the processes of `ssh` that a manager has."""
    found: list[int] = []
    for thread in Path(f"/proc/{manager}/task").glob("*/children"):
        with contextlib.suppress(OSError):  # the thread, or a child of it, has ended
            children = thread.read_text(encoding="ascii").split()
            found += [int(pid) for pid in children if b"engine:" in Path(f"/proc/{pid}/cmdline").read_bytes()]
    return found


def is_alive(pid: int) -> bool:
    """Tell whether a process has not ended: one that init has not collected yet has no command line any more."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes() != b""
    except OSError:
        return False


def test_an_engine_behind_ssh(site: Site) -> None:
    """A run comes and goes; an ssh that dies meanwhile is started again, and none outlives its manager."""
    site.start()
    site.submit("job", {"id": "it", "command": "echo begun; while [ ! -e go ]; do sleep 0.2; done; echo over"})
    wait_for(lambda: "begun" in site.log("job"), PATIENCE, "its output")
    assert site.manager is not None
    [tunnel] = tunnels(site.manager.pid)
    os.kill(tunnel, signal.SIGKILL)
    manager = site.manager.pid
    wait_for(lambda: [pid for pid in tunnels(manager) if pid != tunnel], PATIENCE, "ssh to be started again")
    site.execute("job", "touch", "go")
    assert site.ended("job") == {"it": "ok"}
    assert site.log("job") == "begun\nover\n"
    site.nothing_stays()
    [tunnel] = tunnels(manager)
    site.kill()
    wait_for(lambda: not is_alive(tunnel), PATIENCE, "ssh to end")


def test_a_machine_that_does_not_let_us_in(site: Site, sshd: Sshd) -> None:
    """The manager says what ssh says, in one line, and goes on trying."""
    (sshd.certificates / "user.pub").rename(sshd.certificates / "away")
    site.start()
    log = site.root / "manager.log"
    words = "the machine of the Docker engine cannot be reached by ssh: "
    wait_for(lambda: words in log.read_text(), PATIENCE, "the manager to say so")
    [line, *_] = [line for line in log.read_text().splitlines() if words in line]
    assert "Permission denied (publickey" in line
    (sshd.certificates / "away").rename(sshd.certificates / "user.pub")
    site.submit("job", {"id": "it", "command": "true"})
    assert site.ended("job") == {"it": "ok"}
