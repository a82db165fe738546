"""Which queues have a label of their own: their number must stay small, whatever people write into job files."""

from __future__ import annotations

from collections.abc import Collection

MOST = 20
"""Queues that no setting names and that have a label all the same, first come, first served."""
OTHERS = "_other"
"""The label of all others; no queue can have that name."""


class PoolLabels:
    """The labels of one manager."""

    def __init__(self, named: Collection[str]) -> None:
        """`named`: queues in the settings, which have a label in any case."""
        self._labels = dict.fromkeys((*named, "default"))
        self._room = MOST

    def label(self, queue: str) -> str:
        """Return a queue's label."""
        if queue in self._labels:
            return queue
        if self._room <= 0:
            self._labels.setdefault(OTHERS)
            return OTHERS
        self._room -= 1
        self._labels[queue] = None
        return queue

    def labels(self) -> list[str]:
        """Return the labels that are in use."""
        return list(self._labels)
