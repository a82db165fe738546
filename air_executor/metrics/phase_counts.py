"""How many jobs and tasks are in which phase, updated with each change: no count iterates over all jobs."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from air_executor.core.transitions import LiveJob
from air_executor.model import state as s

JOB_PHASES = (s.PENDING, s.QUEUED, s.RUNNING, s.PAUSED, s.SUCCEEDED, s.FAILED, s.CANCELLED)
TASK_PHASES = (s.QUEUED, s.RUNNING, s.SUCCEEDED, s.FAILED, s.CANCELLED, s.SKIPPED)
_STARTS = (s.QUEUED, s.RUNNING)


@dataclass(slots=True)
class _JobCounts:
    """What an unfinished job contributes."""

    phase: str
    pool: str
    tasks: dict[str, int] = field(default_factory=dict)
    ready: int = 0
    waiting: dict[str, int] = field(default_factory=dict)
    """Ready tasks by each pool that they need."""


class PhaseCounts:
    """The jobs of one state directory."""

    def __init__(self) -> None:
        self.jobs: Counter[str] = Counter(dict.fromkeys(JOB_PHASES, 0))
        """By phase."""
        self.tasks: Counter[str] = Counter(dict.fromkeys(TASK_PHASES, 0))
        """Of unfinished jobs, by phase."""
        self.ready: Counter[str] = Counter()
        """Tasks that wait only for a runner, by pool."""
        self.waiting: Counter[str] = Counter()
        """The same by each pool that they need, not only that of their job."""
        self._open: dict[str, _JobCounts] = {}
        self._ended: dict[str, str] = {}

    def update(self, job: LiveJob, pool: str, *, blocked: bool) -> None:
        """Count an unfinished job as it is now."""
        state = job.state
        counts = self._open.get(state.id)
        if counts is None or counts.pool != pool:
            self.remove(state.id)
            counts = self._open[state.id] = _JobCounts(state.phase, pool)
            self.jobs[state.phase] += 1
        elif counts.phase != state.phase:
            self.jobs[counts.phase] -= 1
            self.jobs[state.phase] += 1
            counts.phase = state.phase
        for phase in TASK_PHASES:
            count, before = job.progress.counts.get(phase, 0), counts.tasks.get(phase, 0)
            if count != before:
                self.tasks[phase] += count - before
                counts.tasks[phase] = count
        ready = 0 if blocked or state.phase not in _STARTS else job.progress.startable()
        if ready != counts.ready:
            self.ready[pool] += ready - counts.ready
            counts.ready = ready
        needed = {state.pool: ready} | {
            name: min(ready, number) for name, number in job.progress.start_order.ready_in.items()
        }
        waiting = {name: number for name, number in needed.items() if number}
        if waiting != counts.waiting:
            self.waiting.subtract(counts.waiting)
            self.waiting.update(waiting)
            counts.waiting = waiting

    def end(self, job: str, phase: str) -> None:
        """Count a job as ended."""
        self.remove(job)
        self._ended[job] = phase
        self.jobs[phase] += 1

    def remove(self, job: str) -> None:
        """Stop counting a job."""
        counts = self._open.pop(job, None)
        phase = self._ended.pop(job, None) if counts is None else counts.phase
        if phase is not None:
            self.jobs[phase] -= 1
        if counts is not None:
            self.tasks.subtract(counts.tasks)
            self.ready[counts.pool] -= counts.ready
            self.waiting.subtract(counts.waiting)
