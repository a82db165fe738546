"""Lines of styled text, and tables of them: for pages that are printed, watched and piped.

A table's last column takes what is left of the width; where that is little, its text goes below the row. No line has
blanks at its end. Quicker than rich's tables by an order of magnitude, which counts with ten thousand rows.
"""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, NamedTuple

from air_executor.cli.terminal import console
from air_executor.model.plain_text import clean

if TYPE_CHECKING:
    from rich.text import Text

GAP = "  "
LEAST_LAST = 28
"""Columns that the last column needs beside the others."""
LONGEST_FIRST = 32
"""Columns of the first column beside the others, on a terminal; a longer value has a line of its own."""
INDENT = "    "


class Cell(NamedTuple):
    """A piece of text on one line."""

    text: str
    style: str = ""


Line = list[Cell]


def line(text: object, style: str = "") -> Line:
    """Return a line of one piece."""
    return [Cell(clean(text), style)]


def table(
    header: Sequence[str], rows: Sequence[Sequence[Cell]], width: int | None, right: Iterable[int] = ()
) -> list[Line]:
    """Return the lines of a table. `width`: of the terminal, None for pipes; `right`: columns aligned to the right.

    Columns without any value are left out, the first one excepted.
    """
    used = [n for n in range(len(header)) if n == 0 or any(row[n].text for row in rows)]
    rows = [[Cell(clean(row[n].text), row[n].style) for n in used] for row in rows]
    names = [Cell(header[n], "bold") for n in used]
    to_the_right = {at for at, n in enumerate(used) if n in set(right)}
    has_last = used[-1] == len(header) - 1
    columns = len(used) - has_last
    most = None if width is None else LONGEST_FIRST
    sizes = [max(_size(row[n], most if n == 0 else None) for row in [names, *rows]) for n in range(columns)]
    left = None if width is None else width - sum(sizes) - len(GAP) * columns
    below = left is not None and left < LEAST_LAST
    lines: list[Line] = []
    for row in [names, *rows]:
        if len(row[0].text) > sizes[0]:
            lines.append([row[0]])
            if not any(cell.text for cell in row[1:]):
                continue
            row = [Cell(""), *row[1:]]  # noqa: PLW2901 - the rest of it
        cells = [_padded(row[n], sizes[n], right=n in to_the_right) for n in range(columns)]
        shown = [cell for pair in cells for cell in (*pair, Cell(GAP))][:-1]
        if not has_last:
            lines.append(_stripped(shown))
            continue
        last = row[columns]
        if below:
            lines.append(_stripped(shown))
            if row is not names:
                lines += [[Cell(INDENT), Cell(part, last.style)] for part in _wrapped(last.text, width, len(INDENT))]
            continue
        parts = _wrapped(last.text, left, 0) or [""]
        lines.append(_stripped([*shown, Cell(GAP), Cell(parts[0], last.style)]))
        blank = " " * (sum(sizes) + len(GAP) * columns)
        lines += [[Cell(blank), Cell(part, last.style)] for part in parts[1:]]
    return lines


def plain(lines: Iterable[Line]) -> str:
    """Return lines as text without styles."""
    return "".join("".join(cell.text for cell in one).rstrip() + "\n" for one in lines)


def rich_line(one: Line) -> Text:
    """Return a line for a terminal."""
    from rich.text import Text  # noqa: PLC0415 - only for terminals

    text = Text(no_wrap=True, overflow="ellipsis")
    for cell in one:
        text.append(cell.text, style=cell.style or None)
    return text


def print_lines(lines: Sequence[Line]) -> None:
    """Print lines: with styles on a terminal, as plain text elsewhere."""
    out = console()
    if not out.is_terminal:
        out.file.write(plain(lines))
        return
    for one in fitted(lines, out.width):
        out.print(rich_line(one))


def terminal_width() -> int | None:
    """Return the columns of the terminal; None where stdout is none."""
    return console().width if console().is_terminal else None


def fitted(lines: Iterable[Line], width: int) -> list[Line]:
    """Return lines of which the last piece is wrapped where it is too long."""
    found: list[Line] = []
    for one in lines:
        *before, last = one or [Cell("")]
        taken = sum(len(cell.text) for cell in before)
        if taken + len(last.text) <= width:
            found.append(one)
            continue
        blank = " " * taken if taken < width // 2 else ""
        parts = textwrap.wrap(last.text, width, initial_indent=blank, subsequent_indent=INDENT, break_on_hyphens=False)
        first = parts[0][taken:] if blank else parts[0]
        found.append([*before, Cell(first, last.style)] if blank or not before else before)
        found += [[Cell(part, last.style)] for part in (parts[1:] if blank or not before else parts)]
    return found


def _wrapped(text: str, width: int | None, indent: int) -> list[str]:
    if width is None or len(text) <= width - indent:
        return [text] if text else []
    return textwrap.wrap(text, max(10, width - indent), break_on_hyphens=False)


def _size(cell: Cell, most: int | None) -> int:
    return 0 if most is not None and len(cell.text) > most else len(cell.text)


def _padded(cell: Cell, size: int, *, right: bool) -> tuple[Cell, Cell]:
    blank = Cell(" " * (size - len(cell.text)))
    return (blank, cell) if right else (cell, blank)


def _stripped(cells: Sequence[Cell]) -> Line:
    kept = list(cells)
    while kept and not kept[-1].text.strip():
        kept.pop()
    return kept
