"""Runners as processes of this machine: a kernel lock on the slot's file is what makes a slot unique.

The manager calls this from its one thread. The runner and its task inherit the locked descriptor, so the slot is not
free while anything that kept it lives, whatever becomes of the manager; what dropped it is found by its environment.
What leaves the runner's process group, its descriptor and its environment is outside the promise. Knows nothing of
jobs' states or of what a run leaves in its directory. As child subreaper it reaps every child of this process that
has a session of its own, so a program that embeds it must not start such children itself.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import signal
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from air_executor.backends.base import Launch, RunnerStatus
from air_executor.backends.local import python_path, shell_environment, slot_file
from air_executor.backends.local.finder import Finder, Paths, is_runner
from air_executor.backends.local.processes import LOCK_FD, HeldProcess, Process, Processes, choose
from air_executor.errors import BackendUnavailableError, DuplicateRunnerError, SpawnRejectedError
from air_executor.model.names import Host, Slot

MARGIN_SECONDS = 2.0
"""How much longer than the grace we wait: the runner itself kills its command after it, and then writes its end."""

_LOWEST_FD = LOCK_FD + 1
_DESCRIPTORS = "/proc/self/fd" if os.path.isdir("/proc/self/fd") else "/dev/fd"
_UNRECORDED = 96
"""The runner's own exit status where it could not start the run, or not write down how it ended."""
_TEMPORARY = {errno.EAGAIN, errno.ENOMEM, errno.EMFILE, errno.ENFILE, errno.EIO}
_DEFAULT_SIGNALS = sorted(signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP})


@dataclass(eq=False, slots=True)
class _Runner:
    """What holds one slot."""

    slot: Slot
    grace: float
    status: RunnerStatus
    pid: int = 0
    """Of the runner itself, and of its group and session; 0 where an earlier manager started it and it is gone."""
    process: HeldProcess | None = None
    """The runner itself; None once it is gone, or where it cannot be seen."""
    child: bool = False
    members: list[HeldProcess] = field(default_factory=list)
    """What outlived it."""
    unseen: bool = False
    """The lock is held by something that we cannot see: on another host, or in another pid namespace."""
    asked_at: float | None = None
    """When its end was first asked for, monotonic seconds."""


class LocalBackend:
    """The backend `local`: one process session per runner."""

    name = "local"
    remote = False
    evicts = False

    def __init__(
        self,
        paths: Paths,
        host: Host,
        *,
        environ: Mapping[str, str],
        shell: str = "/bin/sh",
        processes: Processes | None = None,
    ) -> None:
        """Take the paths of the state directory, this host, and what tasks inherit of the manager's environment."""
        self._paths = paths
        self._host = host
        self._shell = shell
        self._processes = processes or choose()
        self._finder = Finder(paths, self._processes)
        # A manager's settings and secrets are not its tasks' business.
        self._environ = {
            os.fsencode(name): os.fsencode(value) for name, value in environ.items() if not name.startswith("AIR_")
        }
        self._reset: tuple[bytes | None] | None = None
        null = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
        self._null = fcntl.fcntl(null, fcntl.F_DUPFD_CLOEXEC, _LOWEST_FD)
        os.close(null)
        self._session = os.getsid(0)
        self._adopted = False
        self._runners: dict[Slot, _Runner] = {}
        self._unsettled: set[Slot] = set()
        self._children: set[int] = set()
        self._orphans: dict[int, Slot | None] = {}

    def prepare(self, options: Mapping[str, Any]) -> str | None:  # noqa: ARG002 - other platforms need them
        """See `Backend.prepare`. A process needs nothing."""
        return None

    def spawn(self, launch: Launch) -> None:
        """See `Backend.spawn`."""
        self._adopt()
        slot = launch.slot
        if slot in self._runners:
            msg = f"job {launch.slot.job}: slot {slot.number} still has a runner, or what one left behind"
            raise DuplicateRunnerError(msg)
        try:
            fd, new = slot_file.acquire(self._paths.slot_file(slot))
        except DuplicateRunnerError:
            if found := self._finder.scan({}).get(slot):
                self._take_in(slot, found)
            self._take_unseen(slot)
            raise
        try:
            # A lock on a new file says nothing about who holds the one that lay here before.
            if new and (found := self._finder.scan({}).get(slot)):
                self._take_in(slot, found)
                msg = f"job {slot.job}: something of an earlier job of that name still runs in slot {slot.number}"
                raise DuplicateRunnerError(msg)
            pid = self._start(launch, fd)
        finally:
            os.close(fd)
        try:
            held = self._processes.hold(pid, None, slot)
        except OSError as error:
            self._adopted = False  # it runs, so the next look finds it like any runner of an earlier manager
            msg = f"started run {launch.run}, but cannot watch it: {error.strerror}"
            raise BackendUnavailableError(msg) from error
        self._children.add(pid)
        status = RunnerStatus(launch.run, alive=True)
        self._runners[slot] = _Runner(slot, launch.grace, status, pid=pid, process=held, child=True)

    def observe(self) -> Mapping[Slot, RunnerStatus]:
        """See `Backend.observe`. The first call finds what an earlier manager left running."""
        self._adopt()
        self._settle()
        return {slot: runner.status for slot, runner in self._runners.items()}

    def remove(self, slot: Slot) -> None:
        """See `Backend.remove`."""
        self._adopt()
        self._settle()
        runner = self._runners.get(slot)
        if runner is None or runner.unseen:
            return
        now = time.monotonic()
        if runner.asked_at is None:
            runner.asked_at = now
        kill = now - runner.asked_at > runner.grace + MARGIN_SECONDS
        number = signal.SIGKILL if kill else signal.SIGTERM
        for held in [runner.process] if runner.process else runner.members:
            if held.told != number:
                held.told = number
                # The runner passes a TERM on to its group; a KILL it cannot.
                self._processes.signal(held, number, group=runner.pid if kill else None)

    def confirm_gone(self, slot: Slot) -> None:
        """See `Backend.confirm_gone`. This platform can always tell."""

    def on_change(self, wake: Callable[[], None]) -> int | None:
        """See `Backend.on_change`."""
        return self._processes.on_exit(wake)

    def heard(self) -> None:
        """See `Backend.heard`. It always looks itself."""

    def close(self) -> None:
        """See `Backend.close`."""
        self._processes.close()
        if self._null >= 0:
            os.close(self._null)
            self._null = -1

    @contextlib.contextmanager
    def lock_slots(self, job: str, numbers: Iterable[int]) -> Iterator[None]:
        """Hold these slots of a job, so that its directory may be moved; nothing of the job runs meanwhile.

        Raises:
            DuplicateRunnerError: something of the job still runs.
            SpawnRejectedError: something else than a file lies where a slot's file should.
            BackendUnavailableError: it cannot be told.
        """
        self._adopt()
        self._settle()
        with contextlib.ExitStack() as stack:
            for number in numbers:
                fd, _ = slot_file.acquire(self._paths.slot_file(Slot(job, number)))
                stack.callback(os.close, fd)
            if any(slot.job == job for slot in (*self._runners, *self._finder.scan({}))):
                msg = f"job {job}: something of it still runs"
                raise DuplicateRunnerError(msg)
            yield

    def _start(self, launch: Launch, fd: int) -> int:
        timeout = "-" if launch.timeout is None else _seconds(launch.timeout)
        words = [b"sh", os.fsencode(f"{launch.bin_dir}/air-runner"), os.fsencode(launch.out_dir), _workdir(launch)]
        words += [_utf8(word) for word in (timeout, _seconds(launch.grace), self.name, *launch.argv)]
        slot_file.write_header(fd, slot_file.Header(self._host, launch.run, launch.grace))
        inherited = fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, _LOWEST_FD) if fd == LOCK_FD else fd
        try:
            return os.posix_spawn(
                self._shell,
                words,
                self._environment(launch),
                file_actions=(
                    (os.POSIX_SPAWN_DUP2, inherited, LOCK_FD),
                    (os.POSIX_SPAWN_DUP2, self._null, 0),
                    (os.POSIX_SPAWN_DUP2, self._null, 1),
                    (os.POSIX_SPAWN_DUP2, self._null, 2),
                    *((os.POSIX_SPAWN_CLOSE, other) for other in _inheritable()),
                ),
                setsid=True,
                setsigmask=(),
                setsigdef=_DEFAULT_SIGNALS,
            )
        except (OSError, ValueError) as error:  # ValueError: a NUL byte, a `=` in a name, text that cannot be encoded
            msg = f"run {launch.run}: cannot start {self._shell} with its command and environment: {error}"
            if isinstance(error, OSError) and error.errno in _TEMPORARY:
                raise BackendUnavailableError(msg) from error
            raise SpawnRejectedError(msg) from error
        finally:
            if inherited != fd:
                os.close(inherited)

    def _environment(self, launch: Launch) -> dict[bytes, bytes]:
        """Return the environment of the shell that gives the task its own: bytes, whatever the manager's locale."""
        if self._reset is None:
            self._reset = (shell_environment.find_env(),)
        given = {**launch.env, **launch.secrets}
        env = {**self._environ, b"AIR_STATE_DIR": os.fsencode(self._paths.root)}
        for name, value in launch.environment(launch.out_dir, launch.workspace).items():
            env[_utf8(name)] = _utf8(value) if given.get(name) == value else os.fsencode(value)
        folder = os.fsencode(python_path.folder_for(launch.bin_dir))
        before = env.get(b"PYTHONPATH")
        env[b"PYTHONPATH"] = b"%b:%b" % (before, folder) if before else folder
        return shell_environment.through_shell(env, *self._reset)

    def _adopt(self) -> None:
        """Take in what runs already: once, because from then on nothing of ours starts or escapes unseen."""
        if self._adopted:
            return
        for slot, found in self._finder.scan({}).items():
            self._take_in(slot, found)
        for slot in self._finder.slots_on_disk():
            self._take_unseen(slot)
        self._adopted = True

    def _take_in(self, slot: Slot, found: list[Process]) -> None:
        if slot in self._runners:
            return
        header = slot_file.read_header(self._paths.slot_file(slot))
        first = next((process for process in found if is_runner(process)), None)
        runs = [process.variables["AIR_RUN_ID"] for process in found if "AIR_RUN_ID" in process.variables]
        run = first.variables.get("AIR_RUN_ID") if first else None
        if run is None and header is not None and (header.run in runs or not runs):
            run = header.run
        grace = header.grace if header is not None and header.run == run else slot_file.DEFAULT_GRACE
        runner = _Runner(slot, grace, RunnerStatus(run or next(iter(runs), None), alive=False))
        if first is not None and (held := self._hold(first, slot)):
            runner.status = RunnerStatus(run, alive=True)
            runner.pid, runner.process, runner.child = first.pid, held, first.parent == os.getpid()
            if runner.child:
                self._children.add(first.pid)
        else:
            runner.members = [held for process in found if (held := self._hold(process, slot))]
            self._unsettled.add(slot)
        self._runners[slot] = runner

    def _take_unseen(self, slot: Slot) -> None:
        path = self._paths.slot_file(slot)
        if slot in self._runners or not slot_file.is_held(path):
            return
        header = slot_file.read_header(path)
        # A header of an earlier boot of this host was not written by whoever holds the lock now.
        stale = header is not None and header.host.name == self._host.name and header.host.boot != self._host.boot
        run = None if header is None or stale else header.run
        self._runners[slot] = _Runner(slot, 0.0, RunnerStatus(run, alive=True), unseen=True)

    def _settle(self) -> None:
        """Take note of what ended, and free what left nothing behind."""
        self._take_exits()
        self._sort_orphans()
        for slot, runner in list(self._runners.items()):
            if runner.unseen and not slot_file.is_held(self._paths.slot_file(slot)):
                self._free(runner)
        doubtful = []
        for runner in [self._runners[slot] for slot in self._unsettled if not self._runners[slot].members]:
            if self._is_gone(runner):
                self._free(runner)
            else:
                doubtful.append(runner)
        if doubtful:
            # Never group 0: that is the kernel's own threads, and whatever lies outside of our pid namespace.
            found = self._finder.scan({runner.pid: runner.slot for runner in doubtful if runner.pid})
            for runner in doubtful:
                self._conclude(runner, found.get(runner.slot, []))

    def _take_exits(self) -> None:
        for held in self._processes.exited():
            runner = self._runners.get(held.slot)
            if runner is None:
                continue
            if held is runner.process:
                self._ended(runner)
            elif held in runner.members:
                runner.members.remove(held)
            else:
                continue
            self._unsettled.add(held.slot)

    def _ended(self, runner: _Runner) -> None:
        runner.process = None
        code = None
        if runner.child:
            with contextlib.suppress(ChildProcessError):
                reaped, status = os.waitpid(runner.pid, os.WNOHANG)
                code = os.waitstatus_to_exitcode(status) if reaped else None
            self._children.discard(runner.pid)
        runner.status = RunnerStatus(runner.status.run, alive=False, exit_code=code, message=_end_of_runner(code))

    def _is_gone(self, runner: _Runner) -> bool:
        """Tell cheaply that a runner which ended by itself left nothing; False means that a scan must decide."""
        code = runner.status.exit_code
        if code is None or code < 0 or runner.asked_at is not None:
            return False
        if self._orphans and runner.slot in self._orphans.values():
            return False
        try:
            os.killpg(runner.pid, 0)
        except ProcessLookupError:
            # Where orphans do not come to us, at least one that kept the lock gives itself away.
            return self._processes.sees_orphans or not slot_file.is_held(self._paths.slot_file(runner.slot))
        except PermissionError:
            return False
        return False

    def _conclude(self, runner: _Runner, left: Collection[Process]) -> None:
        """Keep the slot for what a scan found of it, or for whoever holds its lock unseen; else it is free."""
        runner.members = [held for process in left if (held := self._hold(process, runner.slot))]
        if runner.members:
            return
        if not left:  # what was found but is gone by now may have had children: look again next time
            runner.unseen = slot_file.is_held(self._paths.slot_file(runner.slot))
            self._unsettled.discard(runner.slot)
            if not runner.unseen:
                self._free(runner)

    def _free(self, runner: _Runner) -> None:
        self._unsettled.discard(runner.slot)
        del self._runners[runner.slot]

    def _sort_orphans(self) -> None:
        """Reap orphans that ended, and find out to which slots the others belong."""
        strange = self._processes.children() - self._children
        if not strange and not self._orphans:
            return
        living = {pid for pid in strange if self._lives(pid)}
        self._orphans = {pid: slot for pid, slot in self._orphans.items() if pid in living}
        if living - self._orphans.keys():
            found = self._finder.scan({})
            slots = {process.pid: slot for slot, processes in found.items() for process in processes}
            for pid in living - self._orphans.keys():
                self._orphans[pid] = slots.get(pid)
            for slot, processes in found.items():
                self._take_in(slot, processes)

    def _lives(self, pid: int) -> bool:
        """Tell whether a child that is no runner lives; a dead one is reaped if it can only be a runner's orphan."""
        try:
            return os.getsid(pid) == self._session or os.waitpid(pid, os.WNOHANG)[0] == 0
        except (ChildProcessError, ProcessLookupError):
            return False

    def _hold(self, process: Process, slot: Slot) -> HeldProcess | None:
        try:
            return self._processes.hold(process.pid, process.start, slot)
        except OSError as error:
            msg = f"cannot watch process {process.pid}: {error.strerror}"
            raise BackendUnavailableError(msg) from error


def _inheritable() -> list[int]:
    """Return the descriptors that a process started now would get of us: a lock of cron's, a pipe of make's."""
    try:
        open_now = [int(name) for name in os.listdir(_DESCRIPTORS)]
    except OSError:
        return []
    found = []
    for fd in open_now:
        with contextlib.suppress(OSError):  # the one that listed them is closed by now
            if fd not in {0, 1, 2, LOCK_FD} and os.get_inheritable(fd):
                found.append(fd)
    return found


def _workdir(launch: Launch) -> bytes:
    project = os.fsencode(launch.project)
    return project if launch.workdir is None else os.path.join(project, _utf8(launch.workdir))


def _utf8(text: str) -> bytes:
    """Return the bytes of a word from a job file, in which undecodable bytes stand as lone surrogates."""
    return text.encode("utf-8", "surrogateescape")


def _end_of_runner(code: int | None) -> str | None:
    """Return what a runner's own exit status says, for a run that left no outcome."""
    if code is None:
        return None
    if code == _UNRECORDED:
        return "its runner could not write the run's files: is the volume full or read-only?"
    if code < 0:
        return f"its runner was ended by {_signal_name(-code)} and left no outcome"
    return f"its runner ended with exit status {code} and left no outcome"


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


def _seconds(value: float) -> str:
    return f"{value:.3f}".rstrip("0").rstrip(".")
