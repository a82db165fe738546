"""`air-executor logs`: the output of a job's tasks."""

from __future__ import annotations

import sys
import time
from collections.abc import Collection, Iterator
from typing import TYPE_CHECKING, Annotated, BinaryIO

import typer

from air_executor.cli.flags import JobArgument
from air_executor.cli.log_printer import LogPrinter, RunLog, line_start, tail_start
from air_executor.cli.session import session_of, task_id
from air_executor.cli.since import since_moment
from air_executor.cli.terminal import line_cleaner, note, write_bytes
from air_executor.core.task_runs import runs_by_attempt, runs_text
from air_executor.errors import BadInputError, NotFoundError

if TYPE_CHECKING:
    from air_executor.client.job_access import JobAccess, LogAccess
    from air_executor.model.state import JobState
    from air_executor.store.log_times import LogTimes

FIRST_PAUSE = 0.05
"""Seconds between two looks of `--follow` while something happens; a network volume sends no events."""
LONGEST_PAUSE = 1.0
"""The same, once nothing has happened for a while."""


def logs(
    ctx: typer.Context,
    *,
    job: JobArgument,
    task: Annotated[
        str | None, typer.Argument(metavar="TASK", help="Default: all tasks, each line prefixed with the task id.")
    ] = None,
    run: Annotated[
        int | None, typer.Option(metavar="N", help="Number of the run. Default: the latest run of each task.")
    ] = None,
    attempt: Annotated[
        int | None, typer.Option(min=1, metavar="N", help="Attempt of each task, in place of --run; 1 is the first.")
    ] = None,
    tail: Annotated[
        int | None, typer.Option("--tail", "-n", min=0, metavar="N", help="Only the last N lines of each run.")
    ] = None,
    since: Annotated[
        str | None,
        typer.Option(metavar="TIME", help="Only lines written since then: a duration (10m), a day or a time."),
    ] = None,
    timestamps: Annotated[
        bool, typer.Option("--timestamps", "-t", help="Precede each line with the time when it was written.")
    ] = False,
    follow: Annotated[
        bool, typer.Option("--follow", "-f", help="Stream the output until the task or job ends.")
    ] = False,
    service: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="The log of a service of the task, which is kept when the run ends."),
    ] = None,
) -> None:
    """Print the output of a job's tasks.

    Stdout and stderr are merged. Files and pipes get every byte unchanged; a terminal gets text and colors only. Times
    are exact to a second in a short run, and to a thousandth of its age in a long one.
    """
    client = session_of(ctx).client()
    moment = None if since is None else since_moment(since, time.time())
    state = client.status(job)
    task = task_id(state, task)
    if service is not None and (follow or timestamps or moment is not None):
        raise BadInputError("--service: the log of a service has no times, and is kept when its run ends")
    if run is not None and attempt is not None:
        raise BadInputError("--run and --attempt: give one of them")
    source = client.logs if service is None else _ServiceLogs(client.logs, service)
    shown = JobLogs(source, task, run, attempt=attempt, tail=tail, since=moment, timestamps=timestamps)
    shown.print_new(state)
    if service is not None and not shown.found:
        msg = f"job {state.id} has no log of a service {service}; it is kept once the run has ended"
        raise NotFoundError(msg)
    if not shown.found and not follow:
        shown.explain_empty(state)
    if follow:
        _follow(client, shown, state)
    shown.finish()


def _follow(client: JobAccess, shown: JobLogs, state: JobState) -> None:
    """Print until the end. The state is read when it has changed, and less often while nothing happens."""
    seen: object = None  # what was read may have changed since
    pause = FIRST_PAUSE
    while not shown.at_end(state):
        time.sleep(pause)
        pause = min(LONGEST_PAUSE, pause * 1.5)
        changed = client.changed_at(state.id)
        if changed != seen:
            seen, pause = changed, FIRST_PAUSE
            state = client.status(state.id, state.uid)
        if shown.print_new(state):
            pause = FIRST_PAUSE


class _ServiceLogs:
    """The logs of the services of one name, as if they were those of their tasks; see `LogAccess`."""

    def __init__(self, logs: LogAccess, service: str) -> None:
        self._logs = logs
        self._service = service

    def open(self, job: JobState, task: str, seq: int, service: str | None = None) -> BinaryIO | None:
        """See `LogAccess`."""
        return self._logs.open(job, task, seq, service or self._service)

    def size(self, job: JobState, task: str, seq: int) -> int | None:  # noqa: ARG002 - as declared
        """See `LogAccess`."""
        return None

    def times(self, job: JobState, task: str, seq: int, log: BinaryIO) -> LogTimes:
        """See `LogAccess`. Nobody asks: they are not known."""
        return self._logs.times(job, task, seq, log)

    def is_removed(self, job: JobState, task: str, seq: int) -> bool:
        """See `LogAccess`."""
        return self._logs.is_removed(job, task, seq)


class JobLogs:
    """The logs of one job, or of one of its tasks, and what of them was printed."""

    def __init__(
        self,
        source: LogAccess,
        task: str | None,
        run: int | None,
        *,
        attempt: int | None = None,
        tail: int | None = None,
        since: float | None = None,
        timestamps: bool = False,
    ) -> None:
        self._source = source
        self._task = task
        self._run = run
        self._attempt = attempt
        self._tail = tail
        self._since = since
        self._printer = LogPrinter(source, write_bytes, clean=line_cleaner(), timestamps=timestamps)
        self._open: dict[int, RunLog] = {}
        """The runs of which more can come."""
        self._complete: set[int] = set()
        """The runs that have ended and of which everything is read."""
        self._first: int | None = None
        """The latest run when we began; `--tail` and the like are about what was there then."""
        self.found = False
        """Whether any log exists."""

    def print_new(self, state: JobState) -> bool:
        """Print new output; return whether there was any."""
        news = False
        for log, ended in self._runs(state):
            printed = self._printer.print_new(log, self._start)
            self.found = self.found or printed is not None
            news = news or bool(printed)
            self._open[log.seq] = log
            if ended and printed is not None:
                self._complete.add(log.seq)
        sys.stdout.buffer.flush()
        return news

    def at_end(self, state: JobState) -> bool:
        """Return whether no more output can follow."""
        if self._task is None:
            return state.ended
        phase = state.tasks[self._task].phase
        return phase not in ("queued", "running")

    def finish(self) -> None:
        """Print last lines without a newline."""
        for log in self._open.values():
            self._printer.finish(log)
        sys.stdout.buffer.flush()

    def explain_empty(self, state: JobState) -> None:
        """Report why no log exists."""
        if removed := [seq for seq, log in self._open.items() if self._source.is_removed(log.job, log.task, log.seq)]:
            msg = (
                f"the log of job {state.id}, {_runs_text(removed)}, does not exist any more: retention has removed it "
                "(`keep_runs`, `keep_runs_for`, `air-executor prune`), or this is a copy of the state without it"
            )
            self._say(msg)
            return
        if self._open:
            first = min(self._open.values(), key=lambda log: log.seq)
            why = f"`air-executor explain {state.id} {first.task}` says how it stands"
            self._say(f"job {state.id}, {_runs_text(self._open)}: no log; {why}")
            return
        if self._names_run:
            raise NotFoundError(self._no_such_run(state))
        which = f"task {self._task}" if self._task is not None else "no task"
        note(f"{which} of job {state.id} has {'not ' if self._task is not None else ''}run yet")

    @property
    def _names_run(self) -> bool:
        return self._run is not None or self._attempt is not None

    def _say(self, message: str) -> None:
        """Report that there is no log: an error where a run is named."""
        if self._names_run:
            raise NotFoundError(message)
        note(message)

    def _no_such_run(self, state: JobState) -> str:
        what = f"attempt {self._attempt}" if self._run is None else f"run {self._run}"
        if self._task is None:
            return f"job {state.id} has no {what}; `air-executor status {state.id}` lists its tasks"
        return f"job {state.id} has no {what} of task {self._task}; {runs_text(state.tasks[self._task])}"

    def _runs(self, state: JobState) -> Iterator[tuple[RunLog, bool]]:
        """Yield the runs to print, and whether each has ended: the latest of each task, and later ones."""
        tasks = state.tasks.values() if self._task is None else [state.tasks[self._task]]
        if self._first is None:
            self._first = state.seq
        found: list[tuple[int, str, bool]] = []
        for task in tasks:
            runs = runs_by_attempt(task)
            wanted = self._wanted(runs, self._first)
            found += [
                (seq, task.id, task.run is None or seq != task.run.seq)
                for seq in runs.values()
                if (seq in wanted or seq in self._open) and seq not in self._complete
            ]
        for seq, name, over in sorted(found):
            yield RunLog(state, name, seq, f"{name} | " if self._task is None else ""), over

    def _wanted(self, runs: dict[int, int], first: int) -> set[int]:
        """Return which runs of a task are to be printed; `runs`: by attempt."""
        if self._attempt is not None:
            return {runs[self._attempt]} if self._attempt in runs else set()
        if self._run is not None:
            return {self._run}
        return {*list(runs.values())[-1:], *(seq for seq in runs.values() if seq > first)}

    def _start(self, log: RunLog, file: BinaryIO) -> int:
        """Return where to begin in a log."""
        if self._first is not None and log.seq > self._first:
            return 0
        begin = 0 if self._tail is None else tail_start(file, self._tail)
        if self._since is None:
            return begin
        times = self._source.times(log.job, log.task, log.seq, file)
        after = times.start(self._since)
        return file.seek(0, 2) if after is None else max(begin, line_start(file, after))


def _runs_text(runs: Collection[int]) -> str:
    return f"run{'' if len(runs) == 1 else 's'} {', '.join(map(str, sorted(runs)))}"
