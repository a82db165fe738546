"""`AirExecutorHook`: which state directory an Airflow connection means, and who looks after it.

Called by operators, sensors and triggers. A connection of the type `air_executor` has, all optional: in its extra
`state_dir`, `backend` and `queue`; as host, port and schema the address of the manager's page.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from airflow.providers.common.compat.sdk import BaseHook

from air_executor import settings
from air_executor.client import Client
from air_executor.errors import AirExecutorError, BadInputError
from air_executor.store.presence import look

CONN_TYPE = "air_executor"


@dataclass(frozen=True)
class Place:
    """Where jobs go."""

    state_dir: str
    queue: str | None = None
    """For jobs that name none."""
    backend: str | None = None
    """What the manager there must use; None: whatever it does."""
    page: str | None = None
    """Address of the manager's page, with a slash at its end."""

    def client(self) -> Client:
        """Return the state directory, seen from outside its manager."""
        return Client(self.state_dir)

    def page_of(self, job: str) -> str | None:
        """Return the address of a job's page."""
        return f"{self.page}jobs/{job}" if self.page else None

    def check(self) -> tuple[bool, str]:
        """Tell whether jobs would run there, and what is so or what is missing."""
        if not os.path.isdir(self.state_dir):
            return (
                False,
                f"{self.state_dir} is no directory here: start `air-executor manager` on it, or mount its volume",
            )
        if not os.access(self.state_dir, os.W_OK | os.X_OK):
            return False, f"{self.state_dir} is not writable for uid {os.geteuid()}: jobs cannot be submitted"
        found = look(self.client().layout)
        if found.running is False:
            return False, f"no manager is at work in {self.state_dir}: start one with `air-executor manager`"
        if self.backend and found.backend and found.backend != self.backend:
            return False, f"the manager in {self.state_dir} uses the backend {found.backend}, not {self.backend}"
        if found.backend_problem:
            return False, f"the manager in {self.state_dir} cannot start runners: {found.backend_problem}"
        return True, f"manager at work in {self.state_dir}, backend {found.backend or 'not known yet'} ({found.who})"


class AirExecutorHook(BaseHook):
    """A state directory, as a connection or this process's own settings name it.

    Args:
        air_executor_conn_id: a connection; without one, `AIR_STATE_DIR` and the other settings of this process.
        state_dir: a state directory that goes before the connection's.
    """

    conn_name_attr = "air_executor_conn_id"
    default_conn_name = "air_executor_default"
    conn_type = CONN_TYPE
    hook_name = "Air-Executor"

    def __init__(self, air_executor_conn_id: str | None = None, state_dir: str | None = None) -> None:
        super().__init__()
        self.air_executor_conn_id = air_executor_conn_id
        self._state_dir = state_dir

    @classmethod
    def get_ui_field_behaviour(cls) -> dict[str, Any]:
        """Return how the form of a connection looks."""
        return {
            "hidden_fields": ["login", "password"],
            "relabeling": {"host": "Host of the manager's page", "port": "Port of the manager's page"},
            "placeholders": {
                "extra": '{"state_dir": "/srv/jobs/.air-executor", "backend": "local", "queue": "default"}'
            },
        }

    @cached_property
    def place(self) -> Place:
        """Where jobs go.

        Raises:
            BadInputError: the connection or the settings are wrong.
        """
        if self.air_executor_conn_id is None:
            return _own(self._state_dir)
        connection = self.get_connection(self.air_executor_conn_id)
        extra = dict(connection.extra_dejson)
        if unknown := sorted(extra.keys() - {"state_dir", "backend", "queue"}):
            wrong = ", ".join(unknown)
            msg = (
                f"connection {self.air_executor_conn_id}: unknown extra {wrong}; there are state_dir, backend and queue"
            )
            raise BadInputError(msg)
        page = None
        if connection.host:
            port = f":{connection.port}" if connection.port else ""
            page = f"{connection.schema or 'http'}://{connection.host}{port}/"
        return Place(
            state_dir=os.path.abspath(self._state_dir or extra.get("state_dir") or settings.locate_state_dir(None)[0]),
            queue=extra.get("queue"),
            backend=extra.get("backend"),
            page=page,
        )

    def get_conn(self) -> Client:
        """Return the state directory, seen from outside its manager."""
        return self.place.client()

    def test_connection(self) -> tuple[bool, str]:
        """Tell whether jobs would run there; for the button of Airflow's connection form."""
        try:
            return self.place.check()
        except AirExecutorError as error:
            return False, str(error)


def _own(state_dir: str | None) -> Place:
    own = settings.load({"state_dir": state_dir})
    page = f"http://{own.http_host}:{own.http_port}/" if own.http_port else None
    return Place(state_dir=own.state_dir, page=page)
