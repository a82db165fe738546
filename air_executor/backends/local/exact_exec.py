"""Becomes a task's command with exactly the environment that `shell_environment.through_shell` has packed.

`air-runner` starts this file with `python -I -S` where no shell could pass the environment on. It must not import
anything of this package, and little of anything else: each task that needs it pays for it.
"""

from __future__ import annotations

import errno
import os
import signal
import sys

NOT_FOUND, NOT_EXECUTABLE = 127, 126


def environment(packed: dict[bytes, bytes]) -> dict[bytes, bytes]:
    """Return the variables that were packed into the shell's, and those of Air-Executor, which were not."""
    names = sorted((name for name in packed if name[:11] == b"_air_given_"), key=lambda name: int(name[11:]))
    entries = [packed[name].partition(b"=") for name in names]
    own = {name: value for name, value in packed.items() if name[:4] == b"AIR_"}
    return {**{name: value for name, _, value in entries}, **own}


def main(words: list[str]) -> int:
    """Replace this process by the command; return an exit code as a shell does if that fails."""
    for number in (signal.SIGINT, signal.SIGQUIT, signal.SIGPIPE, signal.SIGXFSZ):
        signal.signal(number, signal.SIG_DFL)  # the first two are the shell's doing, the others Python's
    command = [os.fsencode(word) for word in words]
    variables = environment(dict(os.environb))
    try:
        try:
            os.execvpe(command[0], command, variables)  # noqa: S606 - to become the command is what this is for
        except OSError as error:
            if error.errno != errno.ENOEXEC:
                raise
            # A script without a first line is sh's, as shells take it.
            os.execve("/bin/sh", [b"sh", *command], variables)  # noqa: S606
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        os.write(2, b"air-runner: %b: %b\n" % (command[0], str(reason).encode()))
        return NOT_FOUND if isinstance(error, (FileNotFoundError, NotADirectoryError)) else NOT_EXECUTABLE


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
