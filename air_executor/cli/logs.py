"""`air-executor logs`: the output of a job's tasks."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated

import typer

from air_executor.cli.session import ensure_task, session_of
from air_executor.cli.terminal import note
from air_executor.errors import NotFoundError
from air_executor.model.plain_text import clean_log
from air_executor.store.run_logs import open_log

if TYPE_CHECKING:
    from air_executor.client import Client
    from air_executor.model.state import JobState

CHUNK = 1 << 16
LONGEST = 1 << 16
"""Maximum size of an incomplete line that is kept; a longer line is printed in pieces as it is read."""
LOOK_EVERY = 0.1
"""Poll interval of `--follow`, in seconds; a network volume sends no events."""


def logs(
    ctx: typer.Context,
    job: Annotated[str, typer.Argument(metavar="JOB")],
    task: Annotated[
        str | None, typer.Argument(metavar="TASK", help="Default: all tasks, each line prefixed with the task id.")
    ] = None,
    run: Annotated[
        int | None, typer.Option(metavar="N", help="Number of the run. Default: the latest run of each task.")
    ] = None,
    follow: Annotated[
        bool, typer.Option("--follow", "-f", help="Stream the output until the task or job ends.")
    ] = False,
) -> None:
    """Print the output of a job's tasks.

    Stdout and stderr are merged. Files and pipes get every byte unchanged; a terminal gets text and colors only.
    """
    client = session_of(ctx).client()
    state = client.status(job)
    ensure_task(state, task)
    printer = Printer(client, state.id, task, run)
    if not printer.print_new(state) and not follow:
        printer.explain_empty(state)
    while follow and not printer.at_end(state):
        time.sleep(LOOK_EVERY)
        state = client.status(state.id, state.uid)
        printer.print_new(state)
    printer.finish()


class Printer:
    """Prints the logs of one job and remembers the position in each."""

    def __init__(self, client: Client, job: str, task: str | None, run: int | None) -> None:
        self._client = client
        self._job = job
        self._task = task
        self._run = run
        self._read: dict[int, int] = {}
        """Bytes read from each run's log."""
        self._rest: dict[int, bytes] = {}
        """The incomplete last line of each run's log."""
        self._names: dict[int, str] = {}
        self._complete: set[int] = set()
        """The runs that have ended and of which everything is read."""
        self._open: int | None = None
        """The run whose incomplete line was printed last, without its end."""
        self._since: int | None = None

    def print_new(self, state: JobState) -> bool:
        """Print new output; return whether any log exists."""
        for seq, name, ended in self._runs(state):
            if seq in self._complete:
                continue
            self._names[seq] = name
            for chunk in self._new(state, seq, name):
                self._print(seq, name, chunk)
            if ended and seq in self._read:
                self._complete.add(seq)
        sys.stdout.buffer.flush()
        return bool(self._read)

    def at_end(self, state: JobState) -> bool:
        """Return whether no more output can follow."""
        if self._task is None:
            return state.ended
        phase = state.tasks[self._task].phase
        return phase not in ("queued", "running")

    def finish(self) -> None:
        """Print last lines without a newline."""
        for seq, rest in self._rest.items():
            if rest or self._open == seq:
                self._line(seq, self._names[seq], rest)
        sys.stdout.buffer.flush()

    def explain_empty(self, state: JobState) -> None:
        """Report why no log exists."""
        if self._run is not None:
            whose = "" if self._task is None else f" of task {self._task}"
            msg = f"job {state.id} has no run {self._run}{whose}; `air-executor status {state.id}` lists its tasks"
            raise NotFoundError(msg)
        which = f"task {self._task}" if self._task is not None else "no task"
        note(f"{which} of job {state.id} has {'not ' if self._task is not None else ''}run yet")

    def _runs(self, state: JobState) -> list[tuple[int, str, bool]]:
        """Return the runs to print, and whether each has ended: the latest of each task, and later ones."""
        tasks = state.tasks.values() if self._task is None else [state.tasks[self._task]]
        if self._since is None:
            self._since = state.seq
        found: list[tuple[int, str, bool]] = []
        for task in tasks:
            ended = [attempt.seq for attempt in task.attempts]
            seqs = [*ended, task.run.seq] if task.run is not None else ended
            wanted = {self._run} if self._run is not None else {*seqs[-1:], *(seq for seq in seqs if seq > self._since)}
            found += [
                (seq, task.id, at < len(ended)) for at, seq in enumerate(seqs) if seq in wanted or seq in self._read
            ]
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
        rest = lines.pop()
        for line in lines:
            self._line(seq, name, line)
        if len(rest) > LONGEST:
            end = _last_whole(rest)
            self._line(seq, name, rest[:end], ends=False)
            rest = rest[end:]
        self._rest[seq] = rest

    def _line(self, seq: int, name: str, line: bytes, *, ends: bool = True) -> None:
        """Print a line, or the next piece of one."""
        out = sys.stdout.buffer
        if self._open not in (None, seq):
            out.write(b"\n")
        if self._open != seq and self._task is None:
            out.write(f"{name} | ".encode())
        if sys.stdout.isatty():
            line = clean_log(line.decode(errors="replace")).encode(errors="replace")
        out.write(line + b"\n" if ends else line)
        self._open = None if ends else seq


def _last_whole(text: bytes) -> int:
    """Return where the last UTF-8 character of a text begins if it may be incomplete, else the text's length."""
    for back in range(1, min(4, len(text)) + 1):
        if text[-back] >= 0xC0:  # noqa: PLR2004 - the first byte of several
            return len(text) - back
    return len(text)
