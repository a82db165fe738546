"""The table of values in the chart's README: `python -m helm.values_table` writes it, a test compares.

Made of the comments of values.yaml that begin with two dashes, as helm-docs does: the description of the key below.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from ruamel.yaml import YAML

CHART = Path(__file__).parent / "air-executor"
README = CHART / "README.md"
HEADING = "## Values\n"
TYPES = {bool: "bool", int: "int", str: "string", list: "list", dict: "object", type(None): "null"}

_COMMENT = re.compile(r"^ *# (-- )?(.*)$")
_KEY = re.compile(r"^( *)([A-Za-z]\w*):")


class Value(NamedTuple):
    """One documented value."""

    path: tuple[str, ...]
    default: Any
    description: str

    def row(self) -> str:
        """Return its row of the table."""
        default = json.dumps(self.default, ensure_ascii=False).replace("|", "\\|")
        description = self.description.replace("|", "\\|")
        return f"| `{'.'.join(self.path)}` | {TYPES[type(self.default)]} | `{default}` | {description} |"


def defaults(chart: Path = CHART) -> dict[str, Any]:
    """Return the values of a chart."""
    found: dict[str, Any] = YAML(typ="safe", pure=True).load(chart / "values.yaml")
    return found


def documented(chart: Path = CHART) -> Iterator[Value]:
    """Yield the values of a chart that have a description, in the order of the file."""
    known = defaults(chart)
    path: list[tuple[int, str]] = []
    words: list[str] = []
    for line in (chart / "values.yaml").read_text(encoding="utf-8").splitlines():
        if comment := _COMMENT.match(line):
            words = [comment[2]] if comment[1] else words and [*words, comment[2]]
            continue
        if key := _KEY.match(line):
            path = [*(one for one in path if one[0] < len(key[1])), (len(key[1]), key[2])]
            if words:
                names = tuple(name for _, name in path)
                yield Value(names, _default(known, names), " ".join(words))
        words = []


def _default(known: Any, path: tuple[str, ...]) -> Any:  # noqa: ANN401 - any YAML
    for name in path:
        known = known[name]
    return known


def readme(text: str) -> str:
    """Return the README's text with the table of now."""
    rows = "\n".join(value.row() for value in documented())
    table = f"| Key | Type | Default | Description |\n|---|---|---|---|\n{rows}\n"
    return f"{text.split(HEADING, 1)[0]}{HEADING}\n{table}"


if __name__ == "__main__":
    README.write_text(readme(README.read_text(encoding="utf-8")), encoding="utf-8")
