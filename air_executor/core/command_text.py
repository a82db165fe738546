"""The command of a task on one line, as people know it from their shell. Pure."""

from __future__ import annotations

import shlex
from itertools import islice

from air_executor.model.plain_text import clean
from air_executor.model.state import TaskState

LONGEST = 200
"""Characters, where nothing else limits them."""


def command_text(task: TaskState, width: int = LONGEST) -> str | None:
    """Return the command of a task, cut to a width, without control characters; None: it has none."""
    command = task.command
    if command is None:
        return None
    if isinstance(command, list):
        command = shlex.join(islice(command, LONGEST))
    room = max(1, min(width, LONGEST))
    text = clean(" ".join(filter(None, map(str.strip, command[: 4 * LONGEST].splitlines()))))
    return text if len(text) <= room and len(command) <= 4 * LONGEST else f"{text[: room - 1]}…"
