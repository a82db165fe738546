"""The cgroup of a run: nothing escapes from it, its limits hold, and what a task does to it harms nobody else."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import resource
import sys
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import psutil
import pytest

from air_executor.backends.base import Launch
from air_executor.backends.local import cgroup_files, local_check
from air_executor.backends.local.cgroups import CONTROLLERS, Cgroups, open_cgroups
from air_executor.backends.local.local_backend import LocalBackend
from air_executor.errors import BackendUnavailableError
from air_executor.model.names import Slot
from air_executor.runner import native
from tests.backends.rig import LocalRig, Task, require_cgroups
from tests.backends.spawn_once import HOST
from tests.backends.test_contract import is_gone
from tests.backends.test_local import raise_too_many_files
from tests.conftest import wait_for

SLOT = Slot("census", 0)
OTHER = Slot("tally", 0)
HIDDEN = """
env -i setsid sh -c '>"$0"; sleep 1000; true' "$AIR_WORKSPACE/hidden" 9>&- >/dev/null 2>&1 &
until [ -e "$AIR_WORKSPACE/hidden" ]; do sleep 0.01; done
"""
"""Starts what no group, session, lock or environment gives away, and waits for it."""


@pytest.fixture
def grouped(tmp_path: Path) -> Iterator[LocalRig]:
    """A state directory whose runs have cgroups."""
    rig = LocalRig(tmp_path, is_native=True, in_cgroups=True)
    yield rig
    rig.close()
    assert groups_of(rig) == []


def folder_of(rig: LocalRig) -> Path:
    """Return the folder of the groups of a state directory, which may not exist."""
    groups = open_cgroups(rig.layout.root)
    groups.close()
    return Path(groups.folder)


def groups_of(rig: LocalRig) -> list[str]:
    """Return the runs that have a group."""
    folder = folder_of(rig)
    return [path.name for path in folder.iterdir() if path.is_dir()] if folder.exists() else []


def started(rig: LocalRig, backend: LocalBackend, script: str, slot: Slot = SLOT, **fields: Any) -> Launch:  # noqa: ANN401
    """Start a task whose script ends with `true >"$AIR_WORKSPACE/ready-$AIR_RUN_ID"`, and wait for that."""
    launch = replace(rig.command(slot, 1, f'{script}\ntrue >"$AIR_WORKSPACE/ready-$AIR_RUN_ID"\nsleep 1000'), **fields)
    backend.spawn(launch)
    rig.until(lambda: rig.is_ready(launch), "the task to start")
    return launch


def outcome(rig: LocalRig, backend: LocalBackend, launch: Launch) -> dict[str, Any]:
    """Run a task to its end and return what its runner wrote."""
    backend.spawn(launch)
    rig.until(lambda: launch.slot not in backend.observe(), "the run to end")
    found: dict[str, Any] = json.loads(Path(launch.out_dir, "claim").read_text())
    return found


def sleepers(rig: LocalRig) -> list[psutil.Process]:
    """Return the processes in the groups of this state directory's runs; a waiting task's own come and go."""
    found = []
    for pid in [int(pid) for path in folder_of(rig).glob("*/cgroup.procs") for pid in path.read_text().split()]:
        with contextlib.suppress(psutil.NoSuchProcess):
            found.append(psutil.Process(pid))
    return found


def is_alive(process: psutil.Process) -> bool:
    """Tell whether it runs; init may not have reaped it yet."""
    try:
        return process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def test_a_task_is_in_its_group_from_its_first_instruction(grouped: LocalRig) -> None:
    """The group is named after the run, the runner is outside, and no descriptor of it reaches the task."""
    backend = grouped.backend()
    launch = grouped.command(SLOT, 1, "cat /proc/self/cgroup; echo; echo /proc/self/fd/*")
    assert outcome(grouped, backend, launch)["exit_code"] == 0
    log = Path(launch.out_dir, "output.log").read_text()
    assert f"/{folder_of(grouped).name}/{launch.run}\n" in log
    assert "/proc/self/fd/10" not in log
    assert groups_of(grouped) == []


def test_a_task_begins_as_any_program_does(grouped: LocalRig) -> None:
    """No signal is blocked or ignored, but for two that are libc's own: its posix_spawn leaves those ignored."""
    launch = grouped.command(SLOT, 1, "grep -E '^Sig(Blk|Ign)' /proc/self/status")
    assert outcome(grouped, grouped.backend(), launch)["exit_code"] == 0
    _, blocked, _, ignored = Path(launch.out_dir, "output.log").read_text().split()
    assert (int(blocked, 16), int(ignored, 16) & ~(3 << 31)) == (0, 0)


def test_a_script_without_a_first_line_is_run_by_sh(grouped: LocalRig) -> None:
    """The kernel refuses it in the process that is born in the group, which says so to the runner."""
    launch = grouped.command(SLOT, 1, "")
    script = Path(launch.workspace, "plain")
    script.write_text("echo plain; cat /proc/self/cgroup\n")
    script.chmod(0o755)
    assert outcome(grouped, grouped.backend(), replace(launch, argv=(str(script),)))["exit_code"] == 0
    log = Path(launch.out_dir, "output.log").read_text()
    assert log.startswith("plain\n")
    assert f"/{folder_of(grouped).name}/{launch.run}\n" in log


def test_a_process_that_left_everything_holds_the_slot(grouped: LocalRig) -> None:
    """It is in no group or session of the run, without its lock and its environment, and ends with it all the same."""
    backend = grouped.backend()
    launch = grouped.command(SLOT, 1, HIDDEN)
    backend.spawn(launch)
    grouped.until(lambda: not backend.observe()[SLOT].alive, "the runner to exit")
    hidden = sleepers(grouped)
    assert hidden
    assert "still runs" in str(backend.observe()[SLOT].held_by)
    grouped.until(lambda: is_gone(backend), "the slot to be free")
    assert not any(is_alive(process) for process in hidden)


def test_what_ignores_a_stop_is_killed_wherever_it_hid(grouped: LocalRig) -> None:
    """After the grace the runner itself ends everything: no manager has to live for that."""
    backend = grouped.backend()
    launch = grouped.command(SLOT, 1, f"trap '' TERM\n{HIDDEN}\n{Task.IGNORES_TERM.value}")
    backend.spawn(launch)
    grouped.until(lambda: grouped.is_ready(launch), "the task to start")
    hidden = sleepers(grouped)
    backend.remove(SLOT)
    wait_for(lambda: not any(is_alive(process) for process in hidden), what="the hidden process to go")
    grouped.until(lambda: is_gone(backend), "the slot to be free")


def test_the_next_manager_finds_a_group_by_its_name(grouped: LocalRig) -> None:
    """Neither runner nor visible process is left, and yet nothing else starts in the slot before the rest has ended."""
    launch = grouped.command(SLOT, 1, f"{HIDDEN}\n{Task.WAITS.value}")
    grouped.spawn_by_manager_that_is_killed(launch)
    grouped.until(lambda: grouped.is_ready(launch), "the task to start")
    wait_for(grouped.clear, what="all that can be seen to go")
    hidden = sleepers(grouped)
    assert hidden
    backend = grouped.backend()
    assert backend.observe()[SLOT].run == launch.run
    grouped.until(lambda: is_gone(backend), "the slot to be free")
    assert not any(is_alive(process) for process in hidden)


def test_a_live_run_is_adopted_with_its_group(grouped: LocalRig) -> None:
    """A manager that takes over ends what is left of the run of the one before."""
    launch = grouped.command(SLOT, 1, f"{HIDDEN}\n{Task.WAITS.value}")
    grouped.spawn_by_manager_that_is_killed(launch)
    grouped.until(lambda: grouped.is_ready(launch), "the task to start")
    hidden = sleepers(grouped)
    backend = grouped.backend()
    assert backend.observe()[SLOT].alive
    grouped.release(launch)
    grouped.until(lambda: not backend.observe()[SLOT].alive, "the runner to exit")
    grouped.until(lambda: is_gone(backend), "the slot to be free")
    assert not any(is_alive(process) for process in hidden)


UNREAPED = """
import os, signal, time
signal.signal(signal.SIGCHLD, signal.SIG_IGN)
if not os.fork():
    while time.process_time() < 0.4: pass
    os._exit(0)
time.sleep(1.5)
"""


@pytest.mark.parametrize(
    "script",
    ["setsid sh -c 'while :; do :; done' & sleep 1", f"exec {sys.executable} -S -c '{UNREAPED}'"],
    ids=["still runs", "is reaped by nobody"],
)
def test_all_cpu_time_in_the_group_counts(grouped: LocalRig, script: str) -> None:
    """That of processes which the runner is told nothing of, too."""
    backend = grouped.backend()
    launch = grouped.command(SLOT, 1, script)
    backend.spawn(launch)
    claim = Path(launch.out_dir, "claim")
    wait_for(lambda: claim.exists() and claim.read_text().endswith("\n"), what="the outcome")
    found = json.loads(claim.read_text())
    assert sum(float(found[name].removeprefix("0m").removesuffix("s")) for name in ("user", "system")) > 0.2
    grouped.until(lambda: is_gone(backend), "the slot to be free")


def delay_runners(rig: LocalRig, until: Path) -> None:
    """Have every runner wait for a file before it does anything."""
    path = Path(rig.layout.bin, str(native.this_machine()), native.NAME)
    path.rename(path.with_name("delayed"))
    (path.parent / "real").mkdir()
    path.with_name("delayed").rename(path.parent / "real" / native.NAME)
    path.write_text(f"""#!/bin/sh
until [ -e '{until}' ]; do sleep 0.01; done
exec '{path.parent}/real/{native.NAME}' "$@"
""")
    path.chmod(0o755)


def test_a_runner_is_adopted_before_it_has_made_its_group(grouped: LocalRig, tmp_path: Path) -> None:
    """A manager that is killed right after it has started a runner: the next one ends what is left of the run."""
    delay_runners(grouped, tmp_path / "go")
    launch = grouped.command(SLOT, 1, f"{HIDDEN}\n{Task.WAITS.value}")
    grouped.spawn_by_manager_that_is_killed(launch)
    backend = grouped.backend()
    assert backend.observe()[SLOT].alive
    (tmp_path / "go").touch()
    grouped.until(lambda: grouped.is_ready(launch), "the task to start")
    hidden = sleepers(grouped)
    assert hidden
    grouped.release(launch)
    grouped.until(lambda: not backend.observe()[SLOT].alive, "the runner to exit")
    grouped.until(lambda: is_gone(backend), "the slot to be free")
    assert not any(is_alive(process) for process in hidden)


def test_a_runner_makes_its_group_after_its_manager_has_stopped(grouped: LocalRig, tmp_path: Path) -> None:
    """The folder stays for a runner that has only just been started."""
    delay_runners(grouped, tmp_path / "go")
    backend = grouped.backend()
    launch = grouped.command(SLOT, 1, "cat /proc/self/cgroup")
    backend.spawn(launch)
    backend.close()
    (tmp_path / "go").touch()
    after = grouped.backend()
    grouped.until(lambda: SLOT not in after.observe(), "the run to end")
    assert f"/{launch.run}\n" in Path(launch.out_dir, "output.log").read_text()


def test_groups_that_no_job_knows_are_removed_at_the_start(grouped: LocalRig) -> None:
    """Empty ones, and one with a process of a run whose job was removed."""
    folder = folder_of(grouped)
    folder.mkdir()
    (folder / "0badcafe-7").mkdir()
    (folder / "0badcafe-8" / "below").mkdir(parents=True)
    with psutil.Popen(["sleep", "1000"]) as process:
        (folder / "0badcafe-8" / "below" / "cgroup.procs").write_text(str(process.pid))
        backend = grouped.backend()
        assert backend.observe() == {}
        assert process.wait() != 0
    wait_for(lambda: backend.observe() == {} and groups_of(grouped) == [], what="the groups to go")


@contextlib.contextmanager
def killed_at_the_end(process: psutil.Popen) -> Iterator[None]:
    """Do not wait for a process that nothing else has ended."""
    try:
        yield
    finally:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.kill()


def test_what_a_killed_manager_left_is_removed_by_another(tmp_path: Path) -> None:
    """Groups of a state directory that nobody manages any more, once they are old; not those of a manager at work."""
    require_cgroups()
    left, new, used = (open_cgroups(f"{tmp_path}/{name}") for name in ("left", "new", "used"))

    def is_removed() -> bool:
        with contextlib.suppress(
            FileNotFoundError
        ):  # another test's manager may have removed the group within, just now
            os.utime(left.folder, (0, 0))
        open_cgroups(f"{tmp_path}/other").close()
        return not Path(left.folder).exists()

    with psutil.Popen(["sleep", "1000"]) as process, killed_at_the_end(process):
        for groups in (left, new, used):
            Path(groups.folder, "0badcafe-1").mkdir()
        Path(used.folder, "0badcafe-1", "cgroup.procs").write_text(str(process.pid))
        for path in (left.folder, used.folder):
            os.utime(f"{path}/0badcafe-1", (0, 0))
            os.utime(path, (0, 0))
        wait_for(is_removed, what="the old groups to go")
        assert [Path(groups.folder).exists() for groups in (new, used)] == [True, True]
        used.remove("0badcafe-1")
        process.wait()
    new.remove("0badcafe-1")

    def is_over() -> bool:
        new.close()
        used.close()
        return not Path(new.folder).exists() and not Path(used.folder).exists()

    wait_for(is_over, what="the groups to go")


def test_a_command_beside_a_manager_leaves_groups_alone(grouped: LocalRig) -> None:
    """`prune` takes the slots of an ended job, and removes no group of a run that is about to start."""
    folder = folder_of(grouped)
    (folder / "0badcafe-7").mkdir(parents=True)
    with grouped.backend().lock_slots("census", []):
        assert (folder / "0badcafe-7").is_dir()
    grouped.backend().observe()


def test_a_deep_nest_of_groups_is_removed(grouped: LocalRig) -> None:
    """A task nests groups deeper than a path can name, and goes into the innermost one."""
    backend = grouped.backend()
    nest = (
        "import os\n"
        "path = '/sys/fs/cgroup' * os.path.exists('/sys/fs/cgroup/cgroup.procs') or '/sys/fs/cgroup/unified'\n"
        "line = [l for l in open('/proc/self/cgroup') if l.startswith('0::')][0].strip()\n"
        "os.chdir(path + line[3:])\n"
        "for _ in range(40):\n"
        "    os.mkdir('x' * 200)\n"
        "    os.chdir('x' * 200)\n"
        "open('cgroup.procs', 'w').write('0')\n"
    )
    Path(grouped.layout.root, "nest.py").write_text(nest)
    launch = grouped.command(SLOT, 1, f"exec {sys.executable} {grouped.layout.root}/nest.py")
    assert outcome(grouped, backend, launch)["exit_code"] == 0
    wait_for(lambda: backend.observe() == {} and groups_of(grouped) == [], what="the group to go")


def test_a_task_that_takes_the_manager_along(grouped: LocalRig) -> None:
    """A task moves the manager into its own group, whose end must not be the manager's."""
    backend = grouped.backend()
    home = cgroup_files.own_group()
    launch = started(grouped, backend, "trap '' TERM")
    (folder_of(grouped) / launch.run / "cgroup.procs").write_text(str(os.getpid()))
    assert cgroup_files.own_group() != home
    grouped.until(lambda: is_gone(backend), "the slot to be free")
    assert cgroup_files.own_group() == home


def test_a_frozen_task_ends(grouped: LocalRig) -> None:
    """A task freezes its own group; a stop ends it like one that ignores TERM."""
    backend = grouped.backend()
    launch = started(grouped, backend, "true")
    (folder_of(grouped) / launch.run / "cgroup.freeze").write_text("1")
    grouped.until(lambda: is_gone(backend), "the slot to be free")


def test_a_group_of_threads_stops_no_other_run(grouped: LocalRig, caplog: pytest.LogCaptureFixture) -> None:
    """A group of threads beside it makes plain ones impossible: the next run has none, and a warning says so."""
    if require_cgroups():
        pytest.skip("where controllers are delegated, the kernel refuses this")
    backend = grouped.backend()
    backend.observe()
    odd = folder_of(grouped) / "odd"
    odd.mkdir(parents=True)
    (odd / "cgroup.type").write_text("threaded")
    assert outcome(grouped, backend, grouped.command(SLOT, 1, "true"))["exit_code"] == 0
    assert "had no cgroup of its own" in caplog.text
    assert groups_of(grouped) == ["odd"]
    odd.rmdir()
    caplog.clear()
    assert outcome(grouped, backend, grouped.command(SLOT, 2, "true"))["exit_code"] == 0
    assert "cgroup" not in caplog.text


def test_a_folder_that_was_removed_is_made_again(grouped: LocalRig) -> None:
    """Whatever removes it while no run has a group, the next run gets one."""
    backend = grouped.backend()
    backend.observe()
    folder_of(grouped)  # removes it
    launch = grouped.command(SLOT, 1, "cat /proc/self/cgroup")
    assert outcome(grouped, backend, launch)["exit_code"] == 0
    assert launch.run in Path(launch.out_dir, "output.log").read_text()


def test_groups_on_a_mount_that_is_read_only(
    grouped: LocalRig, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A run has no group, a warning says so, and nothing is left to remove, whatever the kernel says of that."""

    def refuse(path: str, **_: object) -> None:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS), path)

    groups = open_cgroups(grouped.layout.root)
    access = groups.prepare("0badcafe-1", {})
    assert access is not None
    with monkeypatch.context() as patch:
        patch.setattr(os, "rmdir", refuse)
        assert access.group.discard()
    groups.close()
    assert "0badcafe-1 had no cgroup of its own" in caplog.text


def test_no_descriptors_are_left_for_a_runner(grouped: LocalRig) -> None:
    """Then nothing starts for now; once there are some again, the same run does."""
    backend = grouped.backend()
    outcome(grouped, backend, grouped.command(SLOT, 1, "true"))
    launch = grouped.command(SLOT, 2, "true")
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    taken: list[int] = []
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(map(int, os.listdir("/proc/self/fd"))) + 20, hard))
    try:
        with contextlib.suppress(OSError):
            while True:
                taken.append(os.open("/dev/null", os.O_RDONLY))
        for _ in range(2):  # one is for the slot's file, the second for the copy of it that the runner inherits
            os.close(taken.pop())
            with pytest.raises(BackendUnavailableError):
                backend.spawn(launch)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        for fd in taken:
            os.close(fd)
    assert outcome(grouped, backend, launch)["exit_code"] == 0


def test_a_run_that_cannot_be_watched_ends_with_its_group(grouped: LocalRig, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its runner has ended before the next look, and nothing but the group shows what it left."""
    backend = grouped.backend()
    backend.observe()
    launch = grouped.command(SLOT, 1, HIDDEN)
    with monkeypatch.context() as patch:
        patch.setattr(type(grouped.processes()), "hold", raise_too_many_files)
        with pytest.raises(BackendUnavailableError):
            backend.spawn(launch)
    claim = Path(launch.out_dir, "claim")
    wait_for(lambda: claim.exists() and claim.read_text().endswith("\n"), what="the outcome")
    hidden = sleepers(grouped)
    assert hidden
    wait_for(grouped.clear, what="all that can be seen to go")
    grouped.until(lambda: is_gone(backend), "the slot to be free")
    assert not any(is_alive(process) for process in hidden)


def test_a_group_in_use_is_removed_later(grouped: LocalRig, monkeypatch: pytest.MonkeyPatch) -> None:
    """A group that the kernel will not remove yet is kept in mind, and nothing else waits for it."""
    groups = open_cgroups(grouped.layout.root)
    os.mkdir(f"{groups.folder}/0badcafe-1")
    group = groups.find("0badcafe-1")
    assert group is not None
    monkeypatch.setattr(type(group), "kill", lambda _: None)
    with psutil.Popen(["sleep", "1000"]) as process:
        (Path(groups.folder) / "0badcafe-1" / "cgroup.procs").write_text(str(process.pid))
        groups.remove("0badcafe-1")
        assert group.exists
        process.kill()
    groups.close()
    assert not Path(groups.folder).exists()


@pytest.mark.parametrize("run", ["", ".", "..", "../..", "a/b", "x" * 5000, "\0"])
def test_a_forged_run_has_no_group(grouped: LocalRig, run: str) -> None:
    """Nothing outside of the folder of the groups is ever one."""
    groups = open_cgroups(grouped.layout.root)
    assert groups.find(run) is None
    groups.close()


def test_doctor_tells_what_holds(tmp_path: Path) -> None:
    """One line says whether runs have cgroups, and whether resources are enforced; nothing is left of the look."""
    controllers = require_cgroups()
    looks = open_cgroups(f"{tmp_path}/doctor")
    looks.close()
    [finding] = local_check.check(str(tmp_path))
    assert "one per run" in finding.text
    assert ("are enforced" in finding.text) == (controllers == {"cpu", "memory", "pids"})
    assert [name in finding.text.split("AIR_")[0] for name in CONTROLLERS] == [
        name not in controllers for name in CONTROLLERS
    ]
    assert not Path(looks.folder).exists()


def test_doctor_tells_why_there_are_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without version 2 it says so, and what that means."""
    monkeypatch.setattr(cgroup_files, "read", lambda _: b"4:memory:/\n")
    [finding] = local_check.check(str(tmp_path))
    assert "no cgroup version 2 is mounted" in finding.text or "script" in finding.text
    assert "not enforced" in finding.text


# Limits: where the controllers are delegated


def limited(grouped: LocalRig, controller: str) -> tuple[LocalRig, LocalBackend]:
    """Return a rig and a backend that enforces a resource; skip the test elsewhere."""
    if controller not in require_cgroups():
        pytest.skip(f"the controller {controller} is not delegated here: a hybrid layout, or no unit with Delegate=")
    return grouped, grouped.backend()


def python(rig: LocalRig, code: str, seq: int = 1, **resources: object) -> Launch:
    """Return a launch of Python code with resources."""
    path = Path(rig.layout.root, f"code{seq}.py")
    path.write_text(code)
    return replace(rig.command(SLOT, seq, f"exec {sys.executable} -S {path}"), options={"resources": resources})


def test_limits_memory_is_enforced_and_oom_is_certain(grouped: LocalRig) -> None:
    """A task beyond its memory is killed, and its runner, which is outside, counts that; one below it is not."""
    rig, backend = limited(grouped, "memory")
    greedy = outcome(
        rig, backend, python(rig, "b = bytearray(200 << 20)\nb[::4096] = b'1' * len(b[::4096])", memory=64 << 20)
    )
    assert greedy["oom_kills"] >= 1
    assert greedy["signal"] == 9
    assert (32 << 20) < greedy["memory_peak"] <= (64 << 20)
    modest = outcome(rig, backend, python(rig, "b = b'1' * (20 << 20)", seq=2, memory=64 << 20))
    assert (modest["oom_kills"], modest["exit_code"]) == (0, 0)
    assert (20 << 20) < modest["memory_peak"] < (60 << 20)


def test_limits_a_killed_child_is_counted(grouped: LocalRig) -> None:
    """A task whose child was killed for memory ends in its own way, and yet the reason is known."""
    rig, backend = limited(grouped, "memory")
    code = "import os, sys\npid = os.fork()\nif not pid:\n    b = b'1' * (200 << 20)\nos.waitpid(pid, 0)\nsys.exit(3)"
    found = outcome(rig, backend, python(rig, code, memory=64 << 20))
    assert (found["exit_code"], found["oom_kills"] >= 1) == (3, True)


def test_limits_cpu_is_enforced(grouped: LocalRig) -> None:
    """A task that may have a quarter of a core is held up when it wants more."""
    rig, backend = limited(grouped, "cpu")
    launch = python(rig, "while True: pass", cpu=0.25)
    backend.spawn(launch)
    group = folder_of(rig) / launch.run
    assert (group / "cpu.max").read_text() == "25000 100000\n"
    wait_for(lambda: "nr_throttled 0\n" not in (group / "cpu.stat").read_text(), what="the task to be held up")
    rig.until(lambda: is_gone(backend), "the slot to be free")


def test_limits_processes_are_enforced(grouped: LocalRig) -> None:
    """A task that starts more processes than it may have is refused the next one, and its neighbors are not."""
    if "pids" not in require_cgroups():
        pytest.skip("the controller pids is not delegated here: a hybrid layout, or no unit with Delegate=")
    backend = LocalBackend(
        grouped.layout,
        HOST,
        environ=os.environ,
        processes=grouped.processes(),
        make_cgroups=partial(open_cgroups, grouped.layout.root, 16),
    )
    fork = "import os, time\nfor _ in range(40):\n    if not os.fork():\n        time.sleep(1)\n        os._exit(0)\n"
    refused = outcome(grouped, backend, python(grouped, fork))
    assert refused["exit_code"] == 1
    assert "BlockingIOError" in Path(grouped.layout.run(SLOT.job, 1, "t"), "output.log").read_text()
    assert outcome(grouped, backend, python(grouped, "print(1)", seq=2))["exit_code"] == 0
    backend.close()


@pytest.mark.parametrize("delegated", ["cpu io memory pids", "cpu memory", ""])
def test_every_group_has_a_limit_of_processes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, delegated: str) -> None:
    """Where its controller is delegated, whatever a task asks for; the files are those of a made-up kernel."""
    written: dict[str, list[str]] = {}
    (tmp_path / "cgroup.controllers").write_text(delegated)

    def read(path: str) -> bytes:
        if path.endswith("/cgroup.type"):
            return b"domain\n"
        return Path(path).read_bytes() if Path(path).exists() else " ".join(written.get(path, [])).encode()

    monkeypatch.setattr(cgroup_files, "read", read)
    monkeypatch.setattr(cgroup_files, "write", lambda path, text: written.setdefault(path, []).append(text.strip("+")))
    groups = Cgroups(f"{tmp_path}/runs", str(tmp_path), pids=64)
    for run, resources in (("0badcafe-1", {}), ("0badcafe-2", {"cpu": 1, "memory": 1 << 30})):
        access = groups.prepare(run, resources)
        assert access is not None
        has_limits = "pids" in delegated or (bool(delegated) and bool(resources))
        assert (access.folder_fd is None) == has_limits, "a group without limits is made by the runner"
        assert written.get(f"{groups.folder}/{run}/pids.max") == (["64"] if "pids" in delegated else None)
        assert (f"{groups.folder}/{run}/memory.max" in written) == (bool(delegated) and bool(resources))
    groups.close(keep_folder=True)


def test_limits_are_none_without_resources(grouped: LocalRig) -> None:
    """A task that asks for nothing is limited by nothing."""
    rig, backend = limited(grouped, "memory")
    launch = started(rig, backend, "true")
    assert (folder_of(rig) / launch.run / "memory.max").read_text() == "max\n"
    rig.until(lambda: is_gone(backend), "the slot to be free")


def test_the_group_of_a_delegated_unit_lies_beside_its_manager(tmp_path: Path) -> None:
    """A manager is started in a subgroup of its unit, because a group that passes limits on must have no processes."""
    require_cgroups()
    home = Path(cgroup_files.own_group())
    unit = home / f"air-test-{os.getpid()}"
    (unit / "air-manager").mkdir(parents=True)
    try:
        (unit / "air-manager" / "cgroup.procs").write_text(str(os.getpid()))
        groups = open_cgroups(str(tmp_path))
        assert Path(groups.folder).parent == unit
        assert isinstance(groups, Cgroups)
        access = groups.prepare("0badcafe-1", {})
        assert access is not None
        assert not access.group.is_populated()
        groups.remove("0badcafe-1")
        groups.close()
    finally:
        (home / "cgroup.procs").write_text(str(os.getpid()))
        (unit / "air-manager").rmdir()
        unit.rmdir()
