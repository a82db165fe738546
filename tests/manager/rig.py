"""A manager in this process over real files and a platform in memory, which tests step, starve, silence and kill.

Time passes only when a test says so. A crash leaves the files as a killed process would, or as a power failure would.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import secrets
import time
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, cast

import pytest

from air_executor.backends.base import Launch
from air_executor.core.instantiation import instantiate
from air_executor.core.observer import Observer
from air_executor.core.submission import initial_state, parse_job
from air_executor.core.transitions import LiveJob
from air_executor.errors import DirectoryLostError, NotFoundError
from air_executor.manager import checkpointer
from air_executor.manager.clock import Clock
from air_executor.manager.lease import FileLease, Lease
from air_executor.manager.loop import Manager
from air_executor.manager.manager_state import ManagerOptions
from air_executor.manager.side_work import SideWork, Told
from air_executor.model.events import Event
from air_executor.model.names import Host, Slot
from air_executor.model.records import Op, Request
from air_executor.model.state import JobState, TaskState
from air_executor.store.inbox import Inbox
from air_executor.store.jobs import Jobs
from air_executor.store.layout import Layout
from air_executor.store.presence import read_record
from tests.fake_backend import FakeBackend, FakePlatform

HOST = Host("here", "this-boot")


class StepClock(Clock):
    """Stands still until a test moves it."""

    def __init__(self) -> None:
        self._now = round(time.time(), 3)
        self._ticks = 1000.0
        super().__init__()

    def wall(self) -> float:
        """Return Unix seconds."""
        return round(self._now, 3)

    def steady(self) -> float:
        """Return seconds that never jump."""
        return self._ticks

    def pass_time(self, seconds: float) -> None:
        """Let time pass."""
        self._now += seconds
        self._ticks += seconds

    def set_wall(self, by: float) -> None:
        """Set the wall clock, as an administrator does."""
        self._now += by


class World:
    """One state directory, its platform, and at most one living manager."""

    def __init__(self, root: Path, **options: Any) -> None:  # noqa: ANN401 - fields of `Options`
        root.mkdir(parents=True, exist_ok=True)
        self.layout = Layout(root / ".air-executor")
        self.platform = FakePlatform(on_spawn=self._begin)
        self.clock = StepClock()
        self.inbox = Inbox(self.layout)
        self.jobs = Jobs(self.layout)
        self.listeners: list[Callable[[LiveJob, Event], None]] = []
        """Called after each decision of a started manager, after its observer."""
        self.begun: dict[str, Launch] = {}
        """Every run whose command began, by run id."""
        self.overlaps: list[str] = []
        """Runs that began while another run of the same task lived, or before they were journaled."""
        self.synced = 0
        self.lease: Callable[[], Lease] | None = None
        """What the next managers prove their right with; None: a lock file."""
        self.observe: Callable[[], Observer] = Observer
        """Makes the observers of the next managers."""
        self._options: dict[str, Any] = {
            "project": str(root),
            "poll_interval": 1.0,
            "max_runners": 4,
            "events": False,
            "runner_files": {},
        } | options
        self._manager: Manager | None = None
        self._requests = 0

    # The manager

    @property
    def manager(self) -> Manager:
        """The living manager."""
        assert self._manager is not None
        return self._manager

    @property
    def alive(self) -> bool:
        """Whether there is one."""
        return self._manager is not None

    def start(self, **options: Any) -> Manager:  # noqa: ANN401 - fields of `Options`
        """Start a manager."""
        plan = ManagerOptions(version="test", **(self._options | options))
        lease = None if self.lease is None else self.lease()
        backend = FakeBackend(self.platform)
        manager = Manager(
            self.layout,
            backend,
            HOST,
            plan,
            self.clock,
            lease=lease,
            observer=self.observe(),
            chance=random.Random(0),
        )
        try:
            manager.start()
        except BaseException:
            _let_go(manager)
            raise
        self._listen_to(manager)
        self.synced = 0
        self._manager = manager
        return manager

    def _listen_to(self, manager: Manager) -> None:
        observed = manager.observer.decided

        def decided(job: LiveJob, event: Event) -> None:
            observed(job, event)
            for listener in self.listeners:
                listener(job, event)

        manager.observer.decided = decided  # type: ignore[method-assign]

    def cycle(self, times: int = 1) -> None:
        """Let the manager do everything that it can do now, as its own loop would."""
        for _ in range(times):
            try:
                self.manager.cycle()
            except (NotFoundError, DirectoryLostError) as error:
                self.manager.possession.reacquire(error)

    def until(self, condition: Callable[[], bool], limit: int = 50, step: float = 0.5) -> None:
        """Cycle, time passing, until a condition holds."""
        for _ in range(limit):
            if condition():
                return
            self.cycle()
            self.clock.pass_time(step)
        assert condition(), "it did not come about"

    def crash(self, *, cut: int | None = None, torn: bytes = b"") -> None:
        """Kill the manager; `torn` is what of an append reached the file, `cut` how long a power failure leaves it."""
        manager = self.manager
        self._manager = None
        journal = manager.state.journal
        path = journal.path
        _let_go(manager)
        if torn:
            with open(path, "ab") as file:
                file.write(torn)
        if cut is not None:
            os.truncate(path, cut)

    def stop(self) -> None:
        """Stop the manager cleanly."""
        manager = self.manager
        manager.close()
        self._manager = None
        _close_fds(manager)

    def let_go(self) -> None:
        """Leave the living manager to the test; others can be started beside it."""
        self._manager = None

    def live_jobs(self) -> list[LiveJob]:
        """Return the jobs that the living manager has in memory."""
        state = self.manager.state
        return [*state.index.open.values(), *state.unsaved.values()]

    def delay_checkpoints(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Let managers write what is due, and from then on no checkpoint of a job that has not ended."""
        monkeypatch.setattr(checkpointer, "DELAY", float("inf"))
        self.clock.pass_time(1)
        self.cycle()

    def problems(self) -> list[str]:
        """Return the problems that a manager has published."""
        found: list[str] = read_record(self.layout)["problems"]
        return found

    def is_quarantined(self, job: str) -> bool:
        """Whether a manager has published that it does nothing for a job."""
        return any(problem.startswith(f"job {job}: ") for problem in self.problems())

    def restart(self, **options: Any) -> None:  # noqa: ANN401 - fields of `Options`
        """Crash and start again."""
        self.crash()
        self.start(**options)

    def set_volume_time(self, now: float) -> None:
        """Let the volume's clock stand at this time for the living manager."""
        self.manager.state.volume_time = lambda: now  # type: ignore[method-assign]

    # The users

    def submit(
        self,
        job: str,
        *tasks: Any,  # noqa: ANN401 - JSON
        uid: str | None = None,
        workspace: Mapping[str, bytes] | None = None,
        **fields: Any,  # noqa: ANN401 - JSON
    ) -> JobState:
        """Submit a job; a task given as text is a command named by itself."""
        named = [{"id": t, "command": f"run {t}"} if isinstance(t, str) else t for t in tasks]
        raw = [task if "approve" in task else {"command": "do"} | task for task in named]
        parsed = parse_job(instantiate({"id": job, "tasks": raw, **fields}, {}, self.clock.wall()).raw)
        state = initial_state(parsed, uid=uid or secrets.token_hex(12), now=self.clock.wall())
        state.after_uids = {name: self.jobs.load(name).uid for name in state.spec.after}
        self.jobs.prepare()
        self.jobs.create(state, workspace)
        self.ask("wake", job)
        return state

    def ask(
        self,
        op: str,
        job: str,
        task: str | None = None,
        tasks: Sequence[Mapping[str, Any]] = (),
        **more: Any,  # noqa: ANN401 - further fields of a request
    ) -> str:
        """Post a request and return its name; requests are taken in the order in which they were posted."""
        self._requests += 1
        request = Request(cast("Op", op), job, task, [dict(one) for one in tasks], **more)
        return self.inbox.post(request, self._requests / 1000)

    def litter(self, data: bytes) -> None:
        """Drop into the inbox what is no request."""
        self._requests += 1
        Path(self.layout.inbox, f"{self._requests:013d}-garbage.json").write_bytes(data)

    def asked(
        self,
        op: str,
        job: str,
        task: str | None = None,
        tasks: Sequence[Mapping[str, Any]] = (),
        **more: Any,  # noqa: ANN401 - further fields of a request
    ) -> str | None:
        """Post a request, let the manager take it, and return why it was refused (None if it was applied)."""
        name = self.ask(op, job, task, tasks, **more)
        self.cycle()
        assert not self.inbox.waiting(name)
        why = self.inbox.refusal(name)
        return None if why is None else str(why)

    def job(self, name: str) -> JobState:
        """Return a job as the manager has it in memory, or as the volume has it."""
        if self._manager is not None:
            for known in self.live_jobs():
                if known.state.id == name:
                    return known.state
        return self.jobs.load(name)

    def task(self, job: str, task: str) -> TaskState:
        """Return one task."""
        return self.job(job).tasks[task]

    def phases(self, job: str) -> dict[str, str]:
        """Return the phases of a job's tasks."""
        return {name: task.phase for name, task in self.job(job).tasks.items()}

    # The tasks

    def _begin(self, launch: Launch) -> None:
        try:
            os.close(os.open(f"{launch.out_dir}/claim", os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644))
        except OSError:  # fenced, or its directory was moved away: a runner that cannot claim runs nothing
            self.platform.end(launch.slot, 97)
            return
        for slot, other in self.platform.runners.items():
            if slot == launch.slot or other.status.finished:
                continue
            if (other.launch.uid, other.launch.task) == (launch.uid, launch.task):
                self.overlaps.append(f"{launch.run} and {other.launch.run} of task {launch.task}")
        if self._manager is not None and self._manager.state.journal.pending:
            self.overlaps.append(f"{launch.run} began before the journal held its start")
        self.begun[launch.run] = launch

    def running(self) -> dict[str, Slot]:
        """Return the slots of live runners by `job/task`."""
        return {f"{slot.job}/{r.launch.task}": slot for slot, r in self.platform.runners.items() if r.status.alive}

    def slot(self, name: str) -> Slot:
        """Return where `job/task` runs."""
        return self.running()[name]

    def launch(self, name: str) -> Launch:
        """Return the launch of the runner of `job/task`."""
        return self.platform.runners[self.slot(name)].launch

    def spawned(self, name: str) -> float:
        """Return when the run of `job/task` was spawned by the volume's clock, as its manager has it."""
        spawned = self.manager.open_runs.by_slot[self.slot(name)].spawned
        assert spawned is not None
        return spawned

    def exit(
        self,
        name: str,
        code: int = 0,
        *,
        queue: Sequence[Any] = (),
        result: Any = None,  # noqa: ANN401 - JSON
        lingers: bool = False,
    ) -> Launch:
        """End the run of `job/task` as the runner does: its files, then itself. A text in `queue` is a raw line."""
        slot = self.slot(name)
        launch = self.platform.runners[slot].launch
        if os.path.isdir(launch.out_dir):  # it is not, where a rewind has moved it away
            leave(launch, code, queue=queue, result=result)
        self.platform.end(slot, code, lingers=lingers)
        return launch

    def do(self, *names: str, code: int = 0, queue: Sequence[Any] = (), result: Any = None) -> None:  # noqa: ANN401
        """Let the manager start these tasks one after another, and end each at once."""
        for name in names:
            self.until(lambda name=name: name in self.running())  # type: ignore[misc]
            self.exit(name, code, queue=queue, result=result)
            self.cycle()


def do_side_work_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let an order of events be what a test says: side work is done in the manager's thread, whose death ends it."""

    def order(self: SideWork, key: Hashable, work: Callable[[], object], done: Told[object]) -> None:
        if key not in self.busy:
            self.busy.add(key)
            self._carry_out(key, work, done)

    monkeypatch.setattr(SideWork, "order", order)


def leave(launch: Launch, code: int = 0, *, queue: Sequence[Any] = (), result: Any = None) -> None:  # noqa: ANN401 - JSON
    """Write what a run leaves behind."""
    Path(launch.out_dir, "output.log").touch()
    if queue:
        lines = [line if isinstance(line, str) else json.dumps(line) for line in queue]
        Path(launch.out_dir, "queue.jsonl").write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    if result is not None:
        Path(launch.out_dir, "result.json").write_text(json.dumps(result), encoding="utf-8")
    Path(launch.out_dir, "exit.json").write_text(json.dumps({"exit_code": code}) + "\n", encoding="utf-8")


def _let_go(manager: Manager) -> None:
    """Take from a manager what the kernel takes from a killed process: its descriptors and its lock."""
    if hasattr(manager, "state"):
        journal = manager.state.journal
        with journal._lock:
            if journal._fd >= 0:
                os.close(journal._fd)
            journal._fd = -1
        journal._unsynced.set()
    manager.backend.close()
    if isinstance(manager.lease, FileLease):
        lose_lock(manager.lease)
    _close_fds(manager)


def lose_lock(lease: FileLease) -> None:
    """Release the lock of a lease as the kernel does when its process is killed: the lease is told nothing."""
    lease._lock.release(force=True)


def _close_fds(manager: Manager) -> None:
    wakeups = manager.wakeups
    ends = (wakeups._read, wakeups._write)
    wakeups._read = wakeups._write = -1  # a thread of the dead manager must not write to whose file has the number next
    for fd in ends:
        if fd >= 0:
            os.close(fd)


@contextlib.contextmanager
def world(root: Path, **options: Any) -> Iterator[World]:  # noqa: ANN401 - fields of `Options`
    """A started world; whatever the test leaves alive is let go."""
    made = World(root, **options)
    made.start()
    try:
        yield made
    finally:
        if made.alive:
            made.crash()
