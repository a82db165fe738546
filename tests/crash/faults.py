"""Fault points behind the store: its modules see an `os` that fails now and then, everything else sees the real one."""

from __future__ import annotations

import errno
import os
import random
from collections.abc import Callable, Mapping
from types import ModuleType
from typing import Any

from air_executor.store import files, jobs, journal, journal_files, run_dirs, trees

SEAMS: tuple[ModuleType, ...] = (files, jobs, journal, journal_files, run_dirs, trees)
"""The modules through which all of the store's writes go."""

KINDS: Mapping[str, tuple[int, ...]] = {
    "rename": (errno.EIO, errno.ENOSPC, errno.EROFS),
    "write": (errno.ENOSPC, errno.EIO),
    "fsync": (errno.EIO,),
    "fdatasync": (errno.EIO,),
    "mkdir": (errno.ENOSPC, errno.EROFS),
    "unlink": (errno.EIO, errno.EROFS),
    "open": (errno.ENOSPC, errno.EROFS),
}
"""What may fail, and how."""


class FaultyOs:
    """Looks like `os`; each call named in `KINDS` is first offered to `trip`, which raises or does nothing."""

    def __init__(self, trip: Callable[[str, tuple[Any, ...]], None]) -> None:
        self._trip = trip
        self.writes_whole = True
        """False: a failing write has written half of its data before."""

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401 - as `os` itself
        real = getattr(os, name)
        if name not in KINDS:
            return real

        def call(*args: Any, **kwargs: Any) -> Any:  # noqa: ANN401
            if name != "open" or args[1] & os.O_CREAT:
                try:
                    self._trip(name, args)
                except OSError:
                    if name == "write" and not self.writes_whole:
                        os.write(args[0], bytes(args[1])[: len(args[1]) // 2])
                    raise
            return real(*args, **kwargs)

        return call


def install(trip: Callable[[str, tuple[Any, ...]], None], setattr_: Callable[[Any, str, Any], None]) -> FaultyOs:
    """Put a faulty `os` into the store; `setattr_` is `setattr`, or pytest's, which undoes it."""
    faulty = FaultyOs(trip)
    for module in SEAMS:
        setattr_(module, "os", faulty)
    return faulty


def at_random(chance: random.Random, probability: float) -> Callable[[str, tuple[Any, ...]], None]:
    """Return a trip that fails calls at random."""

    def trip(name: str, args: tuple[Any, ...]) -> None:
        if chance.random() < probability:
            number = chance.choice(KINDS[name])
            raise OSError(number, f"injected into {name}: {os.strerror(number)}", str(args[0]))

    return trip
