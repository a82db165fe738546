"""Right-sizing: said where enough runs show that another request would be better, and nowhere else."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from air_executor.core.advice import advise
from air_executor.core.cost_query import group_by
from air_executor.core.ledger import Entry, Origin
from tests.records import make_attempt

MIB = 1 << 20


def entries(count: int, requested: Mapping[str, Any], *, label: str = "a", **used: Any) -> list[Entry]:  # noqa: ANN401
    """Return the runs of one kind of task, which worked for 2 s each."""
    origin = Origin("j", "default", {"kind": label})
    one = make_attempt(1, 0, 0.0, 0.1, 2.0, 0.1, "ok", **used)
    return [Entry(origin, one, 0.0, 0.1, followed=False, requested=requested) for _ in range(count)]


@pytest.mark.parametrize(
    ("requested", "used", "verdict", "enough"),
    [
        ({"memory": 512 * MIB}, {"memory": 100 * MIB}, "less", 128 * MIB),
        ({"memory": 128 * MIB}, {"memory": 100 * MIB}, None, 128 * MIB),
        ({"memory": 128 * MIB}, {"memory": 120 * MIB}, "more", 144 * MIB),
        ({"cpu": 2}, {"cpu": 1.0}, "less", 0.6),
        ({"cpu": 1}, {"cpu": 1.96}, "more", 1.2),
    ],
)
def test_what_twenty_runs_say(
    requested: dict[str, Any], used: dict[str, Any], verdict: str | None, enough: float
) -> None:
    """Less where much less would do, more where the limit is near, nothing where it fits."""
    (one,) = advise(entries(20, requested, **used), group_by("job"))
    assert (one.group, one.runs, one.verdict) == ("j", 20, verdict)
    assert one.enough == pytest.approx(enough)


def test_few_runs_say_nothing() -> None:
    """Nineteen are too few, and so are twenty of different kinds."""
    resources = {"memory": 512 * MIB}
    assert advise(entries(19, resources, memory=MIB), group_by("job")) == []
    mixed = entries(10, resources, memory=MIB) + entries(10, resources, label="b", memory=MIB)
    assert len(advise(mixed, group_by("job"))) == 1
    assert advise(mixed, group_by("label=kind")) == []


def test_what_is_not_known_says_nothing() -> None:
    """No request, no measurement, or a run too short to tell its CPU from its start."""
    assert advise(entries(30, {}, memory=MIB, cpu=1.0), group_by("job")) == []
    assert advise(entries(30, {"memory": MIB, "cpu": 1}), group_by("job")) == []
    short = make_attempt(1, 0, 0.0, 0.1, 0.05, 0.1, "ok", cpu=0.05)
    assert (
        advise(
            [Entry(Origin("j", "q", {}), short, 0.0, 0.1, followed=False, requested={"cpu": 1})] * 30, group_by("job")
        )
        == []
    )


def test_one_outlier_decides_about_memory_but_not_about_cpu() -> None:
    """The one run in a hundred that needs more would be killed; with less CPU it only takes longer."""
    usual = entries(99, {"memory": 1024 * MIB, "cpu": 4}, memory=100 * MIB, cpu=2.0)
    peak = entries(1, {"memory": 1024 * MIB, "cpu": 4}, memory=700 * MIB, cpu=8.0)
    cpu, memory = advise(usual + peak, group_by("job"))
    assert (cpu.resource, cpu.verdict, f"{cpu.enough:.1f}") == ("cpu", "less", "1.2")
    assert (memory.resource, memory.verdict, memory.most) == ("memory", None, 700 * MIB)
