"""The steps of the readme that run tasks in containers work as written, in order, and again.

The census is one of a few packages, in as many containers; tests/examples has one of the whole standard library.
"""

from __future__ import annotations

import shutil
import uuid
from pathlib import Path

import pytest

from tests.docs.pages import blocks
from tests.docs.terminal import Terminal
from tests.engine import PYTHON_IMAGE
from tests.examples.small_census import shrink
from tests.images.rig import TREE, Clone, docker, require_client

pytestmark = [pytest.mark.docker, pytest.mark.timeout(900)]


def lines_with(part: str) -> list[str]:
    """Return the lines of the readme's block with this text; what they use is installed here."""
    found = next(block.text for block in blocks("sh") if block.page == "README.md" and part in block.text)
    return [line for line in found.splitlines() if not line.startswith("pip ")]


def test_with_an_engine(tmp_path: Path) -> None:
    """A command and a job file, each task in a container; again, they are the next run and a replaced job."""
    require_client()
    project = tmp_path / "project"
    shutil.copytree(TREE / "examples", project / "examples")
    shrink(project)
    prefix = f"t{uuid.uuid4().hex[:8]}"
    (project / "air-executor.toml").write_text(f'name_prefix = "{prefix}"\nrunner_image = "{PYTHON_IMAGE}"\n')
    terminal = Terminal(project)
    for number in (1, 2):
        greeting, census = (terminal.type(line) for line in lines_with("--name greet"))
        assert "hello from a container" in greeting
        assert f"greet-{number} succeeded" in greeting
        assert "| total " in census
    assert docker("ps", "--all", "--quiet", "--filter", f"name=^{prefix}-") == ""


def test_with_compose(clone: Clone) -> None:
    """A manager in a container, and a job that is submitted and waited for in another; again, it replaces the first."""
    shrink(clone.folder)
    terminal = Terminal(clone.folder)
    for _ in range(2):
        _, submitted, waited, token = (terminal.type(line) for line in lines_with("cli submit"))
        assert "census" in submitted.split()
        assert "census succeeded" in waited
        assert token.split()[-1].startswith("air_")
    assert "| total " in clone.air("logs", "census", "merge")
    assert clone.owners() == {clone.owner}
