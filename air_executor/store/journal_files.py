"""What the journals on a volume hold, for recovery: every file is read as one sequence, and applied to checkpoints."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from dataclasses import dataclass, field

from air_executor.core.transitions import LiveJob
from air_executor.errors import CorruptFileError, NotFoundError, PathBlockedError, StoreError
from air_executor.model.defaults import Defaults
from air_executor.model.events import Ended, Event, JournalLine, Requested, with_tasks
from air_executor.model.records import CountersRecord
from air_executor.store import codec, files
from air_executor.store.journal import MAX_FILE
from air_executor.store.layout import Layout

MAX_EPOCH = 2**48
"""Highest epoch that is taken from a file: no manager has started that often, and a few more starts need room."""
LEAP = 2**32
"""No manager starts that often between two of which the directory knows."""
_NAME = re.compile(r"(0|[1-9][0-9]{0,14})-(0|[1-9][0-9]{0,8})\.jsonl")


@dataclass(slots=True)
class JournalEntry:
    """One decision as a journal holds it."""

    epoch: int
    line: JournalLine
    event: Event


@dataclass(slots=True)
class Replay:
    """Everything that the journals on the volume hold."""

    files: dict[str, set[str]] = field(default_factory=dict)
    """All journal files, oldest first, and the jobs that each has lines of."""
    damaged: list[str] = field(default_factory=list)
    """Those with a bad line before good ones."""
    unreadable: list[str] = field(default_factory=list)
    """What is no file, or one that no manager writes, and was moved out of the way: one line each."""
    jobs: dict[tuple[str, str], list[JournalEntry]] = field(default_factory=dict)
    """Lines by the job's id and uid, in order."""
    requests: set[str] = field(default_factory=set)
    """Names of the requests that were applied."""
    counters: CountersRecord | None = None
    """What was counted."""


def file_key(name: str) -> tuple[int, int] | None:
    """Return epoch and number of a journal file's name, or None for any other name."""
    found = _NAME.fullmatch(name)
    return (int(found[1]), int(found[2])) if found is not None and int(found[1]) <= MAX_EPOCH else None


def highest_epoch(layout: Layout, known: int) -> int:
    """Return the highest epoch that has a journal; 0 if none has.

    One that is more than `LEAP` above a `known` one is no manager's: it must not leave later ones without room.

    Raises:
        StoreError: the volume refused.
    """
    keys = [key for name in files.list_dir(layout.journal) if (key := file_key(name)) is not None]
    return max((epoch for epoch, _ in keys if epoch <= known + LEAP), default=0)


def read(layout: Layout, below: int | None = None) -> Replay:
    """Read all journals of epochs lower than `below` (all, if None).

    What cannot be a journal is quarantined.

    Raises:
        StoreError: the volume refused.
    """
    replay = Replay()
    keyed = {key: name for name in files.list_dir(layout.journal) if (key := file_key(name)) is not None}
    for key in sorted(keyed):
        if below is not None and key[0] >= below:
            continue
        path = f"{layout.journal}/{keyed[key]}"
        try:
            found = files.read(path, MAX_FILE)
        except (CorruptFileError, PathBlockedError) as error:
            replay.unreadable.append(f"{error}; moved to {files.quarantine(path)}")
            continue
        if found is None:
            continue
        replay.files[path] = set()
        if not _read_lines(found[0], key[0], replay, replay.files[path]):
            replay.damaged.append(path)
    return replay


def _read_lines(data: bytes, epoch: int, replay: Replay, named: set[str]) -> bool:
    """Take in one file's lines; False if one before good ones is damaged. An incomplete last one was never written."""
    bad = False
    whole = True
    for text in data.split(b"\n")[:-1]:
        counters = codec.unseal_counters(text)
        if counters is not None:
            whole = whole and not bad
            replay.counters = replay.counters or CountersRecord({}, {})
            replay.counters.include(counters)
            continue
        line = codec.unseal(text)
        event = None if line is None else line.event
        if line is None or event is None:
            bad = True
            continue
        whole = whole and not bad
        named.add(line.job)
        replay.jobs.setdefault((line.job, line.uid), []).append(JournalEntry(epoch, line, event))
        if isinstance(event, Requested) and event.request:
            replay.requests.add(event.request)
    return whole


def replay_onto(job: LiveJob, entries: list[JournalEntry], ended: list[tuple[int, str]]) -> bool | None:
    """Apply to a job what its checkpoint does not hold yet; add number and task of each run that ends to `ended`.

    Returns None if the journals do not know this checkpoint (somebody checked it out: it stands as it is), False if the
    chain of versions has a gap (the job stops before it), True otherwise.
    """
    state = job.state
    here = (state.epoch, state.version)
    position = next((i for i, entry in enumerate(entries) if entry.line.before == here), None)
    if position is None:
        position = next((i + 1 for i, one in enumerate(entries) if (one.epoch, one.line.version) == here), None)
    if position is None:
        return None
    defaults = Defaults(state.spec.defaults)
    for entry in entries[position:]:
        if entry.line.version <= state.version:
            continue
        if entry.line.version != state.version + 1:
            return False
        event = entry.event
        if isinstance(event, Ended) and event.keep_until is None and (task := job.progress.runs.get(event.seq)):
            ended.append((event.seq, task))
        job.apply(with_tasks(event, entry.line, defaults), entry.epoch)
        state.queue_notices(entry.line.notices)
    return True


def drop(paths: Iterable[str], layout: Layout) -> None:
    """Remove journal files that checkpoints have made superfluous.

    Raises:
        StoreError: the volume refused; what remains is harmless and is read again.
    """
    for path in paths:
        try:
            os.unlink(path)
        except FileNotFoundError:
            continue
        except OSError as error:
            files.fail("remove", path, error)
    try:
        files.fsync_dir(layout.journal)
    except NotFoundError as error:
        msg = f"{layout.journal} is gone"
        raise StoreError(msg) from error


EFFECTS = (drop,)
"""What changes the volume; see `files`."""
