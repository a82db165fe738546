"""The button in Airflow's task view that opens the job's page of Air-Executor."""

from __future__ import annotations

from typing import Any

from airflow.providers.common.compat.sdk import BaseOperatorLink, XCom

LINK_KEY = "_link_AirExecutorJobLink"
"""The XCom in which Airflow 3 looks for it."""


class AirExecutorJobLink(BaseOperatorLink):
    """Open the page of the job that a task instance is."""

    name = "Air-Executor job"
    xcom_key = LINK_KEY

    def get_link(self, operator: Any, *, ti_key: Any) -> str:
        """Return the page's address, as the task has noted it as an XCom."""
        if hasattr(operator, "page"):  # in the task's own process; Airflow 2 asks in its web server
            return operator.page or ""
        return XCom.get_value(ti_key=ti_key, key=self.xcom_key) or ""
