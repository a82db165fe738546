"""`air-executor help`: the help of the program or of a command."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from air_executor.cli.help_text import unknown_command


def show_help(
    ctx: typer.Context, command: Annotated[str | None, typer.Argument(metavar="COMMAND", help="Default: all.")] = None
) -> None:
    """Show the help of the program or of a command."""
    root: Any = ctx.find_root()
    if command is None:
        typer.echo(root.get_help())
        return
    found = root.command.get_command(root, command)
    if found is None:
        ctx.fail(unknown_command(command))
    typer.echo(found.get_help(type(root)(found, info_name=found.name, parent=root, **found.context_settings)))
