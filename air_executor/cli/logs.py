"""`air-executor logs`: what the tasks of a job printed."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated

import typer

from air_executor.cli.session import session_of
from air_executor.cli.terminal import note
from air_executor.errors import NotFoundError
from air_executor.model.plain_text import clean_log
from air_executor.store.run_logs import open_log

if TYPE_CHECKING:
    from air_executor.client import Client
    from air_executor.model.state import JobState, TaskState

CHUNK = 1 << 16
LOOK_EVERY = 0.1
"""Seconds between two looks with `--follow`; the log may lie on a volume that sends no events."""


def logs(
    ctx: typer.Context,
    job: Annotated[str, typer.Argument(metavar="JOB")],
    task: Annotated[
        str | None, typer.Argument(metavar="TASK", help="Default: all tasks, each line with its task's id.")
    ] = None,
    run: Annotated[
        int | None, typer.Option(metavar="N", help="The run with this number. Default: each task's newest.")
    ] = None,
    follow: Annotated[
        bool, typer.Option("--follow", "-f", help="Go on until the task, or the job, has ended.")
    ] = False,
) -> None:
    """Print what the tasks of a job printed, stdout and stderr together.

    To a file or a pipe goes every byte as it was written. On a terminal only colours are let through.
    """
    client = session_of(ctx).client()
    state = client.status(job)
    if task is not None and task not in state.tasks:
        msg = f"job {job} has no task {task}; `air-executor status {job}` lists them"
        raise NotFoundError(msg)
    printer = Printer(client, job, task, run)
    if not printer.look(state) and not follow:
        printer.explain_nothing(state)
    while follow and not printer.at_end(state):
        time.sleep(LOOK_EVERY)
        state = client.status(job)
        printer.look(state)
    printer.finish()


class Printer:
    """Prints the logs of one job, each from where it left off."""

    def __init__(self, client: Client, job: str, task: str | None, run: int | None) -> None:
        self._client = client
        self._job = job
        self._task = task
        self._run = run
        self._read: dict[int, int] = {}
        """Bytes read of each run's log."""
        self._rest: dict[int, bytes] = {}
        """The last line of a run's log, while it has no end."""
        self._names: dict[int, str] = {}
        self._since: int | None = None

    def look(self, state: JobState) -> bool:
        """Print what is new; tell whether there is any log at all."""
        for seq, name in self._runs(state):
            self._names[seq] = name
            for chunk in self._new(state, seq, name):
                self._print(seq, name, chunk)
        sys.stdout.buffer.flush()
        return bool(self._read)

    def at_end(self, state: JobState) -> bool:
        """Tell whether nothing more can come."""
        if self._task is None:
            return state.ended
        phase = state.tasks[self._task].phase
        return phase not in ("queued", "running")

    def finish(self) -> None:
        """Print last lines that had no end."""
        for seq, rest in self._rest.items():
            if rest:
                self._line(self._names[seq], rest)
        sys.stdout.buffer.flush()

    def explain_nothing(self, state: JobState) -> None:
        """Say why there is nothing to print."""
        if self._run is not None:
            whose = "" if self._task is None else f" of task {self._task}"
            msg = f"job {state.id} has no run {self._run}{whose} here"
            raise NotFoundError(msg)
        which = f"task {self._task}" if self._task is not None else "no task"
        note(f"{which} of job {state.id} has {'not ' if self._task is not None else ''}run yet")

    def _runs(self, state: JobState) -> list[tuple[int, str]]:
        """Return the runs to show: each task's newest, and with `--follow` those that come after."""
        tasks = state.tasks.values() if self._task is None else [state.tasks[self._task]]
        if self._since is None:
            self._since = state.seq
        found: list[tuple[int, str]] = []
        for task in tasks:
            seqs = _seqs(task)
            wanted = {self._run} if self._run is not None else {*seqs[-1:], *(seq for seq in seqs if seq > self._since)}
            found += [(seq, task.id) for seq in seqs if seq in wanted or seq in self._read]
        return sorted(found)

    def _new(self, state: JobState, seq: int, name: str) -> Iterator[bytes]:
        file = open_log(self._client.layout, state, name, seq)
        if file is None:
            return
        with file:
            file.seek(self._read.setdefault(seq, 0))
            while chunk := file.read(CHUNK):
                self._read[seq] += len(chunk)
                yield chunk

    def _print(self, seq: int, name: str, chunk: bytes) -> None:
        if self._task is not None and not sys.stdout.isatty():
            sys.stdout.buffer.write(chunk)
            return
        lines = (self._rest.pop(seq, b"") + chunk).split(b"\n")
        self._rest[seq] = lines.pop()
        for line in lines:
            self._line(name, line)

    def _line(self, name: str, line: bytes) -> None:
        prefix = b"" if self._task is not None else f"{name} | ".encode()
        if sys.stdout.isatty():
            line = clean_log(line.decode(errors="replace")).encode(errors="replace")
        sys.stdout.buffer.write(prefix + line + b"\n")


def _seqs(task: TaskState) -> list[int]:
    from air_executor.model.state import Running  # noqa: PLC0415

    seqs = [attempt.seq for attempt in task.attempts]
    return [*seqs, task.status.seq] if isinstance(task.status, Running) else seqs
