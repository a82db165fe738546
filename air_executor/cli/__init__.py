"""The command line: one module per command; argument parsing and printing only.

`main` is the entry point of `air-executor`. A command's module is imported only when that command runs.
"""

from __future__ import annotations

import gc
import os
import sys

MORE_OBJECTS = 25_000
"""New objects after which Python looks for garbage, instead of 700: start-up makes many, and nearly all stay."""
COMPLETE = "_AIR_EXECUTOR_COMPLETE"
"""Variable of a shell's completion script: the arguments are a line that somebody is typing; see `candidates`."""


def main() -> None:
    """Run `air-executor` with the arguments of this process, and exit."""
    if sys.getfilesystemencoding() != "utf-8" and not sys.flags.utf8_mode:
        # Arguments, environment and paths are UTF-8, whatever the locale: a command must arrive as it was typed.
        os.execv(sys.executable, [sys.executable, "-X", "utf8", *sys.orig_argv[1:]])  # noqa: S606 - ourselves
    gc.set_threshold(MORE_OBJECTS)  # saves a tenth of the time of `air-executor run`
    from air_executor.cli.app import complete, run  # noqa: PLC0415 - importing the package must stay cheap

    sys.exit((complete if os.environ.get(COMPLETE) else run)(sys.argv[1:]))
