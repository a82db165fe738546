"""What the manager knows of its open runs: what state, platform and volume have shown of each so far.

The scheduler adds the runs that it starts, the loop those that it adopts; the supervisor fills in what it sees and
removes what has ended; `commit` reads a run once it has ended. Also keeps the list of runners that the backend shows,
and why it cannot answer. Holds facts: decides nothing, and removes no runner.
"""

from __future__ import annotations

import contextlib
import logging
import random
from collections.abc import Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from air_executor.backends.base import Backend, RunnerStatus
from air_executor.core.observer import Snapshot
from air_executor.core.run_reports import RunReports
from air_executor.core.spending_limits import Spending
from air_executor.core.transitions import LiveJob
from air_executor.core.usage_meter import RunSample
from air_executor.errors import BackendUnavailableError, StoreError
from air_executor.manager.manager_state import ManagerState
from air_executor.model.names import Host, Slot, run_id
from air_executor.model.state import RunnerOrigin, Running, TaskState
from air_executor.store.run_dirs import RunDirs
from air_executor.store.run_outcome import ExitRecord

log = logging.getLogger(__name__)

LONGEST_SILENCE = 5.0
"""Maximum pause between two questions to a backend that cannot answer, in seconds; it spares its platform by itself."""


@dataclass(slots=True)
class OpenRun:
    """One open run. Ages are of the steady clock."""

    job: LiveJob
    task: TaskState
    seq: int
    slot: Slot
    run: str
    since: float
    wall_since: float
    """By the wall clock; only its distance from `since` counts, which a clock that is set changes."""
    spawned: float | None = None
    """By the volume's clock."""
    delay: float = 0.0
    """Seconds from the decision until then."""
    ours: bool = False
    """This manager spawned its runner, and the backend confirmed it."""
    refused: str | None = None
    """Why the backend will never start it."""
    lost: str | None = None
    """Why its files cannot be trusted."""
    elsewhere: str | None = None
    """Host or backend that it ran on, if not this one."""
    backend: str | None = None
    """Backend that it ran on, if not this one."""
    confirmed_gone: bool = False
    unseen: bool = False
    """Not seen alive since it was adopted or the backend failed to answer: its end is noticed late."""
    platform: RunnerStatus | None = None
    """Last status of its runner after its end: the platform's reason goes with the name."""
    node_wait: float | None = 0.0
    """For how many seconds its runner had no node; None while it has none, and does not exist yet. 0 if unknown."""
    image: str | None = None
    """The image that its runner has, with its digest."""
    begun: float | None = None
    """Start of its command by the volume's clock; None if unknown so far."""
    held_by: str | None = None
    """What keeps its slot after its end; logged already."""
    activity: object = None
    """What its files looked like when they were last looked at for a `stall_timeout`; None: it had not begun."""
    active_at: float = 0.0
    """When they were last seen to change."""
    log_size: int = 0
    """Size of its log when that was noted last."""
    log_noted: float = 0.0
    """When it was."""
    reports: RunReports = field(default_factory=RunReports)
    """What it has reported, as far as its file has been read."""
    exit: ExitRecord | None = None
    collecting: Generator[None, None, Any] | None = None
    """What it queued, being looked at piece by piece."""
    exit_since: float = 0.0
    gone_since: float | None = None
    gone_at: float | None = None
    """When nothing of its runner was left, by the volume's clock."""

    @property
    def status(self) -> Running:
        """The run in the state."""
        status = self.task.status
        assert isinstance(status, Running)  # noqa: S101 - a task is running until the outcome of its open run is committed
        return status


class OpenRuns:
    """The open runs of one manager, and the runners that its backend shows."""

    def __init__(
        self, state: ManagerState, backend: Backend, run_dirs: RunDirs, host: Host, chance: random.Random
    ) -> None:
        """`chance` spreads the questions to a backend that cannot answer."""
        self._state = state
        self._backend = backend
        self._run_dirs = run_dirs
        self._host = host
        self._chance = chance
        self.by_slot: dict[Slot, OpenRun] = {}
        self.observed: Mapping[Slot, RunnerStatus] | None = {}
        """The runners that the backend shows; None while it cannot answer."""
        self._observed_at = 0.0
        """When it was asked for them: a runner that was alive then may have ended since."""
        self.backend_problem: str | None = None
        """Why the backend cannot answer; None if it can."""
        self._ask_again = 0.0
        self._backoff = 0.0
        state.dropped.append(self.forget)

    # Runs

    def begin(self, job: LiveJob, task: TaskState, status: Running) -> OpenRun:
        """Add a run whose start was just decided."""
        state, clock = job.state, self._state.clock
        slot, run = Slot(state.id, status.slot), run_id(state.uid, status.seq)
        added = OpenRun(job, task, status.seq, slot, run, clock.steady(), clock.wall())
        self.by_slot[slot] = added
        return added

    def note_spawn(self, run: OpenRun, spawned: float) -> None:
        """Note that a runner is spawned now; `spawned` is the time by the volume's clock."""
        clock = self._state.clock
        now = clock.steady()
        run.delay = max(0.0, run.wall_since - run.status.since) + now - run.since
        run.spawned, run.since, run.wall_since = spawned, now, clock.wall()

    def adopt(self, job: LiveJob, task: TaskState, status: Running) -> None:
        """Add a run that an earlier manager started."""
        clock = self._state.clock
        run = self.begin(job, task, status)
        run.unseen = True
        offset = clock.wall() - run.since
        origin = self._origin_of(job.state.id, task.id, status)
        if origin is not None:
            run.spawned = status.since if origin.spawned is None else origin.spawned
            run.since -= max(0.0, clock.wall() - run.spawned)
            run.delay = max(0.0, run.spawned - status.since)
            if origin.boot == self._host.boot and origin.clock is not None:
                offset = origin.clock
            if origin.backend != self._backend.name:
                run.backend = str(origin.backend)
                run.elsewhere = f"the backend {run.backend}"
            # The boot comes first: a machine, or a container on it, can get another name while a run is open.
            elif self._backend.name == "local" and origin.boot != self._host.boot:
                if origin.host == self._host.name or self._restarted_since(origin):
                    run.lost = "the machine was restarted while it ran"
                else:
                    run.elsewhere = str(origin.host)
        run.wall_since = run.since + offset
        self._state.counters.adopted(job, task, status.seq, max(0.0, clock.steady() - run.since), clock.steady())
        self._state.observer.adopted()

    def _origin_of(self, job: str, task: str, status: Running) -> RunnerOrigin | None:
        """Return where a run was started; None if nothing of it is here, as in a clone."""
        if not self._run_dirs.has_place(job, status.seq, task):
            return None
        return status.origin or self._run_dirs.earlier_origin(job, status.seq, task)

    def _restarted_since(self, origin: RunnerOrigin) -> bool:
        """Tell whether a run of another boot was started on this machine, which had another name then.

        Ids of machines can be copied with them; such copies have no volume in common that is not a network volume.
        """
        if origin.machine is None or origin.machine != self._host.machine:
            return False
        from air_executor.store.probe import NETWORK_VOLUMES, volume_kind  # noqa: PLC0415 - rarely needed

        return volume_kind(self._state.jobs.layout.root) not in NETWORK_VOLUMES | {None}

    def forget(self, job: str) -> None:
        """Drop the open runs of a job that doesn't exist or is quarantined; only the former's runners are removed."""
        for slot in [slot for slot in self.by_slot if slot.job == job]:
            del self.by_slot[slot]

    def confirm_gone(self, job: str) -> None:
        """Trust an operator that the job's runners on another host are gone."""
        for slot, run in self.by_slot.items():
            if slot.job == job:
                run.confirmed_gone = True
        for slot in self.observed or ():
            if slot.job == job:
                self._backend.confirm_gone(slot)

    # Runners

    def observe(self) -> None:
        """Ask the backend for its runners. While it cannot answer, nothing may be concluded."""
        now = self._state.clock.steady()
        if self.backend_problem is not None and now < self._ask_again:
            return
        try:
            self.observed = self._backend.observe()
            self._observed_at = now
        except BackendUnavailableError as error:
            self.note_unavailable(str(error))
        else:
            self.backend_problem = None
            self._backoff = 0.0

    def note_unavailable(self, why: str) -> None:
        """Note that the backend cannot answer; it is asked again with growing pauses."""
        if self.backend_problem is None:
            log.warning("backend=%s is unavailable: %s", self._backend.name, why)
        self.observed = None
        for run in self.by_slot.values():
            run.unseen = True
        self.backend_problem = why
        self._backoff = min(LONGEST_SILENCE, self._backoff * 2 or 0.5)
        self._ask_again = self._state.clock.steady() + self._backoff * self._chance.uniform(0.8, 1.2)

    def taken(self) -> int:
        """Return the number of slots taken by an open run or by any runner that the backend shows."""
        observed = (self.observed or {}).items()
        return len(self.by_slot) + sum(
            1
            for slot, status in observed
            if slot not in self.by_slot and slot not in self._state.kept.by_slot and not status.finished
        )

    @property
    def waiting(self) -> dict[str, str]:
        """By job: what one of its runners waits for, or what keeps the slot of one that has ended."""
        observed = self.observed or {}
        found = ((run, observed.get(slot)) for slot, run in self.by_slot.items())
        return {
            run.slot.job: f"task {run.task.id}: {words}"
            for run, status in found
            if status is not None
            and status.run == run.run
            and (words := status.message if status.alive else status.held_by)
        }

    # For metrics

    def snapshot(self, spendings: Sequence[Spending] = ()) -> Snapshot:
        """Return what the latest poll has shown; `spendings`: what is used of budgets."""
        removing = [slot for slot in self.observed or {} if self._is_removed(slot)]
        answers = self.backend_problem is None
        kept = len(self._state.kept.by_slot)
        return Snapshot(answers, self._backend.last_contact(), removing, self._progress(), kept, spendings)

    def _progress(self) -> dict[str, float]:
        """Return the mean progress of running tasks by their pool's label."""
        shares: dict[str, list[float]] = {}
        for run in self.by_slot.values():
            if run.reports.progress is not None and (share := run.reports.progress.share) is not None:
                shares.setdefault(self._state.counters.pools.label(run.job.state.pool), []).append(share)
        return {pool: sum(found) / len(found) for pool, found in shares.items()}

    def _is_removed(self, slot: Slot) -> bool:
        run = self.by_slot.get(slot)
        if run is None and slot in self._state.kept.by_slot:
            return False
        return run is None or run.exit is not None or run.status.stop is not None

    def samples(self) -> Iterator[RunSample]:
        """Yield the open runs whose runners were just seen alive, as of then."""
        observed = self.observed or {}
        now = self._observed_at - self._state.options.visibility
        for slot, run in self.by_slot.items():
            status = observed.get(slot)
            if run.spawned is None or run.exit is not None or status is None:
                continue
            if not status.alive or status.run != run.run or status.node_wait is None:
                continue
            if run.begun is None:
                with contextlib.suppress(StoreError):
                    run.begun = self._run_dirs.started(slot.job, run.seq, run.task.id)
            start = None if run.begun is None else max(0.0, run.begun - run.spawned - status.node_wait)
            yield RunSample(run.job, run.task, run.seq, now - run.since - status.node_wait, start)
