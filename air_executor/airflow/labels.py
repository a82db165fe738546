"""Labels of a job that name the Airflow task instance it belongs to.

Written by operators and by the executor, read by people and by the next try. Knows nothing of Airflow.
"""

from __future__ import annotations

from typing import NamedTuple

_MAX_LENGTH = 256


class TaskInstanceLabels(NamedTuple):
    """The key of one task instance of Airflow."""

    dag: str
    run: str
    task: str
    map_index: int = -1

    def facts(self) -> dict[str, str]:
        """Return the parts of the key: `dag`, `run`, `task` and, for a mapped task, `map-index`."""
        mapped = {"map-index": str(self.map_index)} if self.map_index >= 0 else {}
        return {"dag": self.dag, "run": self.run, "task": self.task, **mapped}

    def labels(self) -> dict[str, str]:
        """Return the labels of its jobs."""
        return {f"airflow-{name}": printable(value) for name, value in self.facts().items()}


def printable(text: str) -> str:
    """Return a text as a valid label value: printable characters only, cut to the longest allowed length."""
    return "".join(char if char.isprintable() else "?" for char in text)[:_MAX_LENGTH]
