"""What a measurement amounts to, and how it is printed and written."""

from __future__ import annotations

import json
import math
import os
import platform
import statistics
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Protocol


@dataclass(frozen=True, slots=True)
class Line:
    """One line of the table: a figure, and what it should reach."""

    row: str
    """The row that it belongs to, as `--only` knows it."""
    figure: str
    """What the figure is, with its unit."""
    value: float | None
    """None if it could not be measured."""
    reach: float | None = None
    """None: for information."""
    at_most: bool = False
    """`reach` is an upper limit."""
    note: str = ""
    detail: Mapping[str, Any] = field(default_factory=dict)
    """The single measurements, for the JSON file."""

    @property
    def met(self) -> bool | None:
        """Whether the figure reaches what it should; None if there is nothing to compare."""
        if self.value is None or self.reach is None:
            return None
        return self.value <= self.reach if self.at_most else self.value >= self.reach

    def __str__(self) -> str:
        """Return the line of the table."""
        value = "-" if self.value is None else _short(self.value)
        reach = "" if self.reach is None else f"{'≤' if self.at_most else '≥'} {_short(self.reach)}"
        verdict = {True: "met", False: "MISSED", None: "" if self.value is not None else "skipped"}[self.met]
        return columns(self.row, self.figure, value, reach, f"{verdict} {self.note}".strip())


def columns(row: str, figure: str, value: str = "", reach: str = "", rest: str = "") -> str:
    """Return a line of the table. Its columns have one width, because each row is printed as soon as it is measured."""
    return f"{row:<21}  {figure:<64}  {value:>7}  {reach:>7}  {rest}".rstrip()


HEADER = columns("row", "figure", "value", "reach")


class Measure(Protocol):
    """What measures a row; `quick` with little work and few repetitions, to see that it works."""

    def __call__(self, *, quick: bool) -> Sequence[Line]:
        """Return the row's lines."""


@dataclass(frozen=True, slots=True)
class Row:
    """One measurement of the table."""

    name: str
    measure: Measure


def _short(value: float) -> str:
    return f"{value:.3g}" if abs(value) < 1000 else f"{value:,.0f}"  # noqa: PLR2004 - three digits carry the meaning


def percentile(values: Sequence[float], share: float) -> float:
    """Return the smallest value that at least this share of all values does not exceed."""
    return sorted(values)[max(0, math.ceil(share * len(values)) - 1)]


def median_ratio(ours: Sequence[float], theirs: Sequence[float]) -> float:
    """Return the median of the ratios of pairs that were measured one after the other."""
    return statistics.median(a / b for a, b in zip(ours, theirs, strict=True))


def machine() -> dict[str, Any]:
    """Return what the figures depend on: size and load of the machine, versions."""
    return {
        "cores": os.cpu_count(),
        "load": [round(load, 2) for load in os.getloadavg()],
        "memory_gib": round(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 2**30, 1),
        "kernel": platform.release(),
        "python": platform.python_version(),
    }


def kind_of_volume(path: str) -> str:
    """Return the kind of file system that a path is on, as far as that can be told."""
    found = ("", "unknown")
    try:
        with open("/proc/mounts", encoding="utf-8") as file:
            for line in file:
                _, where, kind, *_ = line.split()
                if f"{path}/".startswith(f"{where.rstrip('/')}/") and len(where) >= len(found[0]):
                    found = (where, kind)
    except FileNotFoundError:  # not Linux
        pass
    return found[1]


def write(path: str, lines: Sequence[Line], before: Mapping[str, Any], failed: Sequence[str]) -> None:
    """Write everything as JSON; `before` is `machine()` as it was when the first row began, `failed` are rows."""
    document = {
        "machine": before,
        "load_afterwards": machine()["load"],
        "command": sys.argv,
        "failed": failed,
        "lines": [asdict(line) | {"met": line.met} for line in lines],
    }
    with open(path, "w", encoding="utf-8") as file:
        json.dump(document, file, indent=2)
        file.write("\n")
