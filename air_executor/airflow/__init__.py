"""The Airflow provider, which Airflow finds by the entry point `apache_airflow_provider`.

Airflow calls `provider_info` at every start of its command line, so this module imports nothing. The rest of
Air-Executor knows nothing of this package.
"""

from __future__ import annotations


def provider_info() -> dict[str, object]:
    """Return the description of this provider, for Airflow."""
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
        "cli": [f"{here}.airflow_commands.get_commands"],
        "executors": [f"{here}.executor.AirExecutor"],
        "config": {
            "air_executor": {
                "description": "The executor `AirExecutor`; see docs/airflow-executor.md.",
                "options": {
                    "state_dir": _option(
                        "State directory; empty: as the settings of Air-Executor say.", "string", None
                    ),
                    "task": _option("Fields of every task, as JSON.", "string", "{{}}"),
                    "python": _option(
                        "Python interpreter that has Airflow; if set, no fork server is used.", "string", None
                    ),
                    "fork_server_idle": _option(
                        "Seconds after which an unused fork server exits; 0: no fork server.", "integer", "600"
                    ),
                },
            }
        },
        "task-decorators": [{"name": "air_executor", "class-name": f"{here}.decorators.air_executor_task"}],
    }


def _option(description: str, kind: str, default: str | None) -> dict[str, object]:
    return {"description": description, "version_added": "0.1.0", "type": kind, "example": None, "default": default}
