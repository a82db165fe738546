"""Parts of a run's log as safe text: its end, earlier parts, and newly appended text.

The size of a part is limited whatever a task prints: logs grow to gigabytes. Offsets are bytes.
"""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import BinaryIO

from air_executor.model.plain_text import clean_log, plain_log

MAX_PART = 64 * 1024
"""Maximum number of bytes in one part."""
MAX_LINES = 5000
"""Maximum number of lines in one part: each is an element of the page."""
MAX_COUNTED = 4 << 20
"""Bytes in which line ends are counted, to number the lines after them."""
MAX_LINE = 4096
"""Maximum number of characters shown of one line."""


@dataclass(frozen=True, slots=True)
class LogLine:
    """A line of a log, harmless, with its colors."""

    place: int
    """Where it begins."""
    colored: str
    ends: bool = True
    """Whether its end is there: one that never ends is cut."""

    @property
    def text(self) -> str:
        """The line without colors."""
        return plain_log(self.colored)


@dataclass(frozen=True, slots=True)
class LogPart:
    """A part of a log."""

    lines: Sequence[LogLine]
    """Whole lines; the last one may be cut where it is too long."""
    last: LogLine
    """The start of a last line without a line end."""
    begin: int
    end: int
    """The end of `lines`, where `last` starts."""
    size: int
    """Size of the whole log."""
    skipped: int = 0
    """Number of requested bytes before `begin` that are left out."""

    @property
    def text(self) -> str:
        """Its whole lines without colors, each with its end."""
        return "".join(f"{line.text}\n" if line.ends else line.text for line in self.lines)

    @property
    def rest(self) -> str:
        """The start of its last line, without colors."""
        return self.last.text


def last_part(file: BinaryIO, before: int | None = None) -> LogPart:
    """Return the last part of a log, or the part that ends at `before`."""
    size = file.seek(0, os.SEEK_END)
    end = size if before is None else max(0, min(before, size))
    begin = max(0, end - MAX_PART)
    file.seek(begin)
    data = _read(file, end - begin)
    if begin:
        cut = data.find(b"\n") + 1  # 0 if it is all one line
        data, begin = data[cut:], begin + cut
    cut = _surplus(data)
    return _part(data[cut:], begin + cut, size, 0)


def last_lines(file: BinaryIO, count: int) -> list[str]:
    """Return the last lines of a log."""
    size = file.seek(0, os.SEEK_END)
    begin = max(0, size - MAX_LINE * count)
    file.seek(begin)
    lines = _read(file, size - begin).decode(errors="replace").rstrip("\n").split("\n")
    shown = lines[1:] if begin and len(lines) > 1 else lines
    return [plain_log(_line(line)) for line in shown[-count:]] if shown != [""] else []


def next_part(file: BinaryIO, begin: int) -> LogPart:
    """Return the text from an offset on; if it is longer than one part, the last part of it."""
    size = file.seek(0, os.SEEK_END)
    if size < begin:  # truncated: its task can do that
        begin = 0
    if size - begin > MAX_PART:
        part = last_part(file)
        return replace(part, skipped=part.begin - begin)
    file.seek(begin)
    data = _read(file, size - begin)
    cut = _surplus(data)
    return _part(data[cut:], begin + cut, size, cut)


def line_number(file: BinaryIO, place: int) -> int | None:
    """Return which line begins at a place, from 1 on; None if that would take too long to count."""
    if place > MAX_COUNTED:
        return None
    file.seek(0)
    return _read(file, place).count(b"\n") + 1


def _surplus(data: bytes) -> int:
    """Return how many bytes are before the last `MAX_LINES` lines."""
    if data.count(b"\n") <= MAX_LINES:
        return 0
    at = len(data)
    for _ in range(MAX_LINES + 1):
        at = data.rfind(b"\n", 0, at)
    return at + 1


def _read(file: BinaryIO, count: int) -> bytes:
    parts = []
    while count > 0 and (part := file.read(count)):
        parts.append(part)
        count -= len(part)
    return b"".join(parts)


def _part(data: bytes, begin: int, size: int, skipped: int) -> LogPart:
    cut = data.rfind(b"\n") + 1
    if cut == 0 and len(data) >= MAX_PART:
        cut = len(data)  # a line that never ends must not grow without a limit
    lines, place = [], begin
    for line in _split(data[:cut]):
        lines.append(LogLine(place, _line(line.decode(errors="replace").removesuffix("\n")), line.endswith(b"\n")))
        place += len(line)
    rest = LogLine(place, _line(data[cut:].decode(errors="replace")))
    return LogPart(lines, rest, begin, begin + cut, size, skipped)


def _split(data: bytes) -> list[bytes]:
    """Return lines with their ends; only line feeds end them."""
    return [line for line in re.split(rb"(?<=\n)", data) if line]


def _line(line: str) -> str:
    shown = clean_log(line)
    if len(shown) <= MAX_LINE:
        return shown
    plain = plain_log(line)
    return plain if len(plain) <= MAX_LINE else f"{plain[:MAX_LINE]}… ({len(plain) - MAX_LINE} more characters)"
