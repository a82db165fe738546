"""JSON as people and tasks write it, read strictly: UTF-8, no key twice, no NaN.

A key that appears twice means that a field was overwritten by accident. Used for job files, queue lines and requests.
"""

from __future__ import annotations

import json
from typing import Any, NoReturn

from air_executor.errors import BadInputError
from air_executor.model.quote import quoted
from air_executor.model.written import real_number


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    made = dict(pairs)
    if len(made) != len(pairs):
        seen: set[str] = set()
        twice = next(name for name, _ in pairs if name in seen or seen.add(name))  # type: ignore[func-returns-value]
        msg = f"the key {quoted(twice)} appears twice in one object"
        raise BadInputError(msg)
    return made


def refuse_constant(name: str) -> NoReturn:
    """Refuse NaN or an infinity, which `json` would read."""
    msg = f"{name} is not a number that JSON knows"
    raise BadInputError(msg)


_decoder = json.JSONDecoder(object_pairs_hook=_object, parse_float=real_number, parse_constant=refuse_constant)


def loads(text: str | bytes, *, one_line: bool = False) -> Any:  # noqa: ANN401 - any JSON value
    """Return the value of a JSON text; `one_line`: the caller names the line in messages.

    Raises:
        BadInputError: it is not UTF-8 or not JSON (with line and column), or has a key twice.
    """
    try:
        return _decoder.decode(text if isinstance(text, str) else text.decode())
    except UnicodeDecodeError as error:
        msg = f"is not UTF-8 (byte {error.start} is 0x{error.object[error.start]:02x})"
        raise BadInputError(msg) from None
    except json.JSONDecodeError as error:
        line = "" if one_line else f"line {error.lineno}, "
        msg = f"is not JSON: {line}column {error.colno}: {error.msg}"
        raise BadInputError(msg) from None
    except RecursionError:
        raise BadInputError("is nested too deeply") from None
    except ValueError:  # an int with more digits than Python reads
        raise BadInputError("has a number that is too long") from None
