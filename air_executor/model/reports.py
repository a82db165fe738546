"""What a task reports while it runs: lines of `$AIR_QUEUE` that count even if the run fails.

`core.queue_lines` checks them when a run is committed, `core.run_reports` adds them up while it runs. State and journal
keep the newest progress and the sums.
"""

# No `from __future__ import annotations`: `parsing` and `quick` read the annotations as they stand.

from dataclasses import dataclass
from typing import Annotated

from annotated_types import MaxLen

from air_executor.model import checks
from air_executor.model import types as t
from air_executor.model.record import Record

MAX_NAMES = 100
"""Kinds of usage that one run, and one job, may report; further ones are not counted."""
BAR = 10
"""Characters of a bar."""

Reported = Annotated[dict[t.Word, t.Money], MaxLen(MAX_NAMES)]
"""Sums of usage by name."""


@dataclass(frozen=True, slots=True)
class ProgressReport(Record):
    """How far a task is: `{"progress": {"done": 3, "of": 10, "note": "…"}}`."""

    done: Annotated[int | float, *t.real(0, checks.MOST_REPORTED)]
    of: Annotated[int | float, *t.real(0, checks.MOST_REPORTED)] | None = None
    """None: unknown."""
    note: Annotated[str, t.Accepts("text", before=checks.check_note)] | None = None

    @property
    def share(self) -> float | None:
        """The part that is done, from 0 to 1; None if that is unknown."""
        return None if not self.of else min(1.0, self.done / self.of)


@dataclass(frozen=True, slots=True)
class UsageReport(Record):
    """What a task has used since its last such line: `{"usage": {"usd": 0.35, "tokens": 1200}}`."""

    usage: t.Amounts


def add_up(sums: dict[str, float], more: dict[str, float]) -> None:
    """Add amounts to sums by name; names beyond what is kept are not counted."""
    for name, amount in more.items():
        if name in sums or len(sums) < MAX_NAMES:
            sums[name] = round(sums.get(name, 0.0) + amount, 9)


def amounts_text(amounts: dict[str, float]) -> str:
    """Return amounts for people: `0.35 usd, 1,200 tokens`."""
    return ", ".join(f"{amount_text(amount)} {name}" for name, amount in sorted(amounts.items()))


def amount_text(amount: float) -> str:
    """Return an amount for people: few digits of a small one, all whole ones of a large one."""
    return f"{amount:,.0f}" if amount >= 1000 or amount == int(amount) else f"{amount:.4g}"  # noqa: PLR2004


def progress_text(progress: ProgressReport) -> str:
    """Return progress for people: the numbers, the note."""
    done = amount_text(progress.done)
    text = f"{done} done" if progress.share is None else f"{done}/{amount_text(progress.of or 0)}"
    return f"{text} {progress.note}" if progress.note else text


def progress_bar(progress: ProgressReport) -> str:
    """Return progress as a bar of text with the rest behind it; without a bar where the whole is unknown."""
    full = int((progress.share or 0.0) * BAR)
    bar = "" if progress.share is None else f"{'█' * full}{'░' * (BAR - full)} "
    return f"{bar}{progress_text(progress)}"
