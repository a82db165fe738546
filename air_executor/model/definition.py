"""What a job file may say beyond a job: parameters, and tasks that stand for several; each field declared once.

`core.definition` turns a definition and values into the data of a job.
"""

# No `from __future__ import annotations`: `parsing` and `quick` read the annotations as they stand.

from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

from annotated_types import MaxLen

from air_executor.model import types as t
from air_executor.model.checks import RefusalError
from air_executor.model.job import Record
from air_executor.model.types import About

Kind = Literal["string", "integer", "number", "boolean", "date", "list"]
KINDS = ("string", "integer", "number", "boolean", "date", "list")
_NUMBERS = ("integer", "number")


@dataclass(slots=True, kw_only=True)
class Param(Record):
    """A parameter: what its value may be."""

    type: Annotated[Kind, *t.one_of(*KINDS), About("Kind of the value; a `date` is written like `2026-01-31`.")] = (
        "string"
    )
    default: Annotated[Any, About("Value if none is given; without it, one must be given.")] = None
    choices: Annotated[list[Any], MaxLen(1000), About("Values that are accepted; of a `list`, its items.")] = field(
        default_factory=list
    )
    min: Annotated[int | float | None, *t.real(-1e15, 1e15), About("Smallest number that is accepted.")] = None
    max: Annotated[int | float | None, *t.real(-1e15, 1e15), About("Largest number that is accepted.")] = None
    description: Annotated[t.Text, About("For people.")] = ""

    def __post_init__(self) -> None:
        """Check fields that depend on each other."""
        for name in ("min", "max"):
            if getattr(self, name) is not None and self.type not in _NUMBERS:
                raise RefusalError("is only for numbers", (name,))
        if self.min is not None and self.max is not None and self.max < self.min:
            raise RefusalError("must not be less than min", ("max",))


@dataclass(slots=True, kw_only=True)
class Declared(Record):
    """What a job file has in place of a job's values."""

    params: Annotated[
        dict[str, Param | str | float | bool | list[Any]],
        About("Parameters: for each name what its value may be, or its default alone."),
    ] = field(default_factory=dict)


@dataclass(slots=True, kw_only=True)
class Repeated(Record):
    """What a task of a job file may have: it then stands for several."""

    for_each: Annotated[
        str | list[Any], About("List of items, or a parameter that is one: one task for each, as `ITEM`.")
    ] = field(default_factory=list)
    matrix: Annotated[
        dict[str, str | list[Any]], About("Lists by name: one task for each combination, with a variable of each name.")
    ] = field(default_factory=dict)


MAX_ITEMS = 10_000
"""Items that one list of `for_each` or `matrix` may have."""
