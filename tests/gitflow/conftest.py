"""A project in a git repository."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.managers.rig import Project


class Repository(Project):
    """A project folder that is the work tree of a repository."""

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        if not (root / ".git").exists():
            self.git("init", "--quiet", "--initial-branch=main")

    def git(self, *words: str, check: bool = True) -> str:
        """Run git and return what it prints; unless `check`, it may fail."""
        environ = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
        identity = ["-c", "user.name=test", "-c", "user.email=test@example.org", "-c", "commit.gpgsign=false"]
        return subprocess.run(
            ["git", *identity, *words],
            cwd=self.root,
            env=environ | {"GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_SYSTEM": os.devnull},
            check=check,
            capture_output=True,
            text=True,
        ).stdout

    def commit(self) -> str:
        """Commit the states as they are and return the commit's id."""
        self.git("add", ".air-executor")
        self.git("commit", "--quiet", "--allow-empty", "-m", "states")
        return self.git("rev-parse", "HEAD").strip()

    def rewind(self, commit: str) -> None:
        """Check a commit out, whatever lies in the work tree."""
        self.git("checkout", "--quiet", "--force", commit)


@pytest.fixture
def new_project(tmp_path: Path, requires_tool: Callable[[str], str]) -> Iterator[Callable[[str], Repository]]:
    """Return a function that opens a repository by its folder's name; nothing of it runs on after the test."""
    requires_tool("git")
    opened: list[Repository] = []

    def open_(name: str) -> Repository:
        opened.append(Repository(tmp_path / name))
        return opened[-1]

    yield open_
    for one in opened:
        one.clear()


@pytest.fixture
def project(new_project: Callable[[str], Repository]) -> Repository:
    """Return a new repository."""
    return new_project("project")
