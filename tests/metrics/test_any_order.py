"""Whatever happens to a state directory, metrics counted step by step equal a count of everything."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
from hypothesis import settings

from air_executor.core.observer import Observer
from air_executor.core.transitions import LiveJob
from air_executor.metrics.collector import Collector, ManagerInfo
from air_executor.model.events import Event, Started
from air_executor.model.state import JobState
from tests.lanes import NIGHTLY
from tests.manager.test_any_order import AnyOrder, known_syncs
from tests.metrics.rig import Samples, samples

__all__ = ["known_syncs"]

COUNTERS = ("runner_seconds_total", "cost_total", "tasks_total", "jobs_total", "runs_total", "waste_seconds_total")


class CountedAnyOrder(AnyOrder):
    """The same as there, each manager with a collector."""

    def __init__(self) -> None:
        self.collector = Collector(ManagerInfo("test", "fake", max_runners=4, baseline_pool=2), lambda: None)
        self.before_counts: Samples = {}
        super().__init__()
        self.world.observe = self._observe
        self.world.restart()

    def _observe(self) -> Observer:
        self.collector = Collector(ManagerInfo("test", "fake", max_runners=4, baseline_pool=2), lambda: None)
        return self.collector

    def listen(self, job: LiveJob, event: Event) -> None:
        super().listen(job, event)
        if isinstance(event, Started):
            assert (job.state.id, event.seq) in self.world.manager.state.counters.open

    def _scrape(self) -> bool:
        """Ask the manager for its counters as a scrape does; False if its volume refuses."""
        manager = self.world.manager
        manager.counter_keeper.request()
        manager.counter_keeper.note()
        if not manager.act_queue.write_journal():
            return False
        manager.counter_keeper.report()
        return True

    def check_running_manager(self) -> None:
        """Check the promises, and the counts."""
        super().check_running_manager()
        if not self._scrape():
            return
        values = samples(self.collector)
        index = self.world.manager.state.index
        assert _nonzero(values["jobs"]) == _nonzero(
            Counter([job.state.phase for job in index.open.values()] + [end.phase for end in index.ended.values()])
        )
        tasks = [task.phase for job in index.open.values() for task in job.state.tasks.values()]
        assert _nonzero(values["tasks"]) == _nonzero(Counter(tasks))
        open_runs = {(slot.job, run.seq) for slot, run in self.world.manager.open_runs.by_slot.items()}
        assert self.world.manager.state.counters.open.keys() == open_runs
        assert values["runners"] == {("default",): len(open_runs)}
        counted, kept = sum(values["runs_total"].values()), sum(state.usage.runs for state in self._states())
        assert counted == kept or (self.power_failed and counted < kept), "not what the ledger has"
        for name in COUNTERS:
            for labels, value in self.before_counts.get(name, {}).items():
                assert values[name][labels] >= value, f"{name}{labels} went down"
        self.before_counts = values

    def _states(self) -> list[JobState]:
        return [self.world.job(name) for name in self.world.jobs.ids()]


def _nonzero(counts: Any) -> dict[str, float]:  # noqa: ANN401 - by phase, or by a tuple of it
    return {name[0] if isinstance(name, tuple) else name: count for name, count in counts.items() if count}


TestCountedAnyOrder = CountedAnyOrder.TestCase
TestCountedAnyOrder.settings = settings(
    max_examples=100 if NIGHTLY else 20,
    stateful_step_count=40,
)
TestCountedAnyOrder.pytestmark = [pytest.mark.timeout(600), pytest.mark.usefixtures("known_syncs")]  # type: ignore[attr-defined]
