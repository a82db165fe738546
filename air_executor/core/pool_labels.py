"""Which pools have a label of their own: label values must stay few, whatever people write into job files."""

from __future__ import annotations

from collections.abc import Collection

UNNAMED_POOLS = 20
"""Pools without a limit that have a label all the same, first come, first served."""
OTHERS = "_other"
"""The label of all others; no pool can have that name."""


class PoolLabels:
    """The labels of one manager's pools."""

    def __init__(self, limited: Collection[str], counted: Collection[str] = ()) -> None:
        """`limited`: pools in the settings, which always have a label; `counted`: labels of earlier managers."""
        self._labels: dict[str, None] = dict.fromkeys(limited)
        self._room = UNNAMED_POOLS - len(set(counted) - self._labels.keys() - {OTHERS})
        self._labels |= dict.fromkeys(counted)

    def label(self, pool: str) -> str:
        """Return a pool's label."""
        if pool in self._labels:
            return pool
        if self._room <= 0:
            self._labels.setdefault(OTHERS)
            return OTHERS
        self._room -= 1
        self._labels[pool] = None
        return pool

    def labels(self) -> list[str]:
        """Return the labels in use."""
        return list(self._labels)
