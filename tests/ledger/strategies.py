"""Random ledgers: jobs whose runs were decided, ended, retried and lost in any order, through the real transitions."""

from __future__ import annotations

from hypothesis import strategies as st

from air_executor.core.memory import requested_of
from air_executor.core.price import Prices, cost_of, hourly
from air_executor.core.transitions import LiveJob
from air_executor.model import events as ev
from air_executor.model.state import JobState, Queued, Running
from air_executor.model.usage import Moments, stages
from tests.records import make_job, make_task

BEGIN = 1_700_000_000.0
MICRO = st.integers(0, 50_000_000).map(lambda us: us / 1_000_000)
REASONS = st.sampled_from(["ok", "ok", "ok", "error", "timeout", "lost", "cancelled", "requeue"])
PRICES = st.sampled_from(
    [
        Prices(),
        Prices("EUR", 0.05),
        Prices("USD", 0.01, 0.04, 0.005),
        Prices("EUR", valid_from=BEGIN + 50, cpu_hour=1.0),
    ]
)


@st.composite
def moments(draw: st.DrawFn, after: float) -> Moments:
    """Return the moments of a run that was spawned after some time: lost ones, some never begun, stepped clocks."""
    spawned = after + draw(MICRO)
    steps = sorted(draw(st.tuples(MICRO, MICRO, MICRO)))
    started, ended, gone = (round(spawned + step, 6) for step in steps)
    kind = draw(st.sampled_from(["whole", "whole", "whole", "lost", "never began", "stepped"]))
    if kind == "never began":
        return Moments(spawned, None, None, gone)
    if kind == "lost":
        return Moments(spawned, started, None, gone)
    if kind == "stepped":
        return Moments(spawned, spawned - 3600, gone + 7, gone, clock_stepped=True)
    return Moments(
        spawned, started, ended, gone, cpu=draw(st.none() | MICRO), memory=draw(st.none() | st.just(1 << 20))
    )


@st.composite
def histories(draw: st.DrawFn, name: str) -> JobState:
    """Return a job after a random history of runs, each priced as the manager would have priced it."""
    job = make_job(name, "00c0ffee", {"max_runners": 4, "on_failure": "continue", "pool": "default"}, BEGIN)
    for position in range(draw(st.integers(1, 3))):
        spec = {"command": "x"} | draw(st.sampled_from([{}, {"resources": {"cpu": 0.5, "memory": 1 << 30}}]))
        name = f"t{position}"
        job.tasks[name] = make_task(name, spec, queued_by=None, status=Queued())
    live = LiveJob(job)
    now = BEGIN
    for _ in range(draw(st.integers(0, 12))):
        now = round(now + draw(MICRO), 3)
        queued = [t for t in job.tasks.values() if isinstance(t.status, Queued)]
        running = [t for t in job.tasks.values() if isinstance(t.status, Running)]
        if queued and (not running or draw(st.booleans())):
            task = queued[0]
            slot = next(n for n in range(9) if n not in live.progress.slots)
            live.apply(ev.Started(now, task.id, job.seq + 1, slot), 1)
        elif running:
            status = running[0].status
            assert isinstance(status, Running)
            prices, reason = draw(PRICES), draw(REASONS)
            when = draw(moments(status.since))
            price = hourly(prices, requested_of(running[0]), when.spawned)
            live.apply(
                ev.Ended(
                    at=now,
                    seq=status.seq,
                    reason=reason,
                    moments=when,
                    retry_at=now + 1 if reason in {"error", "lost"} and draw(st.booleans()) else None,
                    cost=cost_of(price, stages(when).runner_seconds),
                    price=price,
                    currency=None if price is None else prices.currency,
                    backend="local",
                ),
                1,
            )
    return job
