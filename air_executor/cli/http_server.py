"""The program of a manager's HTTP server, which the manager starts as a child: no command for people."""

from __future__ import annotations

import ctypes
import logging
import os
import signal
import sys

from air_executor.cli import lossy_stderr
from air_executor.cli.session import Session

PR_SET_PDEATHSIG = 1
"""Of prctl(2): the signal that this process gets when its parent ends."""
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
    lossy_stderr.install()
    lossy_stderr.never_wait()
    from air_executor.metrics.health import Health  # noqa: PLC0415 - what cannot fail comes first
    from air_executor.web.application import make_application  # noqa: PLC0415
    from air_executor.web.manager_link import ManagerLink, receive  # noqa: PLC0415
    from air_executor.web.server import HttpServer  # noqa: PLC0415

    connection, listening, memory, (settings, patience, level) = receive(sys.argv[1:])
    Session(verbose=level <= logging.INFO, debug=level <= logging.DEBUG).start_logging()
    health = Health(settings.backend, patience, memory)
    app = make_application(settings, ManagerLink(connection).scrape, health)
    HttpServer(app).run(sockets=[listening])


if __name__ == "__main__":
    main()
