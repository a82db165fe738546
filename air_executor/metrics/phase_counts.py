"""How many jobs and tasks there are in which phase, kept up to date change by change: no count walks over all jobs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

from air_executor.core.transitions import LiveJob
from air_executor.model import state as s

JOB_PHASES = (s.PENDING, s.QUEUED, s.RUNNING, s.PAUSED, s.SUCCEEDED, s.FAILED, s.CANCELLED)
TASK_PHASES = (s.QUEUED, s.RUNNING, s.SUCCEEDED, s.FAILED, s.CANCELLED, s.SKIPPED)
_STARTS = (s.QUEUED, s.RUNNING)


@dataclass(frozen=True, slots=True)
class _Known:
    """What is counted of an unfinished job."""

    phase: str
    queue: str
    tasks: Mapping[str, int]
    ready: int


class PhaseCounts:
    """The jobs of one state directory."""

    def __init__(self) -> None:
        self.jobs: Counter[str] = Counter(dict.fromkeys(JOB_PHASES, 0))
        """By phase."""
        self.tasks: Counter[str] = Counter(dict.fromkeys(TASK_PHASES, 0))
        """Of unfinished jobs, by phase."""
        self.ready: Counter[str] = Counter()
        """Tasks that wait for nothing but a runner, by queue."""
        self._open: dict[str, _Known] = {}
        self._ended: dict[str, str] = {}

    def note(self, job: LiveJob, queue: str, *, blocked: bool) -> None:
        """Take in an unfinished job as it is now."""
        state = job.state
        ready = 0 if blocked or state.phase not in _STARTS else job.progress.startable()
        known = _Known(state.phase, queue, dict(job.progress.counts), ready)
        before = self._open.get(state.id)
        if before is None:
            self.drop(state.id)
            self.jobs[known.phase] += 1
        elif before.phase != known.phase:
            self.jobs[before.phase] -= 1
            self.jobs[known.phase] += 1
        self._count_tasks(before, known)
        self._open[state.id] = known

    def end(self, job: str, phase: str) -> None:
        """Take note that a job has ended."""
        self.drop(job)
        self._ended[job] = phase
        self.jobs[phase] += 1

    def drop(self, job: str) -> None:
        """Forget a job."""
        known = self._open.pop(job, None)
        phase = self._ended.pop(job, None) if known is None else known.phase
        if phase is not None:
            self.jobs[phase] -= 1
        self._count_tasks(known, None)

    def _count_tasks(self, before: _Known | None, after: _Known | None) -> None:
        for known, sign in ((before, -1), (after, 1)):
            if known is not None:
                for phase, count in known.tasks.items():
                    self.tasks[phase] += sign * count
                self.ready[known.queue] += sign * known.ready
