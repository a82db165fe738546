"""The command line: one module per command; argument parsing and printing only.

`main` is the entry point of `air-executor`. A command's module is imported only when that command runs.
"""

from __future__ import annotations

import sys


def main() -> None:
    """Run `air-executor` with the arguments of this process, and exit."""
    from air_executor.cli.app import run  # noqa: PLC0415 - importing the package must stay cheap

    sys.exit(run(sys.argv[1:]))
