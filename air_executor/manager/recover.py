"""What a manager does before anything else: take an epoch, bring every job up to the last decision, clean up behind.

Checkpoint, then the journal lines beyond it; fresh checkpoints; then the old journals go. A crash anywhere in here is
repeated by the next start.
"""

from __future__ import annotations

import logging
import os
import shutil
import time
from collections.abc import Container
from dataclasses import dataclass, field

from air_executor.core import state as s
from air_executor.core.state import JobState
from air_executor.core.transitions import Job
from air_executor.errors import CorruptFileError, FormatTooNewError, NotFoundError, StoreError
from air_executor.store import files, journal
from air_executor.store.inbox import Inbox
from air_executor.store.jobs import Jobs
from air_executor.store.journal import Journal
from air_executor.store.runs import Runs

log = logging.getLogger(__name__)

STALE_SUBMIT = 3600.0
"""Seconds after which a half-built submission is somebody's crash."""


@dataclass(slots=True)
class Recovered:
    """The state directory as a manager may start from it."""

    journal: Journal
    jobs: dict[str, Job] = field(default_factory=dict)
    """Unfinished jobs by id."""
    ended: list[tuple[str, str, str]] = field(default_factory=list)
    """Id, uid and phase of the others."""
    left_alone: dict[str, str] = field(default_factory=dict)
    """Jobs that cannot be read, with what is wrong."""
    stateless: list[str] = field(default_factory=list)
    """Directories without a state: somebody checked out a commit from before the job."""
    problems: list[str] = field(default_factory=list)


def take_epoch(jobs: Jobs, at_least: int) -> Journal:
    """Create the journal of an epoch above every other, and take away what older managers were building.

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
    for name in files.list_dir(layout.tmp):
        path = f"{layout.tmp}/{name}"
        if (name.isdigit() and int(name) < epoch) or (not name.isdigit() and _stale(path)):
            # Renamed first: whoever still builds in there finds its rename failing from this instant on.
            doomed = f"{layout.tmp}/removed-{epoch}-{name}"
            try:
                files.move(path, doomed)
            except NotFoundError:
                continue
            shutil.rmtree(doomed, ignore_errors=True)
    files.make_dir(layout.epoch_tmp(epoch))
    return opened


def _stale(path: str) -> bool:
    try:
        return time.time() - os.stat(path).st_mtime > STALE_SUBMIT or "/removed-" in path
    except OSError:
        return False


def recover(jobs: Jobs, runs: Runs, inbox: Inbox, *, at_least: int, from_files: bool, scope: Container[str] | None) -> Recovered:
    """Bring the state directory up to date and return it.

    `at_least` is the highest epoch known otherwise. With `from_files` the state files win over the journals. `scope` limits
    the jobs that will be managed; the others are brought up to date all the same, because the journals go.

    Raises:
        StoreError: the volume refused; nothing has been lost, start again.
    """
    jobs.prepare()
    states: dict[str, JobState] = {}
    left_alone: dict[str, str] = {}
    stateless: list[str] = []
    problems: list[str] = []
    for name in jobs.ids():
        try:
            states[name] = jobs.load(name)
        except NotFoundError:
            if _quarantined(jobs, name):
                left_alone[name] = "its state.json was unreadable and lies beside as *.corrupt"
            else:
                stateless.append(name)
        except CorruptFileError as error:
            where = files.quarantine(jobs.layout.state(name))
            left_alone[name] = f"{error}; moved to {where}: restore it (from git, say) and restart the manager"
        except FormatTooNewError as error:
            left_alone[name] = str(error)
    highest = max((state.epoch for state in states.values()), default=0)
    peek = journal.read(jobs.layout)
    opened = take_epoch(jobs, max(at_least, highest, peek.highest_epoch))
    # Read again now that no older manager can change a state file any more.
    replay = journal.read(jobs.layout, below=opened.epoch)
    done = Recovered(opened, left_alone=left_alone, stateless=stateless, problems=problems)
    done.problems += [f"job {name}: {why}" for name, why in left_alone.items()]
    aside = jobs.layout.epoch_tmp(opened.epoch)
    for name, state in states.items():
        lines = [] if from_files else replay.jobs.get(state.uid, [])
        if state.ended and not lines:
            done.ended.append((name, state.uid, state.phase))
            continue
        job = Job(state)
        before = state.version
        known = journal.replay_onto(job, lines) if lines else True
        if known is False:
            done.problems.append(f"job {name}: the journal has a gap after version {state.version}; resumed from there")
        if known is None:
            log.info("job=%s state.json was checked out; the journal's decisions about it are dropped", name)
        if state.version != before:
            jobs.checkpoint(state, aside)
        if state.ended:
            done.ended.append((name, state.uid, state.phase))
        elif scope is not None and name not in scope:
            done.left_alone[name] = "this command manages only its own job"
        else:
            if state.phase != s.HELD and _settle_runs(runs, state):
                jobs.checkpoint(state, aside)
            done.jobs[name] = job
    for name in sorted(replay.requests):
        inbox.done(name)
    for path in replay.damaged:
        kept = f"{path}.corrupt"
        shutil.copyfile(path, kept)
        done.problems.append(f"{path}: damaged lines; a copy is kept at {kept}")
    journal.drop(replay.files, jobs.layout)
    return done


def _quarantined(jobs: Jobs, name: str) -> bool:
    return any(entry.endswith(".corrupt") for entry in files.list_dir(jobs.layout.job(name)))


def _settle_runs(runs: Runs, state: JobState) -> bool:
    """Make the run directories agree with the state; True if the state changed.

    Newer ones are set aside, and their numbers are never used again. After a rewind or in a clone the deadline counts anew.
    """
    highest = runs.highest_seq(state.id)
    newer = runs.supersede(state.id, state.seq)
    if newer:
        log.warning("job=%s resumed from an older state; set aside: %s", state.id, ", ".join(sorted(newer)))
    before = (state.seq, state.deadline_from)
    if newer or (state.seq > 0 and highest == 0):
        state.deadline_from = None
    state.seq = max(state.seq, highest)
    return before != (state.seq, state.deadline_from)
