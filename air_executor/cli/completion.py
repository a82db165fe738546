"""`air-executor completion`: shell completion of commands and options."""

from __future__ import annotations

from importlib import import_module
from typing import Annotated, Any, Literal

import typer

from air_executor.cli.terminal import note


def completion(
    ctx: typer.Context,
    shell: Annotated[Literal["bash", "zsh", "fish"], typer.Argument(metavar="bash|zsh|fish")],
    install: Annotated[
        bool, typer.Option("--install", help="Install the script for this shell instead of printing it.")
    ] = False,
) -> None:
    """Print or install a shell completion script."""
    typers: Any = import_module("typer.completion")  # its type stubs do not export these functions

    name = str(ctx.find_root().info_name)
    variable = f"_{name.replace('-', '_').upper()}_COMPLETE"
    if install:
        _, path = typers.install(shell=shell, prog_name=name, complete_var=variable)
        note(f"installed in {path}; restart the shell to use it")
    else:
        typer.echo(typers.get_completion_script(prog_name=name, complete_var=variable, shell=shell))
