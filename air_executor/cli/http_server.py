"""The program of a manager's HTTP server, which the manager starts as a child: no command for people."""

from __future__ import annotations

import ctypes
import logging
import os
import signal
import socket
import sys
import traceback
from collections.abc import Sequence
from contextlib import suppress
from multiprocessing.connection import Connection
from typing import TYPE_CHECKING, NoReturn

if TYPE_CHECKING:
    from air_executor.web.server import HttpServer

PR_SET_PDEATHSIG = 1
"""Of prctl(2): the signal that this process gets when its parent ends."""
MAX_CAUSE, MAX_SENT = 300, 1000
"""Characters of an error, and bytes of a message to the manager."""
NICE = 5
"""Added to the manager's: where the processors are busy, the manager goes first."""


def die_with_manager() -> None:
    """Have the kernel end this process with the manager: it must not answer for the next one, nor keep its port.

    Where it cannot, `ManagerLink` notices the end, a moment later.
    """
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, int(signal.SIGKILL))


def main() -> None:
    """Serve until SIGTERM, or until the manager has ended."""
    die_with_manager()
    os.nice(NICE)
    try:
        server, listening = _prepared(sys.argv[1:])
    except Exception as error:  # noqa: BLE001 - whatever it is, the manager logs it in one line
        _end_with(error)
    server.run(sockets=[listening])


def _prepared(descriptors: Sequence[str]) -> tuple[HttpServer, socket.socket]:
    """Return the server and its port. Code that is newer than the manager's can fail here at any line."""
    from air_executor.cli import lossy_stderr  # noqa: PLC0415 - it may fail

    lossy_stderr.install()
    lossy_stderr.never_wait()
    from air_executor.cli.session import Session  # noqa: PLC0415
    from air_executor.metrics.health import Health  # noqa: PLC0415
    from air_executor.web.application import make_application  # noqa: PLC0415
    from air_executor.web.manager_link import ManagerLink, receive  # noqa: PLC0415
    from air_executor.web.server import HttpServer  # noqa: PLC0415

    connection, listening, memory, (settings, patience, level) = receive(descriptors)
    Session(verbose=level <= logging.INFO, debug=level <= logging.DEBUG).start_logging()
    health = Health(settings.backend, patience, memory)
    link = ManagerLink(connection)
    server = HttpServer(make_application(settings, link.scrape, health))
    link.serves()
    return server, listening


def _end_with(error: Exception) -> NoReturn:
    """End this process, and tell the manager in one line why it cannot serve."""
    place = traceback.extract_tb(error.__traceback__)[-1]
    text = " ".join(f"{type(error).__name__}: {error}".split())[:MAX_CAUSE]
    with suppress(OSError):
        link = Connection(int(sys.argv[1]))
        link.send_bytes(
            f"{text} ({os.path.basename(place.filename)}:{place.lineno})".encode(errors="replace")[:MAX_SENT]
        )
    os._exit(1)


if __name__ == "__main__":
    main()
