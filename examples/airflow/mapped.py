"""Mapped tasks: Airflow has the list, and each item is a job of its own; functions run in runners too."""

from __future__ import annotations

from airflow.sdk import DAG, task

from air_executor.airflow.operators import AirExecutorOperator

with DAG(dag_id="mapped", schedule=None):

    @task.air_executor
    def list_cities() -> list[str]:
        """Return the list; runs in a runner."""
        return ["Paris", "Lagos", "Quito"]

    @task.air_executor
    def greet(city: str) -> str:
        """Greet one city; each runs in a runner of its own."""
        return f"hello, {city}"

    greet.expand(city=list_cities())

    AirExecutorOperator.partial(task_id="count", task_options={"timeout": "1m"}).expand(
        command=["echo 1 > $AIR_RESULT", "echo 2 > $AIR_RESULT"]
    )
