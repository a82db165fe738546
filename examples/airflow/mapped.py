"""Mapped tasks: Airflow knows the list, and each item is a job of its own; a function's body runs in a runner too."""

from __future__ import annotations

from airflow.sdk import DAG, task

from air_executor.airflow.operators import AirExecutorOperator

with DAG(dag_id="mapped", schedule=None):

    @task.air_executor
    def list_cities() -> list[str]:
        """Run in a runner; what it returns is the list."""
        return ["Paris", "Lagos", "Quito"]

    @task.air_executor
    def greet(city: str) -> str:
        """Run in a runner of its own for each city."""
        return f"hello, {city}"

    greet.expand(city=list_cities())

    AirExecutorOperator.partial(task_id="count", task_options={"timeout": "1m"}).expand(
        command=["echo 1 > $AIR_RESULT", "echo 2 > $AIR_RESULT"]
    )
