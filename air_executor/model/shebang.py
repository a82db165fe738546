"""A command whose first line is `#!…`: the text is a script for the interpreter that the line names.

The manager puts the script into the run's directory, and the runner gets the interpreter and the script's path, on
every platform. So no runner needs to know of it, and no container a place to write to.
"""

from __future__ import annotations

_MARK = "#!"
SCRIPT = "script"
"""Name of the script's file in the run's directory."""


def interpreter(command: str) -> tuple[str, ...] | None:
    """Return the words before the script's path, as Linux takes them: a program and at most one argument.

    None: the text is for the shell. Empty: the line names no program.
    """
    if not command.startswith(_MARK):
        return None
    line = command.partition("\n")[0].removeprefix(_MARK)
    return tuple(line.strip().split(None, 1))
