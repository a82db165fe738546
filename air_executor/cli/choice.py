"""Jobs chosen by label and pool, for commands that show or change several jobs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from air_executor.errors import BadInputError

if TYPE_CHECKING:
    from air_executor.store.job_summary import JobSummary


@dataclass(frozen=True, slots=True)
class JobChoice:
    """Which jobs are meant: those with all of the labels, in the pool."""

    label: Sequence[str] = ()
    pool: str | None = None

    def __post_init__(self) -> None:
        """Refuse a label without a name."""
        for label in self.label:
            if not label.partition("=")[0]:
                msg = f"--label: must be NAME or NAME=VALUE, got {label!r}"
                raise BadInputError(msg)

    @property
    def chooses(self) -> bool:
        """Whether it is not just all jobs."""
        return bool(self.label) or self.pool is not None

    def takes(self, job: JobSummary) -> bool:
        """Tell whether a job is meant."""
        if self.pool not in (None, job.pool):
            return False
        for label in self.label:
            name, given, value = label.partition("=")
            if name not in job.labels or (given and job.labels[name] != value):
                return False
        return True
