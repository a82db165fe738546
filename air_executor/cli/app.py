"""The `air-executor` program: its commands, their shared options, and the exit codes and messages of errors.

A command is looked up by name and imported alone: `air-executor status` must not pay for the imports of `run`.
"""

from __future__ import annotations

import contextlib
import errno
import importlib
import os
import sys
import warnings
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Annotated, Any, cast

import typer
from typer.core import TyperCommand, TyperGroup

from air_executor.cli import help_text, lossy_stderr
from air_executor.cli.commands import ALIASES, COMMANDS
from air_executor.cli.session import COMMAND_WORDS, Session, session_of
from air_executor.errors import AirExecutorError, BadInputError

if TYPE_CHECKING:
    from click import Command, Context, HelpFormatter

PROGRAM = "air-executor"


EXIT_INTERRUPTED = 130
_UNWRITABLE = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO)
"""What a write to stdout fails with where no file is named: a full disk, a lost terminal."""


def _keep(ctx: typer.Context, param: typer.CallbackParam, value: Any) -> Any:  # noqa: ANN401 - any option's value
    """Store a shared option in the session. It may precede or follow the command; the last one wins."""
    if value not in (None, False, 0):
        setattr(session_of(ctx), str(param.name), value)
    return value


def _shared_option(*names: str, help: str, metavar: str | None = None) -> Any:  # noqa: ANN401, A002 - typer's own class and word
    return typer.Option(
        *names,
        help=help,
        metavar=metavar,
        rich_help_panel=help_text.COMMON_SECTION,
        callback=_keep,
        expose_value=False,
    )


STATE_DIR = "State directory. Default: AIR_STATE_DIR, else .air-executor here or in a parent folder."

SERVER_HELP = "Manager's server to use in place of files. Default: AIR_SERVER."


def _shared(
    *,
    state_dir: Annotated[str | None, _shared_option("--state-dir", metavar="DIR", help=STATE_DIR)] = None,
    server: Annotated[str | None, _shared_option("--server", metavar="URL", help=SERVER_HELP)] = None,
    json: Annotated[bool, _shared_option("--json", help="Print JSON, with the field names of state.json.")] = False,
    verbose: Annotated[bool, _shared_option("--verbose", "-v", help="Log to stderr.")] = False,
    debug: Annotated[bool, _shared_option("--debug", help="Log debug output, show tracebacks.")] = False,
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
    entry = COMMANDS[name]
    command = _single(function, name, function.__doc__ or entry.summary)
    command.epilog = f"Example: {PROGRAM} {entry.example}"
    if entry.flags:
        from air_executor.cli import flags  # noqa: PLC0415 - for few commands

        for group in entry.flags:
            command.params += _params_of(flags.GROUPS[group])
    command.params += _params_of(_shared)
    return cast("Command", command)


def load(name: str) -> Command:
    """Import one command."""
    entry = COMMANDS[name]
    return build(getattr(importlib.import_module(f"air_executor.cli.{entry.module}"), entry.function), name)


def _single(function: Callable[..., None], name: str, text: str | None = None) -> Any:  # noqa: ANN401 - typer's own classes have no public name
    app = typer.Typer(add_completion=False, rich_markup_mode=None)
    app.command(name, cls=QuickCommand, help=text, context_settings=help_text.settings())(function)
    return typer.main.get_command(app)


def _params_of(declaration: Any) -> list[Any]:  # noqa: ANN401 - any function
    """Return the options that a function declares."""
    return [param for param in _single(declaration, "declaration").params if param.name != "help"]


def _spare_pydantic(param: Any) -> Any:  # noqa: ANN401 - as above
    """Accept plain text without pydantic. Newer typers validate every value with it, which costs 100 ms."""
    process = type(param).process_value.__get__(param)
    annotation = getattr(getattr(param, "type_descriptor", None), "annotation", None)

    def take(ctx: typer.Context, value: object) -> object:
        if annotation == list[str] and isinstance(value, (list, tuple)) and value:
            value = list(value)
        elif param.nargs != 1 or not (
            (isinstance(value, str) and annotation is str and not param.multiple)
            or (value is None and not param.required)
        ):
            try:
                return process(ctx, value)
            except typer.BadParameter as error:
                raise _in_plain_words(error, param, value) from error.__cause__
        return param.callback(ctx, param, value) if param.callback is not None else value

    param.process_value = take
    return param


def _in_plain_words(error: typer.BadParameter, param: Any, value: object) -> Exception:  # noqa: ANN401 - as above
    """Return the error in the words of all other ones, where it has those of pydantic."""
    errors = getattr(error.__cause__, "errors", None)
    if errors is None:
        return error
    found = errors()[0]
    limits = found.get("ctx", {})
    what = {
        "int_parsing": "must be a whole number",
        "greater_than_equal": f"must be at least {limits.get('ge')}",
        "less_than_equal": f"must be at most {limits.get('le')}",
    }.get(found["type"], "")
    if not what:
        return typer.BadParameter(str(error).removeprefix("Value error, "), error.ctx, error.param)
    return BadInputError(f"{max(param.opts, key=len)}: {what}, got {value!r}")


class QuickCommand(TyperCommand):
    """A command that parses plain arguments without pydantic."""

    def get_params(self, ctx: Context) -> Any:  # type: ignore[override] # noqa: ANN401 - typer's own classes
        """Return its arguments and options, `--help` included."""
        return [_spare_pydantic(param) for param in super().get_params(ctx)]  # type: ignore[arg-type]

    def collect_usage_pieces(self, ctx: Context) -> list[str]:  # type: ignore[override]
        """Return the usage after the name; an argument's own text tells whether it may be repeated."""
        return help_text.usage(self.get_params(ctx))

    def format_options(self, ctx: Context, formatter: HelpFormatter) -> None:  # type: ignore[override]
        """Write the options in sections."""
        help_text.write_options(self.get_params(ctx), ctx, formatter)

    def parse_args(self, ctx: Context, args: list[str]) -> list[str]:  # type: ignore[override]
        """Parse arguments, and note how many words a command after `--` has: the parser drops the dashes."""
        ctx.meta[COMMAND_WORDS] = len(args) - 1 - args.index("--") if "--" in args else 0
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
        name = ALIASES.get(cmd_name, cmd_name)
        return load(name) if name in COMMANDS else None

    def resolve_command(self, ctx: Context, args: list[str]) -> Any:  # type: ignore[override] # noqa: ANN401 - typer's own classes
        """Find the command, or say which one may have been meant."""
        if args[0] not in {*COMMANDS, *ALIASES} and not ctx.resilient_parsing:
            ctx.fail(help_text.unknown_command(args[0]))
        return super().resolve_command(ctx, args)  # type: ignore[arg-type]

    def format_options(self, ctx: Context, formatter: HelpFormatter) -> None:  # type: ignore[override]
        """Write the commands first."""
        help_text.write_commands(formatter)
        help_text.write_options(self.get_params(ctx), ctx, formatter)


def program() -> Any:  # noqa: ANN401 - as in `build`
    """Return the program as a command group."""
    app = typer.Typer(cls=LazyGroup, add_completion=False, rich_markup_mode=None, no_args_is_help=True)
    app.callback(help="Run tasks on ephemeral runners.", context_settings=help_text.settings())(_top)
    command: Any = typer.main.get_command(app)
    command.epilog = f"New here? Try: {PROGRAM} demo"
    command.params += _params_of(_shared)
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
        return _invoke(arguments, session)
    except KeyboardInterrupt:
        return EXIT_INTERRUPTED
    except Exception as error:  # noqa: BLE001 - the outermost frame
        return _fail(error, session)
    finally:
        session.close()


def _invoke(arguments: Sequence[str], session: Session) -> int:
    code: object = 0
    try:
        program().main(args=list(arguments), prog_name=PROGRAM, obj=session)
    except SystemExit as leaving:
        code = leaving.code
    sys.stdout.flush()
    return code if isinstance(code, int) else int(code is not None)


def _fail(error: Exception, session: Session) -> int:
    """Say what went wrong, and return the exit code."""
    if isinstance(error, BrokenPipeError):
        return _drop_output()
    if isinstance(error, OSError) and error.errno in _UNWRITABLE and error.filename is None:
        _complain(f"the output cannot be written: {error.strerror}")
        return _drop_output()
    if session.debug:
        _show_traceback()
    if isinstance(error, AirExecutorError):
        _complain(str(error))
        return error.exit_code
    hint = "" if session.debug else "; rerun with --debug for the traceback"
    _complain(f"internal error, please report it: {type(error).__name__}: {error}{hint}")
    return 1


def complete(words: Sequence[str]) -> int:
    """Print what may stand at the cursor, for a shell's completion script, and return the exit code."""
    from air_executor.cli.candidates import print_candidates  # noqa: PLC0415 - only for shells

    with contextlib.suppress(Exception):  # nothing may disturb somebody's typing
        print_candidates(words, load, program().params)
        sys.stdout.flush()
    return 0


def _open_closed_streams() -> None:
    """Reopen standard streams that the caller closed (`>&-`); otherwise the next opened file becomes stdout."""
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, mode, encoding="utf-8"))  # noqa: SIM115 - open until the process exits


def _show_traceback() -> None:
    import traceback  # noqa: PLC0415 - only with --debug

    traceback.print_exc()


def _drop_output() -> int:
    """Exit without the rest of the output: its reader has closed the pipe (`| head`), or its disk is full."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return 1


def _complain(message: str) -> None:
    from air_executor.cli.terminal import error  # noqa: PLC0415 - only for errors

    error(message)
