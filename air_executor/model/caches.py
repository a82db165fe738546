"""A folder that is kept between runs, as tasks name it."""

# No `from __future__ import annotations`: `parsing` and `quick` read the annotations as they stand.

import re
from dataclasses import dataclass
from typing import Annotated

from air_executor.model import types as t
from air_executor.model.record import Record
from air_executor.model.types import About

CACHE_POOL = "cache:"
"""How the pool of a cache begins; a colon is in no name that people give a pool."""


@dataclass(slots=True, kw_only=True)
class Cache(Record):
    """A folder that is kept between runs, for what is costly to fetch again."""

    name: Annotated[t.Name, About("Name of the cache: all tasks that name it, of any job, have the same folder.")]
    path: Annotated[
        t.Target | None,
        About("Absolute path in the container. Default: `/air/caches/NAME`; local runners ignore it."),
    ] = None
    shared: Annotated[
        t.Flag, About("Several runs may have it at once, because the programs that use it lock what they write.")
    ] = False

    @property
    def variable(self) -> str:
        """Name of the variable with its path."""
        return f"AIR_CACHE_{re.sub('[^A-Z0-9]', '_', self.name.upper())}"
