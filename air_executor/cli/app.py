"""The `air-executor` program: its commands, their shared options, and the exit codes and messages of errors.

A command is looked up by name and imported alone: `air-executor status` must not pay for the imports of `run`.
"""

from __future__ import annotations

import importlib
import os
import sys
import warnings
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple, cast

import typer
from typer.core import TyperCommand, TyperGroup

from air_executor.cli import lossy_stderr
from air_executor.cli.session import COMMAND_GIVEN, Session, session_of
from air_executor.errors import AirExecutorError

if TYPE_CHECKING:
    from click import Command, Context, HelpFormatter

PROGRAM = "air-executor"


class CommandEntry(NamedTuple):
    """A command in the list of commands."""

    module: str
    """Module in this package."""
    function: str
    """Function in the module; its docstring is the long help."""
    summary: str
    """Help in the list of commands: at most 60 characters, so that it fits a line of 80 columns."""


COMMANDS = {
    "run": CommandEntry("run", "run", "Run a job to completion and print its cost."),
    "manager": CommandEntry("manage", "manager", "Manage a state directory until stopped."),
    "submit": CommandEntry("submit", "submit", "Submit a job and print its id."),
    "add": CommandEntry("add", "add", "Add tasks to a job; an ended job is reopened."),
    "status": CommandEntry("status", "status", "Show all jobs, or one job with its tasks."),
    "wait": CommandEntry("wait", "wait", "Wait for jobs to end."),
    "logs": CommandEntry("logs", "logs", "Print the output of a job's tasks."),
    "explain": CommandEntry("explain", "explain", "Explain why a job or task is not running, or how it ended."),
    "cancel": CommandEntry("verbs", "cancel", "Cancel jobs, or one task of a job."),
    "pause": CommandEntry("verbs", "pause", "Pause jobs: running tasks finish, no new task starts."),
    "resume": CommandEntry("verbs", "resume", "Resume paused jobs."),
    "retry": CommandEntry("verbs", "retry", "Retry failed, cancelled and skipped tasks."),
    "report": CommandEntry("report", "report", "Report the cost of runs, compared with an always-on pool."),
    "prune": CommandEntry("prune", "prune", "Archive or delete ended jobs."),
    "doctor": CommandEntry("doctor", "doctor", "Check the settings, the volume, the backend and the jobs."),
    "schema": CommandEntry("schema", "schema", "Print the JSON Schema of job files."),
    "confirm-gone": CommandEntry("verbs", "confirm_gone", "Confirm that a job's unreachable runners have ended."),
    "completion": CommandEntry("completion", "completion", "Print or install a shell completion script."),
}
"""All commands, in the order of the help text."""

EXIT_INTERRUPTED = 130


def _keep(ctx: typer.Context, param: typer.CallbackParam, value: Any) -> Any:  # noqa: ANN401 - any option's value
    """Store a shared option in the session. It may precede or follow the command; the last one wins."""
    if value not in (None, False, 0):
        setattr(session_of(ctx), str(param.name), value)
    return value


def _shared(
    state_dir: Annotated[
        str | None,
        typer.Option(
            metavar="DIR",
            help="State directory. Default: AIR_STATE_DIR, else .air-executor here or in a parent folder.",
            callback=_keep,
            expose_value=False,
        ),
    ] = None,
    json: Annotated[
        bool,
        typer.Option(
            "--json", help="Print JSON, with the field names of state.json.", callback=_keep, expose_value=False
        ),
    ] = False,
    verbose: Annotated[
        bool, typer.Option("--verbose", "-v", help="Log to stderr.", callback=_keep, expose_value=False)
    ] = False,
    debug: Annotated[
        bool,
        typer.Option("--debug", help="Log debug output, show tracebacks.", callback=_keep, expose_value=False),
    ] = False,
) -> None:
    """Declare the options shared by all commands."""


def _show_version(value: bool) -> None:
    if value:
        from importlib.metadata import version  # noqa: PLC0415 - 20 ms, needed only here

        typer.echo(f"{PROGRAM} {version(PROGRAM)}")
        raise typer.Exit


def _top(
    version: Annotated[
        bool, typer.Option("--version", help="Show the version and exit.", is_eager=True, callback=_show_version)
    ] = False,
) -> None:
    """Declare the options of the program itself."""


def build(function: Callable[..., None], name: str) -> Command:
    """Return a command with the shared options added."""
    # `python -OO` drops docstrings.
    command = _single(function, name, function.__doc__ or COMMANDS[name].summary)
    command.params += _shared_params()
    return cast("Command", command)


def load(name: str) -> Command:
    """Import one command."""
    entry = COMMANDS[name]
    return build(getattr(importlib.import_module(f"air_executor.cli.{entry.module}"), entry.function), name)


def _single(function: Callable[..., None], name: str, text: str | None = None) -> Any:  # noqa: ANN401 - typer's own classes have no public name
    app = typer.Typer(add_completion=False, rich_markup_mode=None)
    app.command(name, cls=QuickCommand, help=text)(function)
    return typer.main.get_command(app)


def _shared_params() -> list[Any]:
    return [param for param in _single(_shared, "shared").params if param.name != "help"]


def _spare_pydantic(param: Any) -> Any:  # noqa: ANN401 - as above
    """Accept plain text without pydantic. Newer typers validate every value with it, which costs 100 ms."""
    process = type(param).process_value.__get__(param)
    annotation = getattr(getattr(param, "type_descriptor", None), "annotation", None)

    def take(ctx: typer.Context, value: object) -> object:
        is_text = isinstance(value, str) and annotation is str and not param.multiple
        if param.nargs != 1 or not (is_text or (value is None and not param.required)):
            return process(ctx, value)
        return param.callback(ctx, param, value) if param.callback is not None else value

    param.process_value = take
    return param


class QuickCommand(TyperCommand):
    """A command that parses plain arguments without pydantic."""

    def get_params(self, ctx: Context) -> Any:  # type: ignore[override] # noqa: ANN401 - typer's own classes
        """Return its arguments and options, `--help` included."""
        return [_spare_pydantic(param) for param in super().get_params(ctx)]  # type: ignore[arg-type]

    def parse_args(self, ctx: Context, args: list[str]) -> list[str]:  # type: ignore[override]
        """Parse arguments, and note whether there is a command after `--`: the parser drops the dashes."""
        ctx.meta[COMMAND_GIVEN] = "--" in args[:-1]
        return super().parse_args(ctx, args)  # type: ignore[arg-type]


class LazyGroup(TyperGroup):
    """A group that imports a command when it is used."""

    def get_params(self, ctx: Context) -> Any:  # type: ignore[override] # noqa: ANN401 - typer's own classes
        """See `QuickCommand`."""
        return [_spare_pydantic(param) for param in super().get_params(ctx)]  # type: ignore[arg-type]

    def list_commands(self, ctx: Context) -> list[str]:  # type: ignore[override] # noqa: ARG002 - see `build`
        """Return all command names, in the order of the help text."""
        return list(COMMANDS)

    def get_command(self, ctx: Context, cmd_name: str) -> Command | None:  # type: ignore[override] # noqa: ARG002
        """Return the command of that name, or None."""
        return load(cmd_name) if cmd_name in COMMANDS else None

    def format_commands(self, ctx: Context, formatter: HelpFormatter) -> None:  # type: ignore[override] # noqa: ARG002
        """List the commands without importing them."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, entry.summary) for name, entry in COMMANDS.items()])


def program() -> Any:  # noqa: ANN401 - as in `build`
    """Return the program as a command group."""
    app = typer.Typer(cls=LazyGroup, add_completion=False, rich_markup_mode=None, no_args_is_help=True)
    app.callback(help="Run tasks on ephemeral runners.")(_top)
    command: Any = typer.main.get_command(app)
    command.params += _shared_params()
    return command


def _warn(message: Warning | str, category: type[Warning], *_: object, **__: object) -> None:
    """Print a warning for users as every other message; those for programmers stay silent."""
    if issubclass(category, FutureWarning):
        sys.stderr.write(f"warning: {message}\n")


def run(arguments: Sequence[str]) -> int:
    """Run the program and return its exit code."""
    _open_closed_streams()
    lossy_stderr.install()
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")  # an unencodable character must not fail the command
    warnings.showwarning = _warn
    session = Session()
    try:
        program().main(args=list(arguments), prog_name=PROGRAM, obj=session)
        _flush()
    except SystemExit as leaving:
        return _code(leaving)
    except BrokenPipeError:
        return _reader_left()
    except KeyboardInterrupt:
        return EXIT_INTERRUPTED
    except AirExecutorError as error:
        if session.debug:
            _show_traceback()
        _complain(str(error))
        return error.exit_code
    except Exception as error:  # noqa: BLE001 - the outermost frame
        if session.debug:
            _show_traceback()
        hint = "" if session.debug else "; rerun with --debug for the traceback"
        _complain(f"internal error, please report it: {type(error).__name__}: {error}{hint}")
        return 1
    return 0


def _open_closed_streams() -> None:
    """Reopen standard streams that the caller closed (`>&-`); otherwise the next opened file becomes stdout."""
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, mode, encoding="utf-8"))  # noqa: SIM115 - open until the process exits


def _show_traceback() -> None:
    import traceback  # noqa: PLC0415 - only with --debug

    traceback.print_exc()


def _code(leaving: SystemExit) -> int:
    try:
        _flush()
    except BrokenPipeError:
        return _reader_left()
    return leaving.code if isinstance(leaving.code, int) else int(leaving.code is not None)


def _flush() -> None:
    sys.stdout.flush()


def _reader_left() -> int:
    """Exit quietly when the reader of the output has closed the pipe (`| head`)."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return 1


def _complain(message: str) -> None:
    from air_executor.cli.terminal import error  # noqa: PLC0415 - only for errors

    error(message)
