"""The native runner: how it is built from the C sources beside this file, and which builds are here.

The build hook of the wheel and `make runner` build it; the manager puts what it finds here into `bin/`. Where no build
is here, the script `air-runner` serves. Standard library alone, for the hook runs this file without the package.

    python air_executor/runner/native.py            build for this machine, with `cc`
    python air_executor/runner/native.py --release  build for all machines, with `ziglang` from PyPI
"""

from __future__ import annotations

import contextlib
import os
import platform
import shutil
import sys
from collections.abc import Container, Sequence

FOLDER = os.path.dirname(os.path.abspath(__file__))
NAME = "air-runner"
SOURCES = (
    *("air-runner.c", "cgroup.c", "cgroup.h", "children.c", "children.h", "clock.h", "helpers.c", "helpers.h"),
    *("kernel_file.c", "kernel_file.h", "log_copy.c", "log_copy.h", "program.c", "program.h"),
)
MACHINES = {"x86_64": "x86_64", "amd64": "x86_64", "aarch64": "aarch64", "arm64": "aarch64"}
"""By what platforms call it, an architecture that the runner is built for; its folder here and in `bin/`."""
HELPERS = ("air-queue", "air-result", "air-again", "air-progress", "air-usage")
"""Further names of the program, under which it is a helper of tasks."""

SANITIZED = ("-std=c17", "-g", "-O1", "-fsanitize=address,undefined", "-fno-sanitize-recover=all")
"""Flags for a build that stops at an access out of bounds, a leak or undefined behavior; not static."""
_WARNINGS = ("-Wall", "-Wextra", "-Wconversion", "-Wshadow", "-Wformat=2")
FLAGS = ("-std=c17", "-Os", "-static", "-s", "-Wl,--build-id=none")
_SECONDS = 600
"""Longest time for a build: `zig cc` compiles its libc the first time."""


def this_machine() -> str | None:
    """Return the folder of this machine's build; None if there is no native runner for it."""
    return MACHINES.get(platform.machine().lower()) if sys.platform == "linux" else None


def digest() -> str:
    """Return what identifies the sources; a build of other sources is none."""
    import hashlib  # noqa: PLC0415 - backends import this module

    found = hashlib.sha256()
    for name in SOURCES:
        with open(f"{FOLDER}/{name}", "rb") as file:
            found.update(file.read())
    return found.hexdigest()


def in_folder(folder: str, machine: str | None) -> str | None:
    """Return the program for a machine in a state directory's `bin/`; None if there is none that can be executed.

    It cannot be on a volume that is mounted without the right to execute; the script can be run even there.
    """
    path = f"{folder}/{machine}/{NAME}"
    return path if machine is not None and os.access(path, os.X_OK) else None


def machines_in(names: Container[str]) -> frozenset[str]:
    """Return the machines that have a native runner among files of `bin/`, given by their paths in it."""
    return frozenset(machine for machine in MACHINES.values() if f"{machine}/{NAME}" in names)


def builds() -> dict[str, bytes]:
    """Return the builds that are here, by machine."""
    mark, found = digest().encode(), {}
    for machine in sorted(set(MACHINES.values())):
        with contextlib.suppress(FileNotFoundError), open(f"{FOLDER}/{machine}/{NAME}", "rb") as file:
            if mark in (program := file.read()):
                found[machine] = program
    return found


def compile_to(path: str, compiler: Sequence[str], flags: Sequence[str] = FLAGS) -> None:
    """Compile the runner. Same sources and compiler, same bytes.

    Raises:
        OSError: there is no such compiler.
        subprocess.SubprocessError: it failed; what it said is in `stderr`.
    """
    import subprocess  # noqa: PLC0415 - see `digest`

    sources = [name for name in SOURCES if name.endswith(".c")]
    words = [*compiler, *flags, *_WARNINGS, f'-DSOURCES="{digest()}"', "-o", path, *sources]
    # From this folder, so that no path gets into the program.
    subprocess.run(words, cwd=FOLDER, check=True, capture_output=True, text=True, timeout=_SECONDS)


def build(machine: str, compiler: Sequence[str]) -> None:
    """Build for a machine, unless its build is here already.

    Raises: as `compile_to`.
    """
    if machine in builds():
        return
    import tempfile  # noqa: PLC0415 - see `digest`

    folder = f"{FOLDER}/{machine}"
    os.makedirs(folder, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder) as staging:
        compile_to(f"{staging}/{NAME}", compiler)
        os.replace(f"{staging}/{NAME}", f"{folder}/{NAME}")


def build_here() -> str | None:
    """Build for this machine, if it has a compiler that links statically; return why there is no build, or None."""
    import subprocess  # noqa: PLC0415 - see `digest`

    machine, compiler = this_machine(), shutil.which("cc")
    if machine is None:
        return f"there is no native runner for {sys.platform} on {platform.machine()}"
    if machine not in builds() and compiler is None:
        return "there is no C compiler `cc`"
    try:
        build(machine, [compiler or "cc"])
    except (OSError, subprocess.SubprocessError) as error:
        return f"{error}\n{getattr(error, 'stderr', None) or ''}".strip()
    return None


def build_release() -> None:
    """Build for all machines with the `ziglang` of this Python, whose libc is musl. Raises: as `compile_to`."""
    for machine in sorted(set(MACHINES.values())):
        shutil.rmtree(f"{FOLDER}/{machine}", ignore_errors=True)  # one that was built by another compiler
        build(machine, [sys.executable, "-m", "ziglang", "cc", "-target", f"{machine}-linux-musl"])


def main(words: Sequence[str]) -> int:
    """Build; return an exit code."""
    if list(words) == ["--release"]:
        build_release()
    elif (why := build_here()) is not None:
        sys.stderr.write(f"no native runner, the script serves: {why}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
