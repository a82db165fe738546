"""From arguments to a job: `FILE`, `-`, or `ID -- COMMAND…` with its options. Shared by `run`, `submit` and `add`."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Annotated, Any

import typer

from air_executor.cli.terminal import note
from air_executor.errors import BadInputError, NotFoundError

if TYPE_CHECKING:
    from air_executor.model.job import Job, Task

WORDS_HELP = "A job file (YAML or JSON, `-` for stdin), or an id and, after `--`, the command of its only task."

Words = Annotated[list[str], typer.Argument(metavar="FILE | ID -- COMMAND…", help=WORDS_HELP)]
Env = Annotated[
    list[str] | None,
    typer.Option("--env", "-e", metavar="NAME=VALUE", help="Set a variable for the command. Repeatable."),
]
Timeout = Annotated[
    str | None, typer.Option(metavar="DURATION", help="Stop the command after this long: 90, 90s, 10m, 1h30m.")
]
Retries = Annotated[int | None, typer.Option(help="Run the command again up to this many times if it fails.")]
RetryDelay = Annotated[str | None, typer.Option(metavar="DURATION", help="Wait this long before a retry.")]
Delay = Annotated[
    str | None, typer.Option(metavar="DURATION", help="Start this long after it was submitted, at the earliest.")
]
Workdir = Annotated[
    str | None, typer.Option(metavar="DIR", help="Folder the command starts in; relative to the project folder.")
]
MaxRunners = Annotated[int | None, typer.Option("--max-runners", help="How many tasks of the job may run at once.")]
Queue = Annotated[str | None, typer.Option(help="The queue whose limit the job shares.")]
Priority = Annotated[int | None, typer.Option(help="Jobs with a higher one start first.")]
After = Annotated[list[str] | None, typer.Option(metavar="JOB", help="Start when this job has succeeded. Repeatable.")]

_SUFFIXES = (".yaml", ".yml", ".json")


def is_file(words: Sequence[str]) -> bool:
    """Tell whether the arguments name a job file, and not an id."""
    return len(words) == 1 and (
        words[0] == "-" or words[0].endswith(_SUFFIXES) or "/" in words[0] or os.path.isfile(words[0])
    )


def read_job(words: Sequence[str], options: Mapping[str, Any], task_options: Mapping[str, Any]) -> Job:
    """Return the job that the arguments describe.

    `options` are the job's fields given as flags, `task_options` those of the command; None means not given. For a file
    the job's flags win over what the file says, and the command's are refused.

    Raises:
        BadInputError, NotFoundError: there is no such file, or something in it or in the flags is wrong.
    """
    job_fields = {name: value for name, value in options.items() if value not in (None, [])}
    task_fields = {name: value for name, value in task_options.items() if value not in (None, [])}
    if is_file(words):
        if task_fields:
            raise _only_with_command(task_fields)
        return _from_file(words[0], job_fields)
    if len(words) == 1:
        msg = f"{words[0]}: no job file of that name; to give a command, write `{words[0]} -- COMMAND`"
        raise NotFoundError(msg)
    from air_executor.store.job_file import from_command  # noqa: PLC0415 - see the module

    return from_command(words[0], words[1:], **job_fields, **_with_env(task_fields))


def read_tasks(words: Sequence[str], task_options: Mapping[str, Any]) -> list[Task]:
    """Return the tasks that the arguments of `add` describe: a command, or a file of lines as in `$AIR_QUEUE`.

    Raises:
        BadInputError, NotFoundError: there is no such file, or something in it or in the flags is wrong.
    """
    from air_executor.model import parsing, strict_json  # noqa: PLC0415 - see the module
    from air_executor.model.problems import RefusedError, bad_input, lines  # noqa: PLC0415 - see the module

    task_fields = {name: value for name, value in task_options.items() if value not in (None, [])}
    if not is_file(words):
        records: list[tuple[str | None, Any]] = [(None, {"command": list(words), **_with_env(task_fields)})]
    elif task_fields:
        raise _only_with_command(task_fields)
    else:
        name = "stdin" if words[0] == "-" else words[0]
        records = []
        for number, line in enumerate(_read(words[0]).splitlines(), 1):
            if line.strip():
                try:
                    records.append((f"{name}:{number}", strict_json.loads(line)))
                except BadInputError as error:
                    msg = f"{name}:{number}: {error}; one task a line is expected, as JSON"
                    raise BadInputError(msg) from None
    tasks = []
    for where, record in records:
        try:
            tasks.append(parsing.read_task(record, {}))
        except RefusedError as error:
            raise bad_input(lines(error.problems), where) from None
    return tasks


def warn_of(job: Job) -> None:
    """Say what is allowed and hardly meant: secrets in `env`, which is stored in clear; memory that cannot grow."""
    from air_executor.core.job_checks import task_ids  # noqa: PLC0415 - see the module
    from air_executor.model.parsing import secret_looking  # noqa: PLC0415 - see the module

    found = {
        name for env in (job.defaults.env, *(task.env for task in job.tasks)) for name in secret_looking(env or {})
    }
    if found:
        names = ", ".join(sorted(found))
        note(f"warning: env {names} looks like a secret and is stored in clear; name it under `secrets` instead")
    stuck = [
        name
        for name, task in zip(task_ids(job), job.tasks, strict=True)
        if task.resources is not None and task.resources.memory_growth != 1 and not task.retries
    ]
    if stuck:
        names = stuck[0] if len(stuck) == 1 else f"{stuck[0]} and {len(stuck) - 1} more"
        note(f"warning: {names}: `memory_growth` acts on retries only, and `retries` is 0")


def _from_file(path: str, fields: Mapping[str, Any]) -> Job:
    from air_executor.core.submission import parse_job  # noqa: PLC0415 - see the module
    from air_executor.store.job_file import load_job, read_job  # noqa: PLC0415 - see the module

    job = load_job(sys.stdin.buffer.read(), "stdin") if path == "-" else read_job(path)
    return parse_job(replace(job, **fields)) if fields else job


def _read(path: str) -> str:
    try:
        if path == "-":
            return sys.stdin.buffer.read().decode()
        with open(path, encoding="utf-8") as file:
            return file.read()
    except FileNotFoundError:
        msg = f"{path}: there is no such file"
        raise NotFoundError(msg) from None
    except (OSError, UnicodeDecodeError) as error:
        msg = f"{path}: cannot be read ({error})"
        raise BadInputError(msg) from None


def _only_with_command(fields: Mapping[str, Any]) -> BadInputError:
    names = ", ".join(f"--{name.replace('_', '-')}" for name in fields)
    return BadInputError(f"{names}: only with a command after `--`; a file says that itself")


def _with_env(fields: Mapping[str, Any]) -> dict[str, Any]:
    made = dict(fields)
    if "env" in made:
        pairs = [entry.partition("=") for entry in made["env"]]
        wrong = [name for name, mark, _ in pairs if not mark]
        if wrong:
            msg = f"--env: {wrong[0]!r} should be NAME=VALUE"
            raise BadInputError(msg)
        made["env"] = {name: value for name, _, value in pairs}
    return made
