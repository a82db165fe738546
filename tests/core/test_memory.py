"""How much memory the next run gets, and what people are told of the runs before it."""

from __future__ import annotations

from typing import Any

import pytest

from air_executor.core.memory import history_text, killed_text, memory_of, resources_of
from air_executor.core.submission import initial_state, parse_job
from air_executor.core.transitions import LiveJob
from air_executor.model import events as ev
from air_executor.model.sizes import MIB, PIB
from air_executor.model.state import Running, TaskState
from air_executor.model.usage import Moments

NO_TIME = Moments(1.0, 1.0, 1.0, 1.0)


def make(**resources: Any) -> tuple[LiveJob, TaskState]:  # noqa: ANN401 - JSON
    """Return a job with one task, which asks for these resources."""
    raw = {"id": "j", "tasks": [{"id": "a", "command": "x", "retries": 1000, "resources": resources}]}
    job = LiveJob(initial_state(parse_job(raw), uid="00000001", now=1.0))
    return job, job.state.tasks["a"]


def run(job: LiveJob, *reasons: str, final: bool = False) -> list[int | None]:
    """Run the task once for each reason, without a retry after the last if `final`; return the limits of the runs."""
    limits = []
    for number, reason in enumerate(reasons, 1):
        job.apply(ev.Started(2.0, "a", job.state.seq + 1, 0), 1)
        status = job.state.tasks["a"].status
        assert isinstance(status, Running)
        limits.append(status.memory_limit)
        last = final and number == len(reasons)
        job.apply(ev.Ended(3.0, job.state.seq, reason, NO_TIME, retry_at=None if last else 3.0), 1)
    kept = [attempt.memory_limit for attempt in job.state.tasks["a"].attempts]
    assert kept[-len(limits) :] == limits[-len(kept) :]
    return limits


@pytest.mark.parametrize(
    ("resources", "reasons", "mebibytes"),
    [
        ({"memory": "512Mi", "memory_growth": 1.5}, ["oom"] * 3, [512, 768, 1152, 1728]),
        ({"memory": "512Mi", "memory_growth": 1.5, "memory_max": "1Gi"}, ["oom"] * 3, [512, 768, 1024, 1024]),
        ({"memory": "512Mi", "memory_growth": 2}, ["error", "oom", "lost", "oom"], [512, 512, 1024, 1024, 2048]),
        ({"memory": "512Mi"}, ["oom"] * 2, [512, 512, 512]),
        ({"memory": "512Mi", "memory_max": "1Gi"}, ["oom"], [512, 512]),
    ],
)
def test_memory_grows_with_each_run_that_ran_out_of_it(
    resources: dict[str, Any], reasons: list[str], mebibytes: list[int]
) -> None:
    """By the factor, up to the most, and for no other reason; each run keeps what it had."""
    job, task = make(**resources)
    limits = run(job, *reasons)
    assert [*limits, memory_of(task)] == [number * MIB for number in mebibytes]


def test_no_memory_asked_for() -> None:
    """Where the task leaves it to the backend there is no limit of its own to keep or to grow."""
    job, task = make(cpu=2)
    assert run(job, "oom", "oom") == [None, None]
    assert resources_of(task) == {"cpu": 2}
    assert history_text(task) is None


def test_growth_has_an_end() -> None:
    """However often it is tried, the amount stays one that can be written and asked for."""
    job, task = make(memory="512Mi", memory_growth=16)
    run(job, *["oom"] * 300)
    assert memory_of(task) == PIB


def test_a_running_task_has_what_it_was_started_with() -> None:
    """What is asked for goes with the run, whatever the next one would get."""
    job, task = make(memory="64Mi", memory_growth=2, cpu=1)
    run(job, "oom")
    job.apply(ev.Started(2.0, "a", 2, 0), 1)
    assert isinstance(task.status, Running)
    assert (memory_of(task), resources_of(task)["memory"], resources_of(task)["cpu"]) == (128 * MIB, 128 * MIB, 1)


def test_a_user_s_retry_goes_on_with_what_was_reached() -> None:
    """Its budgets are fresh, but what was too little before would be too little again."""
    job, task = make(memory="64Mi", memory_growth=2)
    run(job, "oom", "oom", final=True)
    assert job.state.phase == "failed"
    job.apply(ev.Requested(4.0, "r", "retry"), 1)
    assert task.charged == 0
    assert run(job, "ok", final=True) == [256 * MIB]


def test_a_larger_request_wins_over_growth() -> None:
    """A state that was edited to ask for more gets at least that."""
    job, task = make(memory="64Mi", memory_growth=2, memory_max="128Mi")
    run(job, "oom")
    assert task.resources is not None
    task.resources.memory = 1024 * MIB
    assert memory_of(task) == 1024 * MIB


def test_what_people_are_told() -> None:
    """The amounts, in the tense of where the task is."""
    job, task = make(memory="512Mi", memory_growth=1.5)
    assert history_text(task) is None
    run(job, "oom")
    assert history_text(task) == "killed for memory at 512Mi; tries again with 768Mi"
    job.apply(ev.Started(2.0, "a", 2, 0), 1)
    assert history_text(task) == "killed for memory at 512Mi; tried again with 768Mi"
    job.apply(ev.Ended(3.0, 2, "oom", NO_TIME, retry_at=3.0), 1)
    run(job, *["oom"] * 2)
    assert history_text(task) == "killed for memory at … 768Mi, 1.1Gi, 1.7Gi; tries again with 2.5Gi"
    run(job, "ok", final=True)
    assert history_text(task) == "killed for memory at … 768Mi, 1.1Gi, 1.7Gi; tried again with 2.5Gi"


@pytest.mark.parametrize(
    ("kills", "limit", "peak", "said"),
    [
        (1, 512 * MIB, 511 * MIB, "1 process was killed at the limit of 512Mi (peak 511Mi)"),
        (3, 512 * MIB, None, "3 processes were killed at the limit of 512Mi"),
        (2, None, 2048 * MIB, "2 processes were killed (peak 2Gi)"),
        (0, None, None, "a process was killed"),
    ],
)
def test_how_a_run_was_killed(kills: int, limit: int | None, peak: int | None, said: str) -> None:
    """With as much as is known."""
    assert killed_text(kills, limit, peak) == said
