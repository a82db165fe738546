"""`AirExecutorHook`: which state directory an Airflow connection means, and who looks after it.

Called by operators, sensors and triggers. A connection of the type `air_executor` has, all optional: in its extra
`state_dir`, `backend` and `queue`; as host, port and schema the address of the manager's page.
"""

from __future__ import annotations

import os
from functools import cached_property
from typing import Any

from airflow.providers.common.compat.sdk import AirflowNotFoundException, BaseHook

from air_executor import settings
from air_executor.airflow.job_target import JobTarget, own_place
from air_executor.client import Client
from air_executor.errors import AirExecutorError, BadInputError

CONN_TYPE = "air_executor"


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
    def place(self) -> JobTarget:
        """Where jobs go.

        Raises:
            BadInputError: the connection or the settings are wrong.
        """
        if self.air_executor_conn_id is None:
            return own_place(self._state_dir)
        try:
            connection = self.get_connection(self.air_executor_conn_id)
        except AirflowNotFoundException as error:
            raise BadInputError(str(error)) from None
        extra = connection.extra_dejson
        known = {"state_dir", "backend", "queue"}
        if not isinstance(extra, dict) or extra.keys() - known or not all(isinstance(v, str) for v in extra.values()):
            msg = (
                f"connection {self.air_executor_conn_id}: extra is an object of texts, with {', '.join(sorted(known))}"
            )
            raise BadInputError(msg)
        page = None
        if connection.host:
            port = f":{connection.port}" if connection.port else ""
            page = f"{connection.schema or 'http'}://{connection.host}{port}/"
        return JobTarget(
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
