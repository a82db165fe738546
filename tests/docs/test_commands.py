"""Every `air-executor` command line in a page is valid, flags included."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest

from air_executor.cli.app import program
from air_executor.cli.commands import COMMANDS
from air_executor.errors import AirExecutorError
from tests.docs.pages import PAGES, blocks, inline

COMMAND_LINE = re.compile(r"^(?:ExecStart=\S*/)?air-executor ([^#\n&;]+)")


def command_lines() -> Iterator[tuple[str, str]]:
    """Yield all command lines with their pages: from shell blocks, unit files and inline code."""
    for block in blocks("sh", "ini"):
        for line in block.text.splitlines():
            yield from ((block.page, found.strip()) for found in COMMAND_LINE.findall(line))
    for page in PAGES:
        for text in inline(page):
            yield from ((page.name, found.strip()) for found in COMMAND_LINE.findall(text))


def flags_of(name: str | None) -> set[str]:
    """Return the flags of a command, or of the program itself."""
    command = program()
    if name is not None:
        command = command.get_command(None, name)
    return {flag for parameter in command.params for flag in (*parameter.opts, *parameter.secondary_opts)}


@pytest.mark.parametrize(("page", "line"), sorted(set(command_lines())))
def test_command_lines_exist(page: str, line: str) -> None:
    """The command exists, and it has every flag before `--`."""
    words = line.split(" -- ", maxsplit=1)[0].split()
    leading = [word for word in words if not word.startswith("-")]
    name = leading[0] if leading else None
    if name is None:
        assert set(words) <= flags_of(None) | {"--help"}
        return
    if re.fullmatch(r"[A-Z.]+|…|<[a-z]+>", name):  # a form such as `air-executor COMMAND --help`
        return
    assert all(one in COMMANDS for one in name.split("|")), f"{page}: {name} is no command"
    given = {
        re.split(r"[=\]]", word.lstrip("["))[0] for word in words if word.lstrip("[").startswith("-") and word != "-"
    }
    known = set.union(*(flags_of(one) for one in name.split("|"))) | {"--help"}
    assert given <= known, f"{page}: {line}"


def test_every_exit_code_is_explained() -> None:
    """Operations lists the exit code of every error."""
    operations = next(page for page in PAGES if page.name == "operations.md").read_text(encoding="utf-8")
    codes = {AirExecutorError.exit_code, *(error.exit_code for error in AirExecutorError.__subclasses__())}
    assert codes
    assert [code for code in codes if f"\n| {code} |" not in operations] == []
