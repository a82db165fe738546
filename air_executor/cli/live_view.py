"""What `run` shows while it runs: the tasks' output and a line for each run that ends, above a progress bar.

On a terminal all of it is one picture. Elsewhere the output of tasks is stdout, and everything else goes to stderr. The
manager's thread hands over states and goes on; a thread of its own reads logs and prints, so that a reader that is slow
(`| less`) holds up nothing.
"""

from __future__ import annotations

import logging
import re
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple, Self

from air_executor.cli.ended_runs import EndedRun, EndedRuns
from air_executor.cli.log_printer import LogPrinter, RunLog
from air_executor.cli.signals import SHOW_CURSOR, restoring_terminal
from air_executor.cli.terminal import console, is_interactive, line_cleaner, note, styled, write_bytes
from air_executor.core.outcome import reason_text
from air_executor.core.short_reason import waits_of
from air_executor.model.state import JobState, Running, TaskState
from air_executor.model.times import format_duration

if TYPE_CHECKING:
    from rich.console import Console, ConsoleOptions, RenderableType
    from rich.live import Live
    from rich.segment import Segment
    from rich.text import Text

    from air_executor.client.job_access import LogAccess

log = logging.getLogger(__name__)

REFRESH_EVERY = 0.1
SHARE = 0.05
"""Maximum share of the manager's time spent on handing over states."""
RUNNING_SHOWN = 8
JOBS_SHOWN = 4
WIDTH = 30
LONG_WAIT = 2.0
"""Seconds before a wait is reported."""
REPEAT_EVERY = 30.0
"""Seconds between two reports of the same wait."""
PREFIX_COLORS = (36, 34, 35)
"""Not those of outcomes."""
MARKS = {"green": "✓", "red": "✗", "yellow": "✗", "bright_black": "-"}
"""By the style of a line about a run that has ended."""
_NUMBER = re.compile("[0-9]+")


class _Bar(NamedTuple):
    """A job as its bar shows it."""

    job: str
    phase: str
    counts: Counter[str]
    started_at: float | None
    finished_at: float | None
    running: Sequence[tuple[str, int, float, str | None]]
    """The oldest running tasks: id, number of runs, start, and why it is being stopped."""

    @property
    def total(self) -> int:
        return self.counts.total()


@dataclass(slots=True)
class _Frame:
    """What is to be shown next; a later one adds to what was not shown yet."""

    ended: list[EndedRun] = field(default_factory=list)
    logs: list[RunLog] = field(default_factory=list)
    """Of the running tasks."""
    prefixed: bool = False
    bars: Sequence[_Bar] = ()
    waits: Sequence[str] = ()


class LiveView:
    """Shows the progress of jobs."""

    def __init__(self, logs: LogAccess, known: Iterable[JobState] = (), *, quiet: bool = False) -> None:
        """What has ended in the `known` states is not shown again."""
        self._logs = logs
        self._quiet = quiet
        self._ended = EndedRuns(known)
        self.shown = False
        """Whether the output of any run was shown."""
        self._next = 0.0
        self._live: Live | None = None
        self._stack = ExitStack()
        self.hint = ""
        """Extra line below the jobs; empty for none."""
        self._waits: dict[str, tuple[float, float]] = {}
        """By wait message without its numbers: start of the wait, and time of the last report."""
        self._changed = threading.Condition()
        """Guards the two below."""
        self._frame: _Frame | None = None
        self._closing = False
        self._shown = _Frame()
        self._thread = threading.Thread(target=self._show_all, name="live-view", daemon=True)

    def __enter__(self) -> Self:
        if self._quiet:
            return self
        if is_interactive():
            from rich.live import Live  # noqa: PLC0415

            self._stack.enter_context(restoring_terminal(SHOW_CURSOR))
            self._live = Live(console=console(), auto_refresh=False, transient=True)
            self._stack.enter_context(self._live)
        self._printer = LogPrinter(self._logs, self._write, clean=line_cleaner(), whole_lines=self._live is not None)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._thread.is_alive():
            with self._changed:
                self._closing = True
                self._changed.notify()
            self._thread.join()
        self._stack.close()

    @property
    def due(self) -> bool:
        """Whether the next update is due."""
        return time.monotonic() >= self._next

    # In the manager's thread

    def look(self, jobs: Sequence[JobState], waits: Sequence[str] = ()) -> None:
        """Show the state of jobs, the requested one first. `waits` lists what their tasks wait for outside the job."""
        if self._quiet:
            return
        begun = time.monotonic()
        ended = self._ended.news(jobs)
        self.shown = self.shown or bool(ended)
        prefixed = len(jobs) > 1 or len(jobs[0].tasks) > 1
        several = len(jobs) > 1
        logs = [
            self._log_of(job, task.id, task.run.seq, prefixed=prefixed, several=several)
            for job in jobs
            for task in job.tasks.values()
            if task.run is not None
        ]
        own = [text for job in jobs for text in waits_of(job, time.time())]
        with self._changed:
            waiting = [] if self._frame is None else self._frame.ended
            self._frame = _Frame([*waiting, *ended], logs, prefixed, [_bar(job) for job in jobs], [*waits, *own])
            self._changed.notify()
        now = time.monotonic()
        self._next = now + max(REFRESH_EVERY, (now - begun) / SHARE)

    def _log_of(self, job: JobState, task: str, seq: int, *, prefixed: bool, several: bool) -> RunLog:
        return RunLog(job, task, seq, _prefix(f"{job.id}/{task}" if several else task) if prefixed else "")

    # In the thread of its own

    def _show_all(self) -> None:
        try:
            while True:
                with self._changed:
                    if self._frame is None and not self._closing:
                        self._changed.wait(REFRESH_EVERY)
                    frame, self._frame = self._frame, None
                    closing = self._closing
                self._show(frame)
                if closing:
                    return
        except Exception:
            log.exception("the output of tasks is no longer shown; the job goes on")

    def _show(self, frame: _Frame | None) -> None:
        begun = time.monotonic()
        several = len((frame or self._shown).bars) > 1
        prefixed = (frame or self._shown).prefixed
        for ended in frame.ended if frame is not None else ():
            if ended.seq is not None:
                run = self._log_of(ended.job, ended.task, ended.seq, prefixed=prefixed, several=several)
                self._printer.print_new(run)
                self._printer.finish(run)
            if ended.text:
                named = not several or ended.text.startswith(f"{ended.job.id} ")
                self._say(ended.text if named else f"{ended.job.id}/{ended.text}", ended.style)
        self._shown = frame or self._shown
        for run in self._shown.logs:
            self._printer.print_new(run)
        if self._live is not None:
            self._live.update(self._view(), refresh=True)
        else:
            self._report_waits(self._shown.waits, begun)
            sys.stdout.flush()

    def _write(self, data: bytes) -> None:
        if self._live is None:
            write_bytes(data)
        else:
            console().print(_Raw(data.decode(errors="replace")), crop=False, end="")

    def _say(self, text: str, style: str) -> None:
        if self._live is None:
            note(text)
        else:
            console().print(styled(f"{MARKS[style]} {text}", style), soft_wrap=True)

    def _report_waits(self, waits: Sequence[str], now: float) -> None:
        """Report long waits, and repeat them rarely: outside a terminal every printed line stays."""
        kinds = {_NUMBER.sub("", text): text for text in waits}
        self._waits = {kind: self._waits.get(kind, (now, 0.0)) for kind in kinds}
        for kind, text in kinds.items():
            since, reported = self._waits[kind]
            if now - since >= LONG_WAIT and now - reported >= REPEAT_EVERY:
                self._waits[kind] = since, now
                note(f"waiting: {text}")

    def _view(self) -> RenderableType:
        from rich.console import Group  # noqa: PLC0415

        bars = self._shown.bars
        room = console().height // min(JOBS_SHOWN, len(bars) or 1) - 3  # the output above stays in sight
        parts = [line for bar in bars[:JOBS_SHOWN] for line in _lines(bar, max(1, room))]
        if len(bars) > JOBS_SHOWN:
            parts.append(styled(f"… and {len(bars) - JOBS_SHOWN} more jobs"))
        parts += [styled(f"  … {text}", "yellow") for text in self._shown.waits]
        if self.hint:
            parts.append(styled(self.hint, "yellow"))
        for part in parts:
            part.no_wrap, part.overflow = True, "ellipsis"
        return Group(*parts)


class _Raw:
    """Text that is printed as it is: rich would parse and wrap every line of a log."""

    def __init__(self, text: str) -> None:
        self._text = text

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> Iterator[Segment]:
        """Yield the text."""
        from rich.segment import Segment  # noqa: PLC0415

        yield Segment(self._text)


def _prefix(name: str) -> str:
    """Return what precedes the lines of a task; on a terminal it has one of a few colors."""
    if not is_interactive() or console().no_color:
        return f"{name} | "
    return f"\x1b[{PREFIX_COLORS[sum(name.encode()) % len(PREFIX_COLORS)]}m{name} |\x1b[0m "


def _bar(job: JobState) -> _Bar:
    counts: Counter[str] = Counter()
    running: list[tuple[TaskState, Running]] = []
    for task in job.tasks.values():
        counts[task.phase] += 1
        if task.run is not None:
            running.append((task, task.run))
    running.sort(key=lambda pair: pair[1].since)
    oldest = [(task.id, task.runs, run.since, run.stop) for task, run in running[:RUNNING_SHOWN]]
    return _Bar(job.id, job.phase, counts, job.started_at, job.finished_at, oldest)


def _lines(bar: _Bar, room: int) -> list[Text]:
    counts, total = bar.counts, bar.total
    done = total - counts["queued"] - counts["running"]
    head = styled(f"{bar.job} ", "bold")
    filled = WIDTH * done // max(1, total)
    head.append("━" * filled, style="red" if counts["failed"] + counts["cancelled"] else "green")
    head.append("╌" * (WIDTH - filled), style="bright_black")
    head.append(f" {done}/{total}")
    for phase in ("running", "queued", "failed", "cancelled", "skipped"):
        if counts[phase]:
            head.append(f" · {counts[phase]} {phase}", style="red" if phase == "failed" else "")
    if bar.started_at is not None:
        head.append(f" · {format_duration(max(0, round((bar.finished_at or time.time()) - bar.started_at)))}")
    if bar.phase in ("paused", "pending"):
        head.append(f" · {bar.phase}", style="magenta")
    lines: list[Text] = [head]
    for task, runs, began, stop in bar.running[:room]:
        since = format_duration(max(0, round(time.time() - began)))
        attempt = f" (run {runs})" if runs > 1 else ""
        stopping = f" stopping: {reason_text(stop, None)}" if stop else ""
        lines.append(styled(f"  ▸ {task} {since}{attempt}{stopping}", "cyan"))
    hidden = counts["running"] - len(bar.running[:room])
    if hidden > 0:
        lines.append(styled(f"    … and {hidden} more", "cyan"))
    return lines
