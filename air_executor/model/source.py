"""The text of a job file: YAML or JSON as data, and where in the text each part of the data stands.

Called by `store.job_file`. YAML is loaded only where a file is YAML or a place is asked for.
"""

from __future__ import annotations

import json
import re
from functools import cached_property
from typing import TYPE_CHECKING, Any

from air_executor.errors import BadInputError
from air_executor.model import strict_json
from air_executor.model.problems import Path
from air_executor.model.written import RealNumber, WholeNumber

if TYPE_CHECKING:
    from ruamel.yaml.nodes import Node

_LONGEST_LINE = 66
_MOST_PLACED = 1 << 20
"""Characters of a text in which places are looked for: it is read a second time for that."""
_HINTS = {
    "mapping values are not allowed here": 'a value that holds ": " must be quoted',
    "found character '\\t' that cannot start any token": "indent with spaces, not with tabs",
    "found character '%' that cannot start any token": "a value that begins with % must be quoted",
    "found character '@' that cannot start any token": "a value that begins with @ must be quoted",
    "found character '`' that cannot start any token": "a value that begins with ` must be quoted",
}

_BLOCK_ENDS = "expected <block end>, but found"
_INDENTATION = "lines of one mapping or list begin in the same column: check the indentation"


def one_line(message: str) -> str:
    """Return a message about a text as one line, without what it shows of the text."""
    return re.sub(r"\n *", "; ", re.sub(r"\n {4,}\d* ?\| [^\n]*", "", message))


class Source:
    """One text.

    Args:
        text: the whole of it.
        is_json: read it as JSON, not as YAML.
    """

    def __init__(self, text: str, *, is_json: bool) -> None:
        self._text = text
        self._is_json = is_json

    def load(self) -> list[object]:
        """Return the data of each document: JSON has one, YAML may have several, with `---` between them.

        Raises:
            BadInputError: the text is neither; the message says what is wrong, on which line, and shows it.
        """
        if not self._is_json:
            return self._load_yaml()
        try:
            return [strict_json.loads(self._text)]
        except BadInputError as error:
            fault = error.__context__
            if not isinstance(fault, json.JSONDecodeError):
                raise
            msg = f"{error}{self._shown(fault.lineno - 1, fault.colno - 1)}"
            raise BadInputError(msg) from None

    def place(self, at: Path) -> str:
        """Return where a part of the data stands, with its line, to be put behind a message; empty if unknown.

        `at` begins with the number of the document, from 0.
        """
        mark = self._mark(at)
        if mark is None:
            return ""
        return f" (line {mark.line + 1}, column {mark.column + 1}){self._shown(mark.line, mark.column)}"

    def column(self, at: Path) -> str:
        """Return in which column a part stands, as `place` does, where the text is one line that the caller names."""
        mark = self._mark(at)
        return "" if mark is None else f" (column {mark.column + 1})"

    def _mark(self, at: Path) -> Any:  # noqa: ANN401 - ruamel's own
        if len(self._text) > _MOST_PLACED or not self._roots:
            return None
        return _mark(self._roots[int(at[0])], at[1:])

    def _shown(self, at_line: int, column: int) -> str:
        line = self._text.split("\n")[at_line].rstrip()
        if len(line) > _LONGEST_LINE:  # the part around the column, so that no terminal breaks the line
            start = max(0, min(column - _LONGEST_LINE // 2, len(line) - _LONGEST_LINE))
            before, after = "…" if start else "", "…" if start + _LONGEST_LINE < len(line) else ""
            line, column = f"{before}{line[start : start + _LONGEST_LINE]}{after}", column - start + len(before)
        number = f"{at_line + 1}"
        pointer = f"\n    {' ' * len(number)} | {' ' * column}^" if column < len(line) else ""
        return f"\n    {number} | {line}{pointer}"

    @cached_property
    def _roots(self) -> list[Node]:
        from ruamel.yaml import YAML  # noqa: PLC0415 - see the module
        from ruamel.yaml.error import YAMLError  # noqa: PLC0415 - see the module

        try:
            return list(YAML(typ="safe", pure=True).compose_all(self._text))  # JSON is YAML, too
        except (YAMLError, RecursionError, ValueError):
            return []

    def _load_yaml(self) -> list[object]:
        from ruamel.yaml import YAML  # noqa: PLC0415 - see the module
        from ruamel.yaml.constructor import SafeConstructor  # noqa: PLC0415 - see the module
        from ruamel.yaml.error import MarkedYAMLError, YAMLError  # noqa: PLC0415 - see the module

        class Constructor(SafeConstructor):
            """A constructor of our own, because constructors are added to a class."""

        Constructor.add_constructor("tag:yaml.org,2002:int", _whole_number)
        Constructor.add_constructor("tag:yaml.org,2002:float", _real_number)
        yaml = YAML(typ="safe", pure=True)
        yaml.Constructor = Constructor
        try:
            return list(yaml.load_all(self._text))
        except MarkedYAMLError as error:
            mark = error.problem_mark or error.context_mark
            where = f" line {mark.line + 1}, column {mark.column + 1}:" if mark is not None else ""
            what = " ".join(str(error.problem or error.context).split())
            advice = _HINTS.get(what) or (_INDENTATION if what.startswith(_BLOCK_ENDS) else None)
            hint = f"; {advice}" if advice else ""
            in_text = mark is not None and mark.line < self._text.count("\n") + 1
            shown = self._shown(mark.line, mark.column) if in_text else ""
            msg = f"is not YAML:{where} {what}{hint}{shown}"
            raise BadInputError(msg) from None
        except YAMLError as error:
            msg = f"is not YAML: {' '.join(str(error).split())}"
            raise BadInputError(msg) from None
        except RecursionError:
            raise BadInputError("is nested too deeply") from None
        except (ValueError, TypeError) as error:  # a date that is none, a key that is a mapping
            msg = f"has a value that cannot be read: {' '.join(str(error).split())}"
            raise BadInputError(msg) from None


def _whole_number(constructor: Any, node: Any) -> WholeNumber:  # noqa: ANN401 - JSON, a type or a record
    number = WholeNumber(constructor.construct_yaml_int(node))
    number.source = str(node.value)
    return number


def _real_number(constructor: Any, node: Any) -> RealNumber:  # noqa: ANN401 - JSON, a type or a record
    number = RealNumber(constructor.construct_yaml_float(node))
    number.source = str(node.value)
    return number


def _mark(node: Any, at: Path) -> object:  # noqa: ANN401 - JSON, a type or a record
    """Return where the part that a path leads to begins, or the nearest part around it."""
    from ruamel.yaml.nodes import MappingNode, SequenceNode  # noqa: PLC0415 - see the module

    mark = node.start_mark
    for number, part in enumerate(at):
        if isinstance(node, MappingNode):
            found = next((pair for pair in node.value if pair[0].value == part), None)
            if found is None:
                return mark
            key, node = found
            mark = key.start_mark if number == len(at) - 1 and not _is_scalar(node) else node.start_mark
        elif isinstance(node, SequenceNode) and isinstance(part, int) and part < len(node.value):
            node = node.value[part]
            mark = node.start_mark
        else:
            return mark
    return mark


def _is_scalar(node: Any) -> bool:  # noqa: ANN401 - JSON, a type or a record
    return isinstance(node.value, str)
