"""What a run without a volume takes and leaves, in its directory on the manager's volume. Knows nothing of HTTP.

Nothing of it takes part in decisions: files appear where a run on the volume writes them itself, the outcome last.
"""

from __future__ import annotations

import json
import os
import tarfile
import time
from collections.abc import Iterator
from typing import IO, NamedTuple

from air_executor.client.workspace_files import remove_path
from air_executor.errors import AlreadyExistsError, BadInputError, NotFoundError
from air_executor.model.names import parse_run_id
from air_executor.model.shebang import SCRIPT
from air_executor.model.sizes import format_memory
from air_executor.runner import native
from air_executor.store import ended_commands, files
from air_executor.store.object_workspaces import JobKey, ObjectWorkspaces, in_folder
from air_executor.store.run_files import (
    CHANGES,
    CLAIM,
    EXIT,
    INPUTS,
    MAX_EXIT,
    MAX_QUEUE,
    MAX_RESULT,
    OUTCOMES,
    QUEUE,
    RESULT,
)
from air_executor.store.run_logs import LOG, folder_of
from air_executor.store.run_tokens import RunAddress
from air_executor.web.state_cache import StateCache
from air_executor.web.transport import workspace_archive
from air_executor.web.transport.workspace_archive import FILES

APPENDED = (LOG, QUEUE, CHANGES)
"""Files that come in pieces."""
_HOLDER = b"holder "
"""Begins a claim that was made here; it is no outcome, which begins with a brace, and not `fenced`."""
_MAX_HOLDER = 200


class SizeLimit(NamedTuple):
    """A limit."""

    bytes: int
    setting: str
    """Where it comes from."""


class ClaimedError(AlreadyExistsError):
    """The run is not the caller's: another runner has claimed it, or it must not begin any more."""


class RunDelivery:
    """The runs of one state directory."""

    def __init__(self, cache: StateCache, limit: SizeLimit, objects: ObjectWorkspaces | None = None) -> None:
        """`limit`: of what one run has changed in its workspace; `objects`: the workspaces in an object store."""
        self._limit = limit
        self._cache = cache
        self._layout = cache.client.layout
        self._objects = objects
        self._machines = native.builds().keys()
        """Those with a native runner of this installation; `bin/` may have another version's, too."""

    def claim(self, address: RunAddress, holder: str) -> None:
        """Let a run begin: of all that ever ask for it, one may. The same holder may ask again, until it has begun.

        Raises:
            ClaimedError: it must not begin.
            StoreError: the volume refused.
        """
        self._check_open(address)
        folder = self._folder(address)
        if ended_commands.is_noted(folder):
            msg = f"the command of run {address.run} of job {address.job} has ended before it began"
            raise ClaimedError(msg)
        if not 0 < len(holder) <= _MAX_HOLDER or not holder.isascii() or not holder.isprintable():
            raise BadInputError("holder: must be a short name")
        claim = f"{folder}/{CLAIM}"
        if files.read(claim, MAX_EXIT) is not None:
            self.check_holder(address, holder)
            return
        staged = f"{claim}.{files.random_hex(6)}"
        files.write_new(staged, _HOLDER + holder.encode(), sync=True)
        try:
            os.link(staged, claim)  # whole: a half-written claim would be nobody's
        except FileExistsError:
            self.check_holder(address, holder)
        except OSError as error:
            files.fail("create", claim, error)
        finally:
            files.remove(staged)

    def check_holder(self, address: RunAddress, holder: str) -> None:
        """Raise ClaimedError unless this holder has claimed the run."""
        found = files.read(f"{self._folder(address)}/{CLAIM}", MAX_EXIT)
        if found is None or found[0] != _HOLDER + holder.encode():
            msg = f"run {address.run} of job {address.job} is not this runner's"
            raise ClaimedError(msg)

    def _check_still_open(self, address: RunAddress) -> None:
        """Raise ClaimedError if the run has ended, by its checkpoint as it is now."""
        self._cache.changed(address.job)  # else an older one could be served for a while
        self._check_open(address)

    def _check_open(self, address: RunAddress) -> None:
        """Raise ClaimedError if the run has ended: what is left of it must not touch anything."""
        try:
            state, _ = self._cache.job(address.job)
        except NotFoundError:
            return
        # A checkpoint is a moment behind: what it does not know, job, task or run, has just begun.
        task = state.tasks.get(address.task)
        ended = task is not None and any(one.seq >= address.seq for one in task.attempts)
        if ended or parse_run_id(address.run) != (state.uid, address.seq):
            msg = f"run {address.run} of job {address.job} has ended"
            raise ClaimedError(msg)

    def _folder(self, address: RunAddress) -> str:
        run = self._layout.run(address.job, address.seq, address.task)
        if not os.path.isdir(run):
            msg = f"run {address.run} of job {address.job} has no directory any more"
            raise NotFoundError(msg)
        return folder_of(run)

    def inputs(self, address: RunAddress, machine: str) -> Iterator[bytes]:
        """Yield a tar stream of what the run needs: `bin/` for its machine, and `out/` as the manager has made it.

        Raises:
            NotFoundError: it has no directory any more.
            StoreError: the volume refused.
        """
        folder, tools = self._folder(address), self._layout.bin
        known = native.MACHINES.get(machine)
        is_native = known in self._machines and native.in_folder(tools, known) is not None
        programs = f"{tools}/{known}" if is_native else tools

        def fill(tar: tarfile.TarFile) -> None:
            tar.add(f"{tools}/air_executor.py", "bin/air_executor.py")
            for name in (native.NAME, *native.HELPERS):
                tar.add(os.path.realpath(f"{programs}/{name}"), f"bin/{name}")
            for name in (INPUTS, OUTCOMES, SCRIPT):
                if os.path.exists(f"{folder}/{name}"):
                    tar.add(f"{folder}/{name}", f"out/{name}")

        return workspace_archive.packed(fill)

    def workspace(self, address: RunAddress) -> Iterator[bytes]:
        """Yield a tar stream of the workspace of the run's job as it is now. Raises as `inputs`."""
        root, objects = self._layout.workspace(address.job), self._objects
        if objects is None:
            in_folder(self._layout, address.job)
            return workspace_archive.packed(lambda tar: workspace_archive.add_folder(tar, root, FILES))
        stored = objects.read(address.job)
        stored.begin()

        def fill(tar: tarfile.TarFile) -> None:
            workspace_archive.add_folder(tar, root, FILES)  # given to the job at its submission: older than all else
            workspace_archive.add_objects(tar, stored, FILES)

        return workspace_archive.packed(fill)

    def apply_workspace(self, address: RunAddress) -> None:
        """Apply what the run has changed in the workspace, and has sent as the file `CHANGES`. May be repeated.

        Raises:
            ClaimedError: the run has ended, and others may work there.
            BadInputError: that is no list of changes, or a path in it leads out or through a link.
            StoreError: the volume or the store refused, or the store did not answer.
        """
        self._check_still_open(address)
        path = f"{self._folder(address)}/{CHANGES}"
        try:
            fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        except FileNotFoundError:
            raise BadInputError("the files cannot be read: nothing was sent") from None
        except OSError as error:
            files.fail("read", path, error)
        with open(fd, "rb") as changes:
            if self._objects is not None:
                self._store(self._objects, address, changes)
                return
            in_folder(self._layout, address.job)
            folder = workspace_archive.WorkspaceFolder(self._layout.workspace(address.job))
            workspace_archive.unpack(changes, folder)

    def _store(self, objects: ObjectWorkspaces, address: RunAddress, changes: IO[bytes]) -> None:
        job = JobKey(address.job, address.run.rpartition("-")[0])
        with objects.change(job, lambda: self._check_still_open(address)) as change:
            workspace_archive.unpack(changes, change)
        given = self._layout.workspace(address.job)
        for path in change.paths if os.path.isdir(given) and os.listdir(given) else ():
            remove_path(given, path)

    def append(self, address: RunAddress, name: str, offset: int, data: bytes) -> int:
        """Append to a file of the run what its `offset` says is new, and return the file's size.

        What is there already, because an answer was lost, is not written again. Beyond the end nothing is written.

        Raises:
            BadInputError: it has no such file, or that has become too large.
            ClaimedError: the run has ended, and nobody would apply what it has changed.
            StoreError: the volume refused; some of it may be there.
        """
        if name not in APPENDED:
            msg = f"{name}: is none of {', '.join(APPENDED)}"
            raise BadInputError(msg)
        path = f"{self._folder(address)}/{name}"
        try:
            fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, 0o644)
            try:
                size = os.fstat(fd).st_size
                room = self._room(address, name, offset + len(data), size)
                new = data[size - offset :][:room] if offset <= size else b""
                if new:
                    os.lseek(fd, size, os.SEEK_SET)
                    files.write_all(fd, new)
                return size + len(new)
            finally:
                os.close(fd)
        except OSError as error:
            files.fail("write", path, error)

    def _room(self, address: RunAddress, name: str, wanted: int, size: int) -> int:
        """Return how many bytes a file may grow by."""
        if name == QUEUE:
            return max(0, MAX_QUEUE + 1 - size)
        if name == CHANGES:
            self._check_open(address)
            if wanted > self._limit.bytes:
                most = format_memory(self._limit.bytes)
                msg = f"what the run has changed in its workspace is larger than {most}, {self._limit.setting}"
                raise BadInputError(msg)
        return wanted

    def put_result(self, address: RunAddress, data: bytes) -> None:
        """Keep the run's result: its first bytes, one more than the manager takes, if it is longer."""
        self._put(address, RESULT, data[: MAX_RESULT + 1])

    def put_outcome(self, address: RunAddress, data: bytes, started_ago: float, ended_ago: float) -> None:
        """Keep the run's outcome, after all else that it left.

        Args:
            address: the run.
            data: the outcome as its runner has written it.
            started_ago: for how many seconds it had run, up to now.
            ended_ago: before how many seconds it ended.

        Raises:
            BadInputError: it is no outcome.
            StoreError: the volume refused.
        """
        try:
            record = json.loads(data[:MAX_EXIT].partition(b"\n")[0])
            record["started"] = round(time.time() - max(0.0, started_ago), 6)
        except (ValueError, TypeError, RecursionError) as error:
            raise BadInputError("the outcome is not a JSON object") from error
        ended = time.time() - max(0.0, min(ended_ago, started_ago))
        self._put(address, EXIT, json.dumps(record).encode() + b"\n", ended)
        files.remove(f"{self._folder(address)}/{CHANGES}")

    def _put(self, address: RunAddress, name: str, data: bytes, changed_at: float | None = None) -> None:
        folder = self._folder(address)
        staged = f"{folder}/.{name}.{files.random_hex(6)}"
        files.write_new(staged, data, sync=False, changed_at=changed_at)
        files.move(staged, f"{folder}/{name}")
