"""Who the manager's image becomes, and what it hands over to them, started with as few rights as the compose file gives."""

from __future__ import annotations

import socket
import stat
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.images.rig import HARDENED, NOBODY, as_root, docker, image

pytestmark = pytest.mark.timeout(600)

WHO = 'echo "$(id -u):$(id -g) $(id -G)"; grep -E "^Cap(Eff|Prm)" /proc/self/status'


class Folder:
    """A project folder whose files may be anybody's."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.path.mkdir()
        self.state = path / ".air-executor"

    def give(self, owner: str, path: Path | None = None) -> None:
        """Make a path, with all below it, somebody's."""
        as_root(self.path, "chown", "--recursive", "--no-dereference", owner, str(path or self.path))

    def make_state(self) -> None:
        """Make the state directory as the engine does: root's."""
        as_root(self.path, "install", "-d", "-o", "0", "-g", "0", str(self.state))

    def run(self, *words: str, state: str | None = None, options: tuple[str, ...] = (), fails: bool = False) -> str:
        """Start the manager's image on this folder."""
        volumes = ["-v", f"{self.path}:/project:ro"]
        volumes += ["-v", f"{state or self.state}:/project/.air-executor"]
        return docker("run", "--rm", *HARDENED, *volumes, *options, image("manager"), *words, fails=fails)

    def who(self, *options: str) -> str:
        """Return who a program in the image is: user, group, groups, capabilities."""
        return self.run("/bin/sh", "-c", WHO, options=options)

    def owner(self, path: Path) -> tuple[int, int]:
        """Return whose a path is; it may lie where we cannot look."""
        found = docker("run", "--rm", "-v", f"{self.path}:{self.path}", image("runner"), "stat", "-c", "%u %g", str(path)) \
            if False else ""
        raise NotImplementedError(found)
