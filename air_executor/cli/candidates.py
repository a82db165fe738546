"""What may stand at the cursor of a command line that is being typed: commands, options, jobs, tasks, files.

The completion scripts set a variable and run the program with the words before the cursor, the last of them incomplete.
It prints one candidate per line, perhaps with a tab and a description; `FILES` asks the shell for its own file names.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

from air_executor.cli.commands import ALIASES, COMMANDS
from air_executor.cli.session import Session
from air_executor.errors import AirExecutorError

if TYPE_CHECKING:
    from air_executor.client.job_access import JobAccess

FILES = ":files"
_CHOICES = {
    "backend": ("local", "docker", "kubernetes"),
    "phase": ("pending", "queued", "running", "paused", "succeeded", "failed", "cancelled", "skipped"),
    "role": ("viewer", "submitter", "operator", "admin"),
}
"""What an option of this name may be."""
_ACTIONS = {
    "schedule": ("apply", "list", "next", "pause", "resume", "delete", "run"),
    "token": ("create", "list", "revoke", "show"),
    "workspace": ("push", "pull", "list"),
}
"""The first word of a command."""

Load = Callable[[str], Any]
"""Returns a command by its name."""


def print_candidates(words: Sequence[str], load: Load, shared: Sequence[Any]) -> None:
    """Print what may stand in place of the last word; `shared` are the program's own options."""
    *before, current = [word for word in words if word != "="] or [""]
    found = list(_candidates(before, current, load, shared))
    for value, about in found:
        if value == FILES or value.startswith(current):
            sys.stdout.write(f"{value}\t{about}\n" if about else f"{value}\n")


def _candidates(before: list[str], current: str, load: Load, shared: Sequence[Any]) -> Iterator[tuple[str, str]]:
    if "--" in before:
        yield FILES, ""
        return
    name, line = None, _Line()
    params = list(shared)
    for word in before:
        line.take(word, params)
        if name is None and line.words:
            name = ALIASES.get(line.words.pop(), "") or word
            if name in COMMANDS:
                params = load(name).params
    if line.option is not None:
        yield from _values(line.option, line)
    elif current.startswith("-"):
        options = [param for param in params if param.param_type_name == "option" and not param.hidden]
        yield from ((flag, param.help or "") for param in options for flag in param.opts)
    elif name is None:
        yield from ((command, entry.summary) for command, entry in COMMANDS.items())
    else:
        yield from _arguments(name, params, line)


def _arguments(name: str, params: Sequence[Any], line: _Line) -> Iterator[tuple[str, str]]:
    """Yield what the next argument of a command may be."""
    arguments = [param for param in params if param.param_type_name == "argument"]
    if name in _ACTIONS and not line.words:
        yield from ((action, "") for action in _ACTIONS[name])
    elif name == "schedule" and line.words[0] != "apply":
        yield from ((one, "schedule") for one in _schedules(line))
    elif arguments:
        yield from _values(arguments[min(len(line.words), len(arguments) - 1)], line)


class _Line:
    """What the words before the cursor say."""

    def __init__(self) -> None:
        self.words: list[str] = []
        """The arguments."""
        self.option: Any = None
        """The option whose value comes next."""
        self.session = Session()

    def take(self, word: str, params: Sequence[Any]) -> None:
        """Read one more word."""
        if self.option is not None:
            self._set(self.option, word)
            self.option = None
            return
        if not word.startswith("-") or word == "-":
            self.words.append(word)
            return
        flag, mark, value = word.partition("=")
        option = next((p for p in params if p.param_type_name == "option" and flag in p.opts), None)
        if option is not None and mark:
            self._set(option, value)
        elif option is not None and not getattr(option, "is_flag", False) and not getattr(option, "count", False):
            self.option = option

    def _set(self, option: Any, value: str) -> None:  # noqa: ANN401 - typer's own classes
        if option.name in ("state_dir", "server"):
            setattr(self.session, option.name, value)

    def client(self) -> JobAccess:
        """Return a client of the server or the state directory that the line means."""
        return self.session.client()


def _values(param: Any, line: _Line) -> Iterator[tuple[str, str]]:  # noqa: ANN401 - typer's own classes
    """Yield what an argument or an option may be, which its name in the help tells."""
    metavar = param.metavar or ""
    if "TASK" in metavar and line.words:
        yield from _tasks(line)
    if "JOB" in metavar:
        yield from ((job, "job") for job in _jobs(line))
    if "FILE" in metavar or metavar == "DIR":
        yield FILES, ""
    elif metavar == "COMMAND":
        yield from ((command, entry.summary) for command, entry in COMMANDS.items())
    elif param.name in _CHOICES:
        yield from ((word, "") for word in _CHOICES[param.name])
    elif "|" in metavar and " " not in metavar:
        yield from ((word, "") for word in metavar.split("|"))


def _jobs(line: _Line) -> list[str]:
    try:
        return line.client().ids()
    except (AirExecutorError, OSError):
        return []


def _schedules(line: _Line) -> list[str]:
    try:
        return [one["name"] for one in line.client().schedules.all()[0]]
    except (AirExecutorError, OSError):
        return []


def _tasks(line: _Line) -> list[tuple[str, str]]:
    try:
        return [(task.id, task.phase) for task in line.client().status(line.words[0]).tasks.values()]
    except (AirExecutorError, OSError):
        return []
