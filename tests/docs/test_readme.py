"""The first job of the readme runs as described."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from tests.docs.pages import blocks


def air(folder: Path, *words: str) -> str:
    """Run `air-executor` in a folder and return its output; it must succeed."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith("AIR_")}
    done = subprocess.run(
        [sys.executable, "-m", "air_executor", *words],
        cwd=folder,
        env=clean,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_first_job(tmp_path: Path) -> None:
    """hello.yaml and its four commands print the greetings, the tree and the cost."""
    job = next(block.text for block in blocks("yaml") if block.text.startswith("name: hello"))
    (tmp_path / "hello.yaml").write_text(job)
    commands = next(block.text for block in blocks("sh") if "run hello.yaml" in block.text)
    printed = [air(tmp_path, *line.split("#")[0].split()[1:]) for line in commands.splitlines()]
    assert len(printed) == 4
    run, status, logs, explain = printed
    assert "farewell | everybody was greeted" in run
    assert "├ Paris" in status
    assert {"Paris | Hello, Paris", "farewell | everybody was greeted"} <= set(logs.splitlines())
    assert explain.startswith("task farewell succeeded")
