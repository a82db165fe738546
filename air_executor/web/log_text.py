"""Parts of a run's log as safe text: its end, earlier parts, and newly appended text.

The size of a part is limited whatever a task prints: logs grow to gigabytes. Offsets are bytes.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import BinaryIO

from air_executor.model.plain_text import plain_log

MAX_PART = 64 * 1024
"""Maximum number of bytes in one part."""
MAX_LINE = 4096
"""Maximum number of characters shown of one line."""


@dataclass(frozen=True, slots=True)
class LogPart:
    """A part of a log."""

    text: str
    """Whole lines, each with its end."""
    rest: str
    """The start of a last line without a line end."""
    begin: int
    end: int
    """The end of `text`, where `rest` starts."""
    size: int
    """Size of the whole log."""
    skipped: int = 0
    """Number of requested bytes before `begin` that are left out."""


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
    return _part(data, begin, size, 0)


def next_part(file: BinaryIO, begin: int) -> LogPart:
    """Return the text from an offset on; if it is longer than one part, the last part of it."""
    size = file.seek(0, os.SEEK_END)
    if size < begin:  # truncated: its task can do that
        begin = 0
    if size - begin > MAX_PART:
        part = last_part(file)
        return LogPart(part.text, part.rest, part.begin, part.end, size, part.begin - begin)
    file.seek(begin)
    return _part(_read(file, size - begin), begin, size, 0)


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
    whole, rest = data[:cut], data[cut:]
    lines = whole.decode(errors="replace").split("\n")
    last = lines.pop()
    text = "".join(f"{_line(line)}\n" for line in lines) + (_line(last) if last else "")
    return LogPart(text, _line(rest.decode(errors="replace")), begin, begin + cut, size, skipped)


def _line(line: str) -> str:
    shown = plain_log(line)
    return shown if len(shown) <= MAX_LINE else f"{shown[:MAX_LINE]}… ({len(shown) - MAX_LINE} more characters)"
