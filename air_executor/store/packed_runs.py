"""What an ended run left, packed into fewer files: a volume has only so many inodes, and a manager runs for a year.

A local run leaves its directory, `claim` and `output.log`. The outcome of the script `air-runner` becomes the `claim`.
Where there is more than one file beside these, they are packed, too: the times of the log go into `claim`, the result
becomes a line of `queue.jsonl`. So the run can still be read after a rewind of its job's state.

Hostile, as all that tasks write: what is not a file of one name, or cannot be packed, stays as it is.
"""

from __future__ import annotations

import errno
import itertools
import os
import stat

from air_executor.errors import AirExecutorError, CorruptFileError
from air_executor.store import files, run_folder
from air_executor.store.appended import read_appended
from air_executor.store.run_files import (
    CLAIM,
    EXIT,
    LOG_TIMES,
    MAX_CLAIM,
    MAX_EXIT,
    MAX_KEPT_RESULT,
    MAX_LOG_TIMES,
    QUEUE,
    RESULT,
)
from air_executor.store.run_outcome import result_line

FEW = 3
"""Names in a directory that is not packed, unless the outcome is one of them."""
MOST = 1000
"""Names that are looked at: a task can make millions, and all other jobs would wait."""


def pack(folder: str) -> None:
    """Pack the folder of a run that has ended, whose outcome nobody needs to read from here again.

    A manager that dies in between leaves a file too many. What the volume refuses is not packed.
    """
    try:
        out = os.open(folder, run_folder.FLAGS)
    except OSError:
        return
    try:
        with os.scandir(out) as entries:
            names = {entry.name for entry in itertools.islice(entries, MOST)}
        if len(names) > FEW or EXIT in names:
            _pack(names, out)
    except (OSError, AirExecutorError):
        return
    finally:
        os.close(out)


def _pack(names: set[str], out: int) -> None:
    if EXIT in names and _are_plain(EXIT, CLAIM, out=out):
        _note_start(out)
        os.rename(EXIT, CLAIM, src_dir_fd=out, dst_dir_fd=out)
        names -= {EXIT}
    unfinished = {name for name in names if name.startswith(f"{RESULT}.") and name.endswith(".tmp")}
    for name in unfinished:  # a helper was killed while it wrote a result
        os.unlink(name, dir_fd=out)
    if len(names - unfinished) <= FEW:
        return
    if LOG_TIMES in names and (notes := files.read(LOG_TIMES, MAX_LOG_TIMES, out)) is not None:
        _append(CLAIM, notes[0], MAX_CLAIM, out)
        os.unlink(LOG_TIMES, dir_fd=out)
    if {RESULT, QUEUE} <= names and _are_plain(RESULT, QUEUE, out=out):
        _pack_result(out)


def _pack_result(out: int) -> None:
    """Make the result a line of the queue file, whose reports count even where the result was refused."""
    if line := result_line(read_appended(RESULT, 0, MAX_KEPT_RESULT, out)):
        _append(QUEUE, line, None, out)
    os.unlink(RESULT, dir_fd=out)


def _note_start(out: int) -> None:
    """Write the time of the claim into the outcome of the script that replaces it, in place of some of its padding."""
    began = os.stat(CLAIM, dir_fd=out, follow_symlinks=False).st_mtime
    found = files.read(EXIT, MAX_EXIT, out)
    record = b"" if found is None else found[0].partition(b"\n")[0]
    unknown, known = b'"started": null', f'"started": {began:.6f}'.encode()
    before, padding, after = record.rpartition(b" " * (len(known) - len(unknown)))
    if not padding or unknown not in before:
        return
    fd = os.open(EXIT, os.O_WRONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=out)
    try:
        info = os.fstat(fd)
        if _is_plain(info):
            os.pwrite(fd, before.replace(unknown, known, 1) + after, 0)
            os.utime(fd, ns=(info.st_atime_ns, info.st_mtime_ns))
    finally:
        os.close(fd)


def _are_plain(*names: str, out: int) -> bool:
    return all(_is_plain(os.stat(name, dir_fd=out, follow_symlinks=False)) for name in names)


def _is_plain(info: os.stat_result) -> bool:
    """Tell whether this is a regular file with no other name."""
    return stat.S_ISREG(info.st_mode) and info.st_nlink == 1


def _append(name: str, data: bytes, limit: int | None, out: int) -> None:
    """Append lines to a file, which keeps its modification time: that of a claim is when the run ended.

    Raises:
        OSError: it cannot be written.
        CorruptFileError: it is no file of one name, or would be longer than `limit` bytes, if there is one.
    """
    fd = os.open(name, os.O_RDWR | os.O_APPEND | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=out)
    try:
        info = os.fstat(fd)
        if not _is_plain(info) or (limit is not None and info.st_size + len(data) >= limit):
            msg = f"{name}: cannot take {len(data)} bytes"
            raise CorruptFileError(msg)
        last = os.pread(fd, len(data), max(0, info.st_size - len(data))).rpartition(b"\n")[2]
        text = data[len(last) :] if data.startswith(last) else b"\n" + data  # a manager may have died while it wrote
        if os.write(fd, text) < len(text):
            os.ftruncate(fd, info.st_size)
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        os.utime(fd, ns=(info.st_atime_ns, info.st_mtime_ns))
    finally:
        os.close(fd)


EFFECTS = (_pack, _pack_result, _note_start, _append)
"""What changes the volume; see `files`."""
