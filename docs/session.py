"""Record the terminal session of README as docs/session.svg: `python docs/session.py`, with the tools of `dev`.

Runs the job of README's first example in a real terminal (pyte draws it) in an empty folder. What is drawn is what the
commands printed; nothing is edited.
"""

from __future__ import annotations

import fcntl
import io
import itertools
import os
import pty
import re
import struct
import subprocess
import sys
import tempfile
import termios
from pathlib import Path

import pyte
from rich.console import Console
from rich.text import Text

DOCS = Path(__file__).parent
COLUMNS, ROWS = 84, 100
COMMANDS = ("air-executor run hello.yaml", "air-executor status hello", "air-executor explain hello farewell")
_FONTS = re.compile(r"@font-face \{.*?\}\s*", re.DOTALL)
"""The picture must not load fonts from the network."""


def job_file() -> str:
    """Return README's first job."""
    readme = (DOCS.parent / "README.md").read_text(encoding="utf-8")
    return next(
        block for block in re.findall(r"```yaml\n(.*?)```", readme, re.DOTALL) if block.startswith("name: hello")
    )


def draw(command: str, folder: str) -> list[Text]:
    """Run a command in a terminal and return its lines."""
    screen = pyte.Screen(COLUMNS, ROWS)
    stream = pyte.ByteStream(screen)
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", ROWS, COLUMNS, 0, 0))
    program = [sys.executable, "-m", "air_executor", *command.split()[1:]]
    environ = {**os.environ, "TERM": "xterm-256color", "AIR_STATE_DIR": f"{folder}/.air-executor"}
    with subprocess.Popen(program, cwd=folder, env=environ, stdin=theirs, stdout=theirs, stderr=theirs):
        os.close(theirs)
        try:
            while data := os.read(ours, 65536):
                stream.feed(data)
        except OSError:  # how the other end of a terminal leaves
            os.close(ours)
    lines = [_line(screen, row) for row in range(screen.cursor.y)]
    return [Text.assemble(("$ ", "bold green"), (command, "bold")), *lines, Text()]


def _line(screen: pyte.Screen, row: int) -> Text:
    chars = [screen.buffer[row][column] for column in range(COLUMNS)]
    line = Text()
    for style, same in itertools.groupby(chars, key=_style):
        line.append("".join(char.data for char in same), style=style)
    line.rstrip()
    return line


def _style(char: pyte.screens.Char) -> str:
    color = {"brown": "yellow", "default": "", "brightblack": "bright_black"}.get(char.fg, char.fg)
    return f"{'bold ' if char.bold else ''}{color}".strip()


def main() -> None:
    """Write the picture."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "hello.yaml").write_text(job_file(), encoding="utf-8")
        lines = [line for command in COMMANDS for line in draw(command, folder)]
    console = Console(record=True, width=COLUMNS, file=io.StringIO(), force_terminal=True, color_system="truecolor")
    for line in lines[:-1]:
        console.print(line, no_wrap=True)
    picture = _FONTS.sub("", console.export_svg(title="air-executor", unique_id="session"))
    (DOCS / "session.svg").write_text(
        "\n".join(text.rstrip() for text in picture.splitlines()) + "\n", encoding="utf-8"
    )


if __name__ == "__main__":
    main()
