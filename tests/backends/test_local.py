"""What is particular to processes: unmanaged ones, stragglers, the environment, and what hostile tasks leave behind."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import os
import select
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Collection, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path

import psutil
import pytest

from air_executor.backends.base import Launch, LaunchService
from air_executor.backends.local import proc_reader, slot_file
from air_executor.backends.local.local_backend import MOST_HELD, LocalBackend
from air_executor.errors import BackendUnavailableError, DuplicateRunnerError, SpawnRejectedError
from air_executor.model.names import Host, Slot
from air_executor.store.layout import Layout
from tests.backends.rig import LocalRig, NativeRig, Task
from tests.backends.spawn_once import HOST
from tests.backends.test_contract import is_gone
from tests.conftest import wait_for

SLOT = Slot("census", 0)
LOOP = "while :; do sleep 0.05; done"
PYTHON_DAEMON = (
    f"{sys.executable} -c 'import subprocess; "
    'subprocess.Popen(["sleep", "1000"], close_fds=True, start_new_session={session})\''
)

linux_only = pytest.mark.skipif(sys.platform != "linux", reason="psutil cannot see this on other systems")


def run_to_exit(rig: LocalRig, backend: LocalBackend, script: str, seq: int = 1) -> Launch:
    """Run a task until its runner has exited and something of it is listed."""
    if rig.ends_leftovers:
        pytest.skip("its runner ends what it has left before it exits")
    launch = rig.command(SLOT, seq, script)
    backend.spawn(launch)
    rig.until(lambda: not backend.observe()[SLOT].alive, "the runner to exit")
    return launch


def runner_pid(rig: LocalRig, launch: Launch) -> int:
    """Return the pid that the runner wrote, once the task has started."""
    rig.until(lambda: rig.is_ready(launch), "the task to start")
    return int(Path(rig.layout.slot_file(launch.slot)).read_text().split("pid ")[1].split()[0])


def forge(rig: LocalRig, text: str) -> str:
    """Write a slot's file as if a manager had, and return its path."""
    path = Path(rig.layout.slot_file(SLOT))
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return str(path)


def header(run: str = "0badcafe-1", host: Host = HOST, grace: float = 0.3) -> str:
    """Return the first line of a slot's file."""
    return json.dumps({"host": host.name, "boot": host.boot, "run": run, "grace": grace}) + "\n"


@contextlib.contextmanager
def unmanaged(*words: str) -> Iterator[subprocess.Popen[bytes]]:
    """Run a program that belongs to no run, and check that it has survived."""
    with subprocess.Popen(words or ("sleep", "1000"), stdout=subprocess.DEVNULL) as process:
        try:
            yield process
            assert process.poll() is None, "an unmanaged process was killed"
        finally:
            process.kill()


def children() -> set[int]:
    """Return our children, alive or not; runners of managers that an earlier test killed may be among them."""
    return {child.pid for child in psutil.Process().children()}


def zombies(known: Collection[int]) -> list[psutil.Process]:
    """Return our children, but those known before, that nobody has reaped."""
    return [
        child
        for child in psutil.Process().children()
        if child.pid not in known and child.status() == psutil.STATUS_ZOMBIE
    ]


def test_a_pid_in_the_file_proves_nothing(local: LocalRig) -> None:
    """An unmanaged process that got the pid of an earlier runner is neither listed nor killed."""
    with unmanaged() as other:
        forge(local, header() + f"pid {other.pid}\n")
        backend = local.backend()
        assert backend.observe() == {}
        backend.remove(SLOT)
        backend.spawn(local.launch(SLOT, 2, Task.ENDS))
        local.until(lambda: is_gone(backend), "the runner to be gone")


def test_a_reader_of_the_file_is_unmanaged(local: LocalRig) -> None:
    """A user who looks into the slot's file is neither listed nor killed with the run."""
    backend = local.backend()
    launch = local.launch(SLOT, 1, Task.WAITS)
    backend.spawn(launch)
    with unmanaged("tail", "-f", local.layout.slot_file(SLOT)):
        runner_pid(local, launch)
        local.until(lambda: is_gone(backend), "the runner to be gone")
        assert local.backend().observe() == {}


def test_a_child_that_dropped_the_lock_holds_the_slot(local: LocalRig) -> None:
    """Python's children close the descriptor; one that lives on is found all the same, and removed."""
    backend = local.backend()
    launch = run_to_exit(local, backend, PYTHON_DAEMON.format(session=False))
    assert backend.observe()[SLOT].run == launch.run
    assert len(local.members()) == 1
    with pytest.raises(DuplicateRunnerError):
        backend.spawn(local.launch(SLOT, 2, Task.ENDS))
    local.until(lambda: is_gone(backend), "the child to be gone")
    assert local.members() == []


def test_a_daemon_that_kept_the_lock_holds_the_slot(local: LocalRig) -> None:
    """A child in a session of its own is found after the normal end of its run, and removed."""
    backend = local.backend()
    run_to_exit(local, backend, f"setsid sh -c '{LOOP}' & sleep 0.1")
    local.until(lambda: is_gone(backend), "the daemon to be gone")
    assert local.members() == []


@linux_only
def test_a_daemon_that_dropped_everything_but_its_environment(tmp_path: Path) -> None:
    """Own session, no descriptor, runner ended well: the orphan comes to us and holds the slot."""
    local = LocalRig(tmp_path)
    backend = local.backend()
    run_to_exit(local, backend, PYTHON_DAEMON.format(session=True))
    local.until(lambda: is_gone(backend), "the daemon to be gone")
    assert local.members() == []
    local.close()


def test_a_daemon_of_a_stopped_run_is_found(local: LocalRig) -> None:
    """After a stop the slot is free only when nothing carries the run's environment any more."""
    backend = local.backend()
    launch = local.command(SLOT, 1, PYTHON_DAEMON.format(session=True) + f"; {Task.WAITS.value}")
    backend.spawn(launch)
    runner_pid(local, launch)
    local.until(lambda: is_gone(backend), "the runner to be gone")
    assert local.members() == []


def test_a_task_that_cleared_its_environment_is_known_by_the_lock(local: LocalRig) -> None:
    """With the descriptor alone, in a session of its own, it still belongs to the run."""
    backend = local.backend()
    path = os.environ["PATH"]
    run_to_exit(local, backend, f"setsid env -i PATH={path} sh -c '{LOOP}' & sleep 0.1")
    assert local.members()
    local.until(lambda: is_gone(backend), "the task's child to be gone")
    assert local.members() == []


def test_a_child_without_any_mark_is_known_by_its_group(local: LocalRig) -> None:
    """No environment and no descriptor, but still in the runner's group: found and removed."""
    backend = local.backend()
    script = f"env -i {shutil.which('sleep')} 1000 9>&- >/dev/null 2>&1 & echo $! >child; sleep 0.1"
    launch = run_to_exit(local, backend, script)
    left = psutil.Process(int(Path(launch.workspace, "child").read_text()))
    wait_for(lambda: local.members() == [], what="the child to have lost all marks")
    local.until(lambda: is_gone(backend), "the child to be gone")
    wait_for(lambda: not left.is_running() or left.status() == psutil.STATUS_ZOMBIE, what="the child to end")


def test_a_killed_runner_is_exited_while_its_task_lives(local: LocalRig) -> None:
    """When the runner's shell is killed its task still holds the slot, and is stopped before it is free."""
    backend = local.backend()
    launch = local.launch(SLOT, 1, Task.WAITS)
    backend.spawn(launch)
    os.kill(runner_pid(local, launch), signal.SIGKILL)
    local.until(lambda: not backend.observe()[SLOT].alive, "the runner to exit")
    assert backend.observe()[SLOT].run == launch.run
    assert local.members()
    with pytest.raises(DuplicateRunnerError):
        backend.spawn(local.launch(SLOT, 2, Task.ENDS))
    local.until(lambda: is_gone(backend), "the task to be gone")
    assert local.members() == []


def test_stragglers_that_end_by_themselves_free_the_slot(local: LocalRig) -> None:
    """What outlived its runner need not be removed to be seen gone."""
    backend = local.backend()
    launch = run_to_exit(local, backend, Task.LEAVES_CHILD.value)
    local.release(launch)
    local.until(lambda: SLOT not in backend.observe(), "the slot to be free")


def test_a_native_runner_ends_what_is_left(tmp_path: Path) -> None:
    """Without a manager that asks for it; until then, the slot is taken."""
    rig = NativeRig(tmp_path)
    backend = rig.backend()
    ready = 'until [ -e "$AIR_WORKSPACE/ready-$AIR_RUN_ID" ]; do sleep 0.01; done'
    launch = rig.command(SLOT, 1, f"( trap '' TERM; {Task.WAITS.value} ) & {ready}")
    backend.spawn(launch)
    claim = Path(launch.out_dir, "claim")
    rig.until(lambda: claim.exists() and claim.read_text().endswith("\n"), "the outcome")
    with pytest.raises(DuplicateRunnerError):
        backend.spawn(rig.launch(SLOT, 2, Task.ENDS))
    rig.until(lambda: SLOT not in backend.observe(), "the slot to be free")
    assert rig.members() == []
    rig.close()


@pytest.mark.parametrize("closed", ["census", "census/runner.pid"])
def test_what_may_not_be_read_stops_one_job(local: LocalRig, monkeypatch: pytest.MonkeyPatch, closed: str) -> None:
    """A task takes all permissions from its slot's file, or another user from a job's folder: other jobs start."""
    forge(local, header())
    closed = f"{local.layout.jobs}/{closed}"

    def refusing(real: Callable[..., object]) -> Callable[..., object]:
        def call(path: str, *rest: object, **named: object) -> object:
            if path == closed:
                raise PermissionError(errno.EACCES, "Permission denied", path)
            return real(path, *rest, **named)

        return call

    monkeypatch.setattr(os, "open", refusing(os.open))
    monkeypatch.setattr(os, "listdir", refusing(os.listdir))
    backend = local.backend()
    other = local.launch(Slot("other", 0), 1, Task.WAITS)
    backend.spawn(other)
    assert backend.observe()[other.slot].alive
    if closed.endswith(".pid"):
        with pytest.raises(DuplicateRunnerError):
            backend.spawn(local.launch(SLOT, 1, Task.ENDS))
        with pytest.raises(SpawnRejectedError, match="restore its permissions"):
            slot_file.acquire(closed)


@pytest.mark.parametrize("target", ["linked", "/proc/1/root/nothing", ".."])
def test_a_link_among_the_jobs_stops_nobody(local: LocalRig, target: str) -> None:
    """Wherever it leads, also to itself: it is no job."""
    os.makedirs(local.layout.jobs, exist_ok=True)
    os.symlink(target, f"{local.layout.jobs}/linked")
    backend = local.backend()
    launch = local.launch(SLOT, 1, Task.WAITS)
    backend.spawn(launch)
    assert list(backend.observe()) == [SLOT]


def test_what_holds_a_slot_is_named(local: LocalRig, monkeypatch: pytest.MonkeyPatch) -> None:
    """By pid and program, and by its user where that is another one, who alone can end it."""
    backend = local.backend()
    launch = run_to_exit(local, backend, 'sleep 1000 & echo $! > "$AIR_WORKSPACE/child"; exec sleep 0.2')
    pid = int(Path(launch.workspace, "child").read_text())
    assert backend.observe()[SLOT].held_by == f"its runner has ended, but process {pid} (sleep) still runs"
    owner = os.geteuid()
    monkeypatch.setattr(os, "geteuid", lambda: owner + 1)
    held_by = local.backend().observe()[SLOT].held_by
    assert held_by is not None
    assert "still runs, which this manager cannot stop: it belongs to user" in held_by


def test_a_straggler_is_adopted_as_exited(local: LocalRig) -> None:
    """The next manager finds a task without its runner, knows its run, and removes it."""
    launch = local.launch(SLOT, 1, Task.WAITS)
    local.spawn_by_manager_that_is_killed(launch)
    os.kill(runner_pid(local, launch), signal.SIGKILL)
    backend = local.backend()
    local.until(lambda: not backend.observe()[SLOT].alive, "the runner to exit")
    again = local.backend()
    status = again.observe()[SLOT]
    assert (status.run, status.alive) == (launch.run, False)
    local.until(lambda: is_gone(again), "the task to be gone")
    assert local.members() == []


def test_the_grace_survives_the_manager(local: LocalRig, monkeypatch: pytest.MonkeyPatch) -> None:
    """An adopted run that ignores TERM is killed after its own grace, not after the default."""
    monkeypatch.setattr(slot_file, "DEFAULT_GRACE", 1000.0)
    launch = local.launch(SLOT, 1, Task.IGNORES_TERM)
    local.spawn_by_manager_that_is_killed(launch)
    os.kill(runner_pid(local, launch), signal.SIGKILL)  # so that nobody but the backend can enforce it
    backend = local.backend()
    wait_for(lambda: is_gone(backend), timeout=60, what="the task to be killed")


def test_no_zombies_are_left(local: LocalRig) -> None:
    """Runners, their tasks, and orphans that end later are all reaped."""
    known = children()
    backend = local.backend()
    for seq in range(3):
        backend.spawn(local.command(SLOT, seq, "( sleep 0.05 & ) ; ( setsid sleep 0.1 9>&- & )"))
        local.until(lambda: is_gone(backend), "the runner to be gone")

    def none_left() -> bool:
        backend.observe()
        return not zombies(known)

    wait_for(none_left, what="the last zombie to be reaped")


def test_other_children_of_this_process_are_left_alone(local: LocalRig) -> None:
    """A program that embeds the manager gets its own children's exit codes."""
    known = children()
    backend = local.backend()
    with subprocess.Popen(["sh", "-c", "exit 7"]) as own:
        wait_for(lambda: zombies(known), what="the child to end")
        backend.spawn(local.launch(SLOT, 1, Task.ENDS))
        local.until(lambda: SLOT not in backend.observe(), "the runner to be gone")
        assert own.wait() == 7


def test_the_environment_of_a_task(local: LocalRig, monkeypatch: pytest.MonkeyPatch) -> None:
    """A task gets the manager's environment without its `AIR_` settings and secrets, plus what is its own."""
    monkeypatch.setenv("AIR_TOKEN", "hush")
    monkeypatch.setenv("AIR_SECRET_DB", "hush")
    monkeypatch.setenv("COLOUR", "green")
    monkeypatch.setenv("PYTHONPATH", "/theirs")
    backend = local.backend()
    launch = local.command(Slot("census", 3), 1, f'env >"$AIR_WORKSPACE/env"; {Task.ENDS.value}')
    backend.spawn(
        Launch(**{**{name: getattr(launch, name) for name in Launch.__slots__}, "secrets": {"PASSWORD": "swordfish"}})
    )
    local.until(lambda: not backend.observe(), "the runner to be gone")
    lines = Path(launch.workspace, "env").read_text().splitlines()
    assert not [line for line in lines if "hush" in line]
    assert {"COLOUR=green", "PASSWORD=swordfish", f"AIR_RUN_ID={launch.run}", "AIR_SLOT=3"} <= set(lines)
    assert f"PYTHONPATH=/theirs:{local.layout.bin}" in lines


@pytest.mark.parametrize("kind", ["symlink", "dangling", "fifo", "directory", "hard link"])
def test_a_hostile_slot_file_is_refused(local: LocalRig, tmp_path: Path, kind: str) -> None:
    """What a task puts in the place of the slot's file is neither followed, nor waited for, nor changed."""
    precious = tmp_path / "precious"
    precious.write_text("do not touch")
    launch = local.launch(SLOT, 1, Task.ENDS)
    path = local.layout.slot_file(SLOT)
    if kind == "fifo":
        os.mkfifo(path)
    elif kind == "directory":
        os.mkdir(path)
    elif kind == "hard link":
        os.link(precious, path)
    else:
        os.symlink(precious if kind == "symlink" else tmp_path / "nothing", path)
    backend = local.backend()
    assert backend.observe() == {}
    with pytest.raises(SpawnRejectedError, match=r"runner\.pid"):
        backend.spawn(launch)
    backend.remove(SLOT)
    assert backend.observe() == {}
    assert precious.read_text() == "do not touch"
    assert not (tmp_path / "nothing").exists()


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"host": 1, "boot": 2, "run": 3, "grace": "x"}', "[" * 4000, "\0\n"])
def test_a_scribbled_slot_file_harms_nobody(local: LocalRig, text: str) -> None:
    """Whatever a task writes into the file, its own run is still known, and the next one starts."""
    backend = local.backend()
    launch = local.launch(SLOT, 1, Task.WAITS)
    backend.spawn(launch)
    runner_pid(local, launch)
    forge(local, text)
    adopting = local.backend()
    assert adopting.observe()[SLOT].run == launch.run
    local.release(launch)
    local.until(lambda: SLOT not in adopting.observe() and SLOT not in backend.observe(), "the runner to be gone")
    backend.spawn(local.launch(SLOT, 2, Task.ENDS))
    local.until(lambda: SLOT not in backend.observe(), "the next runner to be gone")


def test_a_removed_slot_file_frees_nothing(local: LocalRig) -> None:
    """After a `git clean` the live runner is still found, by its lock on the file that is gone."""
    backend = local.backend()
    launch = local.launch(SLOT, 1, Task.WAITS)
    backend.spawn(launch)
    runner_pid(local, launch)
    os.unlink(local.layout.slot_file(SLOT))
    again = local.backend()
    assert again.observe()[SLOT].run == launch.run
    for manager in (backend, again):
        with pytest.raises(DuplicateRunnerError):
            manager.spawn(local.launch(SLOT, 2, Task.ENDS))
    local.until(lambda: is_gone(again), "the runner to be gone")


def test_a_new_file_is_no_proof_of_a_free_slot(local: LocalRig) -> None:
    """A straggler of an archived job of the same id blocks the new one's slot, though this manager never saw it."""
    backend = local.backend()
    assert backend.observe() == {}
    old = local.command(SLOT, 1, Task.WAITS.value)
    local.spawn_by_manager_that_is_killed(old)
    runner_pid(local, old)
    os.makedirs(local.layout.archive)
    os.rename(local.layout.job("census"), f"{local.layout.archive}/census-1")
    new = local.launch(SLOT, 2, Task.ENDS)
    with pytest.raises(DuplicateRunnerError):
        backend.spawn(new)
    with pytest.raises(DuplicateRunnerError):
        backend.spawn(new)
    assert backend.observe()[SLOT].run == old.run
    local.until(lambda: is_gone(backend), "the straggler to be gone")
    backend.spawn(new)
    local.until(lambda: SLOT not in backend.observe(), "the new run to end")


@pytest.mark.parametrize("late", [False, True], ids=["at start", "at spawn"])
@pytest.mark.parametrize(
    ("host", "run"),
    [(HOST, "0badcafe-1"), (Host("elsewhere", "x"), "0badcafe-1"), (Host("here", "earlier-boot"), None)],
    ids=["other namespace", "other host", "earlier boot"],
)
def test_a_lock_held_by_the_invisible(local: LocalRig, host: Host, run: str | None, *, late: bool) -> None:
    """A holder that no process here explains keeps the slot; its run is believed unless the file is of another boot."""
    backend = local.backend()
    if late:
        backend.observe()
    with open(forge(local, header(host=host)), "rb") as file:  # we never suspect ourselves, so this lock has no owner
        fcntl.flock(file, fcntl.LOCK_EX)
        if late:
            with pytest.raises(DuplicateRunnerError):
                backend.spawn(local.launch(SLOT, 2, Task.ENDS))
        status = backend.observe()[SLOT]
        assert (status.run, status.alive) == (run, True)
        backend.remove(SLOT)
        assert SLOT in backend.observe()
    assert SLOT not in backend.observe()


@pytest.mark.parametrize("change", [{"argv": ("true", "x" * 4_000_000)}, {"env": {"A": "b\0c"}}, {"env": {"A=": "b"}}])
def test_what_can_never_start_is_rejected(local: LocalRig, change: dict[str, object]) -> None:
    """Arguments too long for the kernel or text that no process can get: permanent, and the slot stays free."""
    backend = local.backend()
    launch = local.launch(SLOT, 1, Task.ENDS)
    with pytest.raises(SpawnRejectedError):
        backend.spawn(Launch(**{**{name: getattr(launch, name) for name in Launch.__slots__}, **change}))
    assert backend.observe() == {}
    backend.spawn(launch)
    local.until(lambda: SLOT not in backend.observe(), "the runner to be gone")


def test_a_runner_that_cannot_be_watched_is_not_forgotten(local: LocalRig, monkeypatch: pytest.MonkeyPatch) -> None:
    """Out of descriptors after the start: unknown is reported, and the next look finds the runner."""
    backend = local.backend()
    backend.observe()
    launch = local.launch(SLOT, 1, Task.WAITS)
    with monkeypatch.context() as patch:
        patch.setattr(type(local.processes()), "hold", raise_too_many_files)
        with pytest.raises(BackendUnavailableError):
            backend.spawn(launch)
    assert backend.observe()[SLOT].run == launch.run
    local.until(lambda: is_gone(backend), "the runner to be gone")


def raise_too_many_files(*_: object) -> None:
    """Fail as the kernel does when a process has too many files open."""
    raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))


@linux_only
def test_not_having_looked_is_not_having_found_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """When `/proc` cannot be read for want of descriptors the backend says so, and answers when it can."""
    local = LocalRig(tmp_path)
    launch = local.launch(SLOT, 1, Task.WAITS)
    local.spawn_by_manager_that_is_killed(launch)
    backend = local.backend()
    with monkeypatch.context() as patch:
        patch.setattr(proc_reader, "read", raise_too_many_files)
        with pytest.raises(BackendUnavailableError):
            backend.observe()
    assert backend.observe()[SLOT].run == launch.run
    local.close()


def test_slots_are_held_for_archiving(local: LocalRig) -> None:
    """A job's directory may move only while nothing of it runs, and nothing of it starts meanwhile."""
    backend = local.backend()
    launch = run_to_exit(local, backend, Task.LEAVES_CHILD.value)
    with pytest.raises(DuplicateRunnerError), backend.lock_slots("census", [0, 1]):
        pytest.fail("a straggler was overlooked")
    local.release(launch)
    local.until(lambda: SLOT not in backend.observe(), "the slot to be free")
    rival = local.backend()
    rival.observe()
    with backend.lock_slots("census", [0, 1]), pytest.raises(DuplicateRunnerError):
        rival.spawn(local.launch(SLOT, 2, Task.ENDS))
    local.until(lambda: SLOT not in rival.observe(), "the slot to be free")
    rival.spawn(local.launch(SLOT, 3, Task.ENDS))
    local.until(lambda: SLOT not in rival.observe(), "the runner to be gone")


def test_an_end_wakes_the_manager(local: LocalRig) -> None:
    """The hint comes without anybody asking, for runners from before and after it was wanted."""
    backend = local.backend()
    woken = threading.Event()
    first, second = local.launch(SLOT, 1, Task.WAITS), local.launch(Slot("census", 1), 2, Task.WAITS)
    backend.spawn(first)
    readable = backend.on_change(woken.set)
    backend.spawn(second)
    for launch in (first, second):
        local.until(partial(local.is_ready, launch), "the task to start")
        woken.clear()
        local.release(launch)
        assert woken.wait(120) if readable is None else select.select([readable], [], [], 120)[0]
        local.until(partial(is_gone, backend, launch.slot), "the runner to be gone")


def test_close_leaves_runners_but_no_handles(local: LocalRig) -> None:
    """Descriptors and threads are given back, and the runner goes on."""
    threads = set(threading.enumerate())
    before = psutil.Process().num_fds()
    backend = local.backend()
    launch = local.launch(SLOT, 1, Task.WAITS)
    backend.on_change(lambda: None)
    backend.spawn(launch)
    pid = runner_pid(local, launch)
    backend.close()
    assert psutil.Process().num_fds() == before
    assert set(threading.enumerate()) == threads
    assert psutil.pid_exists(pid)


def test_runs_leave_no_descriptors_behind(local: LocalRig) -> None:
    """After many runs the manager holds what it held after the first."""
    backend = local.backend()
    counts = []
    for seq in range(4):
        backend.spawn(local.launch(SLOT, seq, Task.ENDS))
        local.until(lambda: SLOT not in backend.observe(), "the runner to be gone")
        counts.append(psutil.Process().num_fds())
    assert len(set(counts)) == 1


@linux_only
def test_a_process_with_many_files_is_not_looked_through(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It costs no more than one with some; a lock that it holds by a low number is seen."""
    looked: list[object] = []
    readlink = os.readlink

    def counted(path: str) -> str:
        looked.append(path)
        return readlink(path)

    fields = proc_reader.stat(os.getpid())
    assert fields is not None
    with contextlib.ExitStack() as stack:
        lock = stack.enter_context((tmp_path / "slot").open("a"))
        fcntl.flock(lock, fcntl.LOCK_EX)
        assert proc_reader.inspect(os.getpid(), fields, b"", str(tmp_path)).locks == (str(tmp_path / "slot"),)
        for number in range(20):
            stack.enter_context((tmp_path / f"{number}").open("a"))
        monkeypatch.setattr(proc_reader, "MOST_FILES", 10)
        monkeypatch.setattr(os, "readlink", counted)
        proc_reader.inspect(os.getpid(), fields, b"", str(tmp_path))
    assert len(looked) <= 10


def test_many_daemons_take_few_descriptors(local: LocalRig) -> None:
    """A task that leaves more processes than the manager may open files costs it a few; all of them are removed."""
    backend = local.backend()
    before = psutil.Process().num_fds()
    many = 4 * MOST_HELD
    run_to_exit(local, backend, f"i=0; while [ $i -lt {many} ]; do setsid sleep 1000 & i=$((i+1)); done; sleep 0.1")
    assert psutil.Process().num_fds() - before <= 2 * MOST_HELD
    local.until(lambda: is_gone(backend), "the daemons to be gone")
    assert local.members() == []


def test_a_state_directory_behind_a_link(local: LocalRig, tmp_path: Path) -> None:
    """The kernel shows real paths; a manager that came through a link knows its runners all the same."""
    alias = tmp_path / "alias"
    alias.symlink_to(local.layout.root)
    launch = local.launch(SLOT, 1, Task.WAITS)
    local.spawn_by_manager_that_is_killed(launch)
    backend = local.backend(Layout(alias))
    assert backend.observe()[SLOT].run == launch.run
    with pytest.raises(DuplicateRunnerError):
        backend.spawn(local.launch(SLOT, 2, Task.ENDS))
    local.until(lambda: is_gone(backend), "the runner to be gone")


def test_another_state_directory_is_none_of_ours(local: LocalRig, tmp_path: Path) -> None:
    """Two managers of two directories do not see each other's runners."""
    launch = local.launch(SLOT, 1, Task.WAITS)
    backend = local.backend()
    backend.spawn(launch)
    other = local.backend(Layout(tmp_path / "other"))
    assert other.observe() == {}
    other.remove(SLOT)
    assert backend.observe()[SLOT].alive


@pytest.mark.parametrize(
    ("script", "told"),
    [
        ("exit 96", "could not write the run's files"),
        ("kill -KILL $$", "ended by SIGKILL"),
        ("exit 3", "exit status 3"),
    ],
)
def test_what_a_runner_without_an_outcome_ended_with(local: LocalRig, script: str, told: str) -> None:
    """The runner's own exit status is told: it did not just vanish."""
    folder = local.layout.root + "/other-bin"
    os.makedirs(folder)
    Path(folder, "air-runner").write_text(f"sleep 600 &\n{script}\n")
    backend = local.backend()
    backend.spawn(replace(local.launch(SLOT, 1, Task.ENDS), bin_dir=folder))
    local.until(lambda: not backend.observe()[SLOT].alive, "the runner to be gone")
    assert told in (backend.observe()[SLOT].message or "")


@linux_only
def test_a_file_too_deep_for_a_path_harms_nobody(local: LocalRig) -> None:
    """A task, or anybody here, may have one open; the kernel cannot tell its path, and it is no slot's."""
    code = (
        "import os, time\n"
        "for _ in range(30):\n"
        "    os.mkdir('d' * 200); os.chdir('d' * 200)\n"
        "file = open('deep', 'w')\n"
        "open(os.environ['AIR_WORKSPACE'] + '/ready-' + os.environ['AIR_RUN_ID'], 'w').close()\n"
        "time.sleep(600)"
    )
    launch = local.command(SLOT, 1, f'exec {sys.executable} -c "{code}"')
    local.backend().spawn(launch)
    local.until(lambda: local.is_ready(launch), "the file to be open")
    backend = local.backend()
    assert backend.observe()[SLOT].run == launch.run
    backend.remove(SLOT)
    local.until(lambda: is_gone(backend), "the runner to be gone")


def test_a_forged_slot_number_harms_nobody(local: LocalRig) -> None:
    """What a task's child says of its slot is a number of a sane length, or none."""
    backend = local.backend()
    launch = local.launch(SLOT, 1, Task.WAITS)
    backend.spawn(launch)
    runner_pid(local, launch)
    forged = {**os.environ, "AIR_RUN_ID": launch.run, "AIR_WORKSPACE": launch.workspace, "AIR_SLOT": "1" * 5000}
    with subprocess.Popen(["sleep", "1000"], env=forged, start_new_session=True) as other:
        assert SLOT in local.backend().observe()
        other.kill()
    local.until(lambda: is_gone(backend), "the runner to be gone")


def test_services_are_refused(local: LocalRig) -> None:
    """They need containers; the slot stays free."""
    backend = local.backend()
    launch = replace(local.command(SLOT, 1, "true"), services=[LaunchService("db", "postgres:16")])
    with pytest.raises(SpawnRejectedError, match="services: they need containers"):
        backend.spawn(launch)
    assert backend.observe() == {}
