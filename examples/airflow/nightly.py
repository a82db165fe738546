"""A nightly job that finds its own work: one task per file, so the number of tasks isn't known in advance.

Airflow schedules the job, shows it, retries it and sends alerts. Air-Executor's manager starts the tasks, four at a
time, and no worker is occupied meanwhile.
"""

from __future__ import annotations

import os

from airflow.sdk import DAG

from air_executor.airflow.operators import AirExecutorOperator

FOLDER = "/etc"
STEPS = os.path.join(os.path.dirname(os.path.abspath(__file__)), "steps")

with DAG(dag_id="nightly", schedule="@daily", catchup=False):
    counted = AirExecutorOperator(
        task_id="count",
        job={
            "max_runners": 4,
            "defaults": {"retries": 2, "timeout": "1m"},
            "tasks": [
                {
                    "id": "discover",
                    "command": f"""
                        for file in $(find {FOLDER} -maxdepth 1 -name '*.conf' -readable | head -n 20); do
                            printf '{{"command": "wc -l < %s > $AIR_RESULT"}}\\n' "$file" >> "$AIR_QUEUE"
                        done
                    """,
                },
                {
                    "id": "total",
                    "after": ["discover"],
                    "command": ["python", os.path.join(STEPS, "total.py")],
                },
            ],
        },
        retries=1,
    )
    counted >> AirExecutorOperator(
        task_id="report",
        command="echo \"{{ ti.xcom_pull('count', map_indexes=-1)['total'] }} lines in all\"",
        start_from_trigger=True,
    )
