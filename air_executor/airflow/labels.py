"""What the labels of a job say of the task instance that it is, for people and for the next try.

Written by operators and by the executor. Knows nothing of Airflow.
"""

from __future__ import annotations

from typing import NamedTuple

_LONGEST = 256


class TaskInstanceLabels(NamedTuple):
    """One task instance of Airflow."""

    dag: str
    run: str
    task: str
    map_index: int = -1

    def facts(self) -> dict[str, str]:
        """Return what names it: `dag`, `run`, `task` and, of a mapped one, `map-index`."""
        mapped = {"map-index": str(self.map_index)} if self.map_index >= 0 else {}
        return {"dag": self.dag, "run": self.run, "task": self.task, **mapped}

    def labels(self) -> dict[str, str]:
        """Return the labels that name it."""
        return {f"airflow-{name}": printable(value) for name, value in self.facts().items()}


def printable(text: str) -> str:
    """Return a text as the value of a label."""
    return "".join(char if char.isprintable() else "?" for char in text)[:_LONGEST]
