"""docs/cli.md names every command, argument and option as the program has them, and no others."""

from __future__ import annotations

import importlib
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest

from air_executor.cli.app import COMMANDS, build, program

DOCS = Path(__file__).parents[2] / "docs" / "cli.md"


def command(name: str) -> Any:  # noqa: ANN401 - typer's own types have no public name
    """Return a command as the program has it."""
    module, function = COMMANDS[name].split(":")
    return build(getattr(importlib.import_module(f"air_executor.cli.{module}"), function), name)


def rows(params: Iterable[Any]) -> list[str]:
    """Return the table rows that document these options."""
    found = []
    for param in params:
        if param.param_type_name == "option":
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


SHARED = ("state_dir", "json", "verbose", "debug")


@pytest.mark.parametrize("name", COMMANDS)
def test_each_command_has_its_options_documented(name: str) -> None:
    """A section of its own, with its usage and every option, in the words of `--help`."""
    made = command(name)
    own = [param for param in made.params if param.name not in SHARED]
    section = sections()[f"air-executor {name}"]
    assert table(section) == rows(own)
    for param in own:
        if param.param_type_name == "argument":
            assert param.metavar in section.split("```")[1]


def test_shared_options_are_documented_once() -> None:
    """What every command has, and `--version`."""
    shared = [param for param in program().params if param.name != "help"]
    assert sorted(table(sections()["Options of every command"])) == sorted(rows(shared))


def test_nothing_is_documented_that_is_not_there() -> None:
    """No section for a command that has gone."""
    assert {name.removeprefix("air-executor ") for name in sections() if name.startswith("air-executor ")} == set(
        COMMANDS
    )
