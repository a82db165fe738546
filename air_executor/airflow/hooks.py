"""`AirExecutorHook`: the state directory that an Airflow connection names.

Called by operators, sensors and triggers. A connection of the type `air_executor` has, all optional: the keys
`state_dir`, `backend` and `pool` of its extra; as host, port and schema the address of the manager's page.
"""

from __future__ import annotations

import os
from functools import cached_property
from typing import Any

from airflow.providers.common.compat.sdk import AirflowNotFoundException, BaseHook

from air_executor import settings
from air_executor.airflow.job_target import JobTarget
from air_executor.client import Client
from air_executor.errors import AirExecutorError, BadInputError

CONN_TYPE = "air_executor"
_KEYS = frozenset({"state_dir", "backend", "pool", "queue"})
"""Keys of the extra; `queue` is the old name of `pool`."""


class AirExecutorHook(BaseHook):
    """A state directory, named by a connection or by this process's own settings.

    Args:
        air_executor_conn_id: a connection; without one, `AIR_STATE_DIR` and the other settings of this process.
        state_dir: a state directory that takes precedence over the connection's.
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
        """Return the layout of the connection form."""
        return {
            "hidden_fields": ["login", "password"],
            "relabeling": {"host": "Host of the manager's page", "port": "Port of the manager's page"},
            "placeholders": {
                "extra": '{"state_dir": "/srv/jobs/.air-executor", "backend": "local", "pool": "default"}'
            },
        }

    @cached_property
    def target(self) -> JobTarget:
        """The state directory with what the connection says of it.

        Raises:
            BadInputError: the connection is wrong.
        """
        if self.air_executor_conn_id is None:
            return JobTarget(_state_dir(self._state_dir))
        try:
            connection = self.get_connection(self.air_executor_conn_id)
        except AirflowNotFoundException as error:
            raise BadInputError(str(error)) from None
        return target_of(connection, self._state_dir)

    def get_conn(self) -> Client:
        """Return a client of the state directory."""
        return self.target.client()

    def test_connection(self) -> tuple[bool, str]:
        """Return whether jobs would run there, and why; for the button *Test* of the connection form."""
        try:
            return self.target.check()
        except AirExecutorError as error:
            return False, str(error)


def target_of(connection: Any, state_dir: str | None = None) -> JobTarget:
    """Return the target that a connection names; `state_dir` takes precedence over the connection's.

    Raises:
        BadInputError: the connection is wrong.
    """
    extra = connection.extra_dejson
    if not isinstance(extra, dict) or extra.keys() - _KEYS or not all(isinstance(v, str) for v in extra.values()):
        keys = ", ".join(sorted(_KEYS - {"queue"}))
        msg = f"connection {connection.conn_id}: extra must be a JSON object of texts with the keys {keys}"
        raise BadInputError(msg)
    page = None
    if connection.host:
        port = f":{connection.port}" if connection.port else ""
        page = f"{connection.schema or 'http'}://{connection.host}{port}/"
    return JobTarget(
        state_dir=_state_dir(state_dir or extra.get("state_dir")),
        pool=extra.get("pool") or extra.get("queue"),
        backend=extra.get("backend"),
        page=page,
    )


def _state_dir(named: str | None) -> str:
    """Return the state directory: the one that is named, or else as the settings of this process say."""
    return os.path.abspath(named or settings.locate_state_dir(None)[0])
