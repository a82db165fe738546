"""Expressions of PromQL, and the colors of their values, as the dashboards have them.

Every one is limited to `SCOPE`, because one Prometheus may watch several installations, and sums over managers, of
which one at a time holds a state directory.
"""

from __future__ import annotations

A = "air_executor_"
SCOPE = '{job=~"$job"}'
RANGE, RATE = "$__range", "$__rate_interval"
OK, WARN, BAD = "green", "orange", "red"
TROUBLE = ((None, OK), (1.0, BAD))
"""Colors of a number that should be 0."""


def counter(name: str, by: str = "", over: str = RANGE, *, rate: bool = False, **labels: str) -> str:
    """Return the increase of a counter, or its rate, summed by some labels."""
    chosen = ",".join(['job=~"$job"', *(f'{key}="{value}"' for key, value in labels.items())])
    return f"sum{f' by ({by})' if by else ''} ({'rate' if rate else 'increase'}({A}{name}{{{chosen}}}[{over}]))"


def quantile(q: float, name: str, by: str = "") -> str:
    """Return a quantile of a histogram over the latest interval."""
    extra = f", {by}" if by else ""
    return f"histogram_quantile({q}, sum by (le{extra}) (rate({A}{name}_bucket{SCOPE}[{RATE}])))"


def mean(name: str, *, stage: str) -> str:
    """Return the mean of a histogram's values over the time range, for one stage."""
    return f"{counter(f'{name}_sum', stage=stage)} / {counter(f'{name}_count', stage=stage)}"


SPENT = counter("cost_total", "currency")
RUNNER_SECONDS = counter("runner_seconds_total")
POOL_SECONDS = counter("baseline_pool_seconds_total")
PER_SECOND = f"{SPENT} / scalar({RUNNER_SECONDS})"
"""Mean cost of a runner-second by currency: the price of the always-on pool's seconds."""
SUCCEEDED = counter("tasks_total", result="succeeded")
