"""From a plan to a runner: decides which tasks start now, and starts each once that is journaled."""

from __future__ import annotations

import contextlib
import logging
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from air_executor.backends.base import Backend
from air_executor.core.observer import Observer
from air_executor.core.plan import Start
from air_executor.core.transitions import LiveJob
from air_executor.errors import (
    BackendUnavailableError,
    DuplicateRunnerError,
    NotFoundError,
    SpawnRejectedError,
    StoreError,
)
from air_executor.manager.launches import Inputs, launch_of, options_of
from air_executor.manager.manager_state import ManagerState
from air_executor.manager.open_run import OpenRun
from air_executor.manager.supervisor import Supervisor
from air_executor.model.events import Event, Started
from air_executor.model.names import Host, run_id, runner_name
from air_executor.model.state import Running
from air_executor.store.layout import Layout
from air_executor.store.run_dirs import RunDirs

log = logging.getLogger(__name__)

MOST_PASSED_OVER = 16
"""Tasks of one job that are passed over in a cycle because they wait for something; the rest is not looked at."""
LONGEST_BACKOFF = 30.0
"""Seconds between tries to start anything on a volume that refuses."""


@dataclass(frozen=True, slots=True)
class LaunchConfig:
    """Where and under which limits runs are started."""

    layout: Layout
    host: Host
    project: str
    """The folder that relative work directories start from."""
    secrets_dir: str | None
    max_runners: int
    name_prefix: str | None = None
    """Of runners' names on the platform; None where they have none."""
    secrets_by_name: bool = False
    """The platform resolves secrets itself."""


class Scheduler:
    """Starts runs for one manager."""

    def __init__(
        self,
        desk: ManagerState,
        supervisor: Supervisor,
        backend: Backend,
        runs: RunDirs,
        place: LaunchConfig,
        *,
        observer: Observer,
    ) -> None:
        self._desk = desk
        self._supervisor = supervisor
        self._backend = backend
        self._runs = runs
        self._place = place
        self._observer = observer
        self._inputs = Inputs()
        self._hold_until = 0.0
        self._backoff = 0.0
        self.waiting: dict[str, str] = {}
        """By job: what its next task has to wait for before the backend can start it."""

    def plan(self, now: float, acts: list[Callable[[], None]]) -> None:
        """Decide which tasks start; `acts` gets what starts them."""
        supervisor = self._supervisor
        if supervisor.observed is None or self._desk.clock.steady() < self._hold_until:
            return
        room = self._place.max_runners - supervisor.taken()
        if room <= 0:
            return
        roster = self._desk.catalog.roster
        unusable = supervisor.unusable()
        for name in self.waiting:
            if name in self._desk.catalog.open:
                roster.offer(self._desk.catalog.open[name])
        self.waiting = {}
        queues = Counter(run.job.state.pool for run in supervisor.open.values())
        passed: dict[str, set[str]] = {}
        while (start := roster.next_start(now, unusable, room, queues.__getitem__, passed)) is not None:
            if (why := self._backend.prepare(options_of(start.task))) is not None:
                self._pass_over(start, why, passed)
                continue
            acts.append(partial(self._spawn, self._decide(start, now)))
            queues[start.job.state.pool] += 1
            room -= 1

    def _pass_over(self, start: Start, why: str, passed: dict[str, set[str]]) -> None:
        """Take note that a task waits for the backend; another of its job may go first, unless that is a sequence."""
        job = start.job.state
        self._observer.waits_for_backend(job.id, start.task.id)
        self.waiting.setdefault(job.id, f"task {start.task.id}: {why}")
        over = passed.setdefault(job.id, set())
        over.add(start.task.id)
        if job.max_runners > 1 and len(over) < MOST_PASSED_OVER:
            self._desk.catalog.roster.offer(start.job)

    def _decide(self, start: Start, now: float) -> OpenRun:
        state, clock = start.job.state, self._desk.clock
        seq = state.seq + 1
        self._desk.decide(start.job, Started(now, start.task.id, seq, start.slot.number))
        run = OpenRun(start.job, start.task, seq, start.slot, run_id(state.uid, seq), clock.steady(), clock.wall())
        self._supervisor.open[start.slot] = run
        return run

    def _spawn(self, run: OpenRun) -> None:
        if self._supervisor.open.get(run.slot) is not run or not isinstance(run.task.status, Running):
            return
        try:
            self._start(run, run.task.status)
        except SpawnRejectedError as error:
            run.refused = str(error)
        except DuplicateRunnerError as error:
            self._observer.prevented_duplicate()
            log.warning("job=%s run=%s its slot is taken: %s", run.slot.job, run.run, error)
        except BackendUnavailableError as error:
            self._supervisor.unavailable(str(error))
        except StoreError as error:
            log.error("job=%s run=%s cannot be started: %s", run.slot.job, run.run, error)  # noqa: TRY400 - no bug
            self._backoff = min(LONGEST_BACKOFF, self._backoff * 2 or 0.5)
            self._hold_until = self._desk.clock.steady() + self._backoff
        else:
            run.ours = True
            self._backoff = 0.0

    def _start(self, run: OpenRun, status: Running) -> None:
        place, state, task = self._place, run.job.state, run.task
        launch = launch_of(
            place.layout,
            place.project,
            state,
            task,
            status,
            place.secrets_dir,
            epoch=self._desk.journal.epoch,
            secrets_by_name=place.secrets_by_name,
        )
        record = {
            "run": run.run,
            "job": state.id,
            "task": task.id,
            "attempt": task.runs,
            "slot": run.slot.number,
            "epoch": self._desk.journal.epoch,
            "backend": self._backend.name,
            "host": place.host.name,
            "boot": place.host.boot,
            "timeout": launch.timeout,
            "grace": task.grace,
            "clock": round(self._desk.clock.wall() - self._desk.clock.steady(), 3),
        }
        if place.name_prefix is not None:
            record["runner"] = runner_name(place.name_prefix, run.slot)
        aside = place.layout.epoch_tmp(self._desk.journal.epoch)
        inputs = self._inputs.text(run.job)
        run.spawned = self._runs.create(state.id, run.seq, task.id, record, inputs, aside, remote=self._backend.remote)
        run.since, run.wall_since = self._desk.clock.steady(), self._desk.clock.wall()
        self._backend.spawn(launch)

    def prepare(self) -> None:
        """Do ahead what the next start needs, once nothing else waits; if it fails, that start will say so."""
        with contextlib.suppress(NotFoundError, StoreError):
            self._runs.prepare(self._place.layout.epoch_tmp(self._desk.journal.epoch))

    def notice(self, job: LiveJob, _: Event) -> None:
        """Drop what is kept for a job that has ended; the desk calls this after each decision."""
        if job.state.ended:
            self._inputs.forget(job.state.uid)
