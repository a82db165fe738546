"""Signals and deadlines: who gets TERM, who gets KILL, and what exit.json says afterwards."""

from __future__ import annotations

import os
import random
import signal
import sys
import threading
import time
from typing import TYPE_CHECKING, Any

import pytest

from tests.runner.rig import until

if TYPE_CHECKING:
    from tests.runner.rig import Rig, Runner

# Says that it is ready, and then waits in steps, so that a handler runs soon. Some shells announce what dies of TERM.
READY = "exec 2>/dev/null; touch ready; while :; do sleep 0.05; done"


def started(rig: Rig, script: str, **options: Any) -> Runner:  # noqa: ANN401 - as for Rig.start
    """Start a script and return once it has said that it is ready."""
    runner = rig.start("sh", "-c", script, **options)
    until((rig.work / "ready").exists)
    return runner


@pytest.mark.parametrize("name", ["TERM", "INT", "HUP"])
def test_a_stop_reaches_the_command(rig: Rig, name: str) -> None:
    """Each of the three arrives as TERM, and the outcome says that the run was stopped."""
    runner = started(rig, f"trap 'echo stopped; exit 7' TERM; {READY}")
    runner.send(signal.Signals[f"SIG{name}"])
    assert runner.wait() == 7
    assert rig.log == b"stopped\n"
    assert rig.exit["exit_code"] == 7
    assert (rig.exit["stopped"], rig.exit["timed_out"], rig.exit["signal"]) == (True, False, None)
    assert rig.alive() == []


def test_a_command_without_a_handler_dies_of_term(rig: Rig) -> None:
    """The default action is the command's, and the code says which signal it was."""
    runner = started(rig, READY)
    runner.send(signal.SIGTERM)
    assert runner.wait() == 143
    assert (rig.exit["exit_code"], rig.exit["signal"], rig.exit["stopped"]) == (143, 15, True)


WITH_PENDING_TERM = """
import os, signal, sys
signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM])
os.kill(os.getpid(), signal.SIGTERM)
os.execv(sys.argv[1], sys.argv[1:])
"""


def test_a_stop_before_the_start(rig: Rig) -> None:
    """The command is not started, and the outcome says so."""
    if not rig.is_native:
        pytest.skip("a shell that has not set its traps yet is simply killed")
    words = [rig.program, str(rig.out), str(rig.work), "-", "100", "local", "touch", "ran"]
    assert rig.start_program(sys.executable, "-c", WITH_PENDING_TERM, *words).wait() == 143
    assert (rig.exit["exit_code"], rig.exit["signal"], rig.exit["stopped"]) == (143, None, True)
    assert rig.exit["message"] == "stopped before the command was started"
    assert not (rig.work / "ran").exists()


@pytest.mark.parametrize("code", [0, 127, 129, 143, 200])
def test_the_command_s_last_word_counts(rig: Rig, code: int) -> None:
    """A `wait` that a signal interrupts answers with a number of its own; it must never be taken for the command's."""
    runner = started(rig, f"trap 'sleep 0.3; exit {code}' TERM; {READY}")
    runner.send(signal.SIGTERM)
    assert runner.wait() == code
    assert rig.exit["exit_code"] == code


def test_the_whole_group_gets_term(rig: Rig) -> None:
    """A child of the command hears of the stop as well."""
    runner = started(rig, f"(trap 'echo child; exit' TERM; {READY}) & trap 'wait; exit 0' TERM; wait")
    runner.send(signal.SIGTERM)
    assert runner.wait() == 0
    assert rig.log == b"child\n"


def test_a_second_stop_does_not_shorten_the_grace(rig: Rig) -> None:
    """Managers repeat themselves; the command is told once, and keeps its time."""
    runner = started(rig, f"trap 'echo told; touch told' TERM; n=0; {READY.replace(':', 'test ! -e go')}; exit 9")
    runner.send(signal.SIGTERM)
    until((rig.work / "told").exists)
    for _ in range(5):
        runner.send(signal.SIGTERM)
        runner.send(signal.SIGINT)
    (rig.work / "go").touch()
    assert runner.wait() == 9
    assert rig.log == b"told\n"


def test_who_ignores_term_is_killed(rig: Rig) -> None:
    """After the grace the command is killed, the outcome written, and then nothing of the group is left."""
    runner = started(rig, f"trap '' TERM; (while :; do sleep 0.05; done) & {READY}", grace="0.3")
    begin = time.monotonic()
    runner.send(signal.SIGTERM)
    assert runner.wait() == -signal.SIGKILL
    assert time.monotonic() - begin > 0.25
    assert (rig.exit["exit_code"], rig.exit["signal"], rig.exit["stopped"]) == (137, 9, True)
    until(lambda: rig.alive() == [])
    assert rig.slot_is_free()


def test_a_timeout_stops_the_command(rig: Rig) -> None:
    """A fraction of a second is kept, and the outcome says who stopped the run."""
    begin = time.monotonic()
    assert rig.script(f"trap 'echo late; exit 5' TERM; {READY}", timeout="2.9") == 5
    assert time.monotonic() - begin >= 2.9
    assert rig.log == b"late\n"
    assert (rig.exit["exit_code"], rig.exit["timed_out"], rig.exit["stopped"]) == (5, True, False)
    assert rig.alive() == []
    assert rig.slot_is_free()


def test_a_timeout_kills_in_the_end(rig: Rig) -> None:
    """The deadline holds against a command that ignores TERM, with no manager there."""
    assert rig.script(f"trap '' TERM; {READY}", timeout="3", grace="0.2") == -signal.SIGKILL
    assert (rig.exit["signal"], rig.exit["timed_out"]) == (9, True)
    until(lambda: rig.alive() == [])


def test_in_a_container_the_group_is_left_to_the_platform(rig: Rig) -> None:
    """The runner ends by itself there, with the command's code, because its end takes everything along."""
    assert rig.script(f"trap '' TERM; {READY}", timeout="3", grace="0.2", mode="container") == 137
    assert (rig.exit["signal"], rig.exit["timed_out"]) == (9, True)


def test_a_timeout_that_is_not_needed_leaves_nothing(rig: Rig) -> None:
    """No sleep outlives the run, and no orphan is left for the manager to find."""
    for number in range(10):
        out = rig.folder / f"out{number}"
        out.mkdir()
        assert rig.run("true", timeout="3600", out=str(out)) == 0
        assert rig.alive() == []
        assert rig.slot_is_free()


def test_whole_seconds_are_enough_for_sleep(rig: Rig) -> None:
    """Where `sleep` refuses fractions the timeout is rounded up, not lost."""
    fake = rig.folder / "sleep"
    fake.write_text(
        f"#!{sys.executable}\nimport sys, time\n"
        f"open({str(rig.folder / 'asked')!r}, 'a').write(sys.argv[1] + ' ')\n"
        "time.sleep(int(sys.argv[1])) if sys.argv[1].isdigit() else sys.exit(1)\n"
    )
    fake.chmod(0o755)
    command = ("python3", "-c", "import time; time.sleep(600)")
    begin = time.monotonic()
    assert rig.run(*command, timeout="0.5", replaced={"/bin/sleep": fake}) == 143
    assert time.monotonic() - begin >= 0.5
    assert rig.exit["timed_out"] is True
    if rig.shell[:1] == ["dash"]:  # others may have a sleep of their own
        assert (rig.folder / "asked").read_text().startswith("0.5 1 ")


@pytest.mark.parametrize(
    "env",
    [
        {"PATH": "/nonexistent"},
        {"LD_PRELOAD": "/no/such.so", "LD_LIBRARY_PATH": "/no/such"},
        {"IFS": "0123456789.", "CDPATH": "/", "TMPDIR": "/nonexistent", "LC_ALL": "de_DE.UTF-8"},
    ],
    ids=["PATH", "LD", "shell"],
)
def test_a_timeout_depends_on_nothing_in_the_environment(rig: Rig, env: dict[str, str]) -> None:
    """Neither too early nor never, whatever the task's environment is like."""
    code = f"{sys.executable} -c 'import time; time.sleep(%s)'"
    shell = "/bin/sh"
    assert rig.run(shell, "-c", code % 1.5 + "; exit 4", timeout="600", env=env) == 4
    assert rig.exit["timed_out"] is False
    rig.out = rig.folder / "late"
    rig.out.mkdir()
    begin = time.monotonic()
    assert rig.run(shell, "-c", "exec " + code % 600, timeout="1.5", env=env, out=str(rig.out)) == 143
    assert time.monotonic() - begin >= 1.5
    assert rig.exit["timed_out"] is True


def test_a_sleep_that_the_task_puts_in_its_path_is_not_asked(rig: Rig) -> None:
    """A program of that name that returns at once does not end the run."""
    fake = rig.folder / "sleep"
    fake.write_text(f"#!/bin/sh\ntouch {rig.folder}/asked\n")
    fake.chmod(0o755)
    command = ("python3", "-c", "import time; time.sleep(1)")
    assert rig.run(*command, timeout="600", env={"PATH": f"{rig.folder}:{os.environ['PATH']}"}) == 0
    assert rig.exit["timed_out"] is False


def test_a_task_that_kills_its_group_s_sleeps(rig: Rig) -> None:
    """The time goes on: it does not time out early, and it does not escape its timeout."""
    kill = (
        "import os, signal, psutil, sys, time\n"
        "def killed():\n"
        "    found = [p for p in psutil.process_iter(['name']) if p.pid != os.getpid()]\n"
        "    for p in found:\n"
        "        try:\n"
        "            if os.getpgid(p.pid) == os.getpgid(0) and (p.info['name'] or '') in ('sleep', 'busybox'):\n"
        "                if p.cmdline()[:1] == ['sleep'] or 'sleep' in p.cmdline(): os.kill(p.pid, signal.SIGKILL)\n"
        "        except (OSError, psutil.Error): pass\n"
        "end = time.monotonic() + float(sys.argv[1])\n"
        "while time.monotonic() < end:\n"
        "    killed(); time.sleep(0.05)\n"
    )
    assert rig.run(sys.executable, "-c", kill, "2", timeout="600") == 0
    assert rig.exit["timed_out"] is False
    rig.out = rig.folder / "late"
    rig.out.mkdir()
    assert rig.run(sys.executable, "-c", kill, "600", timeout="2", out=str(rig.out)) == 143
    assert rig.exit["timed_out"] is True


def test_where_nothing_can_sleep(rig: Rig) -> None:
    """No timeout is made up and nothing spins; the limit is then the manager's and the platform's to keep."""
    if rig.is_native or rig.shell[:1] == ["busybox"]:
        pytest.skip("it needs no such program")
    command = ("python3", "-c", "import time; time.sleep(2); print('done')")
    runner = rig.start(*command, timeout="1", mode="container", replaced={"/bin/sleep": None})
    status = runner.wait()
    assert (status, rig.exit["timed_out"]) == (0, False)
    minutes, seconds = rig.exit["user"].removesuffix("s").split("m")
    assert int(minutes) * 60 + float(seconds) < 1
    assert rig.stdout.read_bytes() == b"done\n"


def test_signals_of_the_task_to_its_group_do_no_harm(rig: Rig) -> None:
    """A task that talks to its own children with `kill 0` neither ends, stops nor times out its runner."""
    code = (
        "import os, signal, time\n"
        "for name in ('USR1', 'USR2', 'QUIT', 'ALRM'):\n"
        "    number = getattr(signal, 'SIG' + name)\n"
        "    signal.signal(number, lambda *_: None)\n"
        "    os.killpg(0, number)\n"
        "print('done')"
    )
    for number, timeout in enumerate(["-", "60"] * 3):
        rig.out = rig.folder / f"out{number}"
        rig.out.mkdir()
        assert rig.run("python3", "-c", code, timeout=timeout, out=str(rig.out)) == 0
        assert rig.log == b"done\n"
        assert (rig.exit["timed_out"], rig.exit["stopped"]) == (False, False)
        assert rig.alive() == []


def test_a_group_of_others_is_not_signalled(rig: Rig) -> None:
    """Started by hand, without a group of its own, the runner stops its command and no bystander."""
    code = (
        "import os, signal, subprocess, sys\n"
        "signal.signal(signal.SIGTERM, lambda *_: os.write(1, b'hit '))\n"
        f"runner = subprocess.Popen({[*rig.shell, rig.program]!r} + sys.argv[1:], close_fds=False)\n"
        f"open({str(rig.folder / 'pid')!r}, 'w').write(str(runner.pid))\n"
        "print('ended', runner.wait())"
    )
    arguments = [str(rig.out), str(rig.work), "-", "0.3", "local", "sh", "-c", f"trap '' TERM; {READY}"]
    wrapper = rig.start_program("python3", "-c", code, *arguments)
    pid = rig.folder / "pid"
    until(lambda: (rig.work / "ready").exists() and pid.exists() and pid.read_text())
    os.kill(int(pid.read_text()), signal.SIGTERM)
    assert wrapper.wait() == 0
    assert rig.stdout.read_text() == "ended 137\n"
    assert (rig.exit["signal"], rig.exit["stopped"]) == (9, True)


def test_a_watchdog_without_its_runner_signals_nobody(rig: Rig) -> None:
    """When the runner was killed, its pid may be another process's by the time the deadline passes."""
    runner = started(rig, READY, timeout="8")
    runner.send(signal.SIGKILL)
    assert runner.wait() == -signal.SIGKILL
    until(lambda: len(rig.alive()) == len(rig.alive(runners=False)))
    assert rig.alive(runners=False), "the command itself is left to the manager"
    assert not rig.has_outcome
    assert not rig.slot_is_free()


def test_a_container_s_stdout_that_nobody_reads(rig: Rig) -> None:
    """The copy to stdout is a courtesy: when it is stuck, the outcome still comes."""
    if rig.shell not in ([], ["dash"]):
        pytest.skip("one shell is enough for a test that takes ten seconds")
    os.mkfifo(rig.stdout)
    fd = os.open(rig.stdout, os.O_RDWR)
    try:
        assert rig.script("head -c 300000 /dev/zero; exit 3", mode="container") == 3
    finally:
        os.close(fd)
    assert rig.exit["exit_code"] == 3
    assert len(rig.log) == 300000


def test_a_slow_reader_of_a_container_s_stdout(rig: Rig) -> None:
    """Who takes less than the task writes gets the beginning, what was left out, and the end; the run goes on."""
    os.mkfifo(rig.stdout)
    reading, writing = os.open(rig.stdout, os.O_RDONLY | os.O_NONBLOCK), os.open(rig.stdout, os.O_WRONLY)
    os.set_blocking(reading, True)
    taken = bytearray()
    over = threading.Event()

    def read() -> None:
        while data := os.read(reading, 65536):
            taken.extend(data)
            over.wait(0.03)

    reader = threading.Thread(target=read)
    reader.start()
    try:
        assert rig.script("echo first; head -c 60000000 /dev/zero; touch done; echo last", mode="container") == 0
    finally:
        over.set()
        os.close(writing)
        reader.join()
        os.close(reading)
    assert len(rig.log) == 60000011
    assert taken.startswith(b"first\n")
    assert taken.endswith(b"last\n")
    assert b"KiB are left out here; output.log has all]" in taken
    delay = (rig.out / "exit.json").stat().st_mtime - (rig.work / "done").stat().st_mtime
    assert delay < 15, "to copy all would have taken half a minute"


def test_a_stop_at_any_moment_ends_the_run(rig: Rig) -> None:
    """From before the claim to after the end: the runner goes, nothing is left, and what it says is well formed."""
    dice = random.Random(7)
    for number in range(25):
        out = rig.folder / f"out{number}"
        out.mkdir()
        runner = rig.start("sleep", "60", out=str(out), grace="0.5", timeout="30")
        end = time.monotonic() + dice.random() * 0.012
        while time.monotonic() < end:
            pass
        runner.send(signal.SIGTERM)
        runner.wait()
        until(lambda: rig.alive() == [])
        rig.out = out
        if rig.has_outcome:
            assert rig.exit["stopped"] is True
            assert rig.exit["exit_code"] in {137, 143}
    assert rig.slot_is_free()


def test_commands_that_end_as_the_stop_arrives(rig: Rig) -> None:
    """Where end and signal race, the code is the command's own: 0 or, if TERM was first, 143."""
    dice = random.Random(11)
    for number in range(25):
        out = rig.folder / f"out{number}"
        out.mkdir()
        runner = rig.start("true", out=str(out), timeout="30")
        end = time.monotonic() + dice.random() * 0.008
        while time.monotonic() < end:
            pass
        runner.send(signal.SIGTERM)
        runner.wait()
        rig.out = out
        if rig.has_outcome:
            assert rig.exit["exit_code"] in {0, 143}
