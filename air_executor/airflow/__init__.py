"""Air-Executor under Airflow: found by Airflow through the entry point `apache_airflow_provider`.

Airflow calls `provider_info` at every start of its command line, so nothing is imported here. The core knows nothing of
this package.
"""

from __future__ import annotations


def provider_info() -> dict[str, object]:
    """Return what Airflow lists of this provider."""
    return {
        "package-name": "air-executor",
        "name": "Air-Executor",
        "description": "Jobs on ephemeral runners: a runner exists only while its task runs.",
        "integrations": [
            {
                "integration-name": "Air-Executor",
                "tags": ["software"],
            }
        ],
        "operators": [
            {"integration-name": "Air-Executor", "python-modules": ["air_executor.airflow.operators"]},
        ],
    }
