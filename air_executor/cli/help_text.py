"""The text of `--help`: commands and options in sections, at the width of the terminal."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING, Any

from air_executor.cli.commands import ALIASES, COMMANDS, SECTIONS

if TYPE_CHECKING:
    from collections.abc import Iterable

    from click import Context, HelpFormatter

OWN_SECTION = "Options"
COMMON_SECTION = "Common options"


def settings() -> dict[str, Any]:
    """Return the settings of every command's context."""
    return {"help_option_names": ["-h", "--help"], "max_content_width": shutil.get_terminal_size().columns}


def usage(params: Iterable[Any]) -> list[str]:
    """Return what may follow the name of a command."""
    arguments = [param for param in params if param.param_type_name == "argument"]
    return ["[OPTIONS]", *(param.metavar if param.required else f"[{param.metavar}]" for param in arguments)]


def write_options(params: Iterable[Any], ctx: Context, formatter: HelpFormatter) -> None:
    """Write arguments and options, each under the heading of its section."""
    sections: dict[str, list[tuple[str, str]]] = {"Arguments": [], OWN_SECTION: []}
    for param in params:
        if param.param_type_name == "argument":
            sections["Arguments"] += [(param.metavar, param.help)] if param.help else []
        elif (record := param.get_help_record(ctx)) is not None:
            names = record[0].replace("<int>", "N").replace("<str>", "TEXT")
            sections.setdefault(getattr(param, "rich_help_panel", None) or OWN_SECTION, []).append((names, record[1]))
    sections[COMMON_SECTION] = sections.pop(COMMON_SECTION, [])
    for title, rows in sections.items():
        if rows:
            with formatter.section(title):
                formatter.write_dl(rows)


def write_commands(formatter: HelpFormatter) -> None:
    """List the commands without importing them."""
    width = max(map(len, COMMANDS))
    for title, entries in SECTIONS.items():
        with formatter.section(title):
            formatter.write_dl([(name.ljust(width), entry.summary) for name, entry in entries.items()])


def unknown_command(name: str) -> str:
    """Return what to say about a word that is no command."""
    from air_executor.model.problems import nearest  # noqa: PLC0415 - only for errors

    guess = nearest(name, [*COMMANDS, *ALIASES])
    if guess is None and name.endswith((".yaml", ".yml", ".json")):
        return f"No such command '{name}'. To run a job file: air-executor run {name}"
    return f"No such command '{name}'.{f' Did you mean {guess}?' if guess else ''}"
