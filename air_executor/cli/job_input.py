"""Arguments that describe jobs or tasks: `FILE`, `-`, or `ID -- COMMAND…`. Shared by `run`, `submit` and `add`."""

from __future__ import annotations

import os
import shlex
import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

from air_executor.cli.flags import given_job, given_task, task_options
from air_executor.cli.session import command_given, command_words, session_of
from air_executor.cli.terminal import note
from air_executor.errors import BadInputError, NotFoundError
from air_executor.model.pairs import read_pairs

if TYPE_CHECKING:
    from air_executor.model.job import Job, Task

WORDS_HELP = "A job file (YAML or JSON, `-` for stdin), or an id and, after `--`, a command."

Words = Annotated[list[str], typer.Argument(metavar="FILE | ID -- COMMAND…", help=WORDS_HELP)]
Replace = Annotated[bool, typer.Option("--replace", help="Archive an ended job of the same id first.")]
_SUFFIXES = (".yaml", ".yml", ".json")


def _is_file(words: Sequence[str]) -> bool:
    """Return whether the arguments name a job file rather than an id."""
    return len(words) == 1 and (
        words[0] == "-" or words[0].endswith(_SUFFIXES) or "/" in words[0] or os.path.isfile(words[0])
    )


def names_path(word: str) -> bool:
    """Return whether a word can only be a file: no id has a slash."""
    return word == "-" or "/" in word


def read_jobs(ctx: typer.Context, words: Sequence[str]) -> list[Job]:
    """Return the jobs that the arguments and options describe: one, or all those of a file.

    With a file, options of the job override the file, and options of the task are refused.

    Raises:
        BadInputError: the file or an option is invalid.
        NotFoundError: the file does not exist.
    """
    fields, task_fields = _renamed(given_job(ctx)), given_task(ctx)
    params = _params(fields.pop("param", ()), fields.pop("params_file", None))
    if "id" in fields and "name" in fields:
        raise BadInputError("--id and --name: give one of them; a job with a name runs many times")
    command = command_given(ctx)
    if command:
        return [_from_command(words, command_words(ctx), fields, task_fields, params)]
    if _is_file(words):
        if options := task_options(ctx):
            raise _only_with_command(options)
        from air_executor.store.job_file import load_jobs  # noqa: PLC0415 - see the module

        return load_jobs(*_content(words[0]), params, **fields)
    if len(words) == 1:
        from air_executor.model.problems import did_you_mean  # noqa: PLC0415 - only for errors

        jobs = session_of(ctx).client().ids()
        files = [name for name in os.listdir() if name.endswith(_SUFFIXES)]
        hint = did_you_mean(words[0], [*jobs, *files]) or f"; to run a command, use `{words[0]} -- COMMAND`"
        if os.path.isdir(words[0]):
            hint = "; it is a folder"
        if words[0] in jobs:
            hint = "; it is a job: to run that again, give its file or command, and --replace"
        msg = f"{words[0]}: no such job file{hint}"
        raise NotFoundError(msg)
    msg = f"{words[0]}: give one job file, or a command after `--`: `{words[0]} -- {' '.join(words[1:])}`"
    raise BadInputError(msg)


def key_of(ctx: typer.Context, words: Sequence[str]) -> str:
    """Return the id or name of the job whose newest run is meant: of a file, or the word itself.

    Raises:
        BadInputError: the file has neither, or options are given that only a new run could have.
        NotFoundError: the file does not exist.
    """
    fields = given_job(ctx)
    others = [f"--{name.replace('_', '-')}" for name in fields if name not in ("id", "name")] + task_options(ctx)
    if others or command_given(ctx) or len(words) != 1:
        msg = f"--retry: give a name or a file; the run keeps {', '.join(others) or 'its tasks'}"
        raise BadInputError(msg)
    if not _is_file(words):
        return words[0]
    from air_executor.store.job_file import load_mapping  # noqa: PLC0415 - see the module

    raw = load_mapping(*_content(words[0]))
    key = fields.get("id") or fields.get("name") or raw.get("id") or raw.get("name")
    if not isinstance(key, str):
        msg = f"{words[0]}: has neither id nor name"
        raise BadInputError(msg)
    return key


def _from_command(
    words: Sequence[str],
    count: int,
    fields: dict[str, Any],
    task_fields: dict[str, Any],
    params: Mapping[str, object],
) -> Job:
    """Return a job of one command, the last `count` of the words; before them stands its id, unless it has a name."""
    from air_executor.store.job_file import from_command  # noqa: PLC0415 - see the module

    before, command = words[: len(words) - count], words[len(words) - count :]
    if params:
        raise BadInputError("--param, --params-file: valid only with a job file, whose parameters they are")
    if "id" in fields:
        raise BadInputError("--id: valid only with a job file; the id stands before `--` here")
    if "name" in fields and before:
        msg = f"{before[0]}: a job has an id or a `--name`, not both"
        raise BadInputError(msg)
    if "name" not in fields and len(before) != 1:
        msg = f"no job id; to run a command, use `ID -- {shlex.join(command)}`"
        raise BadInputError(msg)
    return from_command(before[0] if before else None, command, **fields, **task_fields)


def _params(pairs: Sequence[str], file: str | None) -> dict[str, object]:
    """Return the values that `--params-file` and `--param` give; the latter win."""
    found: dict[str, object] = {}
    if file is not None:
        from air_executor.store.job_file import load_mapping  # noqa: PLC0415 - see the module

        found |= load_mapping(*_content(file), "a file of parameters is a mapping of names to values")
    return found | read_pairs(pairs, "--param")


def _renamed(fields: dict[str, Any]) -> dict[str, Any]:
    """Return job fields without the deprecated `queue`."""
    if "queue" in fields:
        if "pool" in fields:
            raise BadInputError("--pool and --queue: give one of them; --queue is a deprecated alias of --pool")
        note("warning: --queue is deprecated; use --pool")
        fields["pool"] = fields.pop("queue")
    return fields


def read_tasks(ctx: typer.Context, words: Sequence[str]) -> list[Task]:
    """Return the tasks that the arguments and options of `add` describe: a command, or those of a file.

    Raises:
        BadInputError: the file or an option is invalid.
        NotFoundError: the file does not exist.
    """
    fields = given_task(ctx, added=True)
    if not command_given(ctx) and _is_file(words):
        if options := task_options(ctx, added=True):
            raise _only_with_command(options)
        from air_executor.store.job_file import load_tasks  # noqa: PLC0415 - see the module

        return load_tasks(*_content(words[0]))
    from air_executor.model import parsing  # noqa: PLC0415 - see the module
    from air_executor.model.problems import InvalidError, bad_input, lines  # noqa: PLC0415 - see the module

    try:
        return [parsing.read_task({"command": list(words), **fields})]
    except InvalidError as error:
        raise bad_input(lines(error.problems)) from None


def warn_of(jobs: Iterable[Job], pools: Mapping[str, int] | None = None) -> None:
    """Warn about valid but suspicious fields: secrets in `env`, weights above the limit of a pool, and the like.

    `pools`: limits of the running manager, or those in the settings.
    """
    for job in jobs:
        _warn_of(job)
        _warn_of_weights(job, pools or {})


def _warn_of_weights(job: Job, pools: Mapping[str, int]) -> None:
    from air_executor.core.job_checks import task_ids  # noqa: PLC0415 - see the module

    heavy = {
        pool: (name, weight)
        for name, task in zip(task_ids(job), job.tasks, strict=True)
        for pool, weight in {job.pool: 1, **task.pools}.items()
        if weight > pools.get(pool, weight)
    }
    for pool, (name, weight) in heavy.items():
        what = f"needs {weight} of pool {pool}, whose limit is {pools[pool]} (AIR_POOLS)"
        note(f"warning: task {name} of job {job.key} can never start: it {what}")


def _warn_of(job: Job) -> None:
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


def _content(path: str) -> tuple[bytes, str]:
    """Return the content of a file, and its name for messages."""
    from air_executor.store.job_file import read_bytes  # noqa: PLC0415 - see the module

    if path != "-":
        return read_bytes(path), path
    if sys.stdin.isatty():
        note("reading from this terminal, until Ctrl-D")
    return sys.stdin.buffer.read(), "stdin"


def _only_with_command(options: Iterable[str]) -> BadInputError:
    return BadInputError(f"{', '.join(options)}: valid only with a command after `--`; with a file, set it in the file")
