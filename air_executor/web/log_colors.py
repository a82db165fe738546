"""Colors of terminal output as classes of the style sheet: sixteen of them, readable by day and by night.

The 256 colors of a terminal, and its 16 million, become the nearest of the sixteen. Everything else that output can
do to a terminal is gone before (`plain_text.clean_log`). Pure.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Iterator
from dataclasses import dataclass, replace

from air_executor.model.plain_text import COLOR

_BASE = (
    (0, 0, 0), (205, 0, 0), (0, 205, 0), (205, 205, 0), (0, 0, 238), (205, 0, 205), (0, 205, 205), (229, 229, 229),
    (127, 127, 127), (255, 0, 0), (0, 255, 0), (255, 255, 0), (92, 92, 255), (255, 0, 255), (0, 255, 255),
    (255, 255, 255),
)  # fmt: skip
"""Red, green and blue of the sixteen, as terminals have them."""
_CUBE = (0, 95, 135, 175, 215, 255)
_WORDS = {1: "bold", 2: "faint", 3: "italic", 4: "under", 9: "struck"}
_OFF = {22: ("bold", "faint"), 23: ("italic",), 24: ("under",), 29: ("struck",)}
_PALETTE, _RGB = 5, 2


@dataclass(frozen=True, slots=True)
class _Style:
    front: int | None = None
    back: int | None = None
    words: frozenset[str] = frozenset()
    inverse: bool = False

    @property
    def classes(self) -> str:
        front, back = (self.back, self.front) if self.inverse else (self.front, self.back)
        found = sorted(self.words)
        if self.inverse and front is None and back is None:
            found.append("inverse")
        found += [] if front is None else [f"f{front}"]
        return " ".join([*found, *([] if back is None else [f"g{back}"])])


def segments(line: str) -> list[tuple[str, str]]:
    """Return the parts of a line as classes and text; "" where it has no color."""
    style, found, at = _Style(), [], 0
    for match in COLOR.finditer(line):
        if match.start() > at:
            found.append((style.classes, line[at : match.start()]))
        style = _after(style, match[0][2:-1])
        at = match.end()
    if at < len(line):
        found.append((style.classes, line[at:]))
    return found


def _after(style: _Style, given: str) -> _Style:
    codes = (int(one) for one in re.split("[;:]", given or "0") if one.isdecimal() and len(one) < 4)  # noqa: PLR2004
    if not given.strip(";:"):
        return _Style()
    for code in codes:
        style = _with(style, code, codes)
    return style


def _with(style: _Style, code: int, more: Iterator[int]) -> _Style:  # noqa: PLR0911 - one for each kind
    if code == 0:
        return _Style()
    if code in _WORDS:
        return replace(style, words=style.words | {_WORDS[code]})
    if code in _OFF:
        return replace(style, words=style.words.difference(_OFF[code]))
    if code in (7, 27):
        return replace(style, inverse=code == 7)  # noqa: PLR2004
    if code in (38, 48):
        color = _extended(more)
        return replace(style, front=color) if code == 38 else replace(style, back=color)  # noqa: PLR2004
    tens, units = divmod(code, 10)
    if tens in (3, 9) and (units < 8 or code == 39):  # noqa: PLR2004
        return replace(style, front=None if code == 39 else units + 8 * (tens == 9))  # noqa: PLR2004
    if tens in (4, 10) and (units < 8 or code == 49):  # noqa: PLR2004
        return replace(style, back=None if code == 49 else units + 8 * (tens == 10))  # noqa: PLR2004
    return style


def _extended(more: Iterator[int]) -> int | None:
    kind = next(more, None)
    if kind == _PALETTE:
        return _of_palette(next(more, 0) & 255)
    if kind == _RGB:
        return _nearest(*(min(255, next(more, 0)) for _ in range(3)))
    return None


def _of_palette(number: int) -> int:
    """Return the nearest of the sixteen to one of the 256: these, a cube of colors, and shades of gray."""
    if number < 16:  # noqa: PLR2004
        return number
    if number >= 232:  # noqa: PLR2004
        return _nearest(*[8 + 10 * (number - 232)] * 3)
    rest = number - 16
    return _nearest(_CUBE[rest // 36], _CUBE[rest // 6 % 6], _CUBE[rest % 6])


@functools.lru_cache(1024)
def _nearest(red: int, green: int, blue: int) -> int:
    def away(number: int) -> int:
        r, g, b = _BASE[number]
        return (r - red) ** 2 + (g - green) ** 2 + (b - blue) ** 2

    return min(range(16), key=away)
