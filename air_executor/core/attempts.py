"""The ended runs that a task keeps, for the ledger and for people."""

from __future__ import annotations

from dataclasses import replace

from air_executor.model import state as s
from air_executor.model.attempt import MAX_AGAIN_KEPT, MAX_ATTEMPTS_KEPT, Attempt
from air_executor.model.events import Ended, KeepEnded
from air_executor.model.state import Running, TaskState
from air_executor.model.times import to_text
from air_executor.model.usage import Stages


def note_attempt(task: TaskState, run: Running, event: Ended, spent: Stages) -> None:
    """Add a run that has ended to those of its task."""
    task.attempts.append(
        Attempt(
            seq=event.seq,
            slot=run.slot,
            spawned_at=to_text(event.moments.spawned),
            start=spent.start,
            work=spent.work,
            finish=spent.finish,
            reason=event.reason,
            exit_code=event.exit_code,
            message=event.message,
            cpu=event.moments.cpu,
            memory=event.moments.memory,
            memory_limit=run.memory_limit,
            cost=event.cost,
            clock_stepped=event.moments.clock_stepped,
            ready_at=None if run.ready_at is None else to_text(run.ready_at),
            waited=None if run.waited is None else round(run.waited + event.delay, 6),
            node_wait=event.node_wait or None,
            backend=event.backend,
            image=event.image,
            price=event.price,
            currency=event.currency,
            reported=event.reported,
        )
    )
    _forget_attempts(task)


def note_stay(task: TaskState, event: KeepEnded) -> None:
    """Add what the runner of an ended run has used since, while it stayed."""
    for number, one in enumerate(task.attempts):
        if one.seq == event.seq:
            finish = round(one.finish + event.seconds, 6)
            task.attempts[number] = replace(one, finish=finish, cost=one.cost + event.cost)


def _forget_attempts(task: TaskState) -> None:
    """Drop the oldest attempts of a task that has many."""
    if task.again > MAX_AGAIN_KEPT:
        kept = [number for number, one in enumerate(task.attempts) if one.reason == s.AGAIN]
        for number in reversed(kept[:-MAX_AGAIN_KEPT]):
            del task.attempts[number]
    del task.attempts[:-MAX_ATTEMPTS_KEPT]
