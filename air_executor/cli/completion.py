"""`air-executor completion`: the script that makes a shell complete commands, options, jobs, tasks and files.

The scripts are this project's own: those of typer change from version to version. `candidates` answers them.
"""

from __future__ import annotations

import os
from importlib.resources import files
from pathlib import Path
from typing import Annotated, Literal

import typer

from air_executor.cli.terminal import note

Shell = Literal["bash", "zsh", "fish"]


def completion(
    shell: Annotated[Shell, typer.Argument(metavar="bash|zsh|fish")],
    install: Annotated[
        bool, typer.Option("--install", help="Install the script for this shell instead of printing it.")
    ] = False,
) -> None:
    """Print or install a shell completion script."""
    script = (files("air_executor.cli") / "completions" / shell).read_text(encoding="utf-8")
    if install:
        note(f"installed in {_install(shell, script)}; restart the shell to use it")
    else:
        typer.echo(script, nl=False)


def _install(shell: Shell, script: str) -> Path:
    """Write the script where the shell finds it, and return that path."""
    home = Path.home()
    if shell == "bash":
        path = home / ".bash_completions" / "air-executor.sh"
        _add_line(home / ".bashrc", f"source '{path}'")
    elif shell == "zsh":
        path = home / ".zfunc" / "_air-executor"
        own = Path(os.environ.get("ZDOTDIR") or home) / ".zshrc"
        _add_line(own, "fpath+=~/.zfunc; autoload -Uz compinit; compinit")
    else:
        config = Path(os.environ.get("XDG_CONFIG_HOME") or home / ".config")
        path = config / "fish" / "completions" / "air-executor.fish"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(script, encoding="utf-8")
    return path


def _add_line(path: Path, line: str) -> None:
    """Add a line to a shell's own file, unless it is there."""
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        text = ""
    if line not in text:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"{text}{'' if text.endswith(chr(10)) or not text else chr(10)}{line}\n", encoding="utf-8")
