"""What is noted of the git worktrees of tasks: one small file beside each. Knows nothing of git."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

from air_executor.errors import CorruptFileError, StoreError
from air_executor.model.worktree import WorktreeNote
from air_executor.store import codec, files

if TYPE_CHECKING:
    from air_executor.model.state import JobState
    from air_executor.store.layout import Layout

MAX_NOTE = 64 * 1024


def read_note(layout: Layout, job: str, uid: str, task: str) -> WorktreeNote | None:
    """Return what is noted of the worktree of a task; None: it never had one.

    Raises:
        StoreError: it cannot be read, or is another task's.
    """
    path = layout.worktree_note(job, uid, task)
    note = read_file(path)
    if note is not None and (note.job, note.uid, note.task) != (job, uid, task):
        msg = f"{path}: is about another task; move it and its folder away"
        raise CorruptFileError(msg)
    return note


def read_file(path: str) -> WorktreeNote | None:
    """Return what a file notes; None: there is none.

    Raises:
        StoreError: it cannot be read.
    """
    found = files.read(path, MAX_NOTE)
    if found is None:
        return None
    note = codec.read_small(WorktreeNote, found[0])
    if note is None:
        msg = f"{path}: is no note about a worktree; move it and its folder away"
        raise CorruptFileError(msg)
    return note


def notes_of(layout: Layout, job: JobState) -> dict[str, tuple[str, WorktreeNote]]:
    """Return the worktrees of a job's tasks that are there, by task: path and note; what cannot be read is left out."""
    found: dict[str, tuple[str, WorktreeNote]] = {}
    for task in job.tasks.values():
        if task.worktree is not None:
            with contextlib.suppress(StoreError):
                note = read_note(layout, job.id, job.uid, task.id)
                if note is not None and note.ready:
                    found[task.id] = layout.worktree(job.id, job.uid, task.id), note
    return found
