"""The state directory that jobs are submitted to, and whether they would run there.

Made by the hook from a connection, or from this process's own settings. Knows nothing of Airflow.
"""

from __future__ import annotations

import os
from dataclasses import dataclass

from air_executor.client import Client
from air_executor.errors import StoreError
from air_executor.store.layout import Layout
from air_executor.store.presence import read_presence


@dataclass(frozen=True)
class JobTarget:
    """A state directory, with what a connection or the settings say of it."""

    state_dir: str
    pool: str | None = None
    """Pool of jobs that name none."""
    backend: str | None = None
    """Backend that the manager must use; None: any."""
    page: str | None = None
    """Address of the manager's page, with a slash at its end; None: as the manager has recorded it."""

    def client(self) -> Client:
        """Return a client of the state directory.

        Raises:
            StoreError: it does not exist. No manager would ever see a job that created it, such as below a mount point
                whose volume is not mounted.
        """
        if not os.path.isdir(self.state_dir):
            raise StoreError(self._missing)
        return Client(self.state_dir)

    @property
    def _missing(self) -> str:
        return f"{self.state_dir} is no directory here: start `air-executor manager` on it, or mount its volume"

    def page_of(self, job: str) -> str | None:
        """Return the address of a job's page; None if the manager has none."""
        page = self.page or read_presence(Layout(self.state_dir)).page
        return f"{page}jobs/{job}" if page else None

    def check(self) -> tuple[bool, str]:
        """Return whether jobs would run there, and a message that says why or why not."""
        if not os.path.isdir(self.state_dir):
            return False, self._missing
        if not os.access(self.state_dir, os.W_OK | os.X_OK):
            return False, f"{self.state_dir} is not writable for uid {os.geteuid()}: jobs cannot be submitted"
        found = read_presence(self.client().layout)
        if found.running is False:
            return False, f"no manager is running in {self.state_dir}: start one with `air-executor manager`"
        if self.backend and found.backend and found.backend != self.backend:
            return False, f"the manager in {self.state_dir} uses the backend {found.backend}, not {self.backend}"
        if found.backend_problem:
            return False, f"the manager in {self.state_dir} cannot start runners: {found.backend_problem}"
        return True, f"a manager is running in {self.state_dir}, backend {found.backend or 'unknown'} ({found.who})"
