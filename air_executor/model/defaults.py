"""What tasks take from the `defaults` of their job, which are stored once, in the job.

In memory a task has its job's values, by reference; only `env` and `labels` stay its own, because they merge key by key
and the reader puts both together (`JobState.env_of`). On the volume a task has its own fields alone: `parsing` and
`codec` fill in the others when they read one, and leave them out when they write one. Nothing here imports pydantic.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import MISSING, fields
from typing import Any

from air_executor.model.job import MERGED_FIELDS, MayBelong, TaskDefaults, TaskOptions

BUILT_IN: dict[str, Any] = {
    field.name: field.default if field.default_factory is MISSING else field.default_factory()
    for field in fields(TaskDefaults)
    if field.name not in MERGED_FIELDS
}
"""Values of fields that neither a task nor its job gives."""
_INSTEAD = {"delay": "not_before", "not_before": "delay", "command": "approve"}
"""A task with one of these does not take the other."""


class Defaults:
    """The defaults of one job, ready to be applied to many tasks."""

    __slots__ = ("names", "record", "values")

    def __init__(self, record: TaskDefaults) -> None:
        self.record = record
        self.values = {name: value for name, plain in BUILT_IN.items() if (value := getattr(record, name)) != plain}
        self.names = set(self.values)

    def fill(self, task: TaskOptions, given: Collection[str]) -> None:
        """Set the fields of a task that it was not given; one that stands for a child job has none of these."""
        if isinstance(task, MayBelong) and task.joins is not None:
            return
        for name, value in self.values.items():
            if name not in given and not (name in _INSTEAD and _has_other(task, name)):
                setattr(task, name, value)

    def fill_all(self, tasks: Iterable[TaskOptions], given: Iterable[Collection[str]]) -> None:
        """Set the fields of many tasks that they were not given."""
        if self.values:
            for task, names in zip(tasks, given, strict=False):
                self.fill(task, names)

    def taken(self, task: TaskOptions) -> set[str]:
        """Return the fields that a task has from here: they are not stored with it."""
        if isinstance(task, MayBelong) and task.joins is not None:
            return set()
        found = [
            name
            for name, value in self.values.items()
            if getattr(task, name) == value or (name in _INSTEAD and _has_other(task, name))
        ]
        return self.names if len(found) == len(self.names) else set(found)

    def unset(self, task: TaskOptions, taken: set[str]) -> dict[str, Any]:
        """Return the fields that a task has as if nobody had given them, although its job does: they are stored."""
        if taken is self.names:
            return {}
        return {
            name: BUILT_IN[name] for name in self.values if name not in taken and getattr(task, name) == BUILT_IN[name]
        }


def _has_other(task: TaskOptions, name: str) -> bool:
    return getattr(task, _INSTEAD[name]) is not None


NO_DEFAULTS = Defaults(TaskDefaults())
