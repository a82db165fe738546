"""Gives tasks the results of earlier runs, and keeps those of new ones: for tasks with `memoize`.

The scheduler asks before it starts a task: the hash of what its result depends on is side work, and so is looking into
the cache and copying files from it. What is found becomes one decision in the journal. A result is kept once the
journal holds the success of its run, if the files that it depends on are still the same.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any, NamedTuple

from air_executor.core.queue_lines import queues_nothing
from air_executor.core.transitions import LiveJob
from air_executor.errors import AirExecutorError, CorruptFileError
from air_executor.manager.manager_state import ManagerState
from air_executor.manager.side_work import SideWork
from air_executor.model import state as s
from air_executor.model.events import Memoized
from air_executor.model.memo import DEFAULT_AGE, CacheEntry, uses_workspace
from air_executor.model.names import run_id
from air_executor.model.state import JobState, TaskState
from air_executor.store import files
from air_executor.store.memo_cache import MemoCache
from air_executor.store.memo_key import MemoKey, make_key
from air_executor.store.run_dirs import RunDirs

log = logging.getLogger(__name__)

PRUNE_EVERY = 3600.0
"""Seconds between looks for entries whose time is over."""
_KEEP = "keep"
_WAITS = "its cached result, if there is one"


class _TaskName(NamedTuple):
    """A task; its uid is the job's."""

    job: str
    uid: str
    task: str


@dataclass(frozen=True, slots=True)
class _Look:
    """What was found before a start. Without a key the result can neither be found nor kept."""

    key: MemoKey | None = None
    entry: CacheEntry | None = None


@dataclass(frozen=True, slots=True)
class _Kept:
    """A result to be kept."""

    entry: CacheEntry
    outputs: list[str]
    seq: int
    """Number of the run."""
    replaces: bool
    """In place of what is in the cache."""


class MemoKeeper:
    """The cached results of one manager."""

    def __init__(self, state: ManagerState, side_work: SideWork, run_dirs: RunDirs, backend: str) -> None:
        self._state = state
        self._side_work = side_work
        self._run_dirs = run_dirs
        self._backend = backend
        self._cache = MemoCache(state.jobs.layout)
        self._looks: dict[_TaskName, _Look] = {}
        """Of tasks that are about to start."""
        self._runs: dict[_TaskName, MemoKey] = {}
        """Of tasks that run, because there was nothing in the cache."""
        self._next_prune = 0.0

    # Starts

    def look_up(self, job: JobState, task: TaskState, now: float) -> str | Memoized | None:
        """Return the decision that gives a task a result, or what it waits for; None: it has to run."""
        if task.memoize is None or (self._state.options.stored_workspaces and uses_workspace(task.memoize)):
            return None  # such a task is refused when it starts
        name = _TaskName(job.id, job.uid, task.id)
        look = self._looks.pop(name, None)
        if look is None and self._keeps():
            return _WAITS  # the result of a task that has just ended may be the one
        if look is None:
            age = None if task.rerun else _age_of(task)
            work = partial(self._look, name, self._key_maker(job, task), now, age)
            self._side_work.order(("memo", name), work, partial(self._note_look, name))
            return _WAITS
        if look.entry is not None:
            return Memoized(now, task.id, look.entry.result, look.entry.reused)
        if look.key is not None:
            self._runs[name] = look.key
        return None

    def _look(self, name: _TaskName, make: Callable[[], MemoKey], now: float, age: float | None) -> _Look:
        """Look into the cache, but for a rerun (`age` None), and put the files that are found into the workspace."""
        key = make()
        if age is None:
            return _Look(key)
        try:
            entry = self._cache.find(key.digest, now, age)
            if entry is not None and entry.files:
                workspace = self._state.jobs.layout.workspace(name.job)
                files.restore_dir(workspace)
                self._cache.restore(entry, workspace, self._state.staging)
        except CorruptFileError as error:
            log.warning("job=%s task=%s runs, its cached result cannot be used: %s", name.job, name.task, error)
            return _Look(key)
        return _Look(key, entry)

    def _key_maker(self, job: JobState, task: TaskState) -> Callable[[], MemoKey]:
        """Return what hashes all that the result of a task depends on."""
        layout, memo = self._state.jobs.layout, task.memoize or {}
        surroundings: dict[str, Any] = {
            "command": task.command,
            "image": task.image,
            "backend": self._backend,
            "workdir": task.workdir,
            "env": dict(sorted(job.env_of(task).items())),
            "outputs": memo.get("outputs", []),
            **({"services": [asdict(one) for one in task.services]} if task.services else {}),
        }
        folders = {"file": self._state.options.project, "workspace": layout.workspace(job.id)}
        return partial(make_key, surroundings, memo["key"], folders)

    def _note_look(self, name: _TaskName, look: _Look | None, error: AirExecutorError | None) -> None:
        if error is not None:
            log.warning("job=%s task=%s runs without a cached result: %s", name.job, name.task, error)
        self._looks[name] = look or _Look()
        job = self._state.index.open.get(name.job)
        if job is not None and job.state.uid == name.uid:
            self._state.index.touch(job, clean=True)
        else:
            del self._looks[name]

    # Ends

    def settle(self) -> None:
        """Keep the results of runs that have succeeded; the journal holds all decisions so far."""
        now = self._state.clock.steady()
        if now >= self._next_prune:
            self._next_prune = now + PRUNE_EVERY
            self._side_work.order("memo prune", partial(self._cache.prune, self._state.clock.wall()), _ignore)
        for name in list(self._runs):
            live, task = self._task_of(name)
            if task is not None and task.phase == s.RUNNING:
                continue
            key = self._runs.pop(name)
            if live is not None and task is not None and task.phase == s.SUCCEEDED and task.attempts:
                entry = self._entry_of(live.state, task, key)
                kept = _Kept(entry, (task.memoize or {}).get("outputs", []), task.attempts[-1].seq, task.rerun)
                work = partial(self._keep, name, self._key_maker(live.state, task), kept)
                self._side_work.order((_KEEP, name), work, partial(_told, name))

    def _task_of(self, name: _TaskName) -> tuple[LiveJob | None, TaskState | None]:
        live = self._state.index.open.get(name.job) or self._state.unsaved.get(name.job)
        return live, None if live is None or live.state.uid != name.uid else live.state.tasks.get(name.task)

    def _keeps(self) -> bool:
        """Tell whether a result is about to be kept."""
        if any(isinstance(key, tuple) and key[0] == _KEEP for key in self._side_work.busy):
            return True
        ends = (self._task_of(name)[1] for name in self._runs)
        return any(task is not None and task.phase == s.SUCCEEDED for task in ends)

    def _entry_of(self, job: JobState, task: TaskState, key: MemoKey) -> CacheEntry:
        now, last = self._state.clock.wall(), task.attempts[-1]
        return CacheEntry(
            key=key.digest,
            depends=key.depends,
            made_at=round(now, 3),
            expires_at=round(now + _age_of(task), 3),
            job=job.id,
            task=task.id,
            run=run_id(job.uid, last.seq),
            seconds=round(last.runner_seconds, 6),
            cost=last.cost,
            currency=last.currency,
            result=task.result,
        )

    def _keep(self, name: _TaskName, make: Callable[[], MemoKey], kept: _Kept) -> None:
        _, lines = self._run_dirs.left_behind(name.job, kept.seq, name.task)
        if not queues_nothing(lines):
            log.info("job=%s task=%s is not kept: it queued tasks or jobs", name.job, name.task)
        elif make().digest != kept.entry.key:
            log.info("job=%s task=%s is not kept: files that it depends on have changed meanwhile", name.job, name.task)
        else:
            workspace, staging = self._state.jobs.layout.workspace(name.job), self._state.staging
            self._cache.store(kept.entry, kept.outputs, workspace, staging, replaces=kept.replaces)


def _age_of(task: TaskState) -> float:
    return float((task.memoize or {}).get("for", DEFAULT_AGE))


def _told(name: _TaskName, _: None, error: AirExecutorError | None) -> None:
    if error is not None:
        log.warning("job=%s task=%s result is not kept: %s", name.job, name.task, error)


def _ignore(_: int | None, error: AirExecutorError | None) -> None:
    if error is not None:
        log.warning("cache: %s", error)
