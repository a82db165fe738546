"""A DAG whose task is a job file that `air-executor run` runs as well: develop with one, deploy with the other."""

from __future__ import annotations

import os

from airflow.sdk import DAG

from air_executor.airflow.operators import AirExecutorOperator

with DAG(dag_id="same_job", schedule=None):
    AirExecutorOperator(
        task_id="fan_out",
        job_file=os.path.join(os.path.dirname(__file__), "fan-out.yaml"),
        retries=1,
    )
