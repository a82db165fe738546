"""A program in a running container of a task, with its streams: for `air-executor shell`. Each platform has its own.

It has what the task has: user, limits, mounts, variables and working directory.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Protocol

from air_executor.backends.container import inside

STDOUT, STDERR = 1, 2

_SCRIPT = (
    'cd -- "$1" && shift || exit 1; '
    'PATH="${PATH:-/usr/local/bin:/usr/bin:/bin}:$_air_bin" PYTHONPATH="${PYTHONPATH:+$PYTHONPATH:}$_air_bin"; '
    "export PATH PYTHONPATH; unset _air_bin _air_image _air_keep; "
    'if [ $# -gt 0 ]; then exec "$@"; fi; '
    "if command -v bash >/dev/null; then exec bash; fi; exec sh"
)
"""Gives a program what the runner gives the task beside the container's own variables."""


class RemoteProcess(Protocol):
    """The streams of one program. `send` and `resize` may be called while another thread reads the output."""

    def output(self) -> Iterator[tuple[int, bytes]]:
        """Yield what it writes, each with the number of its stream, until it ends.

        Raises:
            BackendUnavailableError: the connection broke.
        """

    def send(self, data: bytes) -> None:
        """Write to its terminal."""

    def resize(self, rows: int, columns: int) -> None:
        """Tell its terminal the size of ours."""

    def exit_code(self) -> int:
        """Return its exit code, once its output has ended.

        Raises:
            BackendUnavailableError: it is not known: the container has ended.
        """

    def close(self) -> None:
        """Close the connection; the program goes on, with nobody at its terminal."""


def shell_words(runner: Sequence[str], command: Sequence[str]) -> list[str]:
    """Return the words to execute in a container whose runner has these words: a command, or else a shell."""
    workdir = runner[runner.index(inside.OUT) + 1]
    return ["sh", "-c", _SCRIPT, "sh", workdir, *command]
