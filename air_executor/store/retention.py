"""Which ended jobs may leave `jobs/`, and removing them: into the archive, or altogether.

`air-executor prune` calls this, beside a running manager or without one. How a job's slots are held is handed in,
because that is the backend's business.
"""

from __future__ import annotations

import logging
import os
from bisect import bisect_left
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass

from air_executor.errors import AirExecutorError, NotFoundError, StoreError
from air_executor.model.state import JobState
from air_executor.store import files, trees
from air_executor.store.deleted_runs import DeletedRuns
from air_executor.store.inbox import Inbox
from air_executor.store.jobs import Jobs
from air_executor.store.layout import INDEX, Layout
from air_executor.store.object_workspaces import JobKey, ObjectWorkspaces

log = logging.getLogger(__name__)

LockSlots = Callable[[str, Iterable[int]], AbstractContextManager[None]]
"""Hold these slots of a job; raises while something of it still runs."""

ARCHIVED, DELETED, SPARED = "archived", "deleted", "spared"


@dataclass(frozen=True, slots=True)
class Pruned:
    """What became of one ended job that is old enough."""

    id: str
    uid: str
    action: str
    reason: str | None = None
    """Why it was spared."""


class Retention:
    """The ended jobs of one state directory."""

    def __init__(self, layout: Layout, lock_slots: LockSlots, objects: ObjectWorkspaces | None = None) -> None:
        """`objects`: the workspaces, where they are in an object store; they are deleted with their jobs."""
        self._layout = layout
        self._jobs = Jobs(layout)
        self._inbox = Inbox(layout)
        self._lock_slots = lock_slots
        self._objects = objects
        self._unreachable: StoreError | None = None
        self._deleted_runs = DeletedRuns(layout)

    def prune(self, before: float, *, delete: bool, dry_run: bool) -> Iterator[Pruned]:
        """Archive (or delete) the jobs that ended before `before`, Unix seconds; with `delete` archived ones too.

        Spares those that an unfinished job waits for, those something of which still runs, and those that have
        a request waiting or a notification to be delivered. With `delete`, old notes about jobs that are gone go, too.

        Raises:
            StoreError: the volume refused.
        """
        ended, needed = self._look()
        old = [job for job in ended if job.finished_at is not None and job.finished_at < before]
        yield from self._prune(old, needed, delete=delete, dry_run=dry_run)
        if delete:
            yield from self._delete_archived(before, needed, dry_run=dry_run)
            if not dry_run:
                self._forget(before)

    def archive(self, names: Collection[str]) -> Iterator[Pruned]:
        """Archive the jobs with these ids that have ended, whenever that was, to make room for others.

        Spares the same as `prune`, but for undelivered notifications: the running manager still sends those.

        Raises:
            StoreError: the volume refused.
        """
        ended, needed = self._look()
        going = [job for job in ended if job.id in names]
        yield from self._prune(going, needed, delete=False, dry_run=False, replaced=True)

    def _prune(
        self,
        jobs: Iterable[JobState],
        needed: Mapping[str, str],
        *,
        delete: bool,
        dry_run: bool,
        replaced: bool = False,
    ) -> Iterator[Pruned]:
        asked = self._asked()
        action = DELETED if delete else ARCHIVED
        for job in jobs:
            reason = None
            if job.uid in needed:
                reason = f"job {needed[job.uid]} waits for it"
            elif job.undelivered and not replaced:
                reason = "a notification of it is not delivered yet"
            elif job.id in asked:
                reason = "a request for it waits in the inbox until a manager runs"
            elif not dry_run:
                reason = self._take_away(job, delete=delete)
            yield Pruned(job.id, job.uid, action if reason is None else SPARED, reason)

    def _look(self) -> tuple[list[JobState], dict[str, str]]:
        """Return the ended jobs, and for each uid that an unfinished job names the id of that job.

        A job that cannot be read could name any, but it will not run before someone has repaired it.
        """
        ended: list[JobState] = []
        needed: dict[str, str] = {}
        for name in self._jobs.ids():
            try:
                job = self._jobs.load(name)
            except AirExecutorError:
                continue
            if job.ended:
                ended.append(job)
            else:
                needed |= dict.fromkeys(job.after_uids.values(), job.id)
                needed |= {task.joins: job.id for task in job.tasks.values() if task.joins and not task.finished_at}
        return ended, needed

    def _asked(self) -> set[str]:
        found = set()
        for name in self._inbox.pending():
            try:
                request = self._inbox.read(name)
            except StoreError as error:
                log.warning("what a request asks for is unknown: %s", error)
                continue
            if request is not None and request.op != "wake":
                found.add(request.job)
        return found

    def _take_away(self, job: JobState, *, delete: bool) -> str | None:
        """Take one job out of `jobs/`; return why that was not done."""
        try:
            with self._lock_slots(job.id, self._slots(job)):
                now = self._jobs.load(job.id)
                if now.uid != job.uid or not now.ended or now.version != job.version:
                    return "it has changed meanwhile"
                if delete:
                    self._delete_objects(now, self._layout.job(now.id))
                    self._deleted_runs.add(now)
                    self._jobs.remove(job.id)
                else:
                    self._jobs.archive(job)
        except NotFoundError:
            return "it is gone already"
        except AirExecutorError as error:
            return str(error)
        return None

    def _delete_objects(self, job: JobState, folder: str) -> None:
        """Delete what a job has in an object store, before its index, which is in `folder`. May be repeated."""
        if not os.path.exists(f"{folder}/{INDEX}"):
            return
        if self._objects is None:
            raise StoreError("its workspace is in an object store: set AIR_WORKSPACE_STORE to it")
        if self._unreachable is not None:  # each attempt takes its time
            raise self._unreachable
        try:
            self._objects.remove(JobKey(job.id, job.uid))
        except StoreError as error:
            self._unreachable = error
            raise

    def _slots(self, job: JobState) -> list[int]:
        numbers = set(range(job.max_runners))
        for name in files.list_dir(self._layout.job(job.id)):
            slot = self._layout.slot_of(f"{self._layout.job(job.id)}/{name}")
            if slot is not None:
                numbers.add(slot.number)
        return sorted(numbers)

    def _delete_archived(self, before: float, needed: dict[str, str], *, dry_run: bool) -> Iterator[Pruned]:
        for name in files.list_dir(self._layout.archive):
            folder = f"{self._layout.archive}/{name}"
            try:
                job = self._jobs.load_path(f"{folder}/state.json")
            except AirExecutorError:
                continue  # what cannot be read is never deleted
            if job.finished_at is None or job.finished_at >= before:
                continue
            if job.uid in needed:
                yield Pruned(job.id, job.uid, SPARED, f"job {needed[job.uid]} waits for it")
                continue
            if not dry_run:
                try:
                    self._delete_objects(job, folder)
                except AirExecutorError as error:
                    yield Pruned(job.id, job.uid, SPARED, str(error))
                    continue
                self._deleted_runs.add(job)
                doomed = f"{self._layout.tmp}/removed-{os.urandom(6).hex()}"
                files.move(folder, doomed)
                trees.remove_tree(doomed)
            yield Pruned(job.id, job.uid, DELETED)

    def _forget(self, before: float) -> None:
        """Remove old notes about jobs that are gone; a job that is there may still be asked about."""
        names = sorted([*self._jobs.ids(), *files.list_dir(self._layout.archive)])
        there = set(names)
        for note in files.list_dir(self._layout.notes):
            about = note.rpartition(".")[0]
            path = f"{self._layout.notes}/{note}"
            exists = about in there or about.rpartition("-")[0] in there or _any_begins_with(names, f"{about}-")
            if not exists and files.changed_at(path) < before:
                files.remove(path)
        ids = {*self._jobs.ids(), *(name.rpartition("-")[0] for name in files.list_dir(self._layout.archive))}
        for folder in files.list_dir(self._layout.worktrees):
            if folder.rpartition("-")[0] not in ids:
                self._forget_worktrees(f"{self._layout.worktrees}/{folder}", before)

    @staticmethod
    def _forget_worktrees(folder: str, before: float) -> None:
        """Remove the notes of a job's worktrees that were removed; the job itself is gone, too."""
        if files.list_folders(folder) or files.changed_at(folder) >= before:
            return
        trees.remove_tree(folder)


def _any_begins_with(names: Sequence[str], word: str) -> bool:
    """Tell whether one of these sorted names does."""
    at = bisect_left(names, word)
    return at < len(names) and names[at].startswith(word)
