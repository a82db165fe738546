"""Random jobs, as far as the types allow them: more than any manager would make."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st

from air_executor.model.attempt import Attempt
from air_executor.model.state import Done, JobState, Queued, Running, TaskState
from air_executor.model.times import to_text
from air_executor.model.usage import Usage
from tests.records import make_job, make_task

IDS = st.lists(st.text("abcxyz019", min_size=1, max_size=3), min_size=1, max_size=3).map("-".join)
TIMES = st.integers(0, 4_000_000_000_000).map(lambda ms: ms / 1000)
SECONDS = st.integers(0, 10**9).map(lambda us: us / 1_000_000)
ANY_TEXT = st.text(st.characters(codec=None), max_size=20)  # halves of surrogate pairs too, which JSON allows
JSON: st.SearchStrategy[Any] = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**53), 2**53)
    | st.floats(allow_nan=False, allow_infinity=False)
    | ANY_TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(ANY_TEXT, inner, max_size=3),
    max_leaves=6,
)

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
LIMITS = st.integers(2**20, 2**50)
ATTEMPTS = st.builds(
    Attempt,
    seq=st.integers(1, 10**6),
    slot=st.integers(0, 99),
    spawned_at=TIMES.map(to_text),
    start=SECONDS,
    work=SECONDS,
    finish=SECONDS,
    reason=st.sampled_from(["ok", "error", "lost", "requeue"]),
    exit_code=st.none() | st.integers(0, 255),
    cpu=st.none() | SECONDS,
    memory=st.none() | st.integers(0, 2**50),
    memory_limit=st.none() | LIMITS,
    cost=SECONDS,
    clock_stepped=st.booleans(),
    waited=st.none() | SECONDS,
    backend=st.none() | st.just("docker"),
    price=st.none() | st.dictionaries(st.sampled_from(["runner", "cpu", "memory", "gpu"]), SECONDS, min_size=1),
    currency=st.none() | st.just("EUR"),
)

AMOUNTS = st.tuples(SECONDS, SECONDS, SECONDS, SECONDS, SECONDS)
CURRENCIES: st.SearchStrategy[tuple[str | None, dict[str, float]]] = st.sampled_from(
    [(None, {}), ("EUR", {}), ("EUR", {"USD": 0.25})]
)

ENDS = st.builds(
    Done,
    phase=st.sampled_from(["succeeded", "failed", "cancelled", "skipped"]),
    reason=st.sampled_from(["ok", "error", "timeout", "upstream"]),
    finished_at=TIMES.map(to_text),
    exit_code=st.none() | st.integers(0, 255),
    message=st.none() | TEXT,
    result=JSON,
)
STATUSES = st.builds(Queued, st.none() | TIMES, st.booleans()) | ENDS


FIELDS: dict[str, st.SearchStrategy[Any]] = {
    "env": st.dictionaries(TEXT, TEXT, max_size=2),
    "timeout": SECONDS,
    "retries": st.integers(0, 9),
    "when": st.sampled_from(["failure", "always"]),
    "priority": st.integers(-9, 9),
    "labels": st.dictionaries(TEXT, TEXT, max_size=2),
}
DEFAULTS = st.fixed_dictionaries(
    {},
    optional={
        "command": st.just("x"),
        "env": st.just({"A": "1"}),
        "timeout": st.just(60),
        "retries": st.integers(0, 3),
        "labels": st.just({"a": "b"}),
        "delay": st.integers(0, 3),
    },
)


@st.composite
def tasks(draw: st.DrawFn, name: str, position: int, earlier: list[str]) -> TaskState:
    """Return one task, which may name those before it."""
    spec: dict[str, Any] = {"command": draw(TEXT | st.lists(TEXT, min_size=1, max_size=3))}
    spec |= draw(st.fixed_dictionaries({}, optional=FIELDS))
    if draw(st.booleans()) and earlier:
        spec["after"] = draw(st.lists(st.sampled_from(earlier), min_size=1, max_size=3, unique=True))
    parent = draw(st.none() | st.sampled_from(earlier)) if earlier else None
    status = draw(
        STATUSES
        | st.builds(
            Running,
            st.integers(1, 10**6),
            st.just(position),
            TIMES,
            stop=st.none() | TEXT,
            stop_message=st.none() | TEXT,
            hopeless=st.booleans(),
            waited=st.none() | SECONDS,
            memory_limit=st.none() | LIMITS,
        )
    )
    task = make_task(name, queued_by=parent, status=status, **spec)
    task.runs, task.charged, task.faults = (draw(st.integers(0, 99)) for _ in range(3))
    task.ready_at = draw(st.none() | TIMES) if isinstance(status, Queued) else None
    task.attempts = draw(st.lists(ATTEMPTS, max_size=3))
    task.extra = draw(st.dictionaries(st.just("key_of_later_versions"), JSON, max_size=1))
    return task


@st.composite
def jobs(draw: st.DrawFn) -> JobState:
    """Return one job."""
    job = make_job(
        draw(IDS),
        draw(st.text("0123456789abcdef", min_size=8, max_size=32)),
        {"max_runners": draw(st.integers(1, 9)), "pool": draw(IDS), "defaults": draw(DEFAULTS)},
        submitted_at=draw(TIMES),
        phase=draw(st.sampled_from(["pending", "queued", "running", "paused", "succeeded", "failed", "cancelled"])),
        reason=draw(st.none() | st.sampled_from(["ok", "error"])),
        message=draw(st.none() | TEXT),
        started_at=draw(st.none() | TIMES),
        finished_at=draw(st.none() | TIMES),
        deadline_from=draw(st.none() | TIMES),
        seq=draw(st.integers(0, 10**6)),
        epoch=draw(st.integers(0, 10**6)),
        version=draw(st.integers(0, 10**6)),
        stop=draw(st.none() | st.sampled_from(["failed", "cancelled", "timeout"])),
        after_uids=draw(st.dictionaries(IDS, st.just("00c0ffee"), max_size=2)),
        submitted_by=draw(st.none() | st.just("00c0ffee-3")),
        usage=Usage(draw(st.integers(0, 99)), *draw(AMOUNTS), *draw(CURRENCIES)),
    )
    job.extra = draw(st.dictionaries(st.just("key_of_later_versions"), JSON, max_size=1))
    for position, name in enumerate(draw(st.lists(IDS, max_size=5, unique=True))):
        job.tasks[name] = draw(tasks(name, position, list(job.tasks)))
    return job
