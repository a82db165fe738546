"""Runners as processes of this machine: a kernel lock on the slot's file makes a slot unique.

The manager calls this from its one thread. The runner and its task inherit the locked descriptor, so the slot is not
free while any process that kept it lives, whatever happens to the manager. Processes that dropped it are found by their
environment. Where the manager can make cgroups, each run has one, and its processes are found there; elsewhere, one
that leaves the runner's process group, its descriptor and its environment is outside the promise.

Knows nothing of job states or of a run's files. As child subreaper it reaps every child of this process that has a
session of its own, so a program that embeds it must not start such children itself.
"""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from itertools import islice
from typing import Any

from air_executor.backends.base import KILL_MARGIN, Launch, RunnerStatus
from air_executor.backends.local import slot_file
from air_executor.backends.local.cgroup_files import NoCgroupsError
from air_executor.backends.local.cgroups import Cgroups
from air_executor.backends.local.local_runner import LocalRunner, holder_text
from air_executor.backends.local.process_finder import Paths, ProcessFinder, is_runner
from air_executor.backends.local.process_spawner import ProcessSpawner
from air_executor.backends.local.processes import HeldProcess, Process, Processes
from air_executor.backends.local.run_cgroup import RunCgroup
from air_executor.backends.local.system_processes import system_processes
from air_executor.errors import BackendUnavailableError, DuplicateRunnerError, SpawnRejectedError
from air_executor.model.names import Host, Slot

log = logging.getLogger(__name__)

MOST_HELD = 16
"""Processes of one ended run that are watched at a time: a task may leave more of them than there are descriptors."""


class LocalBackend:
    """The backend `local`: one process session per runner."""

    name = "local"
    remote = False
    evicts = False
    keeps = False

    def __init__(
        self,
        paths: Paths,
        host: Host,
        *,
        environ: Mapping[str, str],
        shell: str = "/bin/sh",
        processes: Processes | None = None,
        make_cgroups: Callable[[], Cgroups] | None = None,
    ) -> None:
        """Take the paths of the state directory, this host, and what tasks inherit of the manager's environment.

        `make_cgroups` is called by the first use that belongs to a manager; without it, runs have no cgroups.
        """
        self._paths = paths
        self._host = host
        self._spawner = ProcessSpawner(host, shell, environ, paths.root)
        self._processes = processes or system_processes()
        self._finder = ProcessFinder(paths, self._processes)
        self._session = os.getsid(0)
        self._adopted = False
        self._runners: dict[Slot, LocalRunner] = {}
        self._exited: set[Slot] = set()
        """Slots whose runner, or a process that outlived it, has ended: is anything left?"""
        self._children: set[int] = set()
        self._orphans: dict[int, Slot | None] = {}
        self._make_cgroups = make_cgroups
        self._cgroups: Cgroups | None = None
        self._cgroups_adopted = False

    def prepare(self, options: Mapping[str, Any]) -> str | None:  # noqa: ARG002 - other platforms need them
        """See `Backend.prepare`. A process needs nothing."""
        return None

    def spawn(self, launch: Launch) -> None:
        """See `Backend.spawn`."""
        if launch.services:
            raise SpawnRejectedError("services: they need containers; use the backend docker or kubernetes")
        self._adopt()
        self._adopt_cgroups()
        slot = launch.slot
        if slot in self._runners:
            msg = f"job {launch.slot.job}: slot {slot.number} still has a runner, or a process that outlived one"
            raise DuplicateRunnerError(msg)
        try:
            fd, new = slot_file.acquire(self._paths.slot_file(slot))
        except DuplicateRunnerError:
            if found := self._finder.scan({}).get(slot):
                self._adopt_found(slot, found)
            self._adopt_unseen(slot)
            raise
        try:
            # A lock on a new file proves nothing about processes that hold a deleted file of that path.
            if new and (found := self._finder.scan({}).get(slot)):
                self._adopt_found(slot, found)
                msg = f"job {slot.job}: a process of an earlier job of that name still runs in slot {slot.number}"
                raise DuplicateRunnerError(msg)
            pid, cgroup = self._start(launch, fd)
        finally:
            os.close(fd)
        try:
            held = self._processes.hold(pid, None, slot)
        except OSError as error:
            # It runs: the next `observe` finds it, or what it left, as after an earlier manager.
            self._adopted = self._cgroups_adopted = False
            msg = f"started run {launch.run}, but cannot watch it: {error.strerror}"
            raise BackendUnavailableError(msg) from error
        self._children.add(pid)
        status = RunnerStatus(launch.run, alive=True)
        self._runners[slot] = LocalRunner(slot, launch.grace, status, pid=pid, process=held, child=True, cgroup=cgroup)

    def _start(self, launch: Launch, fd: int) -> tuple[int, RunCgroup | None]:
        """Start the runner; return its pid and its run's cgroup."""
        runner = self._spawner.runner(launch)
        if self._cgroups is None or len(runner) > 1:
            return self._spawner.start(launch, runner, fd), None
        access = self._cgroups.prepare(launch.run, launch.options.get("resources") or {})
        try:
            return self._spawner.start(launch, runner, fd, access), None if access is None else access.group
        except BaseException:
            self._cgroups.remove(launch.run)
            raise

    def observe(self) -> Mapping[Slot, RunnerStatus]:
        """See `Backend.observe`. The first call finds what an earlier manager left running."""
        self._adopt()
        self._adopt_cgroups()
        self._reconcile()
        return {slot: runner.status for slot, runner in self._runners.items()}

    def remove(self, slot: Slot) -> None:
        """See `Backend.remove`."""
        self._adopt()
        self._reconcile()
        runner = self._runners.get(slot)
        if runner is None or runner.unseen:
            return
        now = time.monotonic()
        if runner.stop_requested_at is None:
            runner.stop_requested_at = now
        kill = now - runner.stop_requested_at > runner.grace + KILL_MARGIN
        number = signal.SIGKILL if kill else signal.SIGTERM
        for held in runner.to_signal:
            if held.last_signal != number:
                held.last_signal = number
                # The runner passes a TERM on to its group; a KILL it cannot.
                self._processes.signal(held, number, group=runner.pid if kill else None)
        if kill and runner.cgroup is not None:
            runner.cgroup.kill()

    def confirm_gone(self, slot: Slot) -> None:
        """See `Backend.confirm_gone`. This platform can always tell."""

    def on_change(self, wake: Callable[[], None]) -> int | None:
        """See `Backend.on_change`."""
        return self._processes.on_exit(wake)

    def last_contact(self) -> None:
        """See `Backend.last_contact`. It always asks the platform itself."""

    def close(self) -> None:
        """See `Backend.close`."""
        self._processes.close()
        self._spawner.close()
        if self._cgroups is not None:
            self._cgroups.close(keep_folder=bool(self._runners))

    @contextlib.contextmanager
    def lock_slots(self, job: str, numbers: Iterable[int]) -> Iterator[None]:
        """Hold these slots of a job, so that its directory may be moved; nothing of the job runs meanwhile.

        Raises:
            DuplicateRunnerError: something of the job still runs.
            SpawnRejectedError: a slot's file is not a regular file.
            BackendUnavailableError: unknown.
        """
        self._adopt()
        self._reconcile()
        with contextlib.ExitStack() as stack:
            for number in numbers:
                fd, _ = slot_file.acquire(self._paths.slot_file(Slot(job, number)))
                stack.callback(os.close, fd)
            if any(slot.job == job for slot in (*self._runners, *self._finder.scan({}))):
                msg = f"job {job}: something of it still runs"
                raise DuplicateRunnerError(msg)
            yield

    # Adoption

    def _adopt(self) -> None:
        """Find what runs already: once, because from then on nothing of ours starts or escapes unseen."""
        if self._adopted:
            return
        for slot, found in self._finder.scan({}).items():
            self._adopt_found(slot, found)
        for slot in self._finder.slots_on_disk():
            self._adopt_unseen(slot)
        self._adopted = True

    def _adopt_found(self, slot: Slot, found: list[Process]) -> None:
        if slot in self._runners:
            return
        header = slot_file.read_header(self._paths.slot_file(slot))
        first = next((process for process in found if is_runner(process)), None)
        runs = [process.variables["AIR_RUN_ID"] for process in found if "AIR_RUN_ID" in process.variables]
        run = first.variables.get("AIR_RUN_ID") if first else None
        if run is None and header is not None and (header.run in runs or not runs):
            run = header.run
        grace = header.grace if header is not None and header.run == run else slot_file.DEFAULT_GRACE
        runner = LocalRunner(slot, grace, RunnerStatus(run or next(iter(runs), None), alive=False))
        if self._cgroups is not None and runner.status.run is not None:
            runner.cgroup = self._cgroups.find(runner.status.run)
        if first is not None and (held := self._hold(first, slot)):
            runner.status = RunnerStatus(run, alive=True)
            runner.pid, runner.process, runner.child = first.pid, held, first.parent == os.getpid()
            if runner.child:
                self._children.add(first.pid)
        else:
            runner.members = self._hold_some(found, slot)
            runner.note_holder(holder_text(found))
            self._exited.add(slot)
        self._runners[slot] = runner

    def _adopt_unseen(self, slot: Slot) -> None:
        if slot in self._runners or not self._is_taken(slot):
            return
        header = slot_file.read_header(self._paths.slot_file(slot))
        # A header of an earlier boot of this host was not written by whatever holds the lock now.
        stale = header is not None and header.host.name == self._host.name and header.host.boot != self._host.boot
        run = None if header is None or stale else header.run
        self._runners[slot] = LocalRunner(slot, 0.0, RunnerStatus(run, alive=True), unseen=True)

    def _is_taken(self, slot: Slot) -> bool:
        """Tell whether something holds a slot's lock. Unknown is not free, and a slot's own trouble: others go on."""
        try:
            return slot_file.is_held(self._paths.slot_file(slot))
        except BackendUnavailableError:
            return True

    def _adopt_cgroups(self) -> None:
        """Find the cgroups that an earlier manager left: of live runners, of what outlived them, and empty ones.

        Not part of `_adopt`, which a command does beside a manager.
        """
        if self._make_cgroups is not None:
            make, self._make_cgroups = self._make_cgroups, None
            try:
                self._cgroups = make() if self._processes.sees_orphans else None
            except NoCgroupsError as error:
                log.debug("runs have no cgroups: %s", error)
        if self._cgroups is None or self._cgroups_adopted:
            return
        self._cgroups_adopted = True
        runs = self._cgroups.runs()
        if not runs:
            return
        headers = {slot: slot_file.read_header(self._paths.slot_file(slot)) for slot in self._finder.slots_on_disk()}
        slots = {header.run: (slot, header.grace) for slot, header in headers.items() if header is not None}
        slots |= {runner.status.run or "": (slot, runner.grace) for slot, runner in self._runners.items()}
        for run in runs:
            slot, grace = slots.get(run, (None, 0.0))
            group = self._cgroups.find(run)
            if slot is not None and slot in self._runners:
                self._runners[slot].cgroup = group
            elif slot is not None and group is not None and group.is_populated():
                self._runners[slot] = LocalRunner(slot, grace, RunnerStatus(run, alive=False), cgroup=group)
                self._exited.add(slot)
            else:  # empty, or of no job any more
                self._cgroups.remove(run)

    # Ends

    def _reconcile(self) -> None:
        """Note what has ended, and free the slots of which nothing is left."""
        self._take_exits()
        self._reconcile_orphans()
        for slot, runner in list(self._runners.items()):
            if runner.unseen and not self._is_taken(slot):
                self._find_cgroup(runner)
                self._free(runner)
        uncertain = []
        for runner in [self._runners[slot] for slot in self._exited if not self._runners[slot].members]:
            if self._left_nothing(runner):
                self._free(runner)
            else:
                uncertain.append(runner)
        if uncertain:
            # Never group 0: that is the kernel's own threads, and whatever lies outside of our pid namespace.
            found = self._finder.scan({runner.pid: runner.slot for runner in uncertain if runner.pid})
            for runner in uncertain:
                self._conclude(runner, found.get(runner.slot, []))
        if self._cgroups is not None:
            self._cgroups.clean_up()

    def _take_exits(self) -> None:
        for held in self._processes.exited():
            runner = self._runners.get(held.slot)
            if runner is None:
                continue
            if held is runner.process:
                runner.record_exit()
                self._find_cgroup(runner)
                self._children.discard(runner.pid)
            elif held in runner.members:
                runner.members.remove(held)
            else:
                continue
            self._exited.add(held.slot)

    def _find_cgroup(self, runner: LocalRunner) -> None:
        """Find the group of a runner that has ended: when it was adopted, it may not have made one yet."""
        if runner.cgroup is None and self._cgroups is not None and runner.status.run is not None:
            runner.cgroup = self._cgroups.find(runner.status.run)

    def _left_nothing(self, runner: LocalRunner) -> bool:
        """Tell cheaply that a runner which ended by itself left nothing; False means that a scan must decide."""
        if not runner.ended_by_itself:
            return False
        if self._orphans and runner.slot in self._orphans.values():
            return False
        try:
            os.killpg(runner.pid, 0)
        except ProcessLookupError:
            if runner.cgroup is not None:
                return runner.cgroup.discard() or not runner.cgroup.is_populated()
            # Where orphans do not come to us, at least one that kept the lock gives itself away.
            return self._processes.sees_orphans or not self._is_taken(runner.slot)
        except PermissionError:
            return False
        return False

    def _conclude(self, runner: LocalRunner, left: Collection[Process]) -> None:
        """Keep the slot for processes that a scan found, or for an unseen holder of its lock; else free it."""
        if runner.cgroup is not None:
            seen = {process.pid for process in left}
            left = [*left, *(process for process in runner.cgroup.processes() if process.pid not in seen)]
        runner.members = self._hold_some(left, runner.slot)
        if runner.members:
            runner.note_holder(holder_text(left))
            return
        # Processes that were found but have ended since may have had children: scan again next time.
        if not left and not (runner.cgroup is not None and runner.cgroup.is_alive()):
            runner.unseen = self._is_taken(runner.slot)
            self._exited.discard(runner.slot)
            if runner.unseen:
                path = self._paths.slot_file(runner.slot)
                runner.note_holder(f"a process that this user cannot inspect keeps {path} locked")
            else:
                self._free(runner)

    def _free(self, runner: LocalRunner) -> None:
        self._exited.discard(runner.slot)
        del self._runners[runner.slot]
        if self._cgroups is not None and runner.cgroup is not None and not runner.cgroup.discard():
            self._cgroups.remove(runner.cgroup.run)

    def _reconcile_orphans(self) -> None:
        """Reap orphans that have ended, and find the slots of the others."""
        candidates = self._processes.children() - self._children
        if not candidates and not self._orphans:
            return
        living = {pid for pid in candidates if self._is_alive(pid)}
        self._orphans = {pid: slot for pid, slot in self._orphans.items() if pid in living}
        if living - self._orphans.keys():
            found = self._finder.scan({})
            slots = {process.pid: slot for slot, processes in found.items() for process in processes}
            for pid in living - self._orphans.keys():
                self._orphans[pid] = slots.get(pid)
            for slot, processes in found.items():
                self._adopt_found(slot, processes)

    def _is_alive(self, pid: int) -> bool:
        """Tell whether a child that is no runner lives; a dead one is reaped if it can only be a runner's orphan."""
        try:
            return os.getsid(pid) == self._session or os.waitpid(pid, os.WNOHANG)[0] == 0
        except (ChildProcessError, ProcessLookupError):
            return False

    def _hold_some(self, found: Iterable[Process], slot: Slot) -> list[HeldProcess]:
        """Watch some of the processes that a run has left; once these have ended, a scan finds the others."""
        return [*islice((held for process in found if (held := self._hold(process, slot))), MOST_HELD)]

    def _hold(self, process: Process, slot: Slot) -> HeldProcess | None:
        try:
            return self._processes.hold(process.pid, process.start, slot)
        except OSError as error:
            msg = f"cannot watch process {process.pid}: {error.strerror}"
            raise BackendUnavailableError(msg) from error
