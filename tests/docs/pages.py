"""The documentation as tests read it: its pages, their code blocks, their links and their tables."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGES = (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")))

_BLOCK = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_INLINE = re.compile(r"`([^`\n]+)`")
_LINK = re.compile(r"\]\(([^)\s]+)\)")
_HEADING = re.compile(r"^#+ (.+)$", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Block:
    """One fenced block of code."""

    page: str
    language: str
    text: str


def blocks(*languages: str) -> list[Block]:
    """Return the code blocks in these languages, of all pages."""
    found = [Block(page.name, language, text) for page in PAGES for language, text in _BLOCK.findall(_text(page))]
    return [block for block in found if block.language in languages]


def inline(page: Path) -> list[str]:
    """Return what stands in backticks outside of code blocks."""
    return _INLINE.findall(prose(page))


def prose(page: Path) -> str:
    """Return a page without its code blocks."""
    return _BLOCK.sub("", _text(page))


def links(page: Path) -> list[str]:
    """Return the targets of a page's links."""
    return _LINK.findall(prose(page))


def anchors(page: Path) -> set[str]:
    """Return the anchors of a page's headings, as GitHub makes them."""
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in _HEADING.findall(prose(page))}


def rows(page: Path, heading: str) -> Iterator[list[str]]:
    """Yield the rows of the tables below one heading, as cells without their backticks."""
    section = _text(page).split(f"\n## {heading}\n", 1)[1].split("\n## ", 1)[0]
    for line in section.splitlines():
        if line.startswith("| `"):
            yield [cell.strip() for cell in line.strip("| ").split(" | ")]


def names(page: Path, heading: str) -> set[str]:
    """Return the names in the first column of the tables below one heading."""
    return {name for row in rows(page, heading) for name in _INLINE.findall(row[0])}


def _text(page: Path) -> str:
    return page.read_text(encoding="utf-8")
