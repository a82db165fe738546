"""The `air-executor` program: which commands there are, the options they share, and what becomes of errors.

Commands are found by name and imported one at a time, because `air-executor status` must not pay for what `run` needs.
"""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Annotated, Any, cast

import typer
from typer.core import TyperCommand, TyperGroup

from air_executor.cli.session import Session, session_of
from air_executor.errors import AirExecutorError

if TYPE_CHECKING:
    from click import Command, Context

PROGRAM = "air-executor"

COMMANDS = {
    "run": "run:run",
    "manager": "manage:manager",
    "submit": "submit:submit",
    "add": "add:add",
    "status": "status:status",
    "wait": "wait:wait",
    "logs": "logs:logs",
    "explain": "explain:explain",
    "cancel": "verbs:cancel",
    "pause": "verbs:pause",
    "resume": "verbs:resume",
    "retry": "verbs:retry",
    "report": "report:report",
    "prune": "prune:prune",
    "doctor": "doctor:doctor",
    "schema": "schema:schema",
    "confirm-gone": "verbs:confirm_gone",
    "completion": "completion:completion",
}
"""Where each command lives: module in this package, function in it."""

EXIT_INTERRUPTED = 130


def _keep(ctx: typer.Context, param: typer.CallbackParam, value: Any) -> Any:  # noqa: ANN401 - any option's value
    """Note a shared option; it may stand before or after the command, and the latter wins."""
    if value not in (None, False, 0):
        setattr(session_of(ctx), str(param.name), value)
    return value


def _shared(
    state_dir: Annotated[
        str | None,
        typer.Option(
            metavar="DIR",
            help="State directory. Default: AIR_STATE_DIR, else .air-executor here or above.",
            callback=_keep,
            expose_value=False,
        ),
    ] = None,
    json: Annotated[
        bool,
        typer.Option(
            "--json", help="Print data as JSON, with the names of state.json.", callback=_keep, expose_value=False
        ),
    ] = False,
    verbose: Annotated[
        bool, typer.Option("--verbose", "-v", help="Log what happens to stderr.", callback=_keep, expose_value=False)
    ] = False,
    debug: Annotated[
        bool, typer.Option("--debug", help="Log everything, and show tracebacks.", callback=_keep, expose_value=False)
    ] = False,
) -> None:
    """Declare the options that every command has."""


def _show_version(value: bool) -> None:
    if value:
        from importlib.metadata import version  # noqa: PLC0415 - 20 ms that only this needs

        typer.echo(f"{PROGRAM} {version(PROGRAM)}")
        raise typer.Exit


def _top(
    version: Annotated[
        bool, typer.Option("--version", help="Show the version and exit.", is_eager=True, callback=_show_version)
    ] = False,
) -> None:
    """Run tasks on ephemeral runners: a runner exists only while its task runs."""


def build(function: Callable[..., None], name: str) -> Command:
    """Return one command with the shared options."""
    command = _single(function, name)
    command.params += _shared_params()
    return cast("Command", command)


def _single(function: Callable[..., None], name: str) -> Any:  # noqa: ANN401 - typer's own classes have no public name
    app = typer.Typer(add_completion=False, rich_markup_mode=None)
    app.command(name, cls=QuickCommand)(function)
    return typer.main.get_command(app)


def _shared_params() -> list[Any]:
    return [param for param in _single(_shared, "shared").params if param.name != "help"]


def _spare_pydantic(param: Any) -> Any:  # noqa: ANN401 - as above
    """Take text for text without pydantic, which newer typers ask about every value: that would be 100 ms."""
    process = type(param).process_value.__get__(param)
    annotation = getattr(getattr(param, "type_descriptor", None), "annotation", None)

    def take(ctx: typer.Context, value: object) -> object:
        is_text = isinstance(value, str) and annotation is str
        if param.nargs != 1 or param.multiple or not (is_text or (value is None and not param.required)):
            return process(ctx, value)
        return param.callback(ctx, param, value) if param.callback is not None else value

    param.process_value = take
    return param


class QuickCommand(TyperCommand):
    """A command that reads its arguments without pydantic where they are plain."""

    def get_params(self, ctx: Context) -> Any:  # type: ignore[override] # noqa: ANN401 - typer's own classes
        """Return its arguments and options, `--help` among them."""
        return [_spare_pydantic(param) for param in super().get_params(ctx)]  # type: ignore[arg-type]


class LazyGroup(TyperGroup):
    """A group whose commands are imported when they are asked for."""

    def get_params(self, ctx: Context) -> Any:  # type: ignore[override] # noqa: ANN401 - typer's own classes
        """See `QuickCommand`."""
        return [_spare_pydantic(param) for param in super().get_params(ctx)]  # type: ignore[arg-type]

    def list_commands(self, ctx: Context) -> list[str]:  # type: ignore[override] # noqa: ARG002 - see `build`
        """Return the names of all commands, in the order of the help text."""
        return list(COMMANDS)

    def get_command(self, ctx: Context, cmd_name: str) -> Command | None:  # type: ignore[override] # noqa: ARG002
        """Return one command, or None if there is none of that name."""
        if cmd_name not in COMMANDS:
            return None
        module, function = COMMANDS[cmd_name].split(":")
        return build(getattr(importlib.import_module(f"air_executor.cli.{module}"), function), cmd_name)


def program() -> Any:  # noqa: ANN401 - as in `build`
    """Return the whole program as a command."""
    app = typer.Typer(cls=LazyGroup, add_completion=False, rich_markup_mode=None, no_args_is_help=True)
    app.callback()(_top)
    command: Any = typer.main.get_command(app)
    command.params += _shared_params()
    return command


def run(arguments: Sequence[str]) -> int:
    """Run the program and return its exit code."""
    _open_closed_streams()
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(
                errors="backslashreplace"
            )  # a terminal that cannot show a character is no reason to fail
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
    except Exception as error:  # noqa: BLE001 - the outer edge
        if session.debug:
            _show_traceback()
        hint = "" if session.debug else "; run it again with --debug to see where"
        _complain(f"this is a bug in {PROGRAM}: {type(error).__name__}: {error}{hint}")
        return 1
    return 0


def _open_closed_streams() -> None:
    """Open what the caller has closed (`>&-`), lest the next file we open becomes our stdout."""
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, mode, encoding="utf-8"))  # noqa: SIM115 - open for as long as we run


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
    """Whoever read our output has enough of it (`| head`): leave quietly, as other programs do."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return 1


def _complain(message: str) -> None:
    from air_executor.model.plain_text import clean  # noqa: PLC0415 - only for errors

    lines = "\n  ".join(
        clean(line) for line in message.split("\n  ")
    )  # an error with several problems has a line for each
    sys.stderr.write(f"error: {lines}\n")
