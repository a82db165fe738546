"""Reading commands start quickly, because they import only what they need."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from air_executor.cli.commands import SECTIONS
from air_executor.client import Client
from tests.cli.conftest import Outcome
from tests.cli.made_jobs import create, ended, write_log

Air = Callable[..., Outcome]

HEAVY = (
    "air_executor.backends",
    "air_executor.model.parsing",
    "air_executor.store.job_file",
    "air_executor.manager",
    "air_executor.wiring",
    "filelock",
    "logging",
    "pydantic",
    "rich.live",
    "ruamel",
    "watchfiles",
)


def test_status_loads_neither_backend_nor_manager(project: Path) -> None:
    """`status` imports no backend, no manager, no pydantic and no watcher."""
    code = (
        "import sys\n"
        "from air_executor.cli.app import run\n"
        "assert run(['status']) == 0\n"
        f"print([name for name in {HEAVY!r} if name in sys.modules])\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"


@pytest.mark.parametrize("command", ["status", "status j", "logs j", "wait j", "explain j", "explain queued"])
def test_a_reading_command_does_not_build_all_settings(air: Air, client: Client, command: str) -> None:
    """It finds the state directory, and `explain` its limits, without pydantic-settings, which takes long to import."""
    code = (
        "import sys\n"
        "from air_executor.cli.app import run\n"
        f"code = run({command.split()!r})\n"
        "print(code, [name for name in ('asyncio', 'pydantic_settings') if name in sys.modules])\n"
    )
    create(client, "j", ended("a"))
    write_log(client, "j", "a", 1, b"said\n")
    assert air("submit", "queued", "--", "true").code == 0
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "0 []"


def test_help_names_every_command(project: Path) -> None:
    """`--help` lists all commands with what they do, in sections."""
    done = subprocess.run([sys.executable, "-m", "air_executor", "--help"], capture_output=True, text=True, check=True)
    lines = done.stdout.splitlines()
    for title, entries in SECTIONS.items():
        at = lines.index(f"{title}:") + 1
        assert [line.split()[0] for line in lines[at : at + len(entries)]] == list(entries)


def test_closed_streams_are_no_reason_to_fail(project: Path) -> None:
    """A job runs with stdin, stdout and stderr closed, and no opened file takes their place."""
    command = f"exec {sys.executable} -m air_executor run a -- true <&- >&- 2>&-"
    assert subprocess.run(["sh", "-c", command], check=False).returncode == 0
    state = (project / ".air-executor/jobs/a/state.json").read_text()
    assert '"phase": "succeeded"' in state.partition('"tasks"')[0]


def test_help_imports_no_command(project: Path) -> None:
    """The list of commands needs no module of a command."""
    code = (
        "import sys\n"
        "from air_executor.cli.app import run\n"
        "from air_executor.cli.commands import COMMANDS\n"
        "assert run(['--help']) == 0\n"
        "print([name for name, entry in COMMANDS.items() if f'air_executor.cli.{entry.module}' in sys.modules])\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"
