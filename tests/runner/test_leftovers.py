"""What a command leaves behind: where nothing else can see it, the native runner ends it, however it hides."""

from __future__ import annotations

import shlex
import signal
import sys
import time
from typing import TYPE_CHECKING

import psutil
import pytest

from tests.runner.rig import until
from tests.runner.test_stop import started

if TYPE_CHECKING:
    from tests.runner.rig import Rig

HIDE = """
import os, sys
if os.fork():
    os._exit(0)
os.setsid()
if os.fork():
    os._exit(0)
os.closerange(0, 1000)
os.execve("/bin/sh", ["sh", "-c", "echo $$ >hidden; " + sys.argv[1]], {"PATH": "/usr/bin:/bin"})
"""
"""Becomes a daemon without group, session, descriptors or environment of its run. Its parent does not wait for that."""
WAIT = "until [ -s hidden ]; do sleep 0.01; done"
SLEEP = "while :; do sleep 0.05; done"
IGNORE = f"trap '' TERM; {SLEEP}"


def hide(rig: Rig, command: str) -> str:
    """Return sh text that starts a command as a hidden daemon."""
    program = rig.folder / "hide.py"
    program.write_text(HIDE)
    return f"{sys.executable} -IS {program} {shlex.quote(command)}"


def hidden_pid(rig: Rig, name: str = "hidden") -> int:
    """Return the pid of the hidden daemon, which may have ended."""
    return int((rig.work / name).read_text())


def has_ended(pid: int) -> bool:
    """Tell whether a process is gone, or is only to be reaped by init."""
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def test_a_daemon_that_hides_ends_with_the_run(native: Rig) -> None:
    """It gets TERM and has its grace, though neither group, session, descriptors nor environment give it away."""
    daemon = hide(native, f"trap 'echo bye >told; exit' TERM; touch trapped; {SLEEP}")
    assert native.script(f"{daemon}; until [ -e trapped ]; do sleep 0.01; done; exit 3") == 3
    assert has_ended(hidden_pid(native))
    assert (native.work / "told").exists()
    assert (native.exit["exit_code"], native.exit["stopped"], native.exit["timed_out"]) == (3, False, False)


def test_a_daemon_that_has_yet_to_hide_ends_too(native: Rig) -> None:
    """The command ends while it is still about to leave the group."""
    for number in range(10):
        out = native.folder / f"out{number}"
        out.mkdir()
        assert native.script(hide(native, SLEEP), out=str(out)) == 0
    until(lambda: not [one for one in psutil.process_iter(["cmdline", "cwd"]) if one.info["cwd"] == str(native.work)])


def test_a_daemon_that_hides_ends_after_a_timeout(native: Rig) -> None:
    """TERM is enough for the command."""
    assert native.script(f"{hide(native, SLEEP)}; {SLEEP}", timeout="1") == 143
    assert has_ended(hidden_pid(native))
    assert (native.exit["signal"], native.exit["timed_out"]) == (15, True)


def test_what_ignores_term_is_killed_after_the_grace(native: Rig) -> None:
    """The outcome is there at once, and the slot is taken until all has ended; so have children of what was killed."""
    inner = hide(native, IGNORE).replace("hide.py", "inner.py")
    (native.folder / "inner.py").write_text(HIDE.replace(">hidden", ">inner"))
    daemon = hide(native, f"trap '' TERM; {inner}; {SLEEP}")
    begun = time.monotonic()
    runner = native.start("sh", "-c", f"{daemon}; until [ -s inner ]; do sleep 0.01; done; date >end", grace="1.5")
    until(lambda: native.has_outcome)
    outcome = time.time() - (native.work / "end").stat().st_mtime
    assert outcome < 1
    assert not native.slot_is_free()
    runner.send(signal.SIGTERM)  # a manager asks for what is under way
    assert runner.wait() == 0
    assert time.monotonic() - begun >= 1.5
    assert has_ended(hidden_pid(native))
    assert has_ended(hidden_pid(native, "inner"))
    assert native.slot_is_free()
    assert native.exit["stopped"] is False


def test_nobody_gets_term_twice(native: Rig) -> None:
    """What is left in the group and what has left it."""
    tell = "trap 'echo told >>{0}' TERM; touch ready-{0}; n=0; while [ $n -lt 20 ]; do n=$((n+1)); sleep 0.05; done"
    within, outside = tell.format("within"), tell.format("outside")
    ready = "until [ -e ready-within ] && [ -e ready-outside ]; do sleep 0.01; done"
    assert native.script(f"({within}) & {hide(native, outside)}; {ready}", grace="60") == 0
    assert (native.work / "within").read_text() == "told\n"
    assert (native.work / "outside").read_text() == "told\n"
    assert native.alive() == []


def test_a_container_ends_what_is_left(native: Rig) -> None:
    """The runner there ends nothing itself: who is its child is the platform's business."""
    assert native.script(f"{hide(native, SLEEP)}; {WAIT}", mode="container") == 0
    assert not has_ended(hidden_pid(native))
    psutil.Process(hidden_pid(native)).kill()


@pytest.mark.parametrize("script", ["{spin} & {WAIT}; sleep 1", "{hide}; {WAIT}; sleep 1"])
def test_cpu_time_of_what_is_left_counts(native: Rig, script: str) -> None:
    """Whether it was reaped or not, in the group or not."""
    spin = "echo $$ >hidden; while :; do :; done"
    command = script.format(spin=f"setsid sh -c {shlex.quote(spin)}", hide=hide(native, spin), WAIT=WAIT)
    assert native.script(command) == 0
    assert cpu_seconds(native) > 0.2


def test_cpu_time_of_what_ignores_term_counts(native: Rig) -> None:
    """Up to the outcome, which does not wait for its end."""
    daemon = hide(native, "trap '' TERM; while :; do :; done")
    assert native.script(f"{daemon}; {WAIT}; sleep 1", grace="0.2") == 0
    assert cpu_seconds(native) > 0.2


THREADS = """
import subprocess, threading
spin = "x = bytearray(60_000_000)\\nopen('hidden', 'w').write('1')\\nwhile True: pass"
ignoring = ["sh", "-c", "trap '' TERM; exec \\"$@\\"", "sh", PYTHON, "-c", spin]
threading.Thread(target=subprocess.run, args=[ignoring]).start()
"""
"""A process whose child belongs to a thread."""


def test_what_is_below_what_is_left_counts(native: Rig) -> None:
    """CPU time and memory of a process whose parent has not reaped it, and ignores TERM, too."""
    (native.folder / "threads.py").write_text(THREADS.replace("PYTHON", repr(sys.executable)))
    daemon = hide(native, f"trap '' TERM; {sys.executable} -IS {native.folder / 'threads.py'}; {SLEEP}")
    wait = 'until [ "$(cat hidden)" = 1 ]; do sleep 0.01; done'
    assert native.script(f"{daemon}; {WAIT}; {wait}; sleep 1", grace="0.2") == 0
    assert cpu_seconds(native) > 0.3
    assert native.exit["memory_peak"] > 60_000_000


def cpu_seconds(rig: Rig) -> float:
    """Return what a run has used."""
    pairs = [rig.exit[name].removesuffix("s").split("m") for name in ("user", "system")]
    return sum(60 * int(minutes) + float(seconds) for minutes, seconds in pairs)


def test_a_command_that_leaves_the_group_gets_term(rig: Rig) -> None:
    """By its pid, for the group's signal does not reach it."""
    trap = "trap 'echo stopped; exit 0' TERM; touch ready; while :; do sleep 0.05; done"
    runner = started(rig, f"exec setsid sh -c {shlex.quote(trap)}", grace="60")
    runner.send(signal.SIGTERM)
    assert runner.wait() == 0
    assert rig.log == b"stopped\n"
    assert rig.exit["stopped"] is True
