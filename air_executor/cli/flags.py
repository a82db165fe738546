"""Options that several commands take, declared once: those of a job, of a task, and those that choose jobs.

A command names the groups that it takes in the list of commands; the functions `given_…` return what the user set. The
functions `…_flags` are declarations for typer, and are never called.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Annotated, Any

import typer

from air_executor.cli.choice import JobChoice
from air_executor.errors import BadInputError
from air_executor.model.pairs import read_pairs

GIVEN = "air_executor.flags"
"""In a context's `meta`: the options that are set, by parameter name."""
JOB_SECTION, TASK_SECTION = "Job options", "Task options"

JobArgument = Annotated[str, typer.Argument(metavar="JOB")]
BackendOption = Annotated[str | None, typer.Option("--backend", help="Backend: local, docker or kubernetes.")]


def _keep(ctx: typer.Context, param: typer.CallbackParam, value: Any) -> Any:  # noqa: ANN401 - any option's value
    if value not in (None, [], ()):
        ctx.meta.setdefault(GIVEN, {})[str(param.name)] = value
    return value


def _option(
    *names: str,
    help: str,  # noqa: A002 - typer's own word
    section: str | None = None,
    metavar: str | None = None,
    hidden: bool = False,
) -> Any:  # noqa: ANN401 - typer's own class
    return typer.Option(
        *names,
        help=help,
        metavar=metavar,
        hidden=hidden,
        rich_help_panel=section,
        callback=_keep,
        expose_value=False,
    )


def _job(*names: str, help: str, metavar: str | None = None, hidden: bool = False) -> Any:  # noqa: ANN401, A002 - as above
    return _option(*names, section=JOB_SECTION, help=help, metavar=metavar, hidden=hidden)


def _task(*names: str, help: str, metavar: str | None = None) -> Any:  # noqa: ANN401, A002 - as above
    return _option(*names, section=TASK_SECTION, help=help, metavar=metavar)


def read_duration(flag: str, text: str) -> float:
    """Return the seconds that an option names.

    Raises:
        BadInputError: it names none.
    """
    from air_executor.model.times import parse_duration  # noqa: PLC0415 - few commands take one

    try:
        return parse_duration(text)
    except BadInputError as error:
        msg = f"{flag}: {error}"
        raise BadInputError(msg) from None


def check_action(command: str, action: str | None, actions: Collection[str]) -> str:
    """Return the first word behind a command, if it is one of its actions.

    Raises:
        BadInputError: it is none.
    """
    if action is None:
        msg = f"{command}: give one of {', '.join(actions)}"
        raise BadInputError(msg)
    if action not in actions:
        from air_executor.model.problems import nearest  # noqa: PLC0415 - only for errors

        guess = nearest(action, actions)
        hint = f"did you mean {guess}?" if guess else f"there are: {', '.join(actions)}"
        msg = f"{command} {action}: unknown; {hint}"
        raise BadInputError(msg)
    return action


LABEL = "Label, for people. Repeatable."


def job_flags(
    *,
    max_runners: Annotated[int | None, _job("--max-runners", help="Maximum number of concurrent tasks.")] = None,
    pool: Annotated[str | None, _job("--pool", help="Pool that limits the job's runners.")] = None,
    queue: Annotated[str | None, _job("--queue", hidden=True, help="Deprecated alias of --pool.")] = None,
    priority: Annotated[int | None, _job("--priority", help="Priority among jobs; higher starts first.")] = None,
    after: Annotated[
        list[str] | None, _job("--after", metavar="JOB", help="Job that must succeed first. Repeatable.")
    ] = None,
    param: Annotated[
        list[str] | None,
        _job("--param", "-p", metavar="NAME=VALUE", help="Value of a parameter of the file. Repeatable."),
    ] = None,
    params_file: Annotated[
        str | None,
        _job("--params-file", metavar="FILE", help="Values of parameters, as YAML or JSON; --param wins."),
    ] = None,
    id: Annotated[str | None, _job("--id", metavar="ID", help="Id, in place of the file's id or name.")] = None,  # noqa: A002 - the field
    name: Annotated[
        str | None, _job("--name", metavar="NAME", help="Name of a job that runs many times, in place of an id.")
    ] = None,
    label: Annotated[list[str] | None, _job("--label", metavar="NAME=VALUE", help=LABEL)] = None,
    description: Annotated[
        str | None, _job("--description", metavar="TEXT", help="Description of the job, for people.")
    ] = None,
) -> None:
    """Declare the options of a job."""


def added_task_flags(
    *,
    id: Annotated[str | None, _task("--id", metavar="TASK", help="Task id. Default: generated.")] = None,  # noqa: A002 - the field
    after: Annotated[
        list[str] | None,
        _task("--after", metavar="TASK", help="Task that must succeed first, with every task it queued. Repeatable."),
    ] = None,
    priority: Annotated[int | None, _task("--priority", help="Priority within the job; higher starts first.")] = None,
    label: Annotated[list[str] | None, _task("--label", metavar="NAME=VALUE", help=LABEL)] = None,
    description: Annotated[
        str | None, _task("--description", metavar="TEXT", help="Description of the task, for people.")
    ] = None,
) -> None:
    """Declare the options of a task that joins a job."""


def task_flags(
    *,
    env: Annotated[
        list[str] | None,
        _task("--env", "-e", metavar="NAME=VALUE", help="Environment variable for the command. Repeatable."),
    ] = None,
    secret: Annotated[
        list[str] | None, _task("--secret", metavar="NAME", help="Secret to put into the environment. Repeatable.")
    ] = None,
    image: Annotated[str | None, _task("--image", metavar="IMAGE", help="Container image.")] = None,
    memory: Annotated[str | None, _task("--memory", metavar="SIZE", help="Memory: 512Mi, 2Gi.")] = None,
    cpu: Annotated[str | None, _task("--cpu", metavar="N", help="CPUs: 2, 0.5, 500m.")] = None,
    timeout: Annotated[
        str | None, _task("--timeout", metavar="DURATION", help="Time limit for one run: 90, 90s, 10m, 1h30m.")
    ] = None,
    retries: Annotated[int | None, _task("--retries", help="Maximum number of retries.")] = None,
    retry_delay: Annotated[str | None, _task("--retry-delay", metavar="DURATION", help="Delay before a retry.")] = None,
    delay: Annotated[
        str | None, _task("--delay", metavar="DURATION", help="Minimum delay before the first run.")
    ] = None,
    workdir: Annotated[
        str | None, _task("--workdir", metavar="DIR", help="Working directory, relative to the project folder.")
    ] = None,
) -> None:
    """Declare the options of a task with a command."""


def choice_flags(
    *,
    label: Annotated[
        list[str] | None, _option("--label", metavar="NAME[=VALUE]", help="Only jobs with this label. Repeatable.")
    ] = None,
    pool: Annotated[str | None, _option("--pool", metavar="POOL", help="Only jobs of this pool.")] = None,
) -> None:
    """Declare the options that choose jobs."""


GROUPS = {"job": job_flags, "added task": added_task_flags, "task": task_flags, "choice": choice_flags}
_JOB_NAMES = tuple(job_flags.__annotations__)


def given_job(ctx: typer.Context) -> dict[str, Any]:
    """Return the job fields that options set.

    Raises:
        BadInputError: one of them is not NAME=VALUE.
    """
    return _fields({name: value for name, value in _given(ctx).items() if name in _JOB_NAMES})


def given_choice(ctx: typer.Context) -> JobChoice:
    """Return which jobs the options choose.

    Raises:
        BadInputError: a label has no name.
    """
    return JobChoice(**_given(ctx))


def given_task(ctx: typer.Context, *, added: bool = False) -> dict[str, Any]:
    """Return the task fields that options set; `added`: all options are a task's, and none a job's.

    Raises:
        BadInputError: one of them is not NAME=VALUE.
    """
    return _fields({name: value for name, value in _given(ctx).items() if added or name not in _JOB_NAMES})


def task_options(ctx: typer.Context, *, added: bool = False) -> list[str]:
    """Return the options of a task that are set, as they were typed."""
    return [f"--{name.replace('_', '-')}" for name in _given(ctx) if added or name not in _JOB_NAMES]


def _given(ctx: typer.Context) -> dict[str, Any]:
    found: dict[str, Any] = ctx.meta.get(GIVEN, {})
    return found


def _fields(flags: dict[str, Any]) -> dict[str, Any]:
    """Return options as fields of a job file."""
    fields = dict(flags)
    if "secret" in fields:
        fields["secrets"] = fields.pop("secret")
    if "label" in fields:
        fields["labels"] = read_pairs(fields.pop("label"), "--label")
    if "env" in fields:
        fields["env"] = read_pairs(fields["env"], "--env")
    if resources := {name: fields.pop(name) for name in ("memory", "cpu") if name in fields}:
        fields["resources"] = {name: _number(text) for name, text in resources.items()}
    return fields


def _number(text: str) -> str | float:
    """Return a number that was typed as one; anything else is for the field's own check."""
    try:
        return int(text) if text.isdecimal() else float(text)
    except ValueError:
        return text
