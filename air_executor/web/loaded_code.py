"""Whether the files of this package are still those that this process has loaded: an upgrade under it replaces them."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping

_PACKAGE = __name__.partition(".")[0]
Stamps = Mapping[str, tuple[int, int] | None]


def stamps() -> Stamps:
    """Return time and size of the files of the modules that are loaded."""
    names = [name for name in list(sys.modules) if name == _PACKAGE or name.startswith(f"{_PACKAGE}.")]
    paths = (getattr(sys.modules.get(name), "__file__", None) for name in names)
    return {path: _stamp(path) for path in paths if path is not None}


def changed(since: Stamps) -> bool:
    """Tell whether files differ from what they were."""
    return any(_stamp(path) != known for path, known in since.items())


def _stamp(path: str) -> tuple[int, int] | None:
    try:
        found = os.stat(path)
    except OSError:
        return None
    return found.st_mtime_ns, found.st_size
