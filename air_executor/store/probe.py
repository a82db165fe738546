"""Does this volume do what the promises rest on? Each check does the thing itself, in a directory of its own.

`air-executor doctor` calls this, and a manager that starts, for what it cannot do without. A check says what it found
and, where that is not good, what to do.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import secrets
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping

from air_executor.core.finding import BAD, FINE, WARN, Finding
from air_executor.errors import StoreError
from air_executor.store import files

MAX_SKEW = 2.0
"""Seconds that the volume's clock may differ from the host's before we mention it."""
LOW_SPACE, NO_SPACE = 1 << 30, 64 << 20
LOW_INODES = 10_000
TICK_WITHIN = 0.1
NETWORK_VOLUMES = frozenset(
    {"nfs", "nfs4", "cifs", "smb3", "9p", "ceph", "glusterfs", "lustre", "beegfs", "afs", "fuse.sshfs", "virtiofs"}
)
COPIES = frozenset({"tmpfs", "ramfs"})
UNSUPPORTED = "use a volume that supports this; mounts of object stores (S3, GCS) do not"
FULL = "free space there"


def probe(folder: str, further: Mapping[str, Callable[[str], Finding]]) -> Iterator[Finding]:
    """Check the volume that holds `folder`, or where `folder` would be created. Leaves nothing behind.

    `further`: checks of what others need of the volume, by name; each is handed a new folder there.
    """
    home = _nearest(folder)
    yield _owner(home, exists=home == folder)
    place = _staging(home)
    try:
        os.mkdir(place)
    except OSError as error:
        yield Finding(
            "writable",
            BAD,
            f"cannot create a directory in {home}: {error.strerror}",
            "choose another --state-dir, or mend its rights",
        )
        return
    try:
        yield Finding("writable", FINE, home)
        for name, check in {**_CHECKS, **further}.items():
            yield _outcome(name, check, place)
    finally:
        _clear(place)


def require(folder: str) -> None:
    """Make sure that the volume of `folder`, which need not exist, can hold a state directory. Leaves nothing behind.

    Raises:
        StoreError: it cannot; the message says why, and what to do.
    """
    folder = _nearest(folder)
    place = _staging(folder)
    try:
        os.mkdir(place)
    except OSError as error:
        files.fail("create", place, error)
    try:
        for name, check in _NEEDED.items():
            found = _outcome(name, check, place)
            if found.verdict == BAD:
                msg = f"{folder} cannot be a state directory: {name}: {found.text}; {found.remedy}"
                raise StoreError(msg)
    finally:
        _clear(place)


def _outcome(name: str, check: Callable[[str], Finding], place: str) -> Finding:
    """Return what a check found; what the volume refuses is a finding, too."""
    try:
        return check(place)
    except OSError as error:
        remedy = FULL if error.errno in {errno.ENOSPC, errno.EDQUOT} else UNSUPPORTED
        return Finding(name, BAD, error.strerror or str(error), remedy)


def _nearest(folder: str) -> str:
    """Return the folder, or the nearest one above it that exists: what is missing is created there."""
    while not os.path.isdir(folder):
        folder = os.path.dirname(folder)
    return folder


def _staging(folder: str) -> str:
    return os.path.join(folder, f".doctor-{secrets.token_hex(6)}")


def _owner(folder: str, *, exists: bool) -> Finding:
    owner = os.stat(folder).st_uid
    if exists and owner != os.geteuid():
        return Finding(
            "owner",
            WARN,
            f"{folder} belongs to user {owner}, this is user {os.geteuid()}",
            "run every command as one user",
        )
    return Finding("owner", FINE, f"{folder}" if exists else f"not created yet; {folder} is there")


def _rename(place: str) -> Finding:
    """A submit is a rename of a directory, and must fail where a job of that name is."""
    for name in ("a", "b"):
        os.mkdir(f"{place}/{name}")
        _write(f"{place}/{name}/file")
    try:
        os.rename(f"{place}/a", f"{place}/b")
    except OSError:
        os.rename(f"{place}/a", f"{place}/c")
        return Finding("rename", FINE, "moves a whole directory, and never over another one")
    return Finding(
        "rename", BAD, "a directory was moved over another one", "use another volume: here two jobs could get one id"
    )


def _exclusive(place: str) -> Finding:
    """A run claims its place by an exclusive create."""
    path = f"{place}/claim"
    os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
    try:
        os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
    except FileExistsError:
        return Finding("exclusive create", FINE, "a file is created only once")
    return Finding(
        "exclusive create", BAD, "a file was created twice", "use another volume: here a run could start twice"
    )


_TRY_LOCK = "import fcntl, sys\nwith open(sys.argv[1]) as f: fcntl.flock(f, fcntl.LOCK_EX | fcntl.LOCK_NB)"


def _lock(place: str) -> Finding:
    """One manager per directory, and one local runner per slot, are kernel locks."""
    path = f"{place}/lock"
    _write(path)

    def other_gets_it() -> bool:
        return (
            subprocess.run(
                [sys.executable, "-c", _TRY_LOCK, path], check=False, capture_output=True, timeout=30
            ).returncode
            == 0
        )

    with open(path, encoding="ascii") as file:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if other_gets_it():
            return Finding(
                "lock",
                BAD,
                "two processes got one lock",
                "use a volume with working locks, or a backend that needs none",
            )
    if not other_gets_it():
        return Finding(
            "lock",
            BAD,
            "a lock that was let go is still held",
            "use a volume with working locks, or a backend that needs none",
        )
    return Finding("lock", FINE, "one process at a time, and free when that one is gone")


def _clock(place: str) -> Finding:
    path = f"{place}/clock"
    before = time.time()
    _write(path)
    at = os.stat(path).st_mtime
    skew = at - before if at < before else max(0.0, at - time.time())
    text = (
        f"time stamps step by {_step(place):.3g} ms, {abs(skew):.3f} s {'behind' if skew < 0 else 'ahead of'} this host"
    )
    if abs(skew) > MAX_SKEW:
        return Finding(
            "clock", WARN, text, "set both clocks by NTP; runs are measured by the volume's, delays by the host's"
        )
    return Finding("clock", FINE, text)


def _step(place: str) -> float:
    """Return the smallest difference between the time stamps of new files, in milliseconds.

    New ones, because some kernels give a finer stamp to a file whose stamp somebody has just asked for.
    """
    until = time.monotonic() + TICK_WITHIN
    last = smallest = number = 0
    while time.monotonic() < until:
        number += 1
        path = f"{place}/tick{number}"
        _write(path)
        now = os.stat(path).st_mtime_ns
        if last and now > last:
            smallest = min(smallest or now - last, now - last)
        last = now
        os.unlink(path)
    return smallest / 1e6


def _space(place: str) -> Finding:
    info = os.statvfs(place)
    free = info.f_bavail * info.f_frsize
    text = f"{free / (1 << 30):.1f} GiB free"
    if info.f_files:
        text += f", {info.f_favail} inodes"
    remedy = "free some: `air-executor prune --delete` removes ended jobs"
    if free < NO_SPACE:
        return Finding("space", BAD, text, remedy)
    if free < LOW_SPACE or (info.f_files and info.f_favail < LOW_INODES):
        return Finding("space", WARN, text, remedy)
    return Finding("space", FINE, text)


def _fsync(place: str) -> Finding:
    took = []
    for number in range(5):
        with open(f"{place}/sync{number}", "wb") as file:
            file.write(b"x" * 4096)
            file.flush()
            begun = time.monotonic()
            os.fsync(file.fileno())
            took.append(time.monotonic() - begun)
    return Finding("fsync", FINE, f"{sorted(took)[2] * 1000:.2g} ms")


def _kind(place: str) -> Finding:
    kind = volume_kind(place)
    if kind in NETWORK_VOLUMES:
        return Finding(
            "volume",
            WARN,
            f"{kind}: shared",
            "files may appear late, and locks hold only as the volume says; use one host for `local`",
        )
    if kind in COPIES:
        return Finding(
            "volume", WARN, f"{kind}: in memory", "jobs are lost when this machine stops; choose another --state-dir"
        )
    return Finding("volume", FINE, kind or "kind not known")


def volume_kind(path: str) -> str | None:
    """Return the type of the file system that holds `path`, where the system tells (Linux)."""
    try:
        device = os.stat(path).st_dev
        with open("/proc/self/mountinfo", encoding="utf-8", errors="replace") as file:
            lines = file.read().splitlines()
    except OSError:
        return None
    for line in reversed(lines):
        left, _, right = line.partition(" - ")
        if left.split()[2] == f"{os.major(device)}:{os.minor(device)}":
            return right.split()[0]
    return None


def _write(path: str) -> None:
    with open(path, "xb"):
        pass


def _clear(place: str) -> None:
    for folder, folders, names in os.walk(place, topdown=False):
        for name in names:
            with contextlib.suppress(OSError):
                os.unlink(os.path.join(folder, name))
        for name in folders:
            with contextlib.suppress(OSError):
                os.rmdir(os.path.join(folder, name))
    with contextlib.suppress(OSError):
        os.rmdir(place)


_NEEDED: dict[str, Callable[[str], Finding]] = {"rename": _rename, "exclusive create": _exclusive}
_CHECKS: dict[str, Callable[[str], Finding]] = {
    "volume": _kind,
    **_NEEDED,
    "lock": _lock,
    "clock": _clock,
    "space": _space,
    "fsync": _fsync,
}
