"""The end of `run`: the failures, the outcome, the cost, and what to do next."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Sequence
from typing import NamedTuple

from air_executor.cli.log_printer import LogPrinter, RunLog
from air_executor.cli.terminal import line_cleaner, report, report_console, styled, write_bytes
from air_executor.client.job_access import LogAccess
from air_executor.core.command_text import command_text
from air_executor.core.end_reasons import count_text
from air_executor.core.job_cost import money, sum_costs
from air_executor.core.kept_text import kept_lines
from air_executor.core.ledger import read
from air_executor.core.outcome import outcome_text, phase_text
from air_executor.model.names import is_generated_id
from air_executor.model.plain_text import plain_log
from air_executor.model.state import FAILED, START_FAILED, Done, JobState, TaskState
from air_executor.model.times import format_duration

TAIL_BYTES = 64 * 1024
FAILURE_LINES = 10
LONGEST_LINE = 1000
"""Characters of a line of a failed task's log; the last ones are shown."""
FAILURES_SHOWN = 5
_INDENT = "    "


class NextOptions(NamedTuple):
    """Options of the commands to type next, each after a blank: they mean what this command has meant."""

    place: str = ""
    """Of every command: where the jobs are."""
    run: str = ""
    """Of `run` alone: the backend."""


def summarise(
    logs: LogAccess,
    jobs: Sequence[JobState],
    *,
    quiet: bool,
    output_shown: bool,
    options: NextOptions,
    managed: bool = True,
) -> None:
    """Print how these jobs ended; the first is the one that the user ran.

    `output_shown`: the output of tasks was shown as it came. `quiet`: print the output of the last task, and failures.
    `managed`: a manager is running.
    """
    first = jobs[0]
    last = last_task(first)
    if first.phase == "succeeded" and last is not None and not output_shown:
        _print_output(logs, first, last)
    if quiet and all(job.phase == "succeeded" for job in jobs):
        return
    seen = output_shown and sys.stdout.isatty() and len(jobs) == len(first.tasks) == 1
    for job in jobs:
        _print_failures(logs, job, lines=0 if seen else FAILURE_LINES, place=options.place)
    for job in jobs:
        _print_outcome(job)
    _print_cost(jobs)
    if failed := next((job for job in jobs if job.phase == "failed"), None):
        _print_next(failed, options)
    for text in (text for job in jobs for text in kept_lines(job, time.time(), managed=managed)):
        report(text)


def to_continue(job: JobState, options: NextOptions) -> str:
    """Return how a job stands that `run` leaves, and how to go on with it."""
    goes_on = job.phase == "paused" and any(task.phase == "running" for task in job.tasks.values())
    finish = "; its running tasks finish" if goes_on else ""
    command = f"air-executor{options.place} run {job.id}{options.run}"
    return f"job {job.id} is {job.phase}{finish}; to continue: `{command}`"


def last_task(job: JobState) -> TaskState | None:
    """Return the task that ended last, if it ran and succeeded: its output is the job's answer."""
    ended = [
        (t.status.finished_at, n, t)
        for n, t in enumerate(job.tasks.values())
        if isinstance(t.status, Done) and t.attempts
    ]
    last = max(ended, default=None)
    return last[2] if last is not None and last[2].phase == "succeeded" else None


def tail(logs: LogAccess, job: JobState, task: TaskState, lines: int) -> tuple[list[str], bool]:
    """Return the last lines of a task's newest log, and whether there were more. Hostile logs count as empty."""
    file = logs.open(job, task.id, task.attempts[-1].seq) if task.attempts else None
    if file is None:
        return [], False
    with file:
        start = max(0, file.seek(0, os.SEEK_END) - TAIL_BYTES)
        file.seek(start)
        found = file.read(TAIL_BYTES).decode(errors="replace").rstrip("\n").split("\n")
    if start and len(found) > 1:
        found = found[1:]  # the first one is cut
    if found == [""]:
        return [], False
    return found[-lines:], bool(start) or len(found) > lines


def _print_output(logs: LogAccess, job: JobState, task: TaskState) -> None:
    log = RunLog(job, task.id, task.attempts[-1].seq)
    printer = LogPrinter(logs, write_bytes, clean=line_cleaner())
    printer.print_new(log)
    printer.finish(log)


def _print_lines(lines: Sequence[str], indent: str = "") -> None:
    clean = line_cleaner() or plain_log
    for line in lines:
        text = clean(line)
        shown = text if len(text) <= LONGEST_LINE else f"…{text[-LONGEST_LINE:]}"
        report_console().file.write(f"{indent}{shown}\n")


def _print_failures(logs: LogAccess, job: JobState, *, lines: int, place: str) -> None:
    failed = _failed(job)
    for task in failed[:FAILURES_SHOWN]:
        _print_failure(job, task)
        found, more = tail(logs, job, task, lines) if lines else ([], False)
        _print_lines(["…", *found] if more else found, _INDENT)
    if len(failed) > FAILURES_SHOWN:
        more_failed = count_text(len(failed) - FAILURES_SHOWN, "more failed task")
        report(f"… and {more_failed}: air-executor{place} status {job.id} --phase failed")


def _failed(job: JobState) -> list[TaskState]:
    """Return the failed tasks of a job; those whose failure is allowed come last."""
    return sorted((task for task in job.tasks.values() if task.phase == FAILED), key=lambda task: not task.has_failed)


def _print_failure(job: JobState, task: TaskState) -> None:
    """Print how a failed task ended and, where a job has several tasks, what it runs."""
    single = _is_single(job)
    name = job.id if single else f"{job.id}/{task.id}"
    runs = f" after {task.runs} runs" if task.runs > 1 else ""
    if isinstance(task.status, Done):
        text = f"✗ {name} {phase_text(task)}{runs}: {outcome_text(task.status)}"
        report_console().print(styled(text, "red" if task.has_failed else "yellow"), soft_wrap=True)
    command = None if single else command_text(task, report_console().width - len(f"{_INDENT}$ "))
    if command is not None:
        report_console().print(styled(f"{_INDENT}$ {command}", "bright_black"), soft_wrap=True)


def _is_single(job: JobState) -> bool:
    """Tell whether the job is one command, so that nobody has to know the id of its task."""
    return len(job.tasks) == 1 and is_generated_id(next(iter(job.tasks)))


def _print_next(job: JobState, options: NextOptions) -> None:
    """Print the commands that look into a failure and try again."""
    failed = next(iter(_failed(job)), None)
    ran = failed is not None and bool(failed.attempts) and failed.reason != START_FAILED
    look = f"logs {job.id}" if ran else f"explain {job.id}"
    look += f" {failed.id}" if failed is not None and failed.attempts and not _is_single(job) else ""
    program = f"air-executor{options.place}"
    report(f"next: {program} {look}")
    report(f"      {program} retry {job.id} && {program} run {job.id}{options.run}")


def _print_outcome(job: JobState) -> None:
    counts: dict[str, int] = {}
    for task in job.tasks.values():
        phase = phase_text(task)
        counts[phase] = counts.get(phase, 0) + 1
    tasks = ", ".join(f"{count} {phase}" for phase, count in counts.items())
    why = (
        f" ({job.reason}{f': {job.message}' if job.message else ''})" if job.ended and job.phase != "succeeded" else ""
    )
    style = {"succeeded": "bold green", "failed": "bold red"}.get(job.phase, "bold yellow")
    line = styled(f"{job.id} {job.phase}{why}", style)
    line.append(f": {tasks}", style="not bold default")
    report_console().print(line, soft_wrap=True)


def _print_cost(jobs: Sequence[JobState]) -> None:
    total = sum_costs(read(jobs))
    if total.efficiency is None:
        return
    stages = f"{total.start_seconds:.2f} startup, {total.finish_seconds:.2f} teardown"
    overhead = f"{total.idle_seconds:.2f} overhead ({stages})"
    report(f"{total.runner_seconds:.2f} runner-seconds: {total.work_seconds:.2f} working, {overhead}")
    runs = f"{total.runs} run{'' if total.runs == 1 else 's'}"
    rest = [
        f"efficiency {total.efficiency:.1%}",
        f"{runs} within {format_duration(total.window_seconds)}, at most {total.peak_runners} at once",
    ]
    rest += [f"cost {money(cost)} {currency}".rstrip() for currency, cost in total.costs.items()]
    report(" · ".join(rest))
