"""Bodies of requests → records, read and checked as everywhere else."""

# No `from __future__ import annotations`: FastAPI reads the annotations as they stand.

import re
import time
from collections.abc import Mapping
from typing import Annotated, TypeVar

from fastapi import Depends, Request

from air_executor.errors import BadInputError
from air_executor.model import parsing, strict_json
from air_executor.model.job import Job, Task
from air_executor.model.problems import InvalidError, Problem, bad_input, lines
from air_executor.web.problem_details import UnsupportedError

R = TypeVar("R")

JSON, YAML = "application/json", ("application/yaml", "application/x-yaml", "text/yaml")
NAME = "body"
"""What messages call it."""
MAX_YAML = 256 << 10
"""Bytes of a body that is read as YAML, which takes seconds a megabyte."""
MAX_DEPTH = 200
"""Brackets of such a body that are open at a time: what they take grows with their square."""
_BRACKETS = re.compile(rb"[\[\]{}]")


class Body:
    """The body of a request, as it came."""

    def __init__(self, data: bytes, kind: str) -> None:
        self.data = data
        self.is_yaml = kind in YAML
        # A page of another site can send forms and plain text without asking, and nothing else.
        if data and not self.is_yaml and kind != JSON:
            msg = f"Content-Type must be {JSON} or {YAML[0]}"
            raise UnsupportedError(msg)

    @property
    def file_name(self) -> str:
        """A name with the ending of its format, for what reads files."""
        return f"{NAME}.yaml" if self.is_yaml else f"{NAME}.json"

    def named(self, name: str | None) -> str:
        """Return what messages call it: the name that was sent, if it ends as its format."""
        endings = (".yaml", ".yml") if self.is_yaml else (".json",)
        return name if name is not None and name.isprintable() and name.lower().endswith(endings) else self.file_name

    def small(self) -> bytes:
        """Return it, if it is small enough to be read as YAML.

        Raises:
            BadInputError: it is not.
        """
        if len(self.data) > MAX_YAML:
            msg = f"{NAME}: is larger than the {MAX_YAML >> 10} KiB that are read as YAML"
            raise BadInputError(msg)
        depth = 0
        for bracket in _BRACKETS.findall(self.data):
            depth = depth + 1 if bracket in b"[{" else max(0, depth - 1)
            if depth > MAX_DEPTH:
                msg = f"{NAME}: has more than {MAX_DEPTH} brackets that are not closed"
                raise BadInputError(msg)
        return self.data

    def job(self, params: Mapping[str, object]) -> Job:
        """Return the job that it describes with these values of parameters.

        Raises:
            BadInputError: it is none; each problem with its field.
        """
        from air_executor.core.submission import read_definition  # noqa: PLC0415
        from air_executor.store.job_file import load_job  # noqa: PLC0415

        if self.is_yaml:
            return load_job(self.small(), self.file_name, params)
        raw = strict_json.loads(self.data)
        if not isinstance(raw, dict):
            msg = f"{NAME}: must be a mapping with id and tasks"
            raise BadInputError(msg)
        raw.pop("$schema", None)  # for editors
        try:
            return read_definition(raw, params, time.time())
        except InvalidError as error:
            raise bad_input(lines(error.problems), NAME) from None

    def record(self, kind: type[R]) -> R:
        """Return it as a record; nothing stands for no fields.

        Raises:
            BadInputError: it is none.
            UnsupportedError: it is YAML.
        """
        if self.is_yaml:
            msg = f"Content-Type must be {JSON}"
            raise UnsupportedError(msg)
        raw = strict_json.loads(self.data) if self.data.strip() else {}
        try:
            return parsing.read(kind, raw)
        except InvalidError as error:
            raise bad_input(lines(error.problems), NAME) from None

    def tasks(self) -> list[Task]:
        """Return the tasks that it describes: one, a list, or a mapping whose only field is `tasks`.

        Raises:
            BadInputError: one of them is none; each problem with its field.
        """
        from air_executor.store.job_file import load_tasks  # noqa: PLC0415

        if self.is_yaml:
            return load_tasks(self.small(), self.file_name)
        raw = strict_json.loads(self.data)
        at: list[str | int] = []
        if isinstance(raw, dict) and list(raw) == ["tasks"]:
            at, raw = ["tasks"], raw["tasks"]
        found, wrong = [], []
        for number, one in enumerate(raw if isinstance(raw, list) else [raw]):
            try:
                found.append(parsing.read_task(one))
            except InvalidError as error:
                here = [*at, number] if isinstance(raw, list) else at
                wrong += [Problem([*here, *inner], what) for inner, what in error.problems]
        if wrong or not found:
            raise bad_input(lines(wrong) or ["has no tasks"], NAME)
        return found


async def body_of(request: Request) -> Body:
    """Return the body of a request, which `BodyLimit` has read."""
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    return Body(await request.body(), kind)


Sent = Annotated[Body, Depends(body_of)]
