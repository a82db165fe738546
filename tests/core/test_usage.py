"""Runner-seconds are start plus work plus finish, exactly, whatever the clock did."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from air_executor.model.usage import Moments, Stages, Usage, stages

MICRO = st.integers(0, 4 * 10**15).map(lambda us: us / 1_000_000)


@given(MICRO, st.none() | MICRO, st.none() | MICRO, MICRO)
def test_the_sum_is_the_whole(spawned: float, started: float | None, ended: float | None, gone: float) -> None:
    """The stages are never negative and their sum is gone minus spawned, clamped at 0."""
    spent = stages(Moments(spawned, started, ended, gone))
    assert min(spent.start, spent.work, spent.finish) >= 0
    assert spent.runner_seconds == pytest.approx(max(0.0, gone - spawned), abs=2e-6, rel=1e-12)


@pytest.mark.parametrize(
    ("moments", "expected"),
    [
        (Moments(10, 11, 14, 16), Stages(1, 3, 2)),
        (Moments(10, None, None, 12), Stages(2, 0, 0)),
        (Moments(10, 11, None, 15), Stages(1, 4, 0)),
        (Moments(10, 9, 14, 16), Stages(0, 5, 1)),
        (Moments(10, 11, 9, 16), Stages(1, 0, 5)),
        (Moments(10, 11, 20, 16), Stages(1, 5, 0)),
        (Moments(10, 11, 12, 8), Stages(0, 0, 0)),
    ],
)
def test_stages(moments: Moments, expected: Stages) -> None:
    """A usual run, one that never began, a lost one, and clocks that stepped."""
    assert stages(moments) == expected


def test_ledger() -> None:
    """A job's usage is the sum over its runs."""
    usage = Usage()
    usage.add(Stages(1, 2, 3), 0.5, 0.1)
    usage.add(Stages(0.5, 0.25, 0), None, 0.2)
    assert (usage.runs, usage.runner_seconds, usage.work_seconds, usage.idle_seconds) == (2, 6.75, 2.25, 4.5)
    assert usage.cpu_seconds == 0.5
    assert usage.cost == pytest.approx(0.3)
