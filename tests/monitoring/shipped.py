"""Where the shipped rules and dashboards lie, and what their expressions may use."""

from __future__ import annotations

import re
from pathlib import Path

from air_executor.metrics.definitions import HISTOGRAM, METRICS, PREFIX

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "helm" / "air-executor" / "monitoring"
RULES = FOLDER / "rules.yaml"
DOCS = ROOT / "docs" / "monitoring.md"

_OF_TARGETS = {"job", "instance"}
LABELS = {
    f"{PREFIX}{metric.name}{suffix}": {*metric.labels, *_OF_TARGETS, *(("le",) if suffix == "_bucket" else ())}
    for metric in METRICS
    for suffix in (("_bucket", "_sum", "_count") if metric.kind == HISTOGRAM else ("",))
}
"""The labels of each series that a manager has."""


def metrics_in(expression: str) -> set[str]:
    """Return the metrics that an expression names.

    Raises:
        AssertionError: one of them does not exist, or none of them has a label that the expression asks for.
    """
    named = set(re.findall(rf"\b{PREFIX}\w+", expression))
    assert named <= LABELS.keys(), named - LABELS.keys()
    known = set().union(*(LABELS[name] for name in named))
    grouped = re.findall(r"\b(?:by|on) \(([^)]*)\)", expression)
    asked = {label.strip() for found in grouped for label in found.split(",")}
    asked |= set(re.findall(r"(\w+)(?:=|!=|=~|!~)\"", expression))
    assert asked <= known, asked - known
    return named
