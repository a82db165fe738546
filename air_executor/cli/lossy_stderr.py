"""Stderr that can't fail: a line for people that cannot be written is lost, and nothing depends on it.

A full disk under a log file or a terminal that has closed must not end a manager, and neither a reader who does not
read nor a terminal that is stopped may hold it up. `app` installs it for the process.
"""

from __future__ import annotations

import io
import select
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer


PATIENCE = 1.0
"""Seconds that a manager waits for a reader of its log who does not read."""
_PIECE = select.PIPE_BUF if hasattr(select, "PIPE_BUF") else 512
"""Bytes that a pipe takes at once if it takes any."""


class _LossyFile(io.FileIO):
    """A file whose writes always succeed."""

    patience: float | None = None
    """Seconds to wait until the file takes more, and then not again until it does; None: for ever."""
    _stuck = False
    _poll: select.poll | None = None

    def write(self, data: ReadableBuffer, /) -> int:
        """Write data; what the file refuses counts as written."""
        view = memoryview(data).cast("B")
        try:
            if self.patience is None:
                written = super().write(data)
                return view.nbytes if written is None else written
            for begin in range(0, view.nbytes, _PIECE):
                if not self._takes_more(self.patience):
                    break
                super().write(view[begin : begin + _PIECE])
        except OSError:
            pass
        return view.nbytes

    def _takes_more(self, patience: float) -> bool:
        if self._poll is None:
            self._poll = select.poll()
            self._poll.register(self.fileno(), select.POLLOUT)
        self._stuck = not self._poll.poll(0 if self._stuck else patience * 1000)
        return not self._stuck


def install() -> None:
    """Replace this process's stderr, unless something else has replaced it already."""
    if sys.stderr is not sys.__stderr__ or sys.stderr is None:
        return
    file = io.BufferedWriter(_LossyFile(sys.stderr.fileno(), "wb", closefd=False))
    sys.stderr = io.TextIOWrapper(file, encoding=sys.stderr.encoding, errors="backslashreplace", line_buffering=True)


def never_wait() -> None:
    """Let nobody who does not read hold up this process: what does not go out in time is lost."""
    _LossyFile.patience = PATIENCE
