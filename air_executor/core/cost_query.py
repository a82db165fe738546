"""What a cost report is asked for: a window, keys to group by, and filters; and runs divided at their borders. Pure.

A run that crosses a border counts on each side with what it used there, in proportion to its time, so that the reports
of adjacent windows add up. It is counted as a run where it ended. Times are Unix seconds; windows are half-open.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta

from air_executor.core.ledger import EarlierRuns, Entry, Ledger, Origin, UnfinishedRun
from air_executor.errors import BadInputError
from air_executor.model.times import to_text

PERIODS = ("day", "week", "month")
KEYS = ("job", "pool", "dag", *PERIODS)
DAG_LABEL = "airflow-dag"
BEFORE = "earlier"
"""The period of runs known only as a sum."""
_NEXT_KEY = re.compile(rf",(?=(?:{'|'.join((*KEYS, 'queue'))})(?:,|\Z)|label=)")
_LABEL = "label="
_LATEST = datetime(9998, 1, 1, tzinfo=UTC).timestamp()
"""There are periods after each moment until then."""
LONGEST = 10 * 366 * 86_400.0
"""Seconds beyond which a run is not divided into days: that takes a step for each."""

CostGroup = tuple[str | None, ...]
"""What a group of runs has in common, by key; None: they have no such label."""


def parse_keys(by: str) -> tuple[str, ...]:
    """Return the keys in a text like `month,label=team`; `queue` is the old name of `pool`.

    Raises:
        BadInputError: one of them is none.
    """
    found = tuple(_NEXT_KEY.split(by))
    for key in found:
        if key not in {*KEYS, "queue"} and not (key.startswith(_LABEL) and len(key) > len(_LABEL)):
            msg = f"by: must be {', '.join(KEYS)} or label=NAME, several separated by commas, got {by!r}"
            raise BadInputError(msg)
    return found


def parse_filter(text: str) -> tuple[str, str]:
    """Return key and value of a filter like `pool=gpu` or `label=team=ml`.

    Raises:
        BadInputError: it is none.
    """
    head = _LABEL if text.startswith(_LABEL) else ""
    name, equals, value = text.removeprefix(head).partition("=")
    if not equals or not (head or name in {"job", "pool", "dag"}) or not name:
        msg = f"filter: must be job=ID, pool=NAME, dag=ID or label=NAME=VALUE, got {text!r}"
        raise BadInputError(msg)
    return head + name, value


def key_of(key: str, origin: Origin) -> str | None:
    """Return the value of a key that is no period; None: there is no such label."""
    if key == "job":
        return origin.job
    if key in {"pool", "queue"}:
        return origin.pool
    return origin.labels.get(DAG_LABEL if key == "dag" else key.removeprefix(_LABEL))


def group_by(key: str) -> Callable[[Origin, float | None], str | None]:
    """Return the function that assigns a run, by its origin, to the group of a key that is no period."""
    return lambda origin, _: key_of(key, origin)


def period_of(kind: str, at: float) -> str:
    """Return the name of the day, week (ISO 8601) or month in UTC that a time is in."""
    if kind != "week":
        return to_text(at)[: 10 if kind == "day" else 7]
    year, week, _ = datetime.fromtimestamp(at, UTC).isocalendar()
    return f"{year}-W{week:02d}"


def period_bounds(kind: str, at: float) -> tuple[float, float]:
    """Return when the day, week or month in UTC begins and ends that a time is in."""
    midnight = datetime.fromtimestamp(min(max(at, 0.0), _LATEST), UTC).replace(
        hour=0, minute=0, second=0, microsecond=0
    )
    if kind == "month":
        first = midnight.replace(day=1)
        return first.timestamp(), (first + timedelta(days=32)).replace(day=1).timestamp()
    first = midnight - timedelta(days=midnight.weekday() if kind == "week" else 0)
    return first.timestamp(), (first + timedelta(days=7 if kind == "week" else 1)).timestamp()


@dataclass(frozen=True, slots=True)
class CostWindow:
    """A half-open window of time; None: without that border."""

    since: float | None = None
    until: float | None = None

    def holds(self, at: float) -> bool:
        """Tell whether a time is in it."""
        return (self.since is None or at >= self.since) and (self.until is None or at < self.until)

    def part_of(self, entry: Entry) -> Entry | None:
        """Return what of a run was in it; None: nothing."""
        one = entry.attempt
        spawned, gone, length = one.spawned, one.gone_at, one.runner_seconds
        start = spawned if self.since is None else max(spawned, self.since)
        end = gone if self.until is None else min(gone, self.until)
        counts = entry.counts and self.holds(gone)
        if start == spawned and end == gone and counts == entry.counts:
            return entry
        if end < start or (end == start and not counts):
            return None
        share = (end - start) / length  # one of no length is in it whole, or not at all
        before, after = start - spawned, end - spawned
        stages, passed = [], 0.0
        for seconds in (one.start, one.work, one.finish):
            stages.append(max(0.0, min(passed + seconds, after) - max(passed, before)))
            passed += seconds
        part = replace(
            one,
            spawned_at=to_text(start),
            start=stages[0],
            work=stages[1],
            finish=stages[2],
            cost=one.cost * share,
            cpu=None if one.cpu is None else one.cpu * share,
            node_wait=one.node_wait if start == spawned else None,
            reported={name: amount * share for name, amount in one.reported.items()},
        )
        return replace(entry, attempt=part, counts=counts)

    def has_all(self, sums: EarlierRuns) -> bool:
        """Tell whether runs known only as a sum are certainly all in it."""
        return (self.since is None or sums.after >= self.since) and (self.until is None or sums.before <= self.until)

    def may_have(self, sums: EarlierRuns) -> bool:
        """Tell whether some of the runs known only as a sum may be in it."""
        return (self.since is None or self.since <= sums.before) and (self.until is None or sums.after < self.until)

    def cut(self, ledger: Ledger) -> Ledger:
        """Return what of the runs was in it."""
        entries = [part for entry in ledger.entries if (part := self.part_of(entry)) is not None]
        earlier = [sums for sums in ledger.earlier if self.has_all(sums)]
        reused = [one for one in ledger.reused if self.holds(one[0])]
        return Ledger(entries, self._open(ledger), earlier, reused)

    def ended(self, ledger: Ledger) -> Ledger:
        """Return the runs that ended in it, whole, and the open ones."""
        entries = [entry for entry in ledger.entries if self.holds(entry.attempt.gone_at)]
        return replace(self.cut(replace(ledger, entries=[])), entries=entries)

    def _open(self, ledger: Ledger) -> list[UnfinishedRun]:
        return [run for run in ledger.open if self.until is None or run.since < self.until]

    def undated(self, ledger: Ledger) -> int:
        """Return the number of runs of which it is not known whether they were in it; `cut` leaves them out."""
        unsure = (sums for sums in ledger.earlier if self.may_have(sums) and not self.has_all(sums))
        return sum(sums.usage.runs for sums in unsure)


def keep(ledger: Ledger, filters: Sequence[tuple[str, str]]) -> Ledger:
    """Return the runs to which all filters apply; of reused results the origin is not known."""
    if not filters:
        return ledger

    def fits(origin: Origin) -> bool:
        return all(key_of(key, origin) == value for key, value in filters)

    return Ledger(
        [entry for entry in ledger.entries if fits(entry.origin)],
        [run for run in ledger.open if fits(run.origin)],
        [sums for sums in ledger.earlier if fits(sums.origin)],
    )


def pieces(entry: Entry, kind: str) -> Iterator[Entry]:
    """Yield the parts of a run in each day, week or month. One of absurd length, by a wrong clock, stays whole."""
    if entry.attempt.runner_seconds > LONGEST:
        yield entry
        return
    start, end = period_bounds(kind, entry.attempt.spawned)
    while True:
        if (part := CostWindow(start, end).part_of(entry)) is not None:
            yield part
        if entry.attempt.gone_at < end:
            return
        start, end = period_bounds(kind, end)


def group(ledger: Ledger, keys: Sequence[str]) -> dict[CostGroup, Ledger]:
    """Divide the ended runs into groups, sorted by their values; runs are divided at the borders of periods."""
    periods = [key for key in keys if key in PERIODS]
    finest = "day" if len(set(periods)) > 1 else next(iter(periods), None)
    entries: dict[CostGroup, list[Entry]] = {}
    earlier: dict[CostGroup, list[EarlierRuns]] = {}
    for entry in ledger.entries:
        for part in [entry] if finest is None else pieces(entry, finest):
            at = part.attempt.spawned
            name = tuple(period_of(key, at) if key in PERIODS else key_of(key, part.origin) for key in keys)
            entries.setdefault(name, []).append(part)
    for sums in ledger.earlier:
        name = tuple(BEFORE if key in PERIODS else key_of(key, sums.origin) for key in keys)
        earlier.setdefault(name, []).append(sums)
    names = sorted(entries.keys() | earlier.keys(), key=lambda name: [(one is None, one or "") for one in name])
    return {name: Ledger(entries.get(name, ()), (), earlier.get(name, ())) for name in names}
