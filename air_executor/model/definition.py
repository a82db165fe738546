"""What a job file may say beyond a job: parameters, and tasks that stand for several; each field declared once.

`core.instantiation` turns a definition and values into the data of a job.
"""

# No `from __future__ import annotations`: `parsing` and `quick` read the annotations as they stand.

from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

from annotated_types import MaxLen

from air_executor.model import checks
from air_executor.model import types as t
from air_executor.model.record import Record
from air_executor.model.refusal import RefusalError
from air_executor.model.types import About, Accepts

_CRON: t.Json = {"anyOf": [{"type": "string"}, {"type": "array", "minItems": 1, "items": {"type": "string"}}]}


Kind = Literal["string", "integer", "number", "boolean", "date", "list"]
KINDS = ("string", "integer", "number", "boolean", "date", "list")
_NUMBERS = ("integer", "number")


@dataclass(slots=True, kw_only=True)
class Param(Record):
    """A parameter: what its value may be."""

    type: Annotated[
        Kind,
        *t.one_of(*KINDS),
        About("Type: `string`, `integer`, `number`, `boolean`, `date` (`2026-01-31`) or `list`."),
    ] = "string"
    default: Annotated[Any, About("Value if none is given. Without it, a value must be given.")] = None
    choices: Annotated[list[Any], MaxLen(1000), About("The accepted values; for a `list`, the accepted items.")] = (
        field(default_factory=list)
    )
    min: Annotated[int | float | None, *t.real(-1e15, 1e15), About("Minimum of a number.")] = None
    max: Annotated[int | float | None, *t.real(-1e15, 1e15), About("Maximum of a number.")] = None
    description: Annotated[t.Text, About("For people.")] = ""

    def __post_init__(self) -> None:
        """Check fields that depend on each other."""
        for name in ("min", "max"):
            if getattr(self, name) is not None and self.type not in _NUMBERS:
                raise RefusalError("is only for numbers", (name,))
        if self.min is not None and self.max is not None and self.max < self.min:
            raise RefusalError("must not be less than min", ("max",))


CatchUp = Literal["none", "last", "all"]


@dataclass(slots=True, kw_only=True)
class Schedule(Record):
    """When a definition runs by itself."""

    cron: Annotated[
        list[str],
        MaxLen(100),
        Accepts("an expression or a list of them", before=checks.check_listed, json=_CRON),
        About("Cron expressions, like `0 2 * * 1-5`."),
    ] = field(default_factory=list)
    every: Annotated[t.PositiveDuration | None, About("In place of `cron`: the time from one run to the next.")] = None
    timezone: Annotated[str, MaxLen(100), t.Strict(), Accepts("a time zone"), About("Zone of the cron times.")] = "UTC"
    catch_up: Annotated[
        CatchUp,
        *t.one_of("none", "last", "all"),
        About("Which of the times that passed while no manager was running get a run."),
    ] = "last"
    starting_deadline: Annotated[
        t.PositiveDuration | None, About("How long after its time a run may start; later ones are left out.")
    ] = None
    jitter: Annotated[t.Duration, About("Longest delay that spreads runs; a time always has the same.")] = 0

    def __post_init__(self) -> None:
        """Check fields that depend on each other."""
        if not self.cron and self.every is None:
            raise RefusalError("is missing; or give `every`", ("cron",))
        if self.cron and self.every is not None:
            raise RefusalError("cannot be used together with cron", ("every",))
        if self.every is not None and self.every < 1:
            raise RefusalError("must be at least 1s", ("every",))


@dataclass(slots=True, kw_only=True)
class Declared(Record):
    """What a job file has in place of a job's values."""

    params: Annotated[
        dict[str, Param | str | float | bool | list[Any]],
        About("Parameters: for each name what its value may be, or its default alone."),
    ] = field(default_factory=dict)
    schedule: Annotated[Schedule | None, About("When a job with a `name` runs by itself.")] = None


@dataclass(slots=True, kw_only=True)
class Repeated(Record):
    """What a task of a job file may have: it then stands for several."""

    for_each: Annotated[
        str | list[Any], About("List of items, or a parameter or result that is one: one task for each, as `ITEM`.")
    ] = field(default_factory=list)
    matrix: Annotated[
        dict[str, str | list[Any]], About("Lists by name: one task for each combination, with a variable of each name.")
    ] = field(default_factory=dict)


@dataclass(slots=True, kw_only=True)
class ScheduleFile(Record):
    """`schedules/<name>.json`: a definition that runs by itself."""

    format: Literal[1] = 1
    name: t.Name
    paused: bool = False
    since: t.Time
    """No time before this one counts."""
    applied_at: t.Time
    source: t.Text | None = None
    """Name of the file in `AIR_JOBS_DIR` that it follows; None: it was applied by a command."""
    definition: dict[str, Any]
    """The job file."""


MAX_ITEMS = 10_000
"""Items that one list of `for_each` or `matrix` may have."""
