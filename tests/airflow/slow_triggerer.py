"""Airflow with a slow database for its triggerer: the program of the rig's component `slow triggerer`."""

from __future__ import annotations

import time
from typing import Any

from airflow.__main__ import main
from airflow.jobs.triggerer_job_runner import TriggerRunnerSupervisor

_load = TriggerRunnerSupervisor.load_triggers


def _load_slowly(self: Any) -> None:
    time.sleep(0.3)
    _load(self)


if __name__ == "__main__":
    TriggerRunnerSupervisor.load_triggers = _load_slowly
    main()
