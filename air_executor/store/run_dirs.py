"""Run directories: what the manager hands to a run, and what the run leaves behind.

All of it lies in one folder, which a container sees as its own. Folders of earlier versions are read, too. What a task
can write is hostile: see `run_folder`.
"""

from __future__ import annotations

import itertools
import os
import re
import time
from collections.abc import Iterable
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from air_executor.errors import CorruptFileError, NotFoundError, PathBlockedError, StoreError
from air_executor.model.shebang import SCRIPT
from air_executor.model.state import RunnerOrigin
from air_executor.model.times import to_text
from air_executor.model.types import MAX_LAST_SEQ
from air_executor.store import appended, codec, files, log_times, packed_runs, run_folder, run_logs, trees
from air_executor.store.layout import Layout
from air_executor.store.run_files import (
    CHANGES,
    CLAIM,
    EXIT,
    INPUTS,
    MAX_CLAIM,
    MAX_EXIT,
    MAX_PACKED_QUEUE,
    MAX_QUEUE,
    MAX_RESULT,
    OUTCOMES,
    QUEUE,
    RESULT,
)
from air_executor.store.run_outcome import ExitRecord, checked_queue, parse_outcome, parse_result

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

LEAP = 10_000_000
"""No state is that many runs behind its run directories."""
_NUMBER = re.compile(r"[0-9]{1,9}")
PRECREATED = (run_logs.LOG, QUEUE, RESULT, EXIT)
FENCED = b"fenced\n"
"""What the manager writes into the claim of a run that must not begin. A runner's is empty or blank until its end."""


class RunDirs:
    """The run directories of one state directory."""

    def __init__(self, layout: Layout) -> None:
        self.layout = layout
        self._numbers = itertools.count()
        """For what is staged; no other manager builds in that directory."""
        self._spare: str | None = None
        """The directory of a run to come, built ahead."""
        self._created: dict[tuple[str, int], list[str]] = {}
        """By job and number, what we have put into the directories of runs that may still need it."""

    def create(
        self,
        job: str,
        seq: int,
        task: str,
        given: Mapping[str, bytes | str],
        staging: str,
        *,
        remote: bool,
        script: str | None = None,
    ) -> None:
        """Build a run directory in `staging` and rename it into place.

        `given`: by name the files that the run can read: the text, or the path of a file that has it and is shared with
        other runs of the job.
        `script`: the task's command, where an interpreter reads it from the file `SCRIPT`.
        `remote` runners see the volume through another mount: what they will write exists for them beforehand.

        Whatever a task may have put where the run directory belongs is quarantined.

        Raises:
            NotFoundError: `staging` is gone: a newer manager took over; or all jobs are.
            PathBlockedError: the job's own directory is gone, or takes no run directory; other jobs can start.
            StoreError: the volume refused.
        """
        self.prepare(staging)
        built, self._spare = f"{self._spare}", None
        for name, text in given.items():
            _put_inputs(text, f"{built}/{name}")
        if script is not None:
            files.write_new(f"{built}/{SCRIPT}", script.encode(), sync=False)
        if remote:
            for name in PRECREATED:
                files.write_new(f"{built}/{name}", b"", sync=False)
        target = self.layout.run(job, seq, task)
        try:
            try:
                os.rename(built, target)
            except OSError:
                self._make_room(job, target, built)
            self._created[job, seq] = [*given, *([SCRIPT] if script else []), *([CHANGES] if remote else [])]
            if not os.path.isdir(self.layout.workspace(job)):  # a task may have removed what it was given
                files.restore_dir(self.layout.workspace(job))
        except NotFoundError as error:
            if not os.path.isdir(staging) or not os.path.isdir(self.layout.jobs):
                raise
            trees.remove_tree(built)
            msg = f"{self.layout.job(job)}: not found; its next checkpoint creates it"
            raise PathBlockedError(msg) from error

    def _make_room(self, job: str, target: str, built: str) -> None:
        """Rename a run directory into place where that failed: the first of its job, or a task is in the way."""
        try:
            # In this order: a crash in between must not leave a job that has runs/, and so never gets a workspace.
            files.restore_dir(self.layout.workspace(job))
            files.restore_dir(self.layout.runs(job))
            if os.path.lexists(target) and os.path.lexists(built):
                files.quarantine(target)
            files.move(built, target)
        except StoreError:
            trees.remove_tree(built)
            raise

    def restore_caches(self, names: Iterable[str]) -> None:
        """Create the folders of caches that are not there.

        Raises:
            StoreError: the volume refused.
        """
        files.restore_dir(self.layout.caches)
        for name in names:
            files.restore_dir(self.layout.named_cache(name))

    def drop_inputs(self, job: str, seq: int, task: str) -> None:
        """Remove what a run that has ended was given, which the job's state holds, too, and what it has sent."""
        folder = self._folder(job, seq, task)
        for name in self._created.pop((job, seq), (INPUTS, OUTCOMES, SCRIPT, CHANGES)):
            files.remove(f"{folder}/{name}")

    def pack(self, job: str, seq: int, task: str) -> None:
        """Pack what a local run has left into few files, once a checkpoint of its job holds its outcome."""
        packed_runs.pack(self._folder(job, seq, task))

    def prepare(self, staging: str) -> None:
        """Build the directory of the next run in `staging`, if it is not there; best while nobody waits for it.

        Raises: as `create`.
        """
        if self._spare is not None and self._spare.startswith(f"{staging}/"):
            return
        built = f"{staging}/run-{next(self._numbers)}"
        try:
            os.mkdir(built)
        except OSError as error:
            files.fail("create", built, error)
        self._spare = built

    def earlier_origin(self, job: str, seq: int, task: str) -> RunnerOrigin | None:
        """Return what an earlier version wrote down of a run in `run.json`; None if it did not."""
        try:
            found = files.read(f"{self.layout.run(job, seq, task)}/run.json", MAX_EXIT)
        except CorruptFileError:
            return None
        origin = None if found is None else codec.read_small(RunnerOrigin, found[0])
        return None if found is None or origin is None else replace(origin, spawned=found[1])

    def _folder(self, job: str, seq: int, task: str) -> str:
        """Return the path of the folder of what a run leaves."""
        run = self.layout.run(job, seq, task)
        return run if (job, seq) in self._created else run_logs.folder_of(run)

    def has_place(self, job: str, seq: int, task: str) -> bool:
        """Tell whether there is still a directory for the run to leave anything in.

        Raises:
            StoreError: the volume refused, so nothing is known.
        """
        with self._out(job, seq, task) as out:
            return out is not None

    @contextmanager
    def _out(self, job: str, seq: int, task: str) -> Iterator[int | None]:
        """Open the folder of what a run leaves; None if there is none, or something else in its place.

        Raises:
            StoreError: the volume refused, so nothing is known.
        """
        fd = run_folder.open_folder(self._folder(job, seq, task))
        try:
            yield fd
        finally:
            if fd is not None:
                os.close(fd)

    def exit(self, job: str, seq: int, task: str) -> ExitRecord | None:
        """Return the run's outcome as its runner wrote it, or None while it is not complete.

        Raises:
            StoreError: the volume refused, so nothing is known.
        """
        with self._out(job, seq, task) as out:
            if out is None:
                return None
            # On a network volume the first one is there beforehand, and a name that is asked for too early stays
            # unknown there for a while.
            return _read_outcome(EXIT, MAX_EXIT, out) or _read_outcome(CLAIM, MAX_CLAIM, out)

    def started(self, job: str, seq: int, task: str) -> float | None:
        """Return when the run began, or None if it has not, or was fenced before it could.

        That is when its claim was made, which has the outcome in it at the end.

        Raises:
            StoreError: the volume refused, so nothing is known.
        """
        with self._out(job, seq, task) as out:
            if out is None:
                return None
            try:
                found = run_folder.read(CLAIM, MAX_CLAIM, out)
            except CorruptFileError:  # a task has made something else of it
                return files.changed_at(CLAIM, out)
        if found is None or found[0][:1] == FENCED[:1]:
            return None
        outcome = parse_outcome(*found)
        return found[1] if outcome is None or outcome.started is None else outcome.started

    def note_log(self, job: str, seq: int, task: str, known: int) -> int:
        """Note when the run's log grew beyond `known` bytes, for `logs --timestamps`; return its size."""
        return log_times.note(f"{self._folder(job, seq, task)}/{run_logs.LOG}", known)

    def activity(self, job: str, seq: int, task: str) -> object:
        """Return something that differs whenever the run has written output or queued; None if it has not begun.

        Raises:
            StoreError: the volume refused, so nothing is known.
        """
        with self._out(job, seq, task) as out:
            if out is None or run_folder.stamp(CLAIM, out) is None:
                return None
            return run_folder.stamp(run_logs.LOG, out), run_folder.stamp(QUEUE, out)

    def fence(self, job: str, seq: int, task: str) -> bool:
        """Make sure that a run which has not begun never will; False if it has begun. May be repeated.

        Where there is no directory to begin in, it cannot.

        Raises:
            StoreError: the volume refused, so nothing is known.
        """
        try:
            files.write_new(f"{self._folder(job, seq, task)}/{CLAIM}", FENCED, sync=True)
        except FileExistsError:
            return self.started(job, seq, task) is None
        except NotFoundError:
            return True
        except PathBlockedError:
            if self.has_place(job, seq, task):
                raise
        return True

    def left_behind(self, job: str, seq: int, task: str) -> tuple[Any, bytes]:
        """Return what the run set as its result (None if nothing), and the lines that it appended to its queue file.

        Raises:
            CorruptFileError: one of them is too large or not a regular file, or the result is no JSON.
            StoreError: the volume refused, so nothing is known.
        """
        with self._out(job, seq, task) as out:
            if out is None:
                return None, b""
            result = run_folder.read(RESULT, MAX_RESULT, out)
            queue = run_folder.read(QUEUE, MAX_PACKED_QUEUE if result is None else MAX_QUEUE, out)
        return None if result is None else parse_result(result[0]), b"" if queue is None else checked_queue(queue[0])

    def appended(self, job: str, seq: int, task: str, offset: int, limit: int) -> bytes | None:
        """Return up to `limit` bytes of what the run appended to its queue file beyond `offset`; None: it has none.

        Raises:
            StoreError: the volume refused, so nothing is known.
        """
        size = appended.size_of(f"{self._folder(job, seq, task)}/{QUEUE}")
        if size is None or size <= offset:
            return None if size is None else b""
        with self._out(job, seq, task) as out:
            return b"" if out is None else appended.read_appended(QUEUE, offset, limit, out)

    def highest_seq(self, job: str, known: int = 0) -> int:
        """Return the highest number that any run of the job ever had here, superseded ones included.

        One that is more than `LEAP` above a `known` one is no run's: a task may make any directory, and numbers end.

        Raises:
            StoreError: the volume refused.
        """
        names, superseded = files.list_dir(self.layout.runs(job)), self.layout.superseded(job)
        if os.path.basename(superseded) in names:  # asked only where it is: a network volume takes its time to say no
            for folder in files.list_dir(superseded):
                names += files.list_dir(f"{superseded}/{folder}")
        return max((seq for seq in map(seq_of, names) if seq <= min(known + LEAP, MAX_LAST_SEQ)), default=0)

    def supersede(self, job: str, above: int) -> list[str]:
        """Move away the run directories with a number above `above`, unknown to the state; return their names.

        Raises:
            StoreError: the volume refused.
        """
        newer = [name for name in files.list_dir(self.layout.runs(job)) if seq_of(name) > above]
        if newer:
            files.restore_dir(self.layout.superseded(job))
            folder = f"{self.layout.superseded(job)}/{to_text(time.time()).replace(':', '')}-{files.random_hex(2)}"
            files.make_dir(folder)
            for name in newer:
                files.move(f"{self.layout.runs(job)}/{name}", f"{folder}/{name}")
        return newer

    EFFECTS = (create, prepare)
    """What changes the volume; see `files`."""


def seq_of(name: str) -> int:
    """Return the number of a run from the name of its directory; 0 if it is none."""
    number, dash, _ = name.partition("-")
    return int(number) if dash and _NUMBER.fullmatch(number) else 0


def _put_inputs(inputs: bytes | str, path: str) -> None:
    if isinstance(inputs, bytes):
        files.write_new(path, inputs, sync=False)
        return
    try:
        os.link(inputs, path)
    except OSError:  # the volume knows no links, or not as many
        files.copy(inputs, path)


def _read_outcome(name: str, limit: int, out: int) -> ExitRecord | None:
    try:
        found = run_folder.read(name, limit, out)
    except CorruptFileError:
        return None
    return None if found is None else parse_outcome(*found)


EFFECTS = (_put_inputs,)
"""What changes the volume; see `files`."""
