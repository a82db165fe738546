"""Names stand for one thing each, and prose fits the lines that it is read on."""

from __future__ import annotations

import ast
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator
from pathlib import Path

from tests.docs.pages import ROOT

LONGEST = 120
SOURCES = sorted((ROOT / "air_executor").rglob("*.py"))
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])


def twice(named: Iterable[tuple[str, Path]]) -> dict[str, list[str]]:
    """Return the names that stand for several things, with where they do."""
    found = defaultdict(list)
    for name, path in named:
        found[name].append(str(path.relative_to(ROOT)))
    return {name: paths for name, paths in found.items() if len(paths) > 1}


def classes() -> Iterator[tuple[str, Path]]:
    """Yield each class, private ones without their underscore."""
    for path in SOURCES:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ClassDef):
                yield node.name.removeprefix("_"), path


def test_no_class_name_stands_for_two_things() -> None:
    """Who reads a name knows what it is, wherever it stands."""
    assert twice(classes()) == {}


def test_a_module_is_found_by_its_name_alone() -> None:
    """No two modules have one name, even in different packages. `__init__` and `__main__` are Python's."""
    assert twice((path.name, path) for path in SOURCES if not path.name.startswith("__")) == {}


def test_prose_is_wrapped() -> None:
    """No line of a page is longer than a terminal shows, but for tables, code and addresses."""
    found = []
    for page in PAGES:
        text = re.sub(
            r"^ *```.*?^ *```",
            lambda code: "\n" * code[0].count("\n"),
            page.read_text("utf-8"),
            flags=re.DOTALL | re.MULTILINE,
        )
        for number, line in enumerate(text.split("\n"), 1):
            if len(line) > LONGEST and not line.lstrip().startswith(("|", "<")) and "://" not in line:
                found.append(f"{page.relative_to(ROOT)}:{number}")
    assert found == []
