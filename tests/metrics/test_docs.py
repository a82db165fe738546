"""docs/metrics.md names every metric with type, labels and help as they are exported, and no others."""

from __future__ import annotations

from pathlib import Path

from air_executor.metrics.definitions import METRICS, PREFIX

DOCS = Path(__file__).parents[2] / "docs" / "metrics.md"


def test_the_table_is_what_is_exported() -> None:
    """Row by row, in the same order."""
    rows = [line for line in DOCS.read_text(encoding="utf-8").splitlines() if line.startswith(f"| `{PREFIX}")]
    assert rows == [
        f"| `{PREFIX}{one.name}` | {one.kind} | {', '.join(f'`{label}`' for label in one.labels)} | {one.help} |"
        for one in METRICS
    ]
