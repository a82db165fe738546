"""Which run directories of a job are not kept any longer, and their removal.

The manager does it in small slices (`manager/run_trimmer`), `air-executor prune` at once. All of it is generators that
yield after each small step. A task could have put anything in the place of a folder: no link is followed.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from air_executor.model import state as s
from air_executor.model.state import JobState
from air_executor.store import files, run_folder, trees
from air_executor.store.layout import Layout
from air_executor.store.run_dirs import seq_of

_MANY = 200
"""Names that are looked at in one step."""


@dataclass(frozen=True, slots=True)
class RunLimits:
    """Which run directories of a job are kept. Always kept: open runs, the newest run, and why a task has failed."""

    number: int | None = None
    """Maximum number; None: no limit."""
    age: float | None = None
    """Maximum age in seconds; None: no limit."""

    @property
    def keep_all(self) -> bool:
        """Tell whether nothing is ever removed."""
        return self.number is None and self.age is None


def expired(
    layout: Layout, job: str, load: Callable[[], JobState], limits: RunLimits, now: float
) -> Iterator[str | None]:
    """Yield the names of a job's run directories that are not kept, oldest first; None where others may go first.

    `load` returns the job's state; it is called only if there is something that may be removed.

    Raises:
        AirExecutorError: as `load`.
    """
    runs = []
    for at, name in enumerate(_names(layout, job)):
        if (seq := seq_of(name)) > 0:
            runs.append((seq, name))
        if at % _MANY == 0:
            yield None
    runs.sort()
    surplus = 0 if limits.number is None else len(runs) - limits.number
    state = None
    # The newest stays, so that no number is used again, even after a rewind.
    for at, (seq, name) in enumerate(runs[:-1]):
        if at < surplus or _is_old(f"{layout.runs(job)}/{name}", limits, now):
            state = state or load()
            yield None if _is_needed(state, seq, name) else name
        elif at % _MANY == 0:
            yield None


def remove(layout: Layout, job: str, name: str) -> Iterator[None]:
    """Remove a run directory, after it has been moved away at once."""
    doomed = _move_away(layout, job, name)
    if doomed is not None:
        yield from trees.removal(doomed)


def _move_away(layout: Layout, job: str, name: str) -> str | None:
    """Move a run directory to where a starting manager removes it; return the path, or None if it is there no more."""
    doomed = f"{layout.tmp}/removed-{files.random_hex(6)}"
    folder = _open(layout, job)
    if folder is None:
        return None
    try:
        os.rename(name, doomed, src_dir_fd=folder)
    except OSError:  # it is gone, or the volume refuses: it is found again
        return None
    finally:
        os.close(folder)
    return doomed


def _open(layout: Layout, job: str) -> int | None:
    try:
        above = os.open(layout.job(job), run_folder.FLAGS)
    except OSError:
        return None
    try:
        return os.open("runs", run_folder.FLAGS, dir_fd=above)
    except OSError:
        return None
    finally:
        os.close(above)


def _names(layout: Layout, job: str) -> list[str]:
    folder = _open(layout, job)
    if folder is None:
        return []
    try:
        return os.listdir(folder)
    except OSError:
        return []
    finally:
        os.close(folder)


def _is_old(path: str, limits: RunLimits, now: float) -> bool:
    if limits.age is None:
        return False
    try:
        return os.lstat(path).st_mtime < now - limits.age
    except OSError:
        return False


def _is_needed(job: JobState, seq: int, name: str) -> bool:
    """Tell whether a run is open or not known yet, or is the last one of a task that has not succeeded."""
    task = job.tasks.get(name.partition("-")[2])
    if seq > job.seq:
        return True
    if task is None:
        return False
    is_last = bool(task.attempts) and task.attempts[-1].seq == seq
    return (task.run is not None and task.run.seq == seq) or (is_last and task.phase != s.SUCCEEDED)


EFFECTS = (_move_away,)
"""What changes the volume; see `files`."""
