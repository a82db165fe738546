"""A folder or volume that a task sees in its container."""

# No `from __future__ import annotations`: `parsing` and `quick` read the annotations as they stand.

from dataclasses import dataclass
from typing import Annotated

from air_executor.model import types as t
from air_executor.model.record import Record
from air_executor.model.types import About


@dataclass(slots=True, kw_only=True)
class Mount(Record):
    """A folder or volume that a task sees in its container."""

    source: Annotated[t.Source, About("Path on the host, or name of a volume on the platform.")]
    target: Annotated[t.Target, About("Absolute path in the container.")]
    read_only: Annotated[t.Flag, About("Mount without write access.")] = False
