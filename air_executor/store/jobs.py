"""Job directories: created whole, loaded, checkpointed, quarantined, archived.

A submitter creates; from then on the manager alone calls the rest.
"""

from __future__ import annotations

import errno
import os
import time
from collections.abc import Callable, Iterator, Mapping

from air_executor.errors import (
    AlreadyExistsError,
    BadInputError,
    CorruptFileError,
    NotFoundError,
    StoreError,
)
from air_executor.model.names import check_id
from air_executor.model.state import SUCCEEDED, JobState
from air_executor.model.times import to_text
from air_executor.store import codec, files, job_head, job_summary, permissions, trees
from air_executor.store.job_head import JobHead
from air_executor.store.job_summary import JobSummary
from air_executor.store.layout import Layout

MAX_STATE = 1024 * 1024 * 1024
"""Bytes of a state that is read."""
MAX_GROWN = MAX_STATE // 2
"""Bytes beyond which a job takes nothing more: its last ends still have room, and what is written can be read."""

_GITIGNORE = """\
# Written by Air-Executor: git keeps the states of the jobs, and nothing else from here.
*
!.gitignore
!jobs/
!jobs/*/
!jobs/*/state.json
!archive/
!archive/*/
!archive/*/state.json
!ledger/
!ledger/*.jsonl
!schedules/
!schedules/*.json
"""


class Jobs:
    """The jobs of one state directory."""

    def __init__(self, layout: Layout, *, read: Callable[[bytes, str], JobState] = codec.load_job) -> None:
        """`read` makes a state of a file's content; see `codec.load_job`."""
        self.layout = layout
        self._read = read

    def prepare(self) -> None:
        """Create what a state directory needs; fine if it is there.

        Raises:
            StoreError: the volume refused.
        """
        layout = self.layout
        files.make_dir(layout.root)
        for path in (layout.jobs, layout.inbox, layout.refused, layout.tmp, layout.journal, layout.archive):
            files.restore_dir(path)
        try:
            files.write_new(layout.gitignore, _GITIGNORE.encode(), sync=True)
        except FileExistsError:
            return
        files.fsync_dir(layout.root)

    def ids(self) -> list[str]:
        """Return the names of the directories in `jobs/` that can be job ids, sorted; what else lies there is no job.

        Raises:
            StoreError: the volume refused.
        """
        found = []
        for name in files.list_folders(self.layout.jobs):
            try:
                found.append(check_id(name))
            except BadInputError:
                continue
        return sorted(found)

    def ensure_free(self, job: str, uid: str | None = None) -> None:
        """Make sure that no other job (than the one with `uid`) has an id, as far as one can tell without creating it.

        Raises:
            AlreadyExistsError: it is.
        """
        if os.path.lexists(self.layout.job(job)):
            self._explain_failed_create(job, uid, FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST)))

    def create(self, job: JobState, workspace: Mapping[str, bytes] | None = None) -> None:
        """Submit a job: stage its directory and rename it into place.

        `workspace` is what its tasks find there: files that only its owner may read, in a folder that only its owner
        may enter.

        Raises:
            AlreadyExistsError: the id is taken.
            BadInputError: it is too large to be read again.
            StoreError: the volume refused; nothing was submitted.
        """
        staging = f"{self.layout.tmp}/submit-{files.random_hex(6)}"
        target = self.layout.job(job.id)
        text = codec.dump_job(job)
        if len(text) > MAX_GROWN:
            msg = f"job {job.id} comes to {len(text) / 1e6:.0f} MB, more than {MAX_GROWN / 1e6:.0f} MB; split it"
            raise BadInputError(msg)
        files.restore_dir(self.layout.tmp)
        files.restore_dir(staging)
        try:
            files.write_new(f"{staging}/state.json", text, sync=True)
            given = [] if workspace is None else self._fill(f"{staging}/workspace", workspace)
            files.fsync_dir(staging)
            for path in (*given, f"{staging}/state.json", staging):
                permissions.hand_over(path, self.layout.jobs)
            try:
                os.rename(staging, target)
            except OSError as error:
                self._explain_failed_create(job.id, job.uid, error)
            files.fsync_dir(self.layout.jobs)
        finally:
            trees.remove_tree(staging)

    def _fill(self, folder: str, given: Mapping[str, bytes]) -> list[str]:
        """Write what a job's tasks are given; return all paths, what is in a folder before it."""
        paths: list[str] = []
        try:
            os.mkdir(folder, 0o700)
            for name, data in given.items():
                paths.append(path := f"{folder}/{name}")
                files.write_new(path, data, sync=True)
                # In root's own state directory tasks in containers are somebody else, who is given the folder alone.
                if os.stat(self.layout.jobs).st_uid != 0:
                    os.chmod(path, 0o600)
        except OSError as error:
            files.fail("write", folder, error)
        files.fsync_dir(folder)
        return [*paths, folder]

    def _explain_failed_create(self, job: str, uid: str | None, error: OSError) -> None:
        """Return if the rename happened after all (network volumes may report failure for it); raise otherwise."""
        path = self.layout.state(job)
        try:
            there = self.load(job)
        except NotFoundError:
            if os.path.isdir(self.layout.job(job)) and files.list_dir(self.layout.job(job)):
                what = f"at {self.layout.job(job)}, without a state.json"
                if (twin := self._twin(job)) is not None:
                    what = f"as {twin}, which is the same name to this file system"
                msg = f"job {job} already exists {what}; choose another id"
                raise AlreadyExistsError(msg) from error
            files.fail("create", path, error)
        except StoreError as unreadable:
            msg = f"job {job} already exists, unreadable: {unreadable}"
            raise AlreadyExistsError(msg) from error
        if there.uid != uid:
            if there.ended:
                ended = f"already exists and has already ended ({there.phase})"
                goes_on = "" if there.phase == SUCCEEDED else f"continue it by `air-executor retry {job}`, "
                msg = f"job {job} {ended}; {goes_on}run it again with --replace, or choose another id"
            else:
                msg = f"job {job} already exists ({there.phase}); choose another id, or use `air-executor add`"
            raise AlreadyExistsError(msg) from error

    def _twin(self, job: str) -> str | None:
        """Return the id of the job whose directory one gets for this id, if case is all that differs."""
        names = self.ids()
        return None if job in names else next((name for name in names if name.lower() == job.lower()), None)

    def load(self, job: str) -> JobState:
        """Read one job's checkpoint.

        Raises:
            NotFoundError: there is none.
            CorruptFileError, FormatTooNewError, StoreError: it cannot be read.
        """
        return self.load_path(self.layout.state(job), expected=job)

    def head_of_ended(self, job: str) -> JobHead | None:
        """Return the head of an ended job's checkpoint; None: only `load` can tell.

        Raises:
            CorruptFileError, StoreError: it cannot be read.
        """
        found = files.read_ends(self.layout.state(job), job_head.LONGEST, len(job_head.TAIL))
        return None if found is None else job_head.parse_ended(*found, job)

    def summary(self, job: str) -> JobSummary:
        """Return a job without its tasks, which is quicker than `load`. Raises as `load`.

        Of a file that looks as a manager writes it, tasks are counted and not checked.
        """
        path = self.layout.state(job)
        found = files.read(path, MAX_STATE)
        if found is None:
            msg = f"{path}: not found"
            raise NotFoundError(msg)
        return job_summary.parse(found[0], job) or job_summary.summary_of(self.load(job))

    def load_path(self, path: str, expected: str | None = None) -> JobState:
        """Read a checkpoint at any path; see `load`."""
        found = files.read(path, MAX_STATE)
        if found is None:
            msg = f"{path}: not found"
            raise NotFoundError(msg)
        state = self._read(found[0], path)
        if expected is not None and state.id != expected:
            if state.id.lower() == expected.lower():  # another job, on a file system that ignores case
                msg = f"{path}: not found; there is a job {state.id}"
                raise NotFoundError(msg)
            msg = f"{path}: holds job {state.id!r}, not {expected!r}"
            raise CorruptFileError(msg)
        return state

    def checkpoint(self, job: JobState, staging: str) -> None:
        """Write a job's state durably, built in the directory `staging`.

        Raises:
            NotFoundError: `staging` or the job's directory is gone.
            StoreError: the volume refused; the old state stands.
        """
        files.replace_own(self.layout.state(job.id), codec.dump_job(job), staging)

    def size(self, job: str) -> int:
        """Return how many bytes a job's checkpoint has; 0 if there is none."""
        return files.size(self.layout.state(job))

    def recreate(self, job: JobState, staging: str) -> None:
        """Write a job's state where its directory may be gone."""
        files.restore_dir(self.layout.job(job.id))
        self.checkpoint(job, staging)

    def quarantine(self, job: str) -> str:
        """Move a job directory that has no state out of `jobs/` and return where it is now.

        Raises:
            StoreError: the volume refused.
        """
        target = f"{self.layout.archive}/.set-aside-{job}-{to_text(time.time()).replace(':', '')}"
        files.restore_dir(self.layout.archive)
        files.move(self.layout.job(job), target)
        return target

    def remove(self, job: str) -> None:
        """Delete a job's directory; its name is free as soon as this returns.

        Raises:
            StoreError: the volume refused.
        """
        doomed = f"{self.layout.tmp}/removed-{files.random_hex(6)}"
        try:
            files.move(self.layout.job(job), doomed)
        except NotFoundError:
            return
        files.fsync_dir(self.layout.jobs)
        trees.remove_tree(doomed)

    def archive(self, job: JobState) -> str:
        """Move an ended job to the archive and return its new directory.

        Raises:
            StoreError: the volume refused.
        """
        target = f"{self.layout.archive}/{job.id}-{job.uid}"
        files.restore_dir(self.layout.archive)
        files.move(self.layout.job(job.id), target)
        files.fsync_dir(self.layout.jobs)
        return target

    def find(self, job: str, uid: str | None = None) -> JobState | None:
        """Return a job by its id (and uid), archived or not; None if there is none.

        Raises:
            StoreError: it cannot be read.
        """
        try:
            found = self.load(job)
        except NotFoundError:
            return self.archived(job, uid)
        return found if uid in (None, found.uid) else self.archived(job, uid)

    def all_archived(self, since: float = 0.0) -> Iterator[JobState | tuple[str, str]]:
        """Yield every archived job; for one that cannot be read its directory's name and what is wrong.

        Those whose state was last written before `since`, in Unix seconds, are left out. Where the archive itself
        cannot be read, that stands for all, under a name that no job has.
        """
        try:
            names = sorted(files.list_folders(self.layout.archive))
        except StoreError as error:
            yield "archive/", str(error)
            return
        for name in names:
            path = f"{self.layout.archive}/{name}/state.json"
            if since and files.changed_at(path) < since:
                continue
            try:
                yield self.load_path(path)
            except NotFoundError:  # quarantined, or deleted just now
                continue
            except StoreError as error:
                yield name, str(error)

    def archived(self, job: str, uid: str | None = None) -> JobState | None:
        """Return an archived job by its id (and uid), or None; of several with one id, the newest.

        Raises:
            StoreError: the volume refused.
        """
        names = (
            [f"{job}-{uid}"]
            if uid is not None
            else [n for n in files.list_dir(self.layout.archive) if n.rpartition("-")[0] == job]
        )
        newest = None
        for name in sorted(names):
            try:
                state = self.load_path(f"{self.layout.archive}/{name}/state.json")
            except (NotFoundError, CorruptFileError):
                continue
            if state.id == job and (newest is None or state.submitted_at >= newest.submitted_at):
                newest = state
        return newest

    EFFECTS = (create, _fill)
    """What changes the volume; see `files`."""
