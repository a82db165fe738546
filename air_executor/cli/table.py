"""Lines of styled text, and tables of them: for pages that are printed, watched and piped.

A table's last column takes what is left of the width; where that is little, its text goes below the row. No line has
blanks at its end. Quicker than rich's tables by an order of magnitude, which counts with ten thousand rows.
"""

from __future__ import annotations

import textwrap
from collections.abc import Collection, Iterable, Sequence
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
    header: Sequence[str],
    rows: Sequence[Sequence[Cell]],
    width: int | None,
    *,
    right: Collection[int] = (),
    spare: Sequence[int] = (),
) -> list[Line]:
    """Return the lines of a table. `width`: of the terminal, None for pipes; `right`: columns aligned to the right.

    Columns without any value are left out, the first one excepted; so are the `spare` ones, in that order, where the
    terminal is too narrow for them. A row of a single cell is a line across all columns.
    """
    names = [Cell(name, "bold") for name in header]
    every = [names, *[[Cell(clean(cell.text), cell.style) for cell in row] for row in rows]]
    full = [row for row in every if len(row) > 1]
    used = [n for n in range(len(header)) if n == 0 or any(row[n].text for row in full[1:])]
    sizes = [
        max(_size(row[n], LONGEST_FIRST if n == 0 and width else None) for row in full) for n in range(len(header))
    ]
    last = used.pop() if used[-1] == len(header) - 1 else None
    for column in spare:
        if width is not None and column in used and _taken(used, sizes) > width:
            used.remove(column)
    left = None if width is None or last is None else width - _taken(used, sizes) - len(GAP)
    lines: list[Line] = []
    for row in every:
        if len(row) == 1:
            lines.append(row)
            continue
        if len(row[0].text) > sizes[0]:
            lines.append([row[0]])
            row[0] = Cell("")
        pairs = [_padded(row[n], sizes[n], right=n in right) for n in used]
        shown = [cell for pair in pairs for cell in (*pair, Cell(GAP))][:-1]
        if last is None:
            lines.append(_stripped(shown))
        elif left is None or left >= LEAST_LAST:
            first, *more = _wrapped(row[last].text, left, 0) or [""]
            lines.append(_stripped([*shown, Cell(GAP), Cell(first, row[last].style)]))
            blank = Cell(" " * (_taken(used, sizes) + len(GAP)))
            lines += [[blank, Cell(part, row[last].style)] for part in more]
        else:
            lines.append(_stripped(shown))
            parts = [] if row is names else _wrapped(row[last].text, width, len(INDENT))
            lines += [[Cell(INDENT), Cell(part, row[last].style)] for part in parts]
    return lines


def _taken(columns: Sequence[int], sizes: Sequence[int]) -> int:
    """Return the width of these columns and of the gaps between them."""
    return sum(sizes[n] for n in columns) + len(GAP) * (len(columns) - 1)


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
