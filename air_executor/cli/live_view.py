"""Progress of `run`: a live view on a terminal, one line per ended run elsewhere.

Takes job states from the manager's memory or from files. Limits its own share of the time spent.
"""

from __future__ import annotations

import re
import sys
import time
from collections.abc import Sequence
from contextlib import ExitStack
from typing import TYPE_CHECKING, Self

from air_executor.cli.signals import SHOW_CURSOR, restoring_terminal
from air_executor.cli.terminal import console, note, say, styled
from air_executor.core.memory import memory_of
from air_executor.core.outcome import reason_text
from air_executor.model.sizes import format_memory
from air_executor.model.state import Done, JobState, Running, TaskState
from air_executor.model.times import format_duration

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.live import Live
    from rich.text import Text

REFRESH_EVERY = 0.12
SHARE = 0.05
"""Maximum share of the time spent on updating the view."""
RUNNING_SHOWN = 8
FAILED_SHOWN = 3
WIDTH = 30
LONG_WAIT = 2.0
"""Seconds before a wait is reported."""
REPEAT_EVERY = 30.0
"""Seconds between two reports of the same wait."""
_NUMBER = re.compile("[0-9]+")


class LiveView:
    """Shows the progress of jobs."""

    def __init__(self, *, quiet: bool = False) -> None:
        self._quiet = quiet
        self._seen: dict[tuple[str, str], int] = {}
        """Number of ended runs reported, by job and task."""
        self._failures: list[str] = []
        self._next = 0.0
        self._live: Live | None = None
        self._stack = ExitStack()
        self.hint = ""
        """Extra line below the jobs; empty for none."""
        self._waits: dict[str, tuple[float, float]] = {}
        """By wait message without its numbers: start of the wait, and time of the last report."""

    def __enter__(self) -> Self:
        if not self._quiet and sys.stdout.isatty():
            from rich.live import Live  # noqa: PLC0415

            self._stack.enter_context(restoring_terminal(SHOW_CURSOR))
            self._live = Live(console=console(), auto_refresh=False, transient=True)
            self._stack.enter_context(self._live)
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    @property
    def due(self) -> bool:
        """Whether the next update is due."""
        return time.monotonic() >= self._next

    def look(self, jobs: Sequence[JobState], waits: Sequence[str] = ()) -> None:
        """Show the state of jobs, the requested one first. `waits` lists what their tasks wait for outside the job."""
        begun = time.monotonic()
        for job in jobs:
            self._report_ended(job, several=len(jobs) > 1)
        if self._live is not None:
            self._live.update(self._view(jobs, waits), refresh=True)
        else:
            if not self._quiet:
                self._report_waits(waits, begun)
            sys.stdout.flush()
        now = time.monotonic()
        self._next = now + max(REFRESH_EVERY, (now - begun) / SHARE)

    def _report_ended(self, job: JobState, *, several: bool) -> None:
        for task in job.tasks.values():
            reported = self._seen.get((job.id, task.id), 0)
            ended = len(task.attempts) + (isinstance(task.status, Done) and not task.attempts)
            if ended == reported:
                continue
            self._seen[job.id, task.id] = ended
            line = _line(task)
            if line is None:
                continue
            text = f"{job.id}/{line}" if several else line
            last = task.attempts[-1] if task.attempts else None
            if last is not None and last.reason not in ("ok", "requeue"):
                self._failures.append(text)
            if self._live is None and not self._quiet:
                say(text)

    def _report_waits(self, waits: Sequence[str], now: float) -> None:
        """Report long waits, and repeat them rarely: outside a terminal every printed line stays."""
        kinds = {_NUMBER.sub("", text): text for text in waits}
        self._waits = {kind: self._waits.get(kind, (now, 0.0)) for kind in kinds}
        for kind, text in kinds.items():
            since, reported = self._waits[kind]
            if now - since >= LONG_WAIT and now - reported >= REPEAT_EVERY:
                self._waits[kind] = since, now
                note(f"waiting: {text}")

    def _view(self, jobs: Sequence[JobState], waits: Sequence[str]) -> RenderableType:
        from rich.console import Group  # noqa: PLC0415

        parts: list[Text] = []
        for job in jobs:
            parts += self._job(job)
        parts += [styled(f"  ✗ {line}", "red") for line in self._failures[-FAILED_SHOWN:]]
        parts += [styled(f"  … {text}", "yellow") for text in waits]
        if self.hint:
            parts.append(styled(self.hint, "yellow"))
        for part in parts:
            part.no_wrap, part.overflow = True, "ellipsis"
        return Group(*parts)

    def _job(self, job: JobState) -> list[Text]:
        counts: dict[str, int] = {}
        running: list[tuple[TaskState, Running]] = []
        for task in job.tasks.values():
            counts[task.phase] = counts.get(task.phase, 0) + 1
            if isinstance(task.status, Running):
                running.append((task, task.status))
        total = len(job.tasks)
        done = total - counts.get("queued", 0) - counts.get("running", 0)
        failed = counts.get("failed", 0) + counts.get("cancelled", 0)
        head = styled(f"{job.id} ", "bold")
        filled = WIDTH * done // max(1, total)
        head.append("━" * filled, style="red" if failed else "green")
        head.append("╌" * (WIDTH - filled), style="bright_black")
        head.append(f" {done}/{total}")
        for phase in ("running", "queued", "failed", "cancelled", "skipped"):
            if counts.get(phase):
                head.append(f" · {counts[phase]} {phase}", style="red" if phase == "failed" else "")
        if job.started_at is not None:
            head.append(f" · {format_duration(max(0, round((job.finished_at or time.time()) - job.started_at)))}")
        if job.phase in ("paused", "pending"):
            head.append(f" · {job.phase}", style="magenta")
        running.sort(key=lambda pair: pair[1].since)
        lines: list[Text] = [head]
        for task, run in running[:RUNNING_SHOWN]:
            since = format_duration(max(0, round(time.time() - run.since)))
            attempt = f" (run {task.runs})" if task.runs > 1 else ""
            stopping = f" stopping: {reason_text(run.stop, None)}" if run.stop else ""
            lines.append(styled(f"  ▸ {task.id} {since}{attempt}{stopping}", "cyan"))
        if len(running) > RUNNING_SHOWN:
            lines.append(styled(f"    … and {len(running) - RUNNING_SHOWN} more", "cyan"))
        return lines


def _line(task: TaskState) -> str | None:
    """Return the line for a task's latest ended run; None if there is nothing to report."""
    last = task.attempts[-1] if task.attempts else None
    if last is None:
        return f"{task.id} {task.phase}" if isinstance(task.status, Done) else None
    if last.reason == "requeue":
        return None
    took = format_duration(last.work)
    if last.reason == "cancelled":
        return f"{task.id} was cancelled after {took}"
    text = f"{task.id} {'succeeded' if last.reason == 'ok' else 'failed'} in {took}"
    if last.reason != "ok":
        message = f": {last.message}" if last.reason == "timeout" and last.message else ""
        text += f" ({reason_text(last.reason, last.exit_code)}{message})"
    if isinstance(task.status, Done):
        return text
    grown = f" with {format_memory(limit)}" if last.reason == "oom" and (limit := memory_of(task)) else ""
    return f"{text}, will be retried{grown}"
