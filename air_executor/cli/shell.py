"""`air-executor shell`: a shell, or a command, beside a running task."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import sys
import threading
from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer

from air_executor.cli.flags import JobArgument
from air_executor.cli.session import command_words, session_of, task_id
from air_executor.errors import BadInputError, NotFoundError
from air_executor.model.names import run_id
from air_executor.model.state import Running

if TYPE_CHECKING:
    from air_executor.backends.container.remote_process import RemoteProcess
    from air_executor.backends.local.run_process import RunProcess
    from air_executor.model.state import JobState

NAMED = 5
"""How many running tasks a message names."""


def shell(
    ctx: typer.Context,
    *,
    job: JobArgument,
    words: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[TASK] [-- COMMAND…]", help="Default: the only running task, and an interactive shell."
        ),
    ] = None,
) -> None:
    """Open a shell beside a running task, or run a command there; also in the kept runner of a failed one.

    It has what the task has: container or machine, user, limits, files, working directory and environment, secrets and
    $AIR_QUEUE included. It ends with the task's container. The exit code is that of the shell or the command.
    """
    session = session_of(ctx)
    given, count = words or [], command_words(ctx)
    command, names = given[len(given) - count :], given[: len(given) - count]
    if len(names) > 1:
        msg = f"shell: {names[1]} is no option and no task; a command follows `--`"
        raise BadInputError(msg)
    tty = sys.stdin.isatty() and sys.stdout.isatty()
    if not (command or tty):
        raise BadInputError("shell: a shell needs a terminal; without one, give a command after `--`")
    state = session.client().status(job)
    task, seq, backend = _running(state, task_id(state, names[0] if names else None))
    run = run_id(state.uid, seq)
    settings = session.settings(backend=backend)
    from air_executor.backends.local.run_process import RunProcess  # noqa: PLC0415 - beside the settings
    from air_executor.wiring import open_shell  # noqa: PLC0415

    opened = open_shell(settings, run, command, tty=tty)
    if isinstance(opened, RunProcess):
        _become(opened, command, f"{job}/{task}")
    raise typer.Exit(_attach(opened, tty=tty))


def _runs(state: JobState) -> dict[str, tuple[int, str | None]]:
    """Return number and backend of each task's run, if it is open or its runner is kept."""
    found = {task: (kept.seq, kept.backend) for task, kept in state.kept.items()}
    for one in state.tasks.values():
        if isinstance(run := one.status, Running):
            found[one.id] = run.seq, None if run.origin is None else run.origin.backend
    return found


def _running(state: JobState, task: str | None) -> tuple[str, int, str | None]:
    """Return the task that is meant, with number and backend of its run."""
    running = _runs(state)
    if task is None and len(running) > 1:
        more = f" and {len(running) - NAMED} more" if len(running) > NAMED else ""
        msg = f"job {state.id} has {len(running)} running tasks, name one: {', '.join(list(running)[:NAMED])}{more}"
        raise BadInputError(msg)
    if task is None and not running:
        msg = f"job {state.id} has no running task ({state.phase}); a shell is opened beside one"
        raise NotFoundError(msg)
    task = task or next(iter(running))
    if task not in running:
        msg = (
            f"task {task} of job {state.id} is not running ({state.tasks[task].phase}); a shell is opened beside a run"
        )
        raise NotFoundError(msg)
    return task, *running[task]


def _become(process: RunProcess, command: list[str], what: str) -> NoReturn:
    """Become the command, or a shell, with what the process of a task has."""
    environment = dict(process.environment)
    path = os.fsdecode(environment.get(b"PATH", os.fsencode(os.defpath)))
    argv = command or [shutil.which("bash", path=path) or "/bin/sh"]
    sys.stdout.flush()
    try:
        os.chdir(process.workdir)
    except OSError as error:
        msg = f"shell in {what}: cannot enter {process.workdir}: {error.strerror}"
        raise NotFoundError(msg) from error
    try:
        os.execvpe(argv[0], argv, environment)  # noqa: S606 - the user's own words
    except OSError as error:
        msg = f"shell in {what}: {argv[0]}: {error.strerror}"
        raise BadInputError(msg) from error


def _attach(process: RemoteProcess, *, tty: bool) -> int:
    """Connect a program to our terminal, or to our output, and return its exit code once it has ended."""
    with contextlib.closing(process):
        with _raw_terminal(process) if tty else contextlib.nullcontext():
            for stream, data in process.output():
                rest = memoryview(data)
                while rest:
                    rest = rest[os.write(stream, rest) :]
        return process.exit_code()


@contextlib.contextmanager
def _raw_terminal(process: RemoteProcess) -> Iterator[None]:
    """Pass on each key as it is typed, Ctrl-C included, and the size of the terminal."""
    import termios  # noqa: PLC0415 - only for terminals
    import tty  # noqa: PLC0415

    def resize(*_: Any) -> None:  # noqa: ANN401 - signal and frame
        size = os.get_terminal_size(sys.stdout.fileno())
        process.resize(size.lines, size.columns)

    def type_in() -> None:
        while data := os.read(sys.stdin.fileno(), 4096):
            process.send(data)

    before = termios.tcgetattr(sys.stdin)
    tty.setraw(sys.stdin, termios.TCSADRAIN)  # what is typed ahead is for the shell
    previous = signal.signal(signal.SIGWINCH, resize)
    try:
        resize()
        threading.Thread(target=type_in, name="keys", daemon=True).start()
        yield
    finally:
        signal.signal(signal.SIGWINCH, previous)
        termios.tcsetattr(sys.stdin, termios.TCSADRAIN, before)
