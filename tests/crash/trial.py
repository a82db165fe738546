"""One trial: submit, kill and restart by plan, let everything end, check."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import time
from dataclasses import dataclass, field, replace

from air_executor.client import Client
from air_executor.core.submission import read_definition
from air_executor.model.definition import ScheduleFile
from air_executor.model.records import Request
from air_executor.store.presence import read_record
from air_executor.store.schedules import Schedules
from tests.crash import check, processes
from tests.crash.driver import BUG, HELD, Docker, Driven, How
from tests.crash.plan import OVER_HTTP, Trial, draw
from tests.crash.platform import Platform
from tests.crash.receiver import Receiver

HERE = os.path.dirname(os.path.abspath(__file__))
PATIENCE = {"local": 300.0, "docker": 300.0, "kubernetes": 600.0, OVER_HTTP: 600.0}
"""Seconds after the last kill within which all jobs must have ended."""

INTERRUPTIONS = frozenset(
    {"silence", "break", "engine", "apiserver", "etcd", "slow", "busy", "error", "swallow", "cut", "mute", "expire"}
    | {"drop", "cutoff", "full"}
)
"""Steps that keep the platform from answering, and hurt nobody by themselves."""

HOPELESS = 3
"""Managers that may leave by themselves before the trial is given up."""


@dataclass(slots=True)
class Outcome:
    """What became of a trial."""

    seed: int
    violations: list[str] = field(default_factory=list)
    managers: int = 0
    """Managers started."""
    manager_kills: int = 0
    runner_kills: int = 0
    interruptions: int = 0
    """Times at which the platform did not answer for a while."""
    tasks: int = 0
    runs: int = 0
    seconds: float = 0.0


class Arena:
    """One trial under way."""

    def __init__(self, trial: Trial, project: str) -> None:
        self.trial = trial
        self.outcome = Outcome(trial.seed)
        os.makedirs(project)
        self.receiver = Receiver(f"{project}/notifications.jsonl")
        self.how = How(
            project,
            trial.max_runners,
            trial.events,
            trial.poll_interval,
            webhook=self.receiver.url,
            faults=trial.faults,
            seed=trial.seed,
        )
        self.state_dir = self.how.state_dir
        self.manager: Driven | None = None
        self.platform: Platform = processes.Processes(self.state_dir)
        if trial.backend == "docker":
            # The SDK, which a campaign of processes need not have.
            from tests.crash.containers import Containers  # noqa: PLC0415

            self.platform = found = Containers(os.path.dirname(project))
            self.how = replace(self.how, docker=Docker(found.address, found.prefix, found.image))

        elif trial.backend in {"kubernetes", OVER_HTTP}:
            from tests.crash.pods import Pods  # noqa: PLC0415 - the same

            self.platform = cluster = Pods(project, trial.seed, over_http=trial.backend == OVER_HTTP)
            self.how = replace(self.how, jobs=cluster.access)

    def note(self, text: str) -> None:
        """Write into the managers' log what was done to them."""
        with open(f"{self.how.project}/manager.log", "a", encoding="utf-8") as log:
            log.write(f"{time.strftime('%H:%M:%S')}.{int(time.time() * 1000) % 1000:03d} ---- {text}\n")

    def prepare(self) -> None:
        """Lay out the project and submit its jobs."""
        project = self.how.project
        os.makedirs(f"{project}/kit/plan", exist_ok=True)
        shutil.copy(f"{HERE}/task.sh", f"{project}/kit")
        for label, lines in self.trial.queues.items():
            with open(f"{project}/kit/plan/{label}.jsonl", "w", encoding="utf-8") as file:
                file.writelines(json.dumps(line) + "\n" for line in lines)
        for label, items in self.trial.items.items():
            with open(f"{project}/kit/plan/{label}.items", "w", encoding="utf-8") as file:
                json.dump(items, file)
        if "tree" in self.trial.labels:
            check.git(project, "init", "-q")
            check.git(project, "add", "kit")
            check.git(project, "commit", "-qm", "kit")
        self.client = Client(self.state_dir)
        now = round(time.time(), 3)
        for job in self.trial.jobs:
            self.client.submit(read_definition(job, {}, now))
        if self.trial.ticks:
            schedule = {"every": check.TICK, "catch_up": "all"}
            definition = {"name": check.TICKS, "schedule": schedule, "tasks": [self.trial.task(check.TICKS)]}
            since = now - self.trial.ticks * check.TICK
            Schedules(self.client.layout).save(
                ScheduleFile(name=check.TICKS, since=since, applied_at=now, definition=definition)
            )

    def ensure_manager(self) -> None:
        """Start a manager unless one works; count one that left by itself."""
        if self.manager is not None and self.manager.alive():
            return
        if self.manager is not None:
            self._judge(self.manager)
        self.outcome.managers += 1
        self.manager = Driven(replace(self.how, seed=self.trial.seed * 1000 + self.outcome.managers))

    def _judge(self, manager: Driven) -> None:
        code = manager.code
        # Between fork and exec a runner still shares the lock of a manager that has just been killed. One whose
        # volume is full when it starts says so, and leaves.
        full = any(step.target == "full" for step in self.trial.steps)
        fine = {0, -9, HELD} | ({1} if self.trial.faults or full else set())
        if code not in fine:
            what = "raised what it should not" if code == BUG else f"left by itself with {code}"
            self.outcome.violations.append(f"manager {manager.pid} {what}: see manager.log")
            if len(self.outcome.violations) > HOPELESS:
                raise AssertionError("gave up")

    def strike(self) -> None:
        """Go through the plan's steps. An interruption lasts until the next step is done."""
        interrupted, struck = False, ""
        for step in self.trial.steps:
            if step.add is not None and struck == "full":  # who adds it would be told
                self.platform.relent()
            self.ensure_manager()
            if step.working:
                self.await_work()
            if step.add is not None:  # first, so that the kill may come while it is being applied
                job, label = step.add
                self.client.inbox.post(Request("add", job, None, [self.trial.task(label)]), time.time())
                self.note(f"added {label}")
            time.sleep(step.after)
            relents = interrupted
            interrupted = step.target in INTERRUPTIONS
            struck = step.target
            if step.target == "tokens":
                self.expire_tokens()
            elif step.target != "manager":
                hit = self.platform.strike("runner" if step.target == "both" else step.target, step.choice)
                self.outcome.interruptions += interrupted
                self.outcome.runner_kills += hit is not None and not interrupted
                self.note(f"struck {step.target}: {hit}")
            if step.target in ("manager", "both", "tokens") and self.manager is not None:
                self.note(f"killing manager {self.manager.pid}")
                self.manager.kill()
                self.outcome.manager_kills += 1
            if relents and not interrupted:
                self.platform.relent()

    def expire_tokens(self) -> None:
        """End the tokens of all runs, as their time does: the next manager signs with another key."""
        with contextlib.suppress(FileNotFoundError):
            os.unlink(self.client.layout.run_key)
        self.note("struck tokens")

    def await_work(self) -> None:
        """Wait until the manager has taken the directory, or a little while."""
        assert self.manager is not None
        until = time.monotonic() + 0.5
        while read_record(self.client.layout).get("pid") != self.manager.pid and time.monotonic() < until:
            time.sleep(0.001)

    def finish(self) -> None:
        """Let everything end, and stop the manager cleanly."""
        self.platform.relent()
        patience = PATIENCE[self.trial.backend]
        until = time.monotonic() + patience
        while True:
            self.ensure_manager()
            assert self.manager is not None
            if time.monotonic() > until:
                self.outcome.violations.append(f"not all jobs had ended after {patience:g} s: {self.platform.left()}")
                self.manager.stop()
                return
            # What has ended may hold its name for a moment: a manager that is stopped does not wait for the removal.
            if not check.all_ended(self.state_dir, self.trial) or self.platform.lingering():
                time.sleep(0.01)
                continue
            begun = time.monotonic()
            code = self.manager.stop()
            if time.monotonic() - begun > 60:
                self.outcome.violations.append(f"a clean stop took {time.monotonic() - begun:.1f} s")
            self._judge(self.manager)
            self.manager = None
            # A checkpoint may have been older than an `add`; a clean stop leaves nothing behind.
            if code == 0 and check.all_ended(self.state_dir, self.trial):
                return


def run(trial: Trial, folder: str) -> Outcome:
    """Carry out a trial in a new folder, which stays if anything is wrong."""
    begun = time.monotonic()
    arena = Arena(trial, folder)
    outcome = arena.outcome
    try:
        arena.prepare()
        arena.strike()
        arena.finish()
        outcome.violations += check.violations(arena.state_dir, trial, arena.platform.left())
        outcome.violations += check.in_notifications(arena.state_dir, trial, arena.receiver.got())
    except (AssertionError, OSError, ValueError, TimeoutError) as error:
        outcome.violations.append(f"{type(error).__name__}: {error}")
    finally:
        if arena.manager is not None:
            arena.manager.kill()
        arena.receiver.close()
        arena.platform.clear()
        arena.platform.close()
    for job in check.labels_of(arena.state_dir, trial):
        state = check.state_of(arena.state_dir, job)
        if state is not None:
            outcome.tasks += len(state["tasks"])
            outcome.runs += state["usage"]["runs"]
    outcome.seconds = time.monotonic() - begun
    if not outcome.violations:
        shutil.rmtree(folder)
    return outcome


def run_seed(seed: int, faults: float, folder: str, backend: str, restarts: float) -> Outcome:
    """Draw a trial and carry it out in a folder of its own below `folder`."""
    return run(draw(seed, faults, backend, restarts), f"{folder}/{seed}")
