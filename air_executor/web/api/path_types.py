"""Parts of paths and queries, with the rules for ids."""

# No `from __future__ import annotations`: FastAPI reads the annotations as they stand.

from typing import Annotated

from fastapi import Path, Query
from pydantic import Field

from air_executor.model.names import ID_PATTERN, MAX_ID
from air_executor.model.service import NAME_PATTERN

MAX_NUMBER = 999_999_999

_RULE = {"pattern": ID_PATTERN, "max_length": MAX_ID}
JobId = Annotated[str, Path(description="Id of a job, or a name: then its newest run.", **_RULE)]
GivenJob = Annotated[str, Field(**_RULE)]
"""A job in a list of them."""
TaskId = Annotated[str, Path(description="Id of a task.", **_RULE)]
DefinitionName = Annotated[str, Path(description="Name of a definition.", **_RULE)]
Uid = Annotated[
    str | None,
    Query(pattern="^[0-9a-f]{8,64}$", description="Of the job that is meant, where its id is another's now."),
]
LogOfService = Annotated[
    str | None,
    Query(pattern=NAME_PATTERN, description="Name of a service of the task, whose log is kept when the run has ended."),
]
RunNumber = Annotated[int, Path(ge=1, le=MAX_NUMBER, description="Number of a run of the job.")]
Limit = Annotated[int, Query(ge=1, le=500, description="Maximum number of entries.")]
