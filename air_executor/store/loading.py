"""Loading many jobs at once, all of which stay: the garbage collector would scan them again and again.

For a manager that starts, and for commands that list all jobs. Knows nothing of what is loaded.
"""

from __future__ import annotations

import contextlib
import gc
from collections.abc import Iterator


@contextlib.contextmanager
def without_garbage_collector() -> Iterator[None]:
    """Pause the garbage collector of this process, unless it is paused already."""
    if not gc.isenabled():
        yield
        return
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        gc.unfreeze()  # both together: all of it counts as old, so that the next collection does not begin with it
        gc.enable()
