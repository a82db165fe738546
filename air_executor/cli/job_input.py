"""Arguments that describe a job: `FILE`, `-`, or `ID -- COMMAND…` with options. Shared by `run`, `submit` and `add`."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

from air_executor.cli.terminal import note
from air_executor.errors import BadInputError, NotFoundError

if TYPE_CHECKING:
    from air_executor.model.job import Job, Task

WORDS_HELP = "A job file (YAML or JSON, `-` for stdin), or an id and, after `--`, a command."

Words = Annotated[list[str], typer.Argument(metavar="FILE | ID -- COMMAND…", help=WORDS_HELP)]
Env = Annotated[
    list[str] | None,
    typer.Option("--env", "-e", metavar="NAME=VALUE", help="Environment variable for the command. Repeatable."),
]
Timeout = Annotated[str | None, typer.Option(metavar="DURATION", help="Time limit for one run: 90, 90s, 10m, 1h30m.")]
Retries = Annotated[int | None, typer.Option(help="Maximum number of retries.")]
RetryDelay = Annotated[str | None, typer.Option(metavar="DURATION", help="Delay before a retry.")]
Delay = Annotated[str | None, typer.Option(metavar="DURATION", help="Minimum delay before the first run.")]
Workdir = Annotated[str | None, typer.Option(metavar="DIR", help="Working directory, relative to the project folder.")]
MaxRunners = Annotated[int | None, typer.Option("--max-runners", help="Maximum number of concurrent tasks.")]
Pool = Annotated[str | None, typer.Option(help="Pool that limits the job's runners.")]
Queue = Annotated[str | None, typer.Option(hidden=True, help="Deprecated alias of --pool.")]
Priority = Annotated[int | None, typer.Option(help="Priority among jobs; higher starts first.")]
After = Annotated[list[str] | None, typer.Option(metavar="JOB", help="Job that must succeed first. Repeatable.")]

_SUFFIXES = (".yaml", ".yml", ".json")


Param = Annotated[
    list[str] | None,
    typer.Option("--param", "-p", metavar="NAME=VALUE", help="Value of a parameter of the file. Repeatable."),
]
ParamsFile = Annotated[
    str | None, typer.Option(metavar="FILE", help="Values of parameters, as YAML or JSON; --param wins.")
]
AsId = Annotated[str | None, typer.Option("--id", metavar="ID", help="Id, in place of the file's id or name.")]
AsName = Annotated[
    str | None, typer.Option("--name", metavar="NAME", help="Name of a job that runs many times, in its place.")
]


def _is_file(words: Sequence[str]) -> bool:
    """Return whether the arguments name a job file rather than an id."""
    return len(words) == 1 and (
        words[0] == "-" or words[0].endswith(_SUFFIXES) or "/" in words[0] or os.path.isfile(words[0])
    )


def job_fields(
    *,
    max_runners: int | None,
    pool: str | None,
    queue: str | None,
    priority: int | None,
    after: list[str] | None,
    as_id: str | None,
    as_name: str | None,
) -> dict[str, Any]:
    """Return the job fields set by flags; None means not set. `--queue` is a deprecated alias of `--pool`.

    Raises:
        BadInputError: both `--pool` and `--queue` are set, or both `--id` and `--name`.
    """
    if as_id is not None and as_name is not None:
        raise BadInputError("--id and --name: give one of them; a job with a name runs many times")
    if queue is not None:
        if pool is not None:
            raise BadInputError("--pool and --queue: give one of them; --queue is a deprecated alias of --pool")
        note("warning: --queue is deprecated; use --pool")
        pool = queue
    return {
        "max_runners": max_runners,
        "pool": pool,
        "priority": priority,
        "after": after,
        "id": as_id,
        "name": as_name,
    }


def names_path(word: str) -> bool:
    """Return whether a word can only be a file: no id has a slash."""
    return word == "-" or "/" in word


def read_job(
    words: Sequence[str],
    options: Mapping[str, Any],
    task_options: Mapping[str, Any],
    *,
    command: bool,
    params: Mapping[str, object] | None = None,
) -> Job:
    """Return the job that the arguments describe; `command`: there is one after `--`.

    `options` are job fields set by flags, `task_options` task fields set by flags; None means not set. With a file, job
    flags override the file and task flags are refused.

    Raises:
        BadInputError: the file or a flag is invalid.
        NotFoundError: the file does not exist.
    """
    fields = {name: value for name, value in options.items() if value not in (None, [])}
    task_fields = {name: value for name, value in task_options.items() if value not in (None, [])}
    if command and len(words) == 1:
        msg = f"no job id; to run a command, use `ID -- {words[0]}`"
        raise BadInputError(msg)
    if _is_file(words):
        if task_fields:
            raise _only_with_command(task_fields)
        return _from_file(words[0], fields, params or {})
    if params:
        raise BadInputError("--param, --params-file: valid only with a job file, whose parameters they are")
    if len(words) == 1:
        msg = f"{words[0]}: no such job file; to run a command, use `{words[0]} -- COMMAND`"
        raise NotFoundError(msg)
    from air_executor.store.job_file import from_command  # noqa: PLC0415 - see the module

    if "id" in fields:
        raise BadInputError("--id: valid only with a job file; the id stands before `--` here")
    return from_command(None if "name" in fields else words[0], words[1:], **fields, **_with_env(task_fields))


def read_tasks(words: Sequence[str], task_options: Mapping[str, Any], *, command: bool) -> list[Task]:
    """Return the tasks that the arguments of `add` describe: a command, or a file of `$AIR_QUEUE` lines.

    `command`: the words are one, after `--`.

    Raises:
        BadInputError: the file or a flag is invalid.
        NotFoundError: the file does not exist.
    """
    from air_executor.model import parsing, strict_json  # noqa: PLC0415 - see the module
    from air_executor.model.problems import InvalidError, bad_input, lines  # noqa: PLC0415 - see the module

    task_fields = {name: value for name, value in task_options.items() if value not in (None, [])}
    if command or not _is_file(words):
        records: list[tuple[str | None, Any]] = [(None, {"command": list(words), **_with_env(task_fields)})]
    elif task_fields:
        raise _only_with_command(task_fields)
    else:
        name = "stdin" if words[0] == "-" else words[0]
        records = []
        for number, line in enumerate(_read(words[0]).split("\n"), 1):
            if line.strip():
                try:
                    records.append((f"{name}:{number}", strict_json.loads(line)))
                except BadInputError as error:
                    msg = f"{name}:{number}: {error}; each line must be one task as JSON"
                    raise BadInputError(msg) from None
    tasks = []
    for where, record in records:
        try:
            tasks.append(parsing.read_task(record))
        except InvalidError as error:
            raise bad_input(lines(error.problems), where) from None
    return tasks


def warn_of(job: Job) -> None:
    """Warn about valid but suspicious fields: secrets in `env`, and `memory_growth` without retries."""
    from air_executor.core.job_checks import task_ids  # noqa: PLC0415 - see the module
    from air_executor.model.parsing import secret_looking  # noqa: PLC0415 - see the module

    found = {
        name for env in (job.defaults.env, *(task.env for task in job.tasks)) for name in secret_looking(env or {})
    }
    if found:
        names = ", ".join(sorted(found))
        note(f"warning: env {names} looks like a secret and is stored in plain text; list it under `secrets` instead")
    stuck = [
        name
        for name, task in zip(task_ids(job), job.tasks, strict=True)
        if task.resources is not None and task.resources.memory_growth != 1 and not task.retries
    ]
    if stuck:
        names = stuck[0] if len(stuck) == 1 else f"{stuck[0]} and {len(stuck) - 1} more"
        note(f"warning: {names}: `memory_growth` has no effect because `retries` is 0")


def _from_file(path: str, fields: Mapping[str, Any], params: Mapping[str, object]) -> Job:
    from air_executor.store.job_file import load_job, read_job  # noqa: PLC0415 - see the module

    if path == "-":
        return load_job(sys.stdin.buffer.read(), "stdin", params, **fields)
    return read_job(path, params, **fields)


def read_params(pairs: Sequence[str] | None, file: str | None) -> dict[str, object]:
    """Return the values that `--params-file` and `--param` give; the latter win.

    Raises:
        BadInputError: one of them is wrong.
        NotFoundError: there is no such file.
    """
    found: dict[str, object] = {}
    if file is not None:
        from air_executor.store.job_file import load_mapping, read_bytes  # noqa: PLC0415 - see the module

        found |= load_mapping(read_bytes(file), file)
    for entry in pairs or ():
        name, mark, value = entry.partition("=")
        if not mark:
            msg = f"--param: must be NAME=VALUE, got {entry!r}"
            raise BadInputError(msg)
        found[name] = value
    return found


def _read(path: str) -> str:
    try:
        if path == "-":
            return sys.stdin.buffer.read().decode()
        with open(path, encoding="utf-8") as file:
            return file.read()
    except FileNotFoundError:
        msg = f"{path}: no such file"
        raise NotFoundError(msg) from None
    except (OSError, UnicodeDecodeError) as error:
        msg = f"{path}: cannot be read ({error})"
        raise BadInputError(msg) from None


def _only_with_command(fields: Mapping[str, Any]) -> BadInputError:
    names = ", ".join(f"--{name.replace('_', '-')}" for name in fields)
    return BadInputError(f"{names}: valid only with a command after `--`; with a file, set it in the file")


def _with_env(fields: Mapping[str, Any]) -> dict[str, Any]:
    made = dict(fields)
    if "env" in made:
        pairs = [entry.partition("=") for entry in made["env"]]
        wrong = [name for name, mark, _ in pairs if not mark]
        if wrong:
            msg = f"--env: must be NAME=VALUE, got {wrong[0]!r}"
            raise BadInputError(msg)
        made["env"] = {name: value for name, _, value in pairs}
    return made
