"""What `status` says below its tables: the manager, what it waits for, and the requests that wait for it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from air_executor.cli.table import Line, line
from air_executor.core.explanation import jobs_text
from air_executor.store.presence import start_command

if TYPE_CHECKING:
    from air_executor.model.state import JobState
    from air_executor.store.job_summary import JobSummary
    from air_executor.store.presence import Presence

WAITING_SHOWN = 5
REQUESTS_SHOWN = 5


def manager_notes(manager: Presence, open_jobs: Sequence[JobSummary | JobState], requests: Sequence[str]) -> list[Line]:
    """Return the lines; none if all is well and nothing is left to do."""
    lines = [line(f"✗ {problem}", "red") for problem in manager.problems]
    if manager.backend_problem is not None:
        lines.append(line(f"✗ backend {manager.backend} cannot answer: {manager.backend_problem}", "red"))
    lines += [line(f"! notifications to {name}: {text}", "yellow") for name, text in manager.undelivered.items()]
    if manager.running is False and (open_jobs or requests):
        lines.append(line(f"no manager is running: start one with `{start_command()}`", "yellow"))
    if requests:
        shown = ", ".join(requests[:REQUESTS_SHOWN])
        more = f" and {len(requests) - REQUESTS_SHOWN} more" if len(requests) > REQUESTS_SHOWN else ""
        when = "; applied when a manager starts" if manager.running is False else ""
        noun = "request" if len(requests) == 1 else "requests"
        lines.append(line(f"{len(requests)} pending {noun}: {shown}{more}{when}", "yellow"))
    waiting = [(job.id, manager.waiting[job.id]) for job in open_jobs if job.id in manager.waiting]
    lines += [line(f"{name} is waiting: {what}", "yellow") for name, what in waiting[:WAITING_SHOWN]]
    if len(waiting) > WAITING_SHOWN:
        lines.append(line(f"and {len(waiting) - WAITING_SHOWN} more jobs are waiting for their backend", "yellow"))
    left = next((job.id for job in open_jobs if manager.passes_over(job.id, job.submitted_by)), None)
    if left is not None:
        only = jobs_text(manager.only or ())
        text = f"the running manager handles only {only}; to run job {left}: `air-executor run {left}`"
        lines.append(line(text, "yellow"))
    return lines
