"""Run directories: what the manager hands to a run, and what the run leaves behind.

What a task can write is hostile: it is opened relative to the run's own directory, never through a symlink, never
waited for, and read up to a limit.
"""

from __future__ import annotations

import errno
import itertools
import json
import os
import re
import stat
import time
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from air_executor.errors import CorruptFileError, NotFoundError, PathBlockedError, StoreError
from air_executor.model.records import ExitFile, RunFile
from air_executor.model.shebang import SCRIPT
from air_executor.model.times import to_text
from air_executor.store import codec, files, log_times, trees
from air_executor.store.layout import Layout

if TYPE_CHECKING:
    from collections.abc import Iterator

MAX_EXIT = 64 * 1024
MAX_RESULT = 16 * 1024
SHARED_FROM = 64 * 1024
"""Bytes from which the inputs of runs are one file per job, and go when the run has ended."""
MAX_QUEUE = 64 * 1024 * 1024
_NUMBER = re.compile(r"[0-9]{1,9}")
MAX_NESTING = 100
"""How deep lists and objects of a result may lie in each other: readers of the state recurse on top of this."""
MAX_CPU = 1e9
"""CPU seconds of one run: more is no measurement, and could not be added up."""
PRECREATED = ("output.log", "queue.jsonl", "result.json", "exit.json")


@dataclass(frozen=True, slots=True)
class ExitRecord:
    """A complete `exit.json`."""

    exit_code: int
    timed_out: bool
    stopped: bool
    """Something other than its timeout told it to stop (TERM, INT or HUP)."""
    cpu: float | None
    memory: int | None
    oom_kills: int
    message: str | None
    ended: float
    """Its modification time: when the run ended by the volume's clock."""


class RunDirs:
    """The run directories of one state directory."""

    def __init__(self, layout: Layout) -> None:
        self.layout = layout
        self._numbers = itertools.count()
        """For what is built aside; no other manager builds in that directory."""
        self._spare: str | None = None
        """The directories of a run to come, built ahead."""

    def create(  # noqa: PLR0917 - what a run directory is made of
        self,
        job: str,
        seq: int,
        task: str,
        record: RunFile,
        inputs: bytes | str,
        aside: str,
        *,
        remote: bool,
        script: str | None = None,
    ) -> float:
        """Build a run directory in `aside`, rename it into place and return when that was, by the volume's clock.

        `inputs`: what `$AIR_INPUTS` says, or the path of a file that says it and is shared with other runs of the job.
        `script`: the task's command, where an interpreter reads it from the file `SCRIPT`.
        `remote` runners see the volume through another mount: what they will write exists for them beforehand.

        Whatever a task may have put where the run directory belongs is quarantined.

        Raises:
            NotFoundError: `aside` is gone: a newer manager took over.
            PathBlockedError: the job's own directory takes no run directory; other jobs can start.
            StoreError: the volume refused.
        """
        self.prepare(aside)
        built, self._spare = f"{self._spare}", None
        _put_inputs(inputs, f"{built}/out/inputs.json")
        if script is not None:
            files.write_new(f"{built}/out/{SCRIPT}", script.encode(), sync=False)
        if remote:
            for name in PRECREATED:
                files.write_new(f"{built}/out/{name}", b"", sync=False)
        spawned = files.write_new(f"{built}/run.json", json.dumps(asdict(record)).encode() + b"\n", sync=False)
        target = self.layout.run(job, seq, task)
        try:
            os.rename(built, target)
        except OSError:
            self._make_room(job, target, built)
        if not os.path.isdir(self.layout.workspace(job)):  # a task may have removed what it was given
            files.restore_dir(self.layout.workspace(job))
        return spawned

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

    def drop_inputs(self, job: str, seq: int, task: str) -> None:
        """Remove large inputs of a run that has ended: each run has more of them than the one before."""
        path = f"{self.layout.run(job, seq, task)}/out/inputs.json"
        if files.size(path) >= SHARED_FROM:
            files.remove(path)

    def prepare(self, aside: str) -> None:
        """Build the directories of the next run in `aside`, if they are not there; best while nobody waits for them.

        Raises: as `create`.
        """
        if self._spare is not None and self._spare.startswith(f"{aside}/"):
            return
        built = f"{aside}/run-{next(self._numbers)}"
        try:
            os.mkdir(built)
            os.mkdir(f"{built}/out")
        except OSError as error:
            files.fail("create", built, error)
        self._spare = built

    def record(self, job: str, seq: int, task: str) -> tuple[RunFile, float] | None:
        """Return a run's `run.json` and when it was spawned, or None if the directory or the file is not there."""
        try:
            found = files.read(f"{self.layout.run(job, seq, task)}/run.json", MAX_EXIT)
        except CorruptFileError:
            return None
        record = None if found is None else codec.read_small(RunFile, found[0])
        return None if found is None or record is None else (record, found[1])

    def has_place(self, job: str, seq: int, task: str) -> bool:
        """Tell whether there is still a directory for the run to leave anything in.

        Raises:
            StoreError: the volume refused, so nothing is known.
        """
        with self._out(job, seq, task) as out:
            return out is not None

    @contextmanager
    def _out(self, job: str, seq: int, task: str) -> Iterator[int | None]:
        """Open a run's `out/`; None if there is none, or something else in its place.

        Raises:
            StoreError: the volume refused, so nothing is known.
        """
        fd = _open_folder(f"{self.layout.run(job, seq, task)}/out")
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
            try:
                found = _read("exit.json", MAX_EXIT, out)
            except CorruptFileError:
                return None
        if found is None or b"\n" not in found[0]:
            return None
        # The first line is the record; a task may have written more behind it.
        return _parse_exit(found[0].partition(b"\n")[0], found[1])

    def started(self, job: str, seq: int, task: str) -> float | None:
        """Return when the run began (its claim), or None if it has not, or was fenced before it could."""
        path = f"{self.layout.run(job, seq, task)}/out/claim"
        try:
            claim = os.stat(path, follow_symlinks=False)
        except OSError:
            return None
        return claim.st_mtime if claim.st_size == 0 or not stat.S_ISREG(claim.st_mode) else None

    def note_log(self, job: str, seq: int, task: str, known: int) -> int:
        """Note when the run's log grew beyond `known` bytes, for `logs --timestamps`; return its size."""
        folder = self.layout.run(job, seq, task)
        return log_times.note(folder, f"{folder}/out/output.log", known)

    def fence(self, job: str, seq: int, task: str) -> bool:
        """Make sure that a run which has not begun never will; False if it has begun. May be repeated.

        Where there is no directory to begin in, it cannot.

        A runner's claim is empty, ours is not, so that a crash after the fence does not make the run look begun.

        Raises:
            StoreError: the volume refused, so nothing is known.
        """
        try:
            files.write_new(f"{self.layout.run(job, seq, task)}/out/claim", b"fenced\n", sync=True)
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
            result = _read("result.json", MAX_RESULT, out)
            queue = _read("queue.jsonl", MAX_QUEUE, out)
        return None if result is None else _parse_result(result[0]), b"" if queue is None else queue[0]

    def highest_seq(self, job: str) -> int:
        """Return the highest number that any run of the job ever had here, superseded ones included.

        Raises:
            StoreError: the volume refused.
        """
        names, superseded = files.list_dir(self.layout.runs(job)), self.layout.superseded(job)
        if os.path.basename(superseded) in names:  # asked only where it is: a network volume takes its time to say no
            for folder in files.list_dir(superseded):
                names += files.list_dir(f"{superseded}/{folder}")
        return max(map(_seq, names), default=0)

    def supersede(self, job: str, above: int) -> list[str]:
        """Move away the run directories with a number above `above`, unknown to the state; return their names.

        Raises:
            StoreError: the volume refused.
        """
        newer = [name for name in files.list_dir(self.layout.runs(job)) if _seq(name) > above]
        if newer:
            files.restore_dir(self.layout.superseded(job))
            folder = f"{self.layout.superseded(job)}/{to_text(time.time()).replace(':', '')}-{files.random_hex(2)}"
            files.make_dir(folder)
            for name in newer:
                files.move(f"{self.layout.runs(job)}/{name}", f"{folder}/{name}")
        return newer

    EFFECTS = (create, prepare)
    """What changes the volume; see `files`."""


def _seq(name: str) -> int:
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


def _open_folder(path: str) -> int | None:
    """Open a folder that a task may have replaced or closed; None if there is none, or something else in its place."""
    for again in (True, False):
        try:
            return os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError as error:
            if error.errno == errno.ELOOP:
                return None
            if not (again and error.errno == errno.EACCES and _reopen(path)):
                files.fail("open", path, error)
    return None


def _reopen(path: str) -> bool:
    """Give back to us a folder of ours whose mode a task has changed, and the one that it lies in."""
    if not hasattr(os, "O_PATH"):
        return False
    try:
        for folder in (os.path.dirname(path), path):
            fd = os.open(folder, os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
            try:
                os.chmod(f"/proc/self/fd/{fd}", 0o755)  # noqa: S103 - as the manager makes them
            finally:
                os.close(fd)
    except OSError:
        return False
    return True


def _read(name: str, limit: int, out: int) -> tuple[bytes, float] | None:
    """Read what a task can write as `files.read` does; a file that we may not read is the task's own doing, too."""
    try:
        return files.read(name, limit, out)
    except PathBlockedError as error:
        raise CorruptFileError(str(error)) from error


def _no_constant(name: str) -> None:
    msg = f"{name} is not JSON"
    raise ValueError(msg)


def _parse_result(data: bytes) -> Any:  # noqa: ANN401 - any JSON value
    if not data.strip():
        return None
    try:
        value = json.loads(data, parse_constant=_no_constant)
        json.dumps(value, allow_nan=False)  # 1e999 is read as infinite, and could not be written
    except (ValueError, RecursionError) as error:
        msg = f"result.json: not JSON ({error})"
        raise CorruptFileError(msg) from error
    if _deeper(value, MAX_NESTING):
        msg = f"result.json: nested deeper than {MAX_NESTING} levels"
        raise CorruptFileError(msg)
    return value


def _deeper(value: object, than: int) -> bool:
    """Tell whether lists and objects lie in each other more than `than` deep."""
    if not isinstance(value, list | dict):
        return False
    inner = value.values() if isinstance(value, dict) else value
    return than == 0 or any(_deeper(item, than - 1) for item in inner)


def _parse_exit(data: bytes, ended: float) -> ExitRecord | None:
    from air_executor.model import parsing  # noqa: PLC0415 - see the module

    found = parsing.read_json(ExitFile, data)
    if found is None:
        return None
    return ExitRecord(
        exit_code=found.exit_code,
        timed_out=found.timed_out,
        stopped=found.stopped,
        cpu=_cpu(found.user, found.system),
        memory=found.memory_peak,
        oom_kills=found.oom_kills or 0,
        message=found.message,
        ended=ended,
    )


def _cpu(*parts: str | None) -> float | None:
    """Add up times as the shell's `times` prints them (`1m2.345s`), in seconds."""
    total = 0.0
    for part in parts:
        minutes, mark, seconds = (part or "").rstrip("s").partition("m")
        if not mark:
            return None
        try:
            total += 60 * float(minutes) + float(seconds)
        except ValueError:
            return None
    return round(total, 6) if 0 <= total <= MAX_CPU else None


EFFECTS = (_put_inputs, _reopen)
"""What changes the volume; see `files`."""
