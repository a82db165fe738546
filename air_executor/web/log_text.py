"""Pieces of a run's log as harmless text: its end, what is before that, and what is appended while somebody looks.

Whatever a task prints, a piece is bounded: logs grow to gigabytes, browsers do not like that. Offsets are bytes.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import BinaryIO

from air_executor.model.plain_text import plain_log

PIECE = 64 * 1024
"""Most bytes in one piece."""
LONGEST = 4096
"""Characters of one line that are shown."""


@dataclass(frozen=True, slots=True)
class Part:
    """A stretch of a log."""

    text: str
    """Whole lines, each with its end."""
    rest: str
    """The beginning of a line that has no end yet."""
    begin: int
    end: int
    """Where the text ends: after it comes `rest`."""
    size: int
    """Of the whole log as it was."""
    skipped: int = 0
    """Bytes before `begin` that were asked for and left out."""


def last_part(file: BinaryIO, before: int | None = None) -> Part:
    """Return the last piece of a log, or the one that ends at `before`."""
    size = file.seek(0, os.SEEK_END)
    end = size if before is None else max(0, min(before, size))
    begin = max(0, end - PIECE)
    file.seek(begin)
    data = _read(file, end - begin)
    if begin:
        cut = data.find(b"\n") + 1  # 0 if it is all one line
        data, begin = data[cut:], begin + cut
    return _part(data, begin, size, 0)


def next_part(file: BinaryIO, begin: int) -> Part:
    """Return what was appended from an offset on; of more than one piece, the last."""
    size = file.seek(0, os.SEEK_END)
    if size < begin:  # it was cut: its task can do that
        begin = 0
    if size - begin > PIECE:
        part = last_part(file)
        return Part(part.text, part.rest, part.begin, part.end, size, part.begin - begin)
    file.seek(begin)
    return _part(_read(file, size - begin), begin, size, 0)


def _read(file: BinaryIO, count: int) -> bytes:
    parts = []
    while count > 0 and (part := file.read(count)):
        parts.append(part)
        count -= len(part)
    return b"".join(parts)


def _part(data: bytes, begin: int, size: int, skipped: int) -> Part:
    cut = data.rfind(b"\n") + 1
    if cut == 0 and len(data) >= PIECE:
        cut = len(data)  # a line without an end does not become a text without an end
    whole, rest = data[:cut], data[cut:]
    lines = whole.decode(errors="replace").split("\n")
    last = lines.pop()
    text = "".join(f"{_line(line)}\n" for line in lines) + (_line(last) if last else "")
    return Part(text, _line(rest.decode(errors="replace")), begin, begin + cut, size, skipped)


def _line(line: str) -> str:
    shown = plain_log(line)
    return shown if len(shown) <= LONGEST else f"{shown[:LONGEST]}… ({len(shown) - LONGEST} more characters)"
