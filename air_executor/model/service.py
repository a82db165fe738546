"""A program that runs beside a task, in a container of its own: a database to test against, a browser, a broker."""

# No `from __future__ import annotations`: `parsing` and `quick` read the annotations as they stand.

import re
from dataclasses import dataclass, field
from typing import Annotated

from air_executor.model import types as t
from air_executor.model.record import Record
from air_executor.model.refusal import RefusalError
from air_executor.model.types import About, Accepts

NAME_PATTERN = "^[a-z]([a-z0-9-]{0,38}[a-z0-9])?$"
_NAME = re.compile(NAME_PATTERN)
_LONGEST = 40
_LOCALHOST = "localhost"


def _check_name(value: object) -> str:
    if isinstance(value, str) and _NAME.fullmatch(value) and value != _LOCALHOST:
        return value
    msg = f"must be the name of a host: a-z, 0-9 and -, beginning with a letter, at most {_LONGEST} characters"
    raise RefusalError(msg)


ServiceName = Annotated[
    str,
    t.MaxLen(_LONGEST),
    Accepts("the name of a host", before=_check_name, json={"type": "string", "pattern": NAME_PATTERN}),
]


@dataclass(slots=True, kw_only=True)
class ServiceResources(Record):
    """Resources that a service needs."""

    cpu: Annotated[t.Cpu | None, About('CPUs: 2, 0.5, or "500m".')] = None
    memory: Annotated[t.Memory | None, About('Memory: "512Mi", "2Gi", or a number of bytes.')] = None


@dataclass(slots=True, kw_only=True)
class TaskService(Record):
    """A service of a task: it starts before the task and ends with it."""

    image: Annotated[t.Image, About("Container image.")]
    name: Annotated[
        ServiceName | None,
        About("Name, unique in the task, which is also its host name. Default: the last word of the image's path."),
    ] = None
    command: Annotated[
        t.Command | None,
        About("Words for the image's entrypoint in place of its own; text becomes `sh -c` and that text."),
    ] = None
    env: Annotated[t.Env, About("Environment variables, stored in plain text.")] = field(default_factory=dict)
    secrets: Annotated[t.Secrets, About("Names of secrets to put into its environment; never stored.")] = field(
        default_factory=list
    )
    ready: Annotated[
        t.Command | None,
        About("Command that succeeds in its container once it can be used. Default: it can be as soon as it runs."),
    ] = None
    ready_timeout: Annotated[t.PositiveDuration, About("Maximum time until `ready` succeeds.")] = 60
    resources: Annotated[ServiceResources | None, About("Resources of the service.")] = None

    @property
    def host(self) -> str:
        """Its name, by which the task also reaches it."""
        if self.name is not None:
            return self.name
        last = self.image.partition("@")[0].rpartition("/")[2].partition(":")[0]
        return f"{re.sub('[^a-z0-9]+', '-', last).lstrip('0123456789-')[:_LONGEST].rstrip('-') or 'service'}"
