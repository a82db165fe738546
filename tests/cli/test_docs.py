"""docs/cli.md and `--help` list every command, argument and option of the program, and no others."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest

from air_executor.cli.app import load, program
from air_executor.cli.commands import COMMANDS

DOCS = Path(__file__).parents[2] / "docs" / "cli.md"


def rows(params: Iterable[Any]) -> list[str]:
    """Return the table rows that document these options; hidden ones have none."""
    found = []
    for param in params:
        if param.param_type_name == "option" and not param.hidden:
            names = ", ".join(f"`{name}`" for name in param.opts)
            found.append(f"| {names}{f' {param.metavar}' if param.metavar else ''} | {param.help} |")
    return found


def sections() -> dict[str, str]:
    """Return the text of each section by its heading."""
    parts = re.split(r"^## (.+)$", DOCS.read_text(encoding="utf-8"), flags=re.MULTILINE)
    return dict(zip(parts[1::2], parts[2::2], strict=True))


def table(text: str) -> list[str]:
    """Return the rows about options in a section."""
    return [line for line in text.splitlines() if line.startswith("| `-")]


SHARED = ("state_dir", "server", "json", "verbose", "debug")


@pytest.mark.parametrize("name", COMMANDS)
def test_each_command_has_its_options_documented(name: str) -> None:
    """A section of its own, with its usage and every option, in the words of `--help`."""
    made: Any = load(name)
    own = [param for param in made.params if param.name not in SHARED]
    section = sections()[f"air-executor {name}"]
    assert table(section) == rows(own)
    for param in own:
        if param.param_type_name == "argument":
            assert param.metavar in section.split("```")[1]


def test_shared_options_are_documented_once() -> None:
    """The options of every command, and `--version`."""
    shared = [param for param in program().params if param.name != "help"]
    assert sorted(table(sections()["Options of every command"])) == sorted(rows(shared))


def test_nothing_is_documented_that_is_not_there() -> None:
    """Every section belongs to a command."""
    assert {name.removeprefix("air-executor ") for name in sections() if name.startswith("air-executor ")} == set(
        COMMANDS
    )


def test_no_command_is_cut_in_the_help() -> None:
    """At 80 columns, each command's help fits its line."""
    command = [sys.executable, "-m", "air_executor", "--help"]
    done = subprocess.run(command, env=os.environ | {"COLUMNS": "80"}, capture_output=True, text=True, check=True)
    listed = [line.split(maxsplit=1) for line in done.stdout.splitlines() if line.startswith("  ")]
    assert {name: COMMANDS[name].summary for name in COMMANDS}.items() <= {one[0]: one[-1] for one in listed}.items()


@pytest.mark.parametrize("name", COMMANDS)
def test_each_command_has_an_example(name: str) -> None:
    """Its help ends with a line that one can try, of options that exist."""
    made: Any = load(name)
    assert made.epilog == f"Example: air-executor {COMMANDS[name].example}"
    flags = {flag for param in made.params for flag in param.opts}
    words = COMMANDS[name].example.partition(" -- ")[0].split()
    assert words[0] == name
    assert {word for word in words if word.startswith("-")} <= flags


@pytest.mark.parametrize(("columns", "lines"), [(200, 1), (60, 3)])
def test_help_is_as_wide_as_the_terminal(columns: int, lines: int) -> None:
    """A wide terminal has no wrapped descriptions, a narrow one no cut ones."""
    command = [sys.executable, "-m", "air_executor", "add", "-h"]
    environ = os.environ | {"COLUMNS": str(columns)}
    shown = subprocess.run(command, env=environ, capture_output=True, text=True, check=True).stdout.splitlines()
    first = next(number for number, line in enumerate(shown) if "--after TASK" in line)
    text = " ".join(" ".join(shown[first : first + lines]).split())
    assert text.startswith("--after TASK Task that must succeed first, with every task it queued. Repeatable.")
    assert all(len(line) <= columns for line in shown)


def test_the_usage_is_what_one_types() -> None:
    """No braces, and no dots after an argument whose own text has them."""
    made: dict[str, Any] = {name: load(name) for name in ("run", "logs", "wait")}
    usages = {name: " ".join(one.collect_usage_pieces(one.context_class(one))) for name, one in made.items()}
    assert usages == {
        "run": "[OPTIONS] FILE | ID -- COMMAND… | JOB",
        "logs": "[OPTIONS] JOB [TASK]",
        "wait": "[OPTIONS] JOB…",
    }
