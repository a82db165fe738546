"""The start of a manager: take an epoch, bring every job up to its last decision, clean up after earlier managers.

Checkpoint, then the journal lines beyond it; fresh checkpoints; then the old journals go. A crash anywhere in here is
repeated by the next start. The loop calls `recover` once, and `take_epoch` when it reacquires the directory. Touches no
runner and takes no request.
"""

from __future__ import annotations

import contextlib
import gc
import logging
import os
import time
from collections.abc import Callable, Container, Iterator
from dataclasses import dataclass, field

from air_executor.core.transitions import LiveJob
from air_executor.errors import AirExecutorError, CorruptFileError, NotFoundError, PathBlockedError, StoreError
from air_executor.manager.manager_state import bug_text
from air_executor.model.events import Ended
from air_executor.model.records import CountersRecord
from air_executor.model.state import JobState
from air_executor.store import counters_file, files, journal_files, trees
from air_executor.store.inbox import Inbox
from air_executor.store.job_head import JobHead, head_of
from air_executor.store.jobs import Jobs
from air_executor.store.journal import Journal
from air_executor.store.journal_files import JournalEntry, Replay
from air_executor.store.run_dirs import RunDirs

log = logging.getLogger(__name__)

STALE_SUBMIT = 3600.0
"""Age in seconds after which a half-built submission is the remains of a crash."""
WRITERS = 8
"""Checkpoints written at once."""


@dataclass(slots=True)
class Recovered:
    """The state directory as a manager may start from it."""

    journal: Journal = field(init=False)
    jobs: dict[str, LiveJob] = field(default_factory=dict)
    """Unfinished jobs by id."""
    ended: list[tuple[str, JobHead]] = field(default_factory=list)
    """Id and head of the others."""
    keeping: list[JobState] = field(default_factory=list)
    """Ended jobs of which a runner stays."""
    undelivered: list[JobState] = field(default_factory=list)
    """Those of them that have notifications to be delivered."""
    ended_runs: list[tuple[str, int, str]] = field(default_factory=list)
    """Job, number and task of the runs whose end only a journal held: their manager may not have tidied them up."""
    checkpointed_runs: list[tuple[str, int, str]] = field(default_factory=list)
    """Those whose end a checkpoint held, too: their manager may have died before it packed them."""
    holders: list[JobState] = field(default_factory=list)
    """Unfinished jobs that this manager does not handle: they may hold a lock."""
    unmanaged: dict[str, str] = field(default_factory=dict)
    """Jobs that the manager must not touch, and why."""
    stateless: list[str] = field(default_factory=list)
    """Directories without a state: somebody checked out a commit from before the job."""
    problems: list[str] = field(default_factory=list)
    corrupt: int = 0
    """Files that cannot be read."""
    counters: CountersRecord | None = None
    """What managers have counted so far; None if that is not known."""
    quarantined: set[str] = field(default_factory=set)
    """Jobs that were not brought up to date: journals with lines of them stay."""

    def quarantine(self, name: str, why: str) -> None:
        """Leave a job alone until the next start, for which its journals stay."""
        self.jobs.pop(name, None)
        self.ended = [job for job in self.ended if job[0] != name]
        self.undelivered = [job for job in self.undelivered if job.id != name]
        self.keeping = [job for job in self.keeping if job.id != name]
        self.ended_runs = [run for run in self.ended_runs if run[0] != name]
        self.checkpointed_runs = [run for run in self.checkpointed_runs if run[0] != name]
        self.unmanaged[name] = why
        self.quarantined.add(name)


def take_epoch(jobs: Jobs, at_least: int, check: Callable[[], None]) -> Journal:
    """Create the journal of an epoch above every other, and remove the staging directories of older managers.

    `check` raises if the directory is not ours any more: what has a higher epoch by then would count as older.

    Raises:
        StoreError: the volume refused.
    """
    layout = jobs.layout
    epoch = at_least
    while True:
        epoch += 1
        try:
            opened = Journal(layout, epoch)
        except FileExistsError:
            continue
        break
    check()
    for name in files.list_dir(layout.tmp):
        path = f"{layout.tmp}/{name}"
        if (name.isdecimal() and int(name) < epoch) or (not name.isdecimal() and _stale(path)):
            # Renamed first: from this instant on, the rename of a manager that still builds in there fails.
            doomed = f"{layout.tmp}/removed-{epoch}-{files.random_hex(6)}"
            try:
                files.move(path, doomed)
            except NotFoundError:
                continue
            trees.remove_tree(doomed)
    files.restore_dir(layout.epoch_tmp(epoch))
    return opened


def _stale(path: str) -> bool:
    try:
        return time.time() - os.stat(path).st_mtime > STALE_SUBMIT or "/removed-" in path
    except OSError:
        return False


@contextlib.contextmanager
def _paused_garbage_collector() -> Iterator[None]:
    """Pause the garbage collector: what is loaded here stays, and scanning it again and again takes as long as that."""
    if not gc.isenabled():
        yield
        return
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        gc.unfreeze()  # both together: all of it counts as old, so that the next collection does not begin with it
        gc.enable()


@_paused_garbage_collector()
def recover(
    jobs: Jobs,
    runs: RunDirs,
    inbox: Inbox,
    *,
    check: Callable[[], None],
    at_least: int,
    from_files: bool,
    scope: Container[str] | None,
    packs: bool,
) -> Recovered:
    """Bring the state directory up to date and return it.

    `check` raises if the directory is not ours any more. `at_least`: the highest epoch known otherwise. `from_files`:
    the state files win over the journals. `scope` limits the jobs that will be managed; the others are brought up to
    date all the same, because the journals go. `packs`: the runs of this backend are packed.

    Raises:
        StoreError: the volume refused; nothing is lost, start again.
        DirectoryLostError: `check` says so.
    """
    done = Recovered()
    at_least = at_least if at_least <= journal_files.MAX_EPOCH - journal_files.LEAP else 0
    done.journal = take_epoch(jobs, max(at_least, journal_files.highest_epoch(jobs.layout, at_least)), check)
    # From here on no older manager can change a state file, and nobody will read what it appends to its journal.
    replay = journal_files.read(jobs.layout, below=done.journal.epoch)
    done.corrupt += len(replay.unreadable)
    done.problems += replay.unreadable
    highest, states = _load_all(jobs, done, replay.jobs)
    if highest >= done.journal.epoch:  # states from elsewhere, checked out without the journals of their managers
        superseded = done.journal
        done.journal = take_epoch(jobs, highest, check)
        superseded.close()
    _recover_counters(jobs, replay, done)
    changed = []
    for state in states:
        check()  # run directories of a manager that has replaced this one would count as superseded
        lines = [] if from_files else replay.jobs.get((state.id, state.uid), [])
        with _quarantining(state.id, done):
            if _bring_up_to_date(runs, state, lines, done):
                changed.append(state)
    _checkpoint(jobs, changed, jobs.layout.epoch_tmp(done.journal.epoch), done)
    done.problems += [f"job {name}: {why}" for name, why in done.unmanaged.items()]
    for name in [name for name in done.jobs if scope is not None and name not in scope]:
        done.holders.append(done.jobs.pop(name).state)
        done.unmanaged[name] = "this command manages only its own job"
    for name in sorted(replay.requests):
        if not inbox.done(name):  # without the journal that names it, it would be applied again
            msg = f"cannot remove {jobs.layout.inbox}/{name}, which was applied; make the volume writable"
            raise StoreError(msg)
    for path in replay.damaged:
        kept = f"{path}.corrupt"
        with contextlib.suppress(StoreError, NotFoundError):  # it would be lost in any case, and the start with it
            files.copy(path, kept)
        done.corrupt += 1
        done.problems.append(f"{path}: damaged lines; a copy is kept at {kept}")
    _tidy_up(runs, done, packs=packs)
    superfluous = [path for path, named in replay.files.items() if named.isdisjoint(done.quarantined)]
    journal_files.drop(superfluous, jobs.layout)
    return done


def _tidy_up(runs: RunDirs, done: Recovered, *, packs: bool) -> None:
    """Do what the manager that committed these runs may have died before; their checkpoints hold their outcome."""
    for run in done.ended_runs:
        runs.drop_inputs(*run)
    for run in (*done.ended_runs, *done.checkpointed_runs) if packs else ():
        runs.pack(*run)


def _recover_counters(jobs: Jobs, replay: Replay, done: Recovered) -> None:
    """Put together what file and journals say of the counters; the journals go."""
    layout = jobs.layout
    try:
        done.counters = counters_file.load(layout)
    except StoreError as error:
        if not isinstance(error, CorruptFileError) and not isinstance(error.__cause__, PermissionError):
            raise
        done.corrupt += 1
        done.problems.append(f"{error}; moved to {files.quarantine(layout.counters)}, and the counters begin at 0")
    if replay.counters is not None:
        done.counters = done.counters or CountersRecord({}, {})
        done.counters.include(replay.counters)
        counters_file.save(layout, done.counters, layout.epoch_tmp(done.journal.epoch))


def _load_all(jobs: Jobs, done: Recovered, journaled: Container[tuple[str, str]]) -> tuple[int, list[JobState]]:
    """Return the highest epoch, and every state that is unfinished or journaled; note the others in `done`."""
    epochs = [0]
    states = []
    for name in jobs.ids():
        with _quarantining(name, done):
            found = _load(jobs, name, done, journaled)
            if found is not None:
                epochs.append(found.epoch)
            if isinstance(found, JobState):
                states.append(found)
    return max(epoch for epoch in epochs if epoch <= done.journal.epoch + journal_files.LEAP), states


def _load(jobs: Jobs, name: str, done: Recovered, journaled: Container[tuple[str, str]]) -> JobState | JobHead | None:
    """Return one job: its state if it is unfinished or journaled, its head if it has ended, None if it has none.

    Raises:
        StoreError: it cannot be read.
    """
    try:
        head = jobs.head_of_ended(name)
        found: JobState | JobHead = jobs.load(name) if head is None or (name, head.uid) in journaled else head
    except NotFoundError:
        if _quarantined(jobs, name):
            done.unmanaged[name] = "its state.json was unreadable and is kept beside it as *.corrupt"
        else:
            done.stateless.append(name)
        return None
    except CorruptFileError as error:
        done.corrupt += 1
        where = files.quarantine(jobs.layout.state(name))
        done.unmanaged[name] = f"{error}; moved to {where}: restore it (from git, say) and restart the manager"
        return None
    if isinstance(found, JobState) and found.ended and (name, found.uid) not in journaled:
        found = found if found.undelivered or found.kept else head_of(found)
    if isinstance(found, JobHead):
        done.ended.append((name, found))
    return found


@contextlib.contextmanager
def _quarantining(name: str, done: Recovered) -> Iterator[None]:
    """Let whatever goes wrong with one job cost that job alone: it stays as it is, and so do the journals."""
    try:
        yield
    except StoreError as error:  # refused by the volume, or written by a newer version
        done.quarantine(name, f"{error}; restart the manager when it can be read")
    except Exception as error:
        log.exception("job=%s cannot be brought up to date", name)
        done.quarantine(name, bug_text(error))


def _checkpointed_runs(state: JobState, lines: list[JournalEntry]) -> Iterator[tuple[int, str]]:
    """Yield number and task of each run that has ended in these lines and in the checkpoint."""
    seqs = {entry.event.seq for entry in lines if isinstance(entry.event, Ended)}
    for task in state.tasks.values() if seqs else ():
        yield from ((attempt.seq, task.id) for attempt in task.attempts if attempt.seq in seqs)


def _bring_up_to_date(runs: RunDirs, state: JobState, lines: list[JournalEntry], done: Recovered) -> bool:
    """Apply the journal's lines to one job and put it where it belongs; True if its checkpoint is behind then."""
    before = state.version
    done.checkpointed_runs += [(state.id, seq, task) for seq, task in _checkpointed_runs(state, lines)]
    job = LiveJob(state)
    ended: list[tuple[int, str]] = []
    known = journal_files.replay_onto(job, lines, ended) if lines else True
    done.ended_runs += [(state.id, seq, task) for seq, task in ended]
    if known is False:
        done.problems.append(f"job {state.id}: a gap in the journal after version {state.version}; resumed there")
    elif known is None:
        log.info("job=%s state.json was checked out, dropping the journal's decisions about it", state.id)
    reconciled = not state.ended and reconcile_run_dirs(runs, state)
    if state.ended:
        done.ended.append((state.id, head_of(state)))
        if state.undelivered:
            done.undelivered.append(state)
        if state.kept:
            done.keeping.append(state)
    else:
        done.jobs[state.id] = job
    return reconciled or state.version != before


def _checkpoint(jobs: Jobs, states: list[JobState], staging: str, done: Recovered) -> None:
    """Write checkpoints, several at once: each waits for the disk twice, and after a crash there may be thousands.

    Raises:
        StoreError: the volume refused. What is in the way of one job's checkpoint costs that job alone.
    """
    if not states:
        return
    from concurrent.futures import ThreadPoolExecutor  # noqa: PLC0415 - not before it is needed: `run` starts often

    with ThreadPoolExecutor(WRITERS) as pool:
        written = [(state, pool.submit(jobs.checkpoint, state, staging)) for state in states]
    for state, future in written:
        error = future.exception()
        expected = isinstance(error, AirExecutorError) and not isinstance(error, PathBlockedError)
        if isinstance(error, Exception) and not expected:
            log.error("job=%s cannot be written", state.id, exc_info=error)
            done.quarantine(state.id, f"{error}; restart the manager when it can be written")
        else:
            future.result()


def _quarantined(jobs: Jobs, name: str) -> bool:
    return any(entry.endswith(".corrupt") for entry in files.list_dir(jobs.layout.job(name)))


def reconcile_run_dirs(runs: RunDirs, state: JobState) -> bool:
    """Make the run directories agree with the state; True if the state changed.

    Newer ones are moved away, and their numbers never used again. After a rewind or in a clone the deadline restarts.
    """
    highest = runs.highest_seq(state.id, state.seq)
    newer = runs.supersede(state.id, state.seq) if highest > state.seq else []
    if newer:
        log.warning("job=%s resumed from an older state, superseded: %s", state.id, ", ".join(sorted(newer)))
    before = (state.seq, state.deadline_from, state.cleanup_from)
    if newer or (state.seq > 0 and highest == 0):
        state.deadline_from = state.cleanup_from = None
    state.seq = max(state.seq, highest)
    return before != (state.seq, state.deadline_from, state.cleanup_from)
