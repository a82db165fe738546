"""The fork server and its client behave as one process tree, whichever process is killed."""

from __future__ import annotations

import fcntl
import os
import re
import signal
import subprocess
import sys
from functools import partial
from pathlib import Path

import psutil
import pytest

from air_executor.airflow.fork_client import RUNNER_LOCK, SERVER_DIED_EXIT
from air_executor.airflow.workload import TAKEN_EXIT
from air_executor.backends.local import cgroup_files
from air_executor.backends.local.processes import LOCK_FD
from tests.airflow.executor.conftest import Forking
from tests.backends.rig import require_cgroups
from tests.conftest import wait_for

WAITING = """
import os, time
other = os.fork()
if other == 0:
    os.setpgid(0, 0)
    time.sleep(300)
open({path!r} + "~", "w").write(f"{{os.getpid()}} {{other}}")
os.rename({path!r} + "~", {path!r})
time.sleep(300)
"""
"""A workload like Airflow's: it runs in a child with a process group of its own."""


def start_waiting(forking: Forking) -> tuple[subprocess.Popen[str], list[psutil.Process]]:
    """Start a workload that waits; return its client, the workload and its child."""
    path = forking.home / "pids"
    client = forking.start(WAITING.format(path=str(path)))
    wait_for(path.exists, 60, "the workload")
    return client, [psutil.Process(int(pid)) for pid in path.read_text().split()]


def gone(process: psutil.Process) -> bool:
    """Tell whether a process has ended."""
    try:
        return process.status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def test_output_and_surroundings(forking: Forking) -> None:
    """A workload has its client's output, variables and folder, and none of the server's or of another one."""
    told = "import os, sys; print(os.getcwd(), os.environ.get('ONE'), os.environ.get('AIR_X')); sys.stderr.write('oh')"
    assert forking.run(told, ONE="1", AIR_X="x") == (0, f"{forking.home} 1 x\n", "oh")
    assert forking.run(told) == (0, f"{forking.home} None None\n", "oh")
    (server,) = forking.servers()
    assert "AIR_X" not in server.environ()


def test_second_is_forked(forking: Forking) -> None:
    """A later workload finds the modules that the server has imported, in another process of the same server."""
    told = "import os, sys; print(os.getpid(), os.getppid(), 'airflow.settings' in sys.modules)"
    first, second = (forking.run(told)[1].split() for _ in range(2))
    assert first[0] != second[0]
    assert first[1:] == second[1:] == [str(forking.servers()[0].pid), "True"]


def test_many_at_once(forking: Forking) -> None:
    """Clients that start at the same time share one server, and none is lost."""
    clients = [forking.start(f"print({number})") for number in range(12)]
    assert [client.communicate(timeout=60)[0] for client in clients] == [f"{number}\n" for number in range(12)]
    assert len(forking.servers()) == 1


@pytest.mark.parametrize(
    ("program", "code"),
    [
        ("import sys; sys.exit(3)", 1),
        ("raise ValueError('no')", 1),
        ("import os; os._exit(7)", 7),
        ("import os; os.kill(os.getpid(), 9)", 128 + 9),
    ],
)
def test_bad_end(forking: Forking, program: str, code: int) -> None:
    """The exit code of a workload becomes that of its client, with the reason in its output; the server continues."""
    found, _, message = forking.run(program)
    assert found == code
    assert ("ValueError: no" in message) == ("ValueError" in program)
    assert forking.run("print(1)") == (0, "1\n", "")
    assert len(forking.servers()) == 1


def test_taken_once(forking: Forking) -> None:
    """The file of a running workload is deleted, and a second runner of it says why it does nothing."""
    file = forking.write(f"import os; print(os.listdir({str(forking.home)!r}))")
    assert file.name not in forking.spawn(forking.command(file)).communicate(timeout=60)[0]
    again = forking.spawn(forking.command(file))
    _, message = again.communicate(timeout=60)
    assert again.returncode == TAKEN_EXIT
    assert "was started before" in message


def test_groups_of_runs(forking: Forking) -> None:
    """The server outlives the run that has started it, and a workload ends with the cgroup of its client's run."""
    require_cgroups()
    folder = Path(cgroup_files.own_group(), f"{cgroup_files.RUNS}fork-server-test-{os.getpid()}")
    groups = [folder / name for name in ("one", "two")]
    try:
        for group in groups:
            group.mkdir(parents=True)
        enter = ["sh", "-c", 'echo $$ >"$0/cgroup.procs" && exec "$@"']
        told = forking.command(forking.write("print(open('/proc/self/cgroup').read())"))
        assert "/one" in forking.spawn([*enter, str(groups[0]), *told]).communicate(timeout=60)[0]
        waiting = forking.command(forking.write("import time; time.sleep(300)"))
        client = forking.spawn([*enter, str(groups[1]), *waiting])
        members = groups[1] / "cgroup.procs"
        wait_for(lambda: len(members.read_text().split()) == 2, 60, "client and workload in the group")
        for group in groups:
            (group / "cgroup.kill").write_text("1")
        assert client.wait(60) == -signal.SIGKILL
        wait_for(lambda: not members.read_text(), 60, "the end of the workload")
        assert forking.run("print(1)") == (0, "1\n", "")
        assert len(forking.servers()) == 1
    finally:
        for path in (*groups, folder):
            wait_for(partial(_removed, path), 60, "the end of a group")


def _removed(group: Path) -> bool:
    try:
        group.rmdir()
    except FileNotFoundError:
        return True
    except OSError:
        return False
    return True


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_signals(forking: Forking, number: int) -> None:
    """A signal to the client reaches the workload."""
    path = forking.home / "ready"
    client = forking.start(
        "import os, signal, pathlib\n"
        f"signal.signal({int(number)}, lambda n, f: (print('told', n, flush=True), os._exit(5)))\n"
        f"pathlib.Path({str(path)!r}).touch()\n"
        "while True: signal.pause()"
    )
    wait_for(path.exists, 60, "the workload")
    client.send_signal(number)
    assert client.communicate(timeout=60)[0] == f"told {int(number)}\n"
    assert client.returncode == 5


def test_client_killed(forking: Forking) -> None:
    """When the runner is killed, so is its workload, with children in other process groups; the server stays."""
    client, workload = start_waiting(forking)
    client.kill()
    wait_for(lambda: all(gone(process) for process in workload), 30, "the end of the workload")
    assert forking.run("print(1)") == (0, "1\n", "")
    assert len(forking.servers()) == 1


def test_server_killed(forking: Forking) -> None:
    """When the server is killed, no workload outlives its client, which says so; the next gets a new server."""
    client, workload = start_waiting(forking)
    (server,) = forking.servers()
    server.kill()
    _, message = client.communicate(timeout=60)
    assert client.returncode == SERVER_DIED_EXIT
    assert "the fork server has died" in message
    assert all(gone(process) for process in workload)
    assert forking.run("print(1)") == (0, "1\n", "")


def test_slot_stays_taken(forking: Forking) -> None:
    """While a process of a workload lives its slot is taken, even if client and server are killed together."""
    path = forking.home / "runner.pid"
    fd = os.open(path, os.O_RDWR | os.O_CREAT)
    fcntl.flock(fd, fcntl.LOCK_EX)
    pids = forking.home / "pids"
    file = forking.write(WAITING.format(path=str(pids)))
    inherit = f"import os, sys; os.dup2({fd}, {RUNNER_LOCK}); os.execv(sys.argv[1], sys.argv[1:])"
    begin = [sys.executable, "-c", inherit]
    client = forking.spawn([*begin, *forking.command(file)], pass_fds=[fd])
    os.close(fd)
    wait_for(pids.exists, 60, "the workload")
    main, other = (psutil.Process(int(pid)) for pid in pids.read_text().split())
    (server,) = forking.servers()
    assert str(path) not in [file.path for file in server.open_files()]
    server.suspend()
    client.kill()
    server.kill()
    client.wait(30)
    wait_for(lambda: gone(main), 30, "the end of the workload")
    assert is_locked(path)
    other.kill()
    wait_for(lambda: not is_locked(path), 30, "the slot")


def is_locked(path: Path) -> bool:
    """Tell whether a process holds a slot's file."""
    with path.open() as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False


def test_leaves(forking: Forking) -> None:
    """An unused server exits and removes its socket; while a workload runs it stays."""
    forking.idle = "0.2"
    client, workload = start_waiting(forking)
    assert forking.run("print(1)") == (0, "1\n", "")
    assert len(forking.servers()) == 1
    client.kill()
    wait_for(lambda: not forking.servers(), 30, "the end of the server")
    assert all(gone(process) for process in workload)
    assert not [path for path in forking.home.glob("air-executor-*/*") if re.fullmatch("[0-9a-f]+", path.name)]


def test_coming_and_going(forking: Forking) -> None:
    """No workload is lost between a server that exits and the next one."""
    forking.idle = "0.001"
    for number in range(20):
        assert forking.run(f"print({number})") == (0, f"{number}\n", "")


def test_private(forking: Forking) -> None:
    """No other user reaches a server; without a private folder the workload runs without a server."""
    forking.run("")
    (folder,) = forking.home.glob("air-executor-*")
    assert folder.stat().st_mode & 0o777 == 0o700
    assert {path.stat().st_mode & 0o777 for path in folder.iterdir()} == {0o600}
    folder.chmod(0o755)
    code, out, message = forking.run("print(1)")
    assert (code, out) == (0, "1\n")
    assert "only user" in message


def test_broken_installation(forking: Forking) -> None:
    """If Airflow cannot be imported the runner's output says why."""
    (forking.home / "lib/airflow/settings.py").write_text("raise RuntimeError('half installed')")
    (forking.home / "lib/airflow/executors/workloads.py").write_text("raise RuntimeError('half installed')")
    code, _, message = forking.run("print(1)")
    assert code == 1
    assert "half installed" in message


def test_new_configuration(forking: Forking) -> None:
    """After a change of Airflow's configuration, or with other variables of it, another server imports it."""
    config = forking.home / "airflow.cfg"
    config.touch()
    told = "import os; print(os.getppid())"
    first = forking.run(told, AIRFLOW_HOME=str(forking.home))
    os.utime(config, (1, 1))
    second = forking.run(told, AIRFLOW_HOME=str(forking.home))
    third = forking.run(told, AIRFLOW_HOME=str(forking.home), AIRFLOW__CORE__PARALLELISM="3")
    assert len({first, second, third}) == 3
    assert forking.run(told, AIRFLOW_HOME=str(forking.home), OTHER="1") == second


def test_the_lock_is_the_local_backends() -> None:
    """The client, which imports nothing, names the same descriptor as the local backend."""
    assert RUNNER_LOCK == LOCK_FD
