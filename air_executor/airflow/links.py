"""The button in Airflow's task view that opens the page of the job."""

from __future__ import annotations

from typing import Any

from airflow.providers.common.compat.sdk import BaseOperatorLink, XCom

LINK_KEY = "_link_AirExecutorJobLink"
"""Key of the XCom from which Airflow 3 reads the address."""


class AirExecutorJobLink(BaseOperatorLink):
    """Open the page of the job of a task instance."""

    name = "Air-Executor job"
    xcom_key = LINK_KEY

    def get_link(self, operator: Any, *, ti_key: Any) -> str:
        """Return the address that the task has pushed as an XCom."""
        if hasattr(operator, "page"):  # in the process of the task; Airflow 2 asks in its web server
            return operator.page or ""
        return XCom.get_value(ti_key=ti_key, key=self.xcom_key) or ""
