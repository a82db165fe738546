"""The ended runs of each name: how the last one ended, and which ones are beyond the `retention` of the name.

`JobIndex` keeps it current; `RetentionKeeper` archives what `beyond` returns. Jobs without a name are not here. Knows
no files, and decides nothing.
"""

from __future__ import annotations

from typing import NamedTuple

from air_executor.model.job import RunRetention
from air_executor.model.state import SUCCEEDED


class EndedNamedRun(NamedTuple):
    """A run of a name that has ended."""

    finished_at: float
    id: str
    uid: str
    phase: str


class RunIndex:
    """The ended runs that are not archived, by name."""

    def __init__(self) -> None:
        self.changed: dict[str, None] = {}
        """Names with a retention that have another run or another rule since they were looked at."""
        self._runs: dict[str, dict[str, EndedNamedRun]] = {}
        self._rules: dict[str, tuple[float, RunRetention | None]] = {}
        """The rule of each name's newest run, and when that run was submitted."""
        self._name_of: dict[str, str] = {}

    def declare(self, name: str, submitted_at: float, rule: RunRetention | None) -> None:
        """Note what a run says of the retention of its name: the newest run decides."""
        known = self._rules.get(name)
        if known is None or submitted_at >= known[0]:
            self._rules[name] = (submitted_at, rule)
            self._change(name)

    def end(self, name: str, run: EndedNamedRun) -> None:
        """Note that a run has ended."""
        self._runs.setdefault(name, {})[run.id] = run
        self._name_of[run.id] = name
        self._change(name)

    def drop(self, job: str) -> None:
        """Forget a run: it is archived or gone."""
        name = self._name_of.pop(job, None)
        if name is not None:
            self._runs[name].pop(job, None)

    def _change(self, name: str) -> None:
        if self._rules.get(name, (0.0, None))[1] is not None:
            self.changed.setdefault(name)

    def last_phase(self, name: str) -> str | None:
        """Return how the run of a name ended that was the last to end; None: none has."""
        runs = self._runs.get(name)
        return max(runs.values()).phase if runs else None

    def beyond(self, name: str, now: float) -> tuple[list[EndedNamedRun], float | None]:
        """Return the runs that are to go, oldest first, and when the next one is too old; the newest always stays."""
        rule = self._rules.get(name, (0.0, None))[1]
        if rule is None:
            return [], None
        newest_first = sorted(self._runs.get(name, {}).values(), reverse=True)
        left = {True: rule.succeeded, False: rule.failed}
        going: list[EndedNamedRun] = []
        upcoming = None
        for place, run in enumerate(newest_first):
            succeeded = run.phase == SUCCEEDED
            most = left[succeeded]
            too_old = rule.age is not None and run.finished_at + rule.age <= now
            if most is not None:
                left[succeeded] = most - 1
            if place and (too_old or (most is not None and most <= 0)):
                going.append(run)
            elif place and rule.age is not None:
                upcoming = run.finished_at + rule.age  # the oldest that stays is the next to go
        return going[::-1], upcoming
