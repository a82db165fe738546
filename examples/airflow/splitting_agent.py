"""An agent that splits its own work, as one Airflow task: the number of steps is decided while it runs.

`steps/agent.py` is the agent. Airflow shows one task with live output, the results, and the outcome of each step. The
job has the budgets and retries of the steps.
"""

from __future__ import annotations

import os

from airflow.sdk import DAG

from air_executor.airflow.operators import AirExecutorOperator

AGENT = os.path.join(os.path.dirname(os.path.abspath(__file__)), "steps", "agent.py")

with DAG(dag_id="splitting_agent", schedule=None):
    AirExecutorOperator(
        task_id="agent",
        job={
            "max_runners": 4,
            "max_tasks": 200,
            "deadline": "10m",
            "on_failure": "continue",
            "defaults": {"retries": 2, "timeout": "1m"},
            "tasks": [
                {"id": "think", "command": ["python", AGENT, "think", "0", "64"]},
                {"id": "answer", "after": ["think"], "when": "always", "command": ["python", AGENT, "answer"]},
            ],
        },
    )
