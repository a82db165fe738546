"""The first job of the readme runs as described."""

from __future__ import annotations

import os
import shlex
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


def lines_of(part: str) -> list[list[str]]:
    """Return the arguments of each command in the readme's block with this text."""
    block = next(block.text for block in blocks("sh") if part in block.text)
    return [shlex.split(line, comments=True)[1:] for line in block.splitlines() if line.startswith("air-executor ")]


def save(folder: Path, name: str) -> None:
    """Save the readme's file of this name."""
    stem = name.partition(".")[0]
    text = next(block.text for block in blocks("yaml") if block.text.startswith((f"name: {stem}\n", f"id: {stem}\n")))
    (folder / name).write_text(text)


def test_parameters_and_schedules_twice(tmp_path: Path) -> None:
    """Each command works, and again: the first makes the next run."""
    save(tmp_path, "report.yaml")
    for number in (1, 2):
        run, history, applied, listed = [air(tmp_path, *words) for words in lines_of("schedule apply report.yaml")]
        assert "merge | merge 2026-01-31" in run
        assert f"report-{number}" in history
        assert applied.startswith("report: next at" if number == 1 else "report.yaml: unchanged")
        assert "0 2 * * 1-5 (Europe/Paris)" in listed


def test_a_manager_twice(tmp_path: Path) -> None:
    """A manager in one terminal, three commands in another, and the same again."""
    environ = {name: value for name, value in os.environ.items() if not name.startswith("AIR_")} | {
        "AIR_HTTP_PORT": "0"
    }
    manager = subprocess.Popen([sys.executable, "-m", "air_executor", "manager"], cwd=tmp_path, env=environ)
    try:
        for number in (1, 2):
            submitted, _, waited = [air(tmp_path, *words) for words in lines_of("submit --name nightly")]
            assert submitted == f"nightly-{number}\n"
            assert waited == f"nightly-{number} succeeded\n"
    finally:
        manager.terminate()
        assert manager.wait(60) == 0
