"""Air-Executor under Airflow: found by Airflow through the entry point `apache_airflow_provider`.

Airflow calls `provider_info` at every start of its command line, so nothing is imported here. The core knows nothing of
this package.
"""

from __future__ import annotations


def provider_info() -> dict[str, object]:
    """Return what Airflow lists of this provider."""
    name, here = "Air-Executor", "air_executor.airflow"
    return {
        "package-name": "air-executor",
        "name": name,
        "description": "Jobs on ephemeral runners: a runner exists only while its task runs.",
        "integrations": [{"integration-name": name, "tags": ["software"]}],
        "operators": [{"integration-name": name, "python-modules": [f"{here}.operators"]}],
        "sensors": [{"integration-name": name, "python-modules": [f"{here}.sensors"]}],
        "hooks": [{"integration-name": name, "python-modules": [f"{here}.hooks"]}],
        "triggers": [{"integration-name": name, "python-modules": [f"{here}.triggers"]}],
        "connection-types": [
            {
                "connection-type": "air_executor",
                "hook-class-name": f"{here}.hooks.AirExecutorHook",
                "hook-name": name,
            }
        ],
        "extra-links": [f"{here}.links.AirExecutorJobLink"],
        "cli": [f"{here}.cli.get_commands"],
        "executors": [f"{here}.executor.AirExecutor"],
        "task-decorators": [{"name": "air_executor", "class-name": f"{here}.decorators.air_executor_task"}],
    }
