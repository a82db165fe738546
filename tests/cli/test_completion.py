"""The completion scripts in real shells: what Tab offers for commands, options, jobs, tasks and files."""

from __future__ import annotations

import os
import pty
import re
import select
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from air_executor.cli.app import complete
from air_executor.client import Client
from air_executor.core.submission import parse_job
from tests.cli.conftest import Outcome
from tests.lanes import missing

PATIENCE = 60.0
LINES = [
    ("air-executor sta", "air-executor status"),
    ("air-executor explain Night", "air-executor explain Nightly.v2"),
    ("air-executor ls Night", "air-executor ls Nightly.v2"),
    ("air-executor logs Nightly.v2 fet", "air-executor logs Nightly.v2 fetch_all"),
    ("air-executor add Nightly.v2 --after fet", "air-executor add Nightly.v2 --after fetch_all"),
    ("air-executor --state-dir .air-executor cancel Night", "cancel Nightly.v2"),
    ("air-executor run --backend kub", "air-executor run --backend kubernetes"),
    ("air-executor run --max-r", "air-executor run --max-runners"),
    ("air-executor submit some-j", "air-executor submit some-job.yaml"),
    ("air-executor completion f", "air-executor completion fish"),
    ("air-executor run x -- some-j", "air-executor run x -- some-job.yaml"),
]
"""What is typed, and what stands there after Tab."""
OF_EACH_KIND = [LINES[number] for number in (0, 3, 4, 5, 6, 10)]
"""A command, a task, an option's task, a job behind options, an option's choice, a file: what a shell can get wrong.

What is offered is the same in all of them.
"""


@pytest.fixture
def scripts(project: Path, client: Client, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with the program, a job and a job file; the program is first in PATH."""
    client.submit(parse_job({"id": "Nightly.v2", "tasks": [{"id": "fetch_all", "command": "true"}]}))
    (project / "some-job.yaml").write_text("id: x\n")
    folder = project.parent / "bin"
    folder.mkdir()
    program = folder / "air-executor"
    program.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m air_executor "$@"\n')
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")
    return folder


def script_of(shell: str, folder: Path) -> Path:
    """Write the completion script of a shell to a file and return it."""
    path = folder / f"script.{shell}"
    with path.open("w") as file:
        subprocess.run(["air-executor", "completion", shell], stdout=file, check=True)
    return path


class Terminal:
    """An interactive shell on a terminal of its own."""

    def __init__(self, *command: str) -> None:
        self.shell = command[0]
        self._pid, self._fd = pty.fork()
        if self._pid == 0:
            os.environ |= {"TERM": "dumb", "PS1": "ready> ", "COLUMNS": "200"}
            os.execvp(command[0], command)  # noqa: S606 - a shell
        self.shown = ""

    def type(self, keys: str) -> None:
        """Type keys; what the shell has shown before is forgotten."""
        self.shown = ""
        os.write(self._fd, keys.encode())

    def until(self, text: str) -> None:
        """Read until the shell shows a text."""
        until = time.monotonic() + PATIENCE
        while text not in self.shown:
            assert time.monotonic() < until, f"{text!r} is not in {self.shown!r}"
            if select.select([self._fd], [], [], 0.2)[0]:
                self.shown += os.read(self._fd, 4096).decode(errors="replace").replace("\a", "")

    def close(self) -> None:
        """End the shell."""
        os.close(self._fd)
        os.waitpid(self._pid, 0)


SHELLS = {
    "bash": (("bash", "--norc", "--noprofile", "-i"), "source {}; echo so''urced"),
    "zsh": (("zsh", "-f", "-i"), "PS1='ready> '; autoload -Uz compinit; compinit -u -D; source {}; echo so''urced"),
}


@pytest.fixture(params=SHELLS)
def terminal(scripts: Path, request: pytest.FixtureRequest) -> Iterator[Terminal]:
    """A shell that has the completion script."""
    command, setup = SHELLS[request.param]
    if shutil.which(command[0]) is None:
        missing(f"{command[0]} is not installed")
    made = Terminal(*command)
    made.type(f"{setup.format(script_of(request.param, scripts))}\n")
    made.until("sourced")
    yield made
    made.close()


def test_tab_completes(terminal: Terminal) -> None:
    """Tab writes what can be meant: in bash and zsh, with what is in the state directory and the folder."""
    for typed, completed in LINES if terminal.shell == "bash" else OF_EACH_KIND:
        terminal.type(f"{typed}\t")
        terminal.until(completed.removeprefix("air-executor "))
        terminal.type("\x15")  # Ctrl-U: the next line


def test_fish_completes(scripts: Path) -> None:
    """Fish says itself what it would offer, with what each is."""
    if shutil.which("fish") is None:
        missing("fish is not installed")
    script = script_of("fish", scripts)
    for typed, completed in OF_EACH_KIND:
        command = f"source {script}; complete -C '{typed}'"
        done = subprocess.run(["fish", "--no-config", "-c", command], capture_output=True, text=True, check=True)
        offered = [line.partition("\t")[0] for line in done.stdout.splitlines()]
        assert completed.split()[-1] in offered, (typed, done)


def test_nothing_disturbs_typing(project: Path, scripts: Path) -> None:
    """Without a state directory, or with a broken one, there is nothing to offer and nothing to read."""
    environ = {**os.environ, "_AIR_EXECUTOR_COMPLETE": "1", "AIR_STATE_DIR": "/nowhere"}
    for words in (["logs", ""], ["logs", "j", ""], ["nonsense", ""], ["status", "--nonsense", ""], []):
        done = subprocess.run(["air-executor", *words], env=environ, capture_output=True, text=True, check=True)
        assert (done.stderr, ":files" in done.stdout) == ("", False)


def test_scripts_are_installed_once(
    air: Callable[..., Outcome], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`--install` puts the script where the shell finds it; a second time changes nothing."""
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in ("ZDOTDIR", "XDG_CONFIG_HOME"):
        monkeypatch.delenv(name, raising=False)
    (tmp_path / ".bashrc").write_text("# mine")
    for _ in range(2):
        for shell in ("bash", "zsh", "fish"):
            assert air("completion", shell, "--install").code == 0
    script = tmp_path / ".bash_completions/air-executor.sh"
    assert (tmp_path / ".bashrc").read_text() == f"# mine\nsource '{script}'\n"
    assert (tmp_path / ".zshrc").read_text().count("compinit; compinit") == 1
    assert "complete -F" in script.read_text()
    assert "#compdef" in (tmp_path / ".zfunc/_air-executor").read_text()
    assert "complete --command" in (tmp_path / ".config/fish/completions/air-executor.fish").read_text()


@pytest.mark.parametrize(
    ("words", "refused"),
    [
        (("schedule", ""), ("schedule", "x")),
        (("token", ""), ("token", "x")),
        (("workspace", ""), ("workspace", "x")),
        (("status", "--phase", ""), ("status", "--phase", "x")),
        (("token", "create", "anna", "--role", ""), ("token", "create", "anna", "--role", "x")),
        (("run", "--backend", ""), ("run", "x", "--backend", "x", "--", "true")),
    ],
)
def test_what_a_command_takes_is_offered(
    air: Callable[..., Outcome],
    project: Path,
    capsys: pytest.CaptureFixture[str],
    words: tuple[str, ...],
    refused: tuple[str, ...],
) -> None:
    """All words that its message about another one lists, and no other."""
    said = re.split("there are: |must be one of |must be |; use ", air(*refused).err)[1].split(", got")[0]
    complete(words)
    offered = [line.partition("\t")[0] for line in capsys.readouterr().out.splitlines()]
    assert offered == re.split(", | or ", said.strip())


def test_schedules_are_offered(client: Client, project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """By name."""
    (project / "n.yaml").write_text("name: nightly\nschedule: {every: 1h}\ntasks: [{command: 'true'}]\n")
    client.schedules.apply([("n.yaml", (project / "n.yaml").read_bytes())])
    complete(("schedule", "pause", "ni"))
    assert capsys.readouterr().out == "nightly\tschedule\n"
