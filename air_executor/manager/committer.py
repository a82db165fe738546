"""From an open run that has ended to the event that books it: its verdict, its four moments, its price.

`supervise` asks when the table of the contract says so, and lets the desk decide what this returns. Creates, held, the
jobs that a run submitted; touches no runner and no state.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping

from air_executor.backends.base import Backend
from air_executor.core.memory import resources_of
from air_executor.core.plan import retry_at
from air_executor.core.price import FREE, Prices, cost_of, hourly
from air_executor.errors import AlreadyExistsError, BadInputError
from air_executor.manager.clock import STEP, Clock
from air_executor.manager.open_run import OpenRun
from air_executor.manager.pending_jobs import PendingJobs
from air_executor.manager.verdicts import Verdict, collect, judge_exit
from air_executor.model import state as s
from air_executor.model.events import Ended
from air_executor.model.sizes import format_memory
from air_executor.model.types import fit
from air_executor.model.usage import Moments, stages
from air_executor.store.run_dirs import ExitRecord, RunDirs


class Committer:
    """Judges the ended runs of one manager."""

    def __init__(
        self,
        backend: Backend,
        runs: RunDirs,
        held: PendingJobs,
        clock: Clock,
        *,
        volume_time: Callable[[], float],
        platform_retries: int,
        prices: Mapping[str, Prices],
        chance: random.Random,
    ) -> None:
        self._backend = backend
        self._runs = runs
        self._held = held
        self._clock = clock
        self.volume_time = volume_time
        self._platform_retries = platform_retries
        self._prices = prices
        self._chance = chance

    def of_exit(self, run: OpenRun, left: ExitRecord, now: float) -> Ended:
        """Return the event for a run that wrote its outcome; what it submitted is there then, held.

        Raises:
            StoreError: the volume refused; ask again.
        """
        platform = None if run.platform is None else run.platform.reason
        if left.stopped and platform in {None, s.ERROR} and self._backend.evicts:
            platform = s.EVICTED
        reason, message = judge_exit(left, run.status.stop, platform, run.status.memory_limit)
        verdict = Verdict(reason, left.exit_code, message)
        if reason == s.OK:
            verdict = collect(self._runs, run.job.state, run.task, run.seq, now)
            try:
                self._held.create(verdict.jobs)
            except (AlreadyExistsError, BadInputError) as error:
                verdict = Verdict(s.REJECTED, left.exit_code, f"queue.jsonl: {error}")
            else:
                verdict.exit_code = left.exit_code
        return self._ended(run, verdict, left, now)

    def of_loss(self, run: OpenRun, now: float) -> Ended | None:
        """Return the event for a run that left no outcome; None if it may still be at work.

        Raises:
            StoreError: the volume refused; ask again.
        """
        if run.elsewhere is not None and not run.confirmed_gone:
            return None  # that we see no runner means nothing where we cannot look
        job = run.job.state.id
        begun = self._runs.started(job, run.seq, run.task.id) is not None
        if not begun and not self._runs.fence(job, run.seq, run.task.id):
            return None  # it has begun just now
        return self._ended(run, self._verdict_on_loss(run, begun=begun), None, now)

    def _verdict_on_loss(self, run: OpenRun, *, begun: bool) -> Verdict:
        stop, platform = run.status.stop, run.platform
        if stop is not None:
            run.refused = run.status.stop_message if run.status.hopeless else None
            return Verdict(stop, message=run.status.stop_message)
        if run.refused is not None:
            return Verdict(s.START_FAILED, message=run.refused)
        if platform is not None and platform.reason is not None:
            run.refused = platform.message if platform.permanent else None
            message = platform.message
            if platform.reason == s.OOM and (limit := run.status.memory_limit) is not None:
                message = f"{message or 'its runner was killed'} (limit {format_memory(limit)})"
            return Verdict(platform.reason, platform.exit_code, message)
        if begun:
            message = run.lost or (platform and platform.message) or "its runner vanished without an outcome"
            return Verdict(s.LOST, message=message)
        return self._verdict_on_no_start(run) if run.ours else Verdict(s.REQUEUE)

    def _verdict_on_no_start(self, run: OpenRun) -> Verdict:
        if not self._runs.has_place(run.job.state.id, run.seq, run.task.id):
            return Verdict(s.LOST, message="its run directory was removed, and with it what it left behind")
        words = f": {run.platform.message}" if run.platform is not None and run.platform.message else ""
        return Verdict(s.START_FAILED, message=f"its runner ended before it could start the command{words}")

    def _ended(self, run: OpenRun, verdict: Verdict, left: ExitRecord | None, now: float) -> Ended:
        moments = self._moments(run, left)
        backend = run.backend or self._backend.name
        prices = self._prices.get(backend, FREE)
        price = hourly(prices, resources_of(run.task), moments.spawned)
        again = None
        if run.refused is None:
            budget = self._platform_retries
            again = retry_at(run.job, run.task, verdict.reason, now, budget=budget, chance=self._chance)
        return Ended(
            at=now,
            seq=run.seq,
            reason=verdict.reason,
            moments=moments,
            exit_code=verdict.exit_code,
            message=fit(verdict.message),
            result=verdict.result,
            queued=verdict.queued,
            retry_at=None if again is None else round(again, 3),
            cost=cost_of(price, stages(moments).runner_seconds),
            price=price,
            currency=None if price is None else prices.currency,
            backend=backend,
        )

    def _moments(self, run: OpenRun, left: ExitRecord | None) -> Moments:
        ended = None if left is None else left.ended
        gone = run.gone_at
        if gone is None or (ended is not None and ended > gone):  # it was not there yet when it was first looked for
            gone = self.volume_time()
        if run.unseen:  # it may have gone long ago, while nobody could look
            finished = None if run.platform is None else run.platform.finished_at
            known = [at for at in (ended, finished) if at is not None]
            gone = min(gone, max(known, default=gone))
        wall, steady = self._clock.wall() - run.wall_since, self._clock.steady() - run.since
        return Moments(
            spawned=round(run.spawned if run.spawned is not None else gone, 6),
            started=_rounded(self._runs.started(run.job.state.id, run.seq, run.task.id)),
            ended=_rounded(ended),
            gone=round(gone, 6),
            cpu=None if left is None else left.cpu,
            memory=None if left is None else left.memory,
            clock_stepped=abs(wall - steady) > STEP,
        )


def _rounded(seconds: float | None) -> float | None:
    return None if seconds is None else round(seconds, 6)
