"""`air-executor completion`: completion of commands and options for a shell."""

from __future__ import annotations

from importlib import import_module
from typing import Annotated, Any, Literal

import typer

from air_executor.cli.terminal import note


def completion(
    ctx: typer.Context,
    shell: Annotated[Literal["bash", "zsh", "fish"], typer.Argument(metavar="bash|zsh|fish")],
    install: Annotated[
        bool, typer.Option("--install", help="Put it where the shell looks for it, instead of printing it.")
    ] = False,
) -> None:
    """Print the completion script for a shell, or install it."""
    typers: Any = import_module("typer.completion")  # whose types do not name what it offers

    name = str(ctx.find_root().info_name)
    variable = f"_{name.replace('-', '_').upper()}_COMPLETE"
    if install:
        _, path = typers.install(shell=shell, prog_name=name, complete_var=variable)
        note(f"installed in {path}; takes effect in new shells")
    else:
        typer.echo(typers.get_completion_script(prog_name=name, complete_var=variable, shell=shell))
