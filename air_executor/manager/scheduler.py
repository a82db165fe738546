"""Starts tasks: picks those that start now, journals that, then prepares each run's directory and spawns its runner.

The loop calls `plan` each cycle once all outcomes are committed; the spawns go into `acts`, because they must wait for
the journal. `core.plan.ReadyQueue` picks; this module turns a picked task into a `Launch`. Doesn't follow a run any
further: that is the supervisor's job.
"""

from __future__ import annotations

import contextlib
import logging
import os
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict
from functools import partial
from typing import Any

from air_executor.backends.base import (
    Backend,
    Launch,
    LaunchCache,
    LaunchService,
    LaunchWorktree,
    RunnerStatus,
)
from air_executor.core.memory import resources_of
from air_executor.core.plan import Start
from air_executor.core.price import FREE
from air_executor.core.run_price import run_price
from air_executor.core.spending_limits import Spending
from air_executor.core.transitions import LiveJob
from air_executor.core.value_text import environment
from air_executor.errors import (
    AirExecutorError,
    BackendUnavailableError,
    CorruptFileError,
    DuplicateRunnerError,
    NotFoundError,
    PathBlockedError,
    SpawnRejectedError,
    StoreError,
)
from air_executor.manager.manager_state import ManagerState
from air_executor.manager.open_runs import OpenRun, OpenRuns
from air_executor.manager.resolution import resolution
from air_executor.manager.run_inputs import RunInputs
from air_executor.manager.runner_files import RunnerFiles
from air_executor.manager.runner_keeper import keep_time
from air_executor.manager.spending_keeper import SpendingKeeper, refusal
from air_executor.manager.start_preparation import StartPreparation
from air_executor.manager.supervisor import Supervisor
from air_executor.model.events import Memoized, Started
from air_executor.model.memo import uses_workspace
from air_executor.model.names import Host, Slot, runner_name
from air_executor.model.service import TaskService
from air_executor.model.shebang import interpreter
from air_executor.model.state import START_FAILED, RunnerOrigin, Running, TaskState
from air_executor.model.times import to_text
from air_executor.store.run_dirs import RunDirs
from air_executor.store.secret_files import secret_values
from air_executor.store.worktrees import Checkout

log = logging.getLogger(__name__)

MOST_PASSED_OVER = 16
"""Maximum number of waiting tasks of one job that a cycle passes over; it doesn't look at the rest."""
LONGEST_BACKOFF = 30.0
"""Maximum pause between two attempts to start anything on a volume that refuses, in seconds."""


class Scheduler:
    """Starts the runs of one manager."""

    def __init__(
        self,
        state: ManagerState,
        open_runs: OpenRuns,
        supervisor: Supervisor,
        backend: Backend,
        run_dirs: RunDirs,
        *,
        preparation: StartPreparation,
        runner_files: RunnerFiles,
        host: Host,
        spending: SpendingKeeper,
    ) -> None:
        self._state = state
        self._preparation = preparation
        self._runner_files = runner_files
        self._open_runs = open_runs
        self._supervisor = supervisor
        self._backend = backend
        self._run_dirs = run_dirs
        self._host = host
        self._spending = spending
        self._inputs = RunInputs()
        self._paused_until = 0.0
        self._backoff = 0.0
        self._runner_files_checked = False
        """One check serves all starts of a cycle."""
        self.waiting: dict[str, str] = {}
        """By job: what its next task waits for before the backend can start it."""

    def plan(self, now: float, acts: list[Callable[[], None]]) -> None:
        """Decide which tasks start; `acts` gets their spawns."""
        self._runner_files_checked = False
        if self._open_runs.observed is None or self._state.clock.steady() < self._paused_until:
            return
        self._state.index.ready_queue.reserved = {}
        room = self._state.options.max_runners - self._open_runs.taken()
        if room <= 0:
            return
        index, ready_queue = self._state.index, self._state.index.ready_queue
        unusable = self._supervisor.unusable()
        for name in self.waiting:
            if name in index.open:
                ready_queue.offer(index.open[name])
        self.waiting = {}
        pools: Counter[str] = Counter()
        for run in self._open_runs.by_slot.values():
            pools.update(run.job.state.pools_of(run.task))
        passed: dict[str, set[str]] = {}
        spendings = self._spending.look(now)
        while (start := ready_queue.next_start(now, unusable, room, pools.__getitem__, passed)) is not None:
            with self._state.guard(start.job.state.id), self._keeping_in_queue(start.job):
                if start.task.must_resolve:
                    self._state.decide(start.job, resolution(self._state, start.job.state, start.task, now))
                    continue
                why = self._obstacle(start, spendings, now)
                if isinstance(why, Memoized):
                    self._state.decide(start.job, why)
                    continue
                if why is not None:
                    self._pass_over(start, why, passed)
                    continue
                acts.append(partial(self._spawn, self._decide(start, now)))
                pools.update(start.job.state.pools_of(start.task))
                room -= 1

    @contextlib.contextmanager
    def _keeping_in_queue(self, job: LiveJob) -> Iterator[None]:
        """Queue a job again whose start cannot be decided now: nothing else would, before its next change."""
        try:
            yield
        except AirExecutorError:
            self._state.index.ready_queue.offer(job)
            raise

    def _obstacle(self, start: Start, spendings: Sequence[Spending], now: float) -> str | Memoized | None:
        """Return what keeps a task from starting, or the earlier result that it has; None: it starts."""
        job, task = start.job.state, start.task
        if (why := refusal(spendings, job, task)) is not None:
            return why
        found = self._preparation.prepare(job, task, _options_of(task), now)
        if isinstance(found, str):
            self._state.counters.waits_for_backend(job.id, task.id, self._state.clock.steady())
        return found

    def _pass_over(self, start: Start, why: str, passed: dict[str, set[str]]) -> None:
        """Note that a task waits for the backend; another task of its job may go first, unless they are a sequence."""
        job = start.job.state
        self.waiting.setdefault(job.id, f"task {start.task.id}: {why}")
        over = passed.setdefault(job.id, set())
        over.add(start.task.id)
        if job.max_runners > 1 and len(over) < MOST_PASSED_OVER:
            self._state.index.ready_queue.offer(start.job)

    def _decide(self, start: Start, now: float) -> OpenRun:
        job, task = start.job, start.task
        prices = self._state.options.prices.get(self._backend.name, FREE)
        price, currency = run_price(prices, job.state, task, now)
        origin = self._origin_of(start.slot)
        self._state.decide(job, Started(now, task.id, job.state.seq + 1, start.slot.number, price, currency, origin))
        assert isinstance(task.status, Running)  # noqa: S101 - that is what the event does
        return self._open_runs.begin(job, task, task.status)

    def _origin_of(self, slot: Slot) -> RunnerOrigin:
        clock, prefix = self._state.clock, self._state.options.name_prefix
        spawned = None
        with contextlib.suppress(StoreError, NotFoundError):  # what the volume refuses now it will refuse at the start
            spawned = round(self._state.volume_time(), 6)
        return RunnerOrigin(
            backend=self._backend.name,
            host=self._host.name,
            boot=self._host.boot,
            machine=self._host.machine,
            runner=None if prefix is None else runner_name(prefix, slot),
            spawned=spawned,
            clock=round(clock.wall() - clock.steady(), 3),
        )

    def _spawn(self, run: OpenRun) -> None:
        if self._open_runs.by_slot.get(run.slot) is not run or not isinstance(run.task.status, Running):
            return
        try:
            with self._state.guard(run.slot.job):
                self._start(run)
        except SpawnRejectedError as error:
            run.refused, run.spawned = str(error), None  # nothing of its runner exists, or costs anything
        except DuplicateRunnerError as error:
            self._state.observer.prevented_duplicate()
            log.warning("job=%s task=%s run=%s slot taken: %s", run.slot.job, run.task.id, run.run, error)
        except BackendUnavailableError as error:
            self._open_runs.note_unavailable(str(error))
        except PathBlockedError as error:  # the job's own trouble: only its tasks wait, and only for their budget
            run.ours = True
            run.platform = RunnerStatus(run.run, alive=False, reason=START_FAILED, message=str(error))
        except StoreError as error:
            log.error("job=%s task=%s run=%s cannot be started: %s", run.slot.job, run.task.id, run.run, error)  # noqa: TRY400 - no bug
            self._backoff = min(LONGEST_BACKOFF, self._backoff * 2 or 0.5)
            self._paused_until = self._state.clock.steady() + self._backoff
        else:
            run.ours = True
            self._backoff = 0.0

    def _start(self, run: OpenRun) -> None:
        state, task = run.job.state, run.task
        launch = self._launch_of(run)
        if not self._runner_files_checked:
            self._runner_files.restore()
            self._runner_files_checked = True
        staging = self._state.staging
        given = self._inputs.of(run.job, staging)
        remote = self._backend.remote
        script = str(task.command) if launch.script else None
        if task.caches:
            self._run_dirs.restore_caches(one.name for one in task.caches)
        self._run_dirs.create(state.id, run.seq, task.id, given, staging, remote=remote, script=script)
        self._open_runs.note_spawn(run, self._state.volume_time())
        self._backend.spawn(launch)

    def prepare(self) -> None:
        """Prepare the directory of the next run while nothing else waits; if that fails, the next start reports it."""
        with contextlib.suppress(NotFoundError, StoreError):
            self._run_dirs.prepare(self._state.staging)

    def _launch_of(self, run: OpenRun) -> Launch:
        """Return everything that the backend needs for one run.

        Raises:
            SpawnRejectedError: a secret of the task doesn't exist, or no variable can hold it; or it cannot be
                memoized here.
        """
        options, layout = self._state.options, self._state.jobs.layout
        job, task, progress = run.job.state, run.task, run.job.progress
        worktree = self._preparation.worktrees.of(job, task)
        assert task.command is not None  # noqa: S101 - the others ask for approval, and are never ready to start
        if options.stored_workspaces and task.memoize is not None and uses_workspace(task.memoize):
            msg = "memoize: with AIR_WORKSPACE_STORE, `outputs` and `workspace` files cannot be cached; leave them out"
            raise SpawnRejectedError(msg)
        argv, script = _argv_of(task.command)
        timeout = task.timeout
        return Launch(
            slot=run.slot,
            uid=job.uid,
            run=run.run,
            task=task.id,
            argv=argv,
            script=script,
            env={
                **environment(job.spec.params),
                **job.env_of(task),
                "AIR_JOB_ID": job.id,
                "AIR_TASK_ID": task.id,
                "AIR_RUN_ID": run.run,
                "AIR_ATTEMPT": str(task.runs),
                **({} if job.scheduled_at is None else {"AIR_SCHEDULED_AT": to_text(job.scheduled_at)}),
                **({} if worktree is None else {"AIR_BRANCH": worktree.branch, "AIR_BASE": worktree.commit}),
                **({"AIR_JOB_PHASE": progress.phase_so_far()} if progress.nodes[task.id].cleanup else {}),
            },
            out_dir=layout.run(job.id, run.seq, task.id),
            workspace=layout.workspace(job.id),
            bin_dir=layout.bin,
            project=options.project,
            machines=self._runner_files.machines,
            worktree=None if worktree is None else _launched(worktree),
            caches=[LaunchCache(one.variable, one.name, layout.named_cache(one.name), one.path) for one in task.caches],
            services=[_launched_service(one, self._secrets_of) for one in task.services],
            workdir=task.workdir,
            timeout=None if timeout is None else float(timeout),
            grace=float(task.grace),
            keep=keep_time(task, options),
            secrets=self._secrets_of(task.secrets),
            epoch=self._state.journal.epoch,
            options=_options_of(task),
            labels={**job.spec.labels, **job.labels_of(task)},
        )

    def _secrets_of(self, names: Sequence[str]) -> dict[str, str]:
        """Return secrets by name, without their values where the platform knows those.

        Raises:
            SpawnRejectedError: as `_launch_of`.
        """
        options = self._state.options
        if options.secrets_by_name:
            return dict.fromkeys(names, "")
        return _secrets(names, options.secrets_dir, os.environ)


def _argv_of(command: str | list[str]) -> tuple[tuple[str, ...], bool]:
    """Return the words of a command, and whether a script's path follows them."""
    if not isinstance(command, str):
        return tuple(command), False
    words = interpreter(command)
    return (words, True) if words else (("sh", "-c", command), False)


def _launched(worktree: Checkout) -> LaunchWorktree:
    return LaunchWorktree(worktree.path, worktree.prefix, worktree.repository, worktree.admin, worktree.branch)


def _launched_service(one: TaskService, secrets_of: Callable[[Sequence[str]], dict[str, str]]) -> LaunchService:
    return LaunchService(
        name=one.host,
        image=one.image,
        argv=_words_of(one.command),
        env=one.env,
        secrets=secrets_of(one.secrets),
        ready=_words_of(one.ready),
        ready_timeout=float(one.ready_timeout),
        resources={} if one.resources is None else asdict(one.resources),
    )


def _words_of(command: str | list[str] | None) -> tuple[str, ...] | None:
    if command is None:
        return None
    return ("sh", "-c", command) if isinstance(command, str) else tuple(command)


def _options_of(task: TaskState) -> dict[str, Any]:
    """Return what the task's open run asks of its platform, or its next run if none is open."""
    mounts = [asdict(mount) for mount in task.mounts]
    pod = None if task.kubernetes is None else asdict(task.kubernetes)
    options: dict[str, Any] = {"image": task.image, "network": task.network, "mounts": mounts, "kubernetes": pod}
    options["worktree"] = task.worktree is not None
    options["services"] = [asdict(one) for one in task.services]
    return {name: value for name, value in (options | {"resources": resources_of(task)}).items() if value}


def _secrets(names: Iterable[str], folder: str | None, environ: Mapping[str, str]) -> dict[str, str]:
    try:
        found = secret_values(names, folder, environ)
    except (NotFoundError, CorruptFileError) as error:
        raise SpawnRejectedError(str(error)) from error
    for name, value in found.items():
        if "\0" in value:
            msg = f"secret {name} contains a NUL byte, which no variable can hold; encode it, as base64"
            raise SpawnRejectedError(msg)
    return found
