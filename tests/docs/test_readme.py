"""The steps of the readme work as written, in order, and again. Those in containers are in tests/images."""

from __future__ import annotations

import os
import shlex
import signal
from collections.abc import Callable
from pathlib import Path

from air_executor.client import Client
from air_executor.errors import NotFoundError
from tests.conftest import wait_for
from tests.docs.pages import blocks
from tests.docs.terminal import Terminal
from tests.forked import Program


def air(folder: Path, *words: str) -> str:
    """Run `air-executor` in a folder and return its output; it must succeed."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith("AIR_")}
    program = Program(words, cwd=folder, env=clean)
    out, err = program.communicate()
    assert program.returncode == 0, err
    return str(out)


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
    log = str(tmp_path / "manager.log")
    manager = Program(["manager"], cwd=tmp_path, env=environ, stdout=log, stderr=log)
    try:
        for number in (1, 2):
            submitted, _, waited = [air(tmp_path, *words) for words in lines_of("submit --name nightly")]
            assert submitted == f"nightly-{number}\n"
            assert waited == f"nightly-{number} succeeded\n"
    finally:
        manager.terminate()
        assert manager.wait(60) == 0


def test_rewind_with_git_twice(tmp_path: Path, requires_tool: Callable[[str], str]) -> None:
    """Ctrl-C pauses, a commit keeps the state, a checkout goes back to it; again, `run` offers `--replace`."""
    requires_tool("git")
    project = tmp_path / "project"
    project.mkdir()
    save(project, "release.yaml")
    file = project / "release.yaml"
    file.write_text(file.read_text().replace("sleep 5", "sleep 3"))  # it runs six times
    block = next(block.text for block in blocks("sh") if block.text.startswith("git init"))
    init, run, *after = [line for line in block.splitlines() if line]
    terminal = Terminal(project)
    client = Client(f"{project}/.air-executor")

    def builds() -> bool:
        try:
            return client.status("release").tasks["build"].phase == "running"
        except NotFoundError:
            return False

    for again in (False, True):
        terminal.type(init)
        if again:
            assert "run it again with --replace" in terminal.type(run, code=4)
        begun = terminal.begin(run.replace("release.yaml", "release.yaml --replace") if again else run)
        wait_for(builds, 60, "the task build to run")
        os.killpg(begun.pid, signal.SIGINT)
        assert "to continue: `air-executor run release`" in begun.communicate()[0]
        assert client.status("release").phase == "paused"
        keep, goes_on, published, back, once_more = (terminal.type(line) for line in after)
        assert "release: fetched" in keep
        assert "fetched" not in goes_on
        assert "published" in goes_on
        assert "release: published" in published
        assert back == "" or "Updated" in back
        assert {"built", "published"} <= set(once_more.replace("|", " ").split())
        assert "fetched" not in once_more
