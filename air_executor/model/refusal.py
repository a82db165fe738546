"""How a check says no to a value. Standard library alone."""

from __future__ import annotations

from collections.abc import Sequence

from air_executor.model.quote import quoted


class RefusalError(ValueError):
    """A wrong value; `at` is where in it, if it has parts. Becomes one line of a message in `problems`."""

    def __init__(self, message: str, at: Sequence[str | int] = ()) -> None:
        super().__init__(message)
        self.at = tuple(at)


def wrong(rule: str, value: object, *, at: Sequence[str | int] = ()) -> RefusalError:
    """Return the refusal of a value that must be something else, which `rule` describes."""
    return RefusalError(f"must be {rule}, got {quoted(value)}", at)
