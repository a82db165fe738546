"""How a runner's container ended, according to its platform. Read from the platform's objects; becomes a status."""

from __future__ import annotations

from dataclasses import dataclass

from air_executor.backends.base import RunnerStatus


@dataclass(frozen=True, slots=True)
class Termination:
    """The end of one runner."""

    exit_code: int | None = None
    reason: str | None = None
    """The platform's own verdict, if any."""
    message: str | None = None
    permanent: bool = False
    """The same run would end the same way again."""
    finished_at: float | None = None
    """Unix seconds."""

    def status(self, run: str) -> RunnerStatus:
        """Return the status of the runner that ended so: nothing of it runs, but its name is still taken."""
        return RunnerStatus(
            run,
            alive=False,
            finished=True,
            exit_code=self.exit_code,
            reason=self.reason,
            permanent=self.permanent,
            message=self.message,
            finished_at=self.finished_at,
        )
