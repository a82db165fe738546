"""What one check of `air-executor doctor` found; made by the store for volumes and by backends for their platforms."""

from __future__ import annotations

from dataclasses import dataclass

FINE, WARN, BAD = "ok", "warning", "failed"


@dataclass(frozen=True, slots=True)
class Finding:
    """What one check found and, where that is not good, what to do."""

    name: str
    verdict: str
    text: str
    remedy: str | None = None
