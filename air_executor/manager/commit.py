"""Makes the event that commits the outcome of an ended run: reason, result, queued work, moments, price.

The supervisor calls it once a run counts as ended, and has `ManagerState` decide the event. Reads run directories,
has `queued_work` check what tasks wrote there, and creates the jobs that a run submitted (pending). Touches no runner
and no job state.
"""

from __future__ import annotations

import random
from collections.abc import Generator

from air_executor.backends.base import Backend
from air_executor.core.job_checks import QUEUE
from air_executor.core.memory import killed_text
from air_executor.core.plan import retry_at
from air_executor.core.price import FREE, cost_of
from air_executor.core.run_price import run_price
from air_executor.errors import AlreadyExistsError, BadInputError
from air_executor.manager.clock import STEP
from air_executor.manager.manager_state import ManagerState
from air_executor.manager.open_runs import OpenRun
from air_executor.manager.pending_jobs import PendingJobs
from air_executor.manager.queued_work import Outcome, collect
from air_executor.manager.report_reader import ReportReader
from air_executor.model import state as s
from air_executor.model.events import Ended
from air_executor.model.sizes import format_memory
from air_executor.model.times import format_duration
from air_executor.model.types import fit
from air_executor.model.usage import Moments, stages
from air_executor.store.jobs import MAX_GROWN
from air_executor.store.run_dirs import RunDirs
from air_executor.store.run_outcome import ExitRecord

SLICE = 0.05
"""Seconds of each cycle for what runs queued; the rest waits for the next cycle, so that nobody else has to."""
_TOLD = frozenset({s.CANCELLED, s.REQUEUE, s.START_FAILED, s.ERROR, s.EVICTED})
"""Reasons of stops that count whatever the stopped command makes of them."""
SHORT = 200
"""Characters of a message in a job that has grown too large."""


class Committer:
    """Turns the ended runs of one manager into the events that commit them."""

    def __init__(
        self,
        state: ManagerState,
        backend: Backend,
        run_dirs: RunDirs,
        pending: PendingJobs,
        chance: random.Random,
        *,
        reports: ReportReader,
    ) -> None:
        """`chance` spreads retries."""
        self._state = state
        self._backend = backend
        self._run_dirs = run_dirs
        self._pending = pending
        self._reports = reports
        self._chance = chance
        self._until = 0.0
        self.busy = False
        """Something of what runs queued is left for the next cycle."""

    def begin_cycle(self) -> None:
        """Give what runs queued a new share of time."""
        self._until = self._state.clock.steady() + SLICE
        self.busy = False

    def ended_with_exit(self, run: OpenRun, left: ExitRecord, now: float) -> Ended | None:
        """Return the event for a run that wrote its outcome; the jobs that it submitted exist then, pending.

        None: it queued so much that the rest is for the next cycle.

        Raises:
            StoreError: the volume refused; ask again.
        """
        if not self._knows_reports(run):
            return None
        platform = None if run.platform is None else run.platform.reason
        if left.stopped and platform in {None, s.ERROR} and self._backend.evicts:
            platform = s.EVICTED
        reason, message = judge_exit(left, run.status.stop, platform, run.status.memory_limit)
        if reason == s.EVICTED and run.platform is not None:
            message = run.platform.message or message  # the runner knows that it was stopped, and not by whom or why
        if reason == run.status.stop and not left.timed_out:
            message = run.status.stop_message or message
        outcome = Outcome(reason, left.exit_code, message)
        if reason == s.OK:
            collected = self._collected(run, now)
            if collected is None:
                return None
            outcome = collected
            outcome.exit_code = left.exit_code
        elif reason == s.ERROR and run.status.stop is None and left.exit_code in run.task.skip_on:
            outcome.reason = s.SKIP_ON
        elif reason == s.ERROR and run.status.stop is None and left.exit_code in run.task.again_on:
            outcome.again = float(run.task.again_delay)
        if outcome.again is not None:
            _decide_again(run, outcome, now)
        return self._ended(run, outcome, left, now)

    def _knows_reports(self, run: OpenRun) -> bool:
        """Read the rest of what a run reported; False if that takes another cycle."""
        known = self._reports.catch_up(run, has_time=lambda: self._state.clock.steady() < self._until)
        self.busy = self.busy or not known
        return known

    def _collected(self, run: OpenRun, now: float) -> Outcome | None:
        """Go on with what a run queued; None if it takes another cycle."""
        work = run.collecting or self._collect(run, now)
        run.collecting = None
        try:
            while True:
                next(work)
                if self._state.clock.steady() >= self._until:
                    run.collecting, self.busy = work, True
                    return None
        except StopIteration as done:
            outcome: Outcome = done.value
            return outcome

    def _collect(self, run: OpenRun, now: float) -> Generator[None, None, Outcome]:
        """Check what a run queued and create its jobs, piece by piece; return the outcome."""
        outcome = yield from collect(self._run_dirs, run.job.state, run.task, run.seq, now)
        try:
            yield from self._pending.create(outcome.jobs)
        except (AlreadyExistsError, BadInputError) as error:
            return Outcome(s.REJECTED, message=f"{QUEUE}: {error}")
        return outcome

    def ended_without_exit(self, run: OpenRun, now: float) -> Ended | None:
        """Return the event for a run that left no outcome; None if it may still run.

        Raises:
            StoreError: the volume refused; ask again.
        """
        if run.elsewhere is not None and not run.confirmed_gone:
            return None  # an absent runner proves nothing where we cannot look
        job = run.job.state.id
        begun = self._run_dirs.started(job, run.seq, run.task.id) is not None
        if not begun and not self._run_dirs.fence(job, run.seq, run.task.id):
            return None  # it has begun just now
        if not self._knows_reports(run):
            return None
        return self._ended(run, self._outcome_of_loss(run, begun=begun), None, now)

    def _outcome_of_loss(self, run: OpenRun, *, begun: bool) -> Outcome:
        stop, platform = run.status.stop, run.platform
        if stop is not None:
            run.refused = run.status.stop_message if run.status.hopeless else None
            return Outcome(stop, message=run.status.stop_message)
        if run.refused is not None:
            return Outcome(s.START_FAILED, message=run.refused)
        if platform is not None and platform.reason is not None:
            run.refused = platform.message if platform.permanent else None
            message = platform.message
            if platform.reason == s.OOM and (limit := run.status.memory_limit) is not None:
                message = f"{message or 'its runner was killed'} (limit {format_memory(limit)})"
            return Outcome(platform.reason, platform.exit_code, message)
        if begun:
            message = run.lost or (platform and platform.message) or "it left no outcome"
            return Outcome(s.LOST, message=message)
        return self._outcome_of_no_start(run) if run.ours else Outcome(s.REQUEUE)

    def _outcome_of_no_start(self, run: OpenRun) -> Outcome:
        if not self._run_dirs.has_place(run.job.state.id, run.seq, run.task.id):
            return Outcome(s.LOST, message="its run directory was removed, with everything that it left behind")
        words = f": {run.platform.message}" if run.platform is not None and run.platform.message else ""
        return Outcome(s.START_FAILED, message=f"its runner ended before it could start the command{words}")

    def _bounded(self, run: OpenRun, outcome: Outcome) -> Outcome:
        """Return what of an outcome a job can take without growing beyond what can be read again."""
        size = self._state.size_of(run.job.state.id) + outcome.size
        if size <= MAX_GROWN:
            return outcome
        if outcome.reason != s.OK:
            outcome.message = None if outcome.message is None else outcome.message[:SHORT]
            return outcome
        what = f"the state of job {run.job.state.id} would come to {size / 1e6:.0f} MB"
        return Outcome(s.BUDGET, outcome.exit_code, f"{what}, more than {MAX_GROWN / 1e6:.0f} MB")

    def _ended(self, run: OpenRun, outcome: Outcome, left: ExitRecord | None, now: float) -> Ended:
        outcome.message = self._with_holder(run, outcome.message)
        outcome = self._bounded(run, outcome)
        moments, node_wait = self._moments(run, left)
        backend = run.backend or self._backend.name
        prices = self._state.options.prices.get(backend, FREE)
        price, currency = run_price(prices, run.job.state, run.task, moments.spawned)
        again: float | None = None
        if outcome.reason == s.AGAIN and outcome.again is not None:
            again = now + outcome.again
        elif run.refused is None and outcome.again is None:
            budget, code = self._state.options.platform_retries, outcome.exit_code
            again = retry_at(run.job, run.task, outcome.reason, now, exit_code=code, budget=budget, chance=self._chance)
        return Ended(
            at=now,
            seq=run.seq,
            reason=outcome.reason,
            moments=moments,
            exit_code=outcome.exit_code,
            message=fit(outcome.message),
            result=outcome.result,
            queued=outcome.queued,
            retry_at=None if again is None else round(again, 3),
            cost=cost_of(price, stages(moments).runner_seconds),
            price=price,
            currency=currency,
            backend=backend,
            delay=round(run.delay + node_wait, 6),
            node_wait=round(node_wait, 6),
            image=run.image,
            reported=run.reports.reported,
        )

    def _with_holder(self, run: OpenRun, message: str | None) -> str | None:
        """Return a message that also says what kept the run open after its end, if something did."""
        if run.held_by is None or run.gone_since is None:
            return message
        held_for = format_duration(round(self._state.clock.steady() - run.gone_since))
        held = f"its slot was held for {held_for}: {run.held_by}"
        return f"{message}; {held}" if message else held

    def _moments(self, run: OpenRun, left: ExitRecord | None) -> tuple[Moments, float]:
        """Return when the runner existed, and for how many seconds it had waited for a node by then."""
        ended = None if left is None else left.ended
        gone = run.gone_at
        if gone is None or (ended is not None and ended > gone):  # it did not exist yet at the first look
            gone = self._state.volume_time()
        if run.unseen:  # it may have gone long ago, while nobody could look
            finished = None if run.platform is None else run.platform.finished_at
            known = [at for at in (ended, finished) if at is not None]
            gone = min(gone, max(known, default=gone))
        clock = self._state.clock
        wall, steady = clock.wall() - run.wall_since, clock.steady() - run.since
        started = None if left is None else left.started
        if started is None:
            started = self._run_dirs.started(run.job.state.id, run.seq, run.task.id)
        spawned = run.spawned if run.spawned is not None else gone
        longest = max(0.0, (gone if started is None else started) - spawned)
        # Where it began without being seen on a node, the wait is unknown and counts as its own time.
        unseen_wait = longest if started is None else 0.0
        node_wait = unseen_wait if run.node_wait is None else min(run.node_wait, longest)
        moments = Moments(
            spawned=round(spawned + node_wait, 6),
            started=_rounded(started),
            ended=_rounded(ended),
            gone=round(gone, 6),
            cpu=None if left is None else left.cpu,
            memory=None if left is None else left.memory,
            clock_stepped=abs(wall - steady) > STEP,
        )
        return moments, node_wait


def _rounded(seconds: float | None) -> float | None:
    return None if seconds is None else round(seconds, 6)


def judge_exit(
    left: ExitRecord, stop: str | None, platform_reason: str | None, memory_limit: int | None = None
) -> tuple[str, str | None]:
    """Return reason and message of a run that wrote its outcome. Exit code 0 wins over a stop that came too late.

    A failed run of which the kernel killed a process for memory ran out of memory, whatever its exit code says: mostly
    a child is killed, and the task then fails in its own way, or waits for that child until its timeout.
    """
    if left.exit_code == 0:
        return s.OK, None
    if stop in _TOLD or (stop == s.STALLED and not left.timed_out):
        return stop, None
    if left.timed_out or stop == s.TIMEOUT:
        return s.TIMEOUT, killed_text(left.oom_kills, memory_limit, left.memory) if left.oom_kills else left.message
    if left.oom_kills or platform_reason == s.OOM:
        return s.OOM, killed_text(left.oom_kills, memory_limit, left.memory)
    if platform_reason is not None and platform_reason != s.ERROR:
        return platform_reason, left.message
    return s.ERROR, left.message


def _decide_again(run: OpenRun, outcome: Outcome, now: float) -> None:
    """Turn the outcome of a run that asked for another one into that, or into a failure if it asked too often."""
    task, most = run.task, run.task.again_max
    since = run.status.since if task.again_since is None else task.again_since
    if run.status.stop is not None:
        outcome.reason = run.status.stop
    elif most is not None and task.again >= most:
        outcome.reason, outcome.message = s.ERROR, f"it asked to run again more than again_max = {most} times"
    elif task.again_until is not None and now + (outcome.again or 0.0) > since + task.again_until:
        until = format_duration(task.again_until)
        outcome.reason, outcome.message = s.ERROR, f"it asked to run again after again_until = {until}"
    else:
        outcome.reason, outcome.message = s.AGAIN, None
        return
    outcome.queued, outcome.jobs = [], []
