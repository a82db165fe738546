"""A shell in which the lines of a page are typed as they stand there."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path


class Terminal:
    """A shell in a project folder, with the program on its PATH and git set up."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        program = folder.parent / "bin" / "air-executor"
        program.parent.mkdir()
        program.write_text(f'#!/bin/sh\nexec {sys.executable} -m air_executor "$@"\n')
        program.chmod(0o755)
        people = {f"GIT_{who}_{what}": "t@example.org" for who in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")}
        files = {f"GIT_CONFIG_{which}": os.devnull for which in ("GLOBAL", "SYSTEM")}
        clean = {name: value for name, value in os.environ.items() if not name.startswith(("AIR_", "GIT_"))}
        self.environ = {**clean, **people, **files, "PATH": f"{program.parent}:{os.environ['PATH']}"}

    def begin(self, line: str) -> subprocess.Popen[str]:
        """Type a line."""
        return subprocess.Popen(
            ["sh", "-c", line],
            cwd=self.folder,
            env=self.environ,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )

    def type(self, line: str, code: int = 0) -> str:
        """Type a line and return what is printed."""
        shell = self.begin(line)
        printed = shell.communicate()[0]
        assert shell.returncode == code, f"{line}\n{printed}"
        return printed
