"""Jobs chosen by label and pool: the options `--label` and `--pool` of commands that show or change several jobs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

import typer

from air_executor.errors import BadInputError

if TYPE_CHECKING:
    from air_executor.store.job_summary import JobSummary

LabelOption = Annotated[
    list[str] | None,
    typer.Option("--label", metavar="NAME[=VALUE]", help="Only jobs with this label. Repeatable."),
]
PoolOption = Annotated[str | None, typer.Option("--pool", metavar="POOL", help="Only jobs of this pool.")]


@dataclass(frozen=True, slots=True)
class JobChoice:
    """Which jobs are meant: those with all of the labels, in the pool."""

    labels: Sequence[str] = ()
    pool: str | None = None

    def __post_init__(self) -> None:
        """Refuse a label without a name."""
        for label in self.labels:
            if not label.partition("=")[0]:
                msg = f"--label: must be NAME or NAME=VALUE, got {label!r}"
                raise BadInputError(msg)

    @property
    def chooses(self) -> bool:
        """Whether it is not just all jobs."""
        return bool(self.labels) or self.pool is not None

    def takes(self, job: JobSummary) -> bool:
        """Tell whether a job is meant."""
        if self.pool not in (None, job.pool):
            return False
        for label in self.labels:
            name, given, value = label.partition("=")
            if name not in job.labels or (given and job.labels[name] != value):
                return False
        return True
