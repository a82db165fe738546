"""The program of a manager's HTTP server, which the manager starts as a child: no command for people."""

from __future__ import annotations

import logging
import os
import sys

from air_executor.cli import lossy_stderr
from air_executor.cli.session import Session

NICE = 5
"""Added to the manager's: where the processors are busy, the manager goes first."""


def main() -> None:
    """Serve until SIGTERM, or until the manager has ended."""
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
