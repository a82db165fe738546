"""The crash campaign, as far as CI has time for it. `python -m tests.crash --help` for more."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.crash import plan, processes

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="finds runners through /proc")

TRIALS = int(os.environ.get("CRASH_TRIALS", "200"))
ROOT = Path(__file__).resolve().parents[2]


def campaign(folder: Path, *flags: str) -> None:
    """Run the campaign and show what it says; CRASH_SEED repeats one that failed."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.crash", "--seed", os.environ.get("CRASH_SEED", "1"), "--folder", folder, *flags],
        cwd=ROOT,
        check=False,
        capture_output=True,
        text=True,
    )
    sys.stdout.write(done.stdout)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.timeout(900)
def test_no_promise_is_broken_by_kills(tmp_path: Path) -> None:
    """Managers, runners and tasks are killed at random; nothing is lost, doubled, overlapped or left running."""
    campaign(tmp_path, "--trials", str(TRIALS))


@pytest.mark.timeout(900)
def test_no_promise_is_broken_by_a_failing_volume(tmp_path: Path) -> None:
    """The same while calls of the store fail at random, with half a write before."""
    campaign(tmp_path, "--trials", str(max(1, TRIALS // 10)), "--faults", "0.01")


def test_a_seed_is_a_plan() -> None:
    """The same seed draws the same trial, another one another."""
    assert plan.draw(7) == plan.draw(7)
    assert plan.draw(7) != plan.draw(8)


def test_the_tasks_can_tell(tmp_path: Path) -> None:
    """The tasks' own proof works: a second live run in a slot is seen, a killed one is not taken for it."""
    (tmp_path / "begin.other.0123abcd-1").touch()
    script = Path(__file__).with_name("task.sh")

    def run(number: int, label: str = "one") -> str:
        environ = {
            **os.environ,
            "AIR_WORKSPACE": str(tmp_path),
            "AIR_SLOT": "0",
            "AIR_RUN_ID": f"0123abcd-{number}",
            "AIR_QUEUE": str(tmp_path / "queue"),
            "AIR_RESULT": str(tmp_path / "result"),
            "AIR_INPUTS": "/dev/null",
        }
        subprocess.run([script, label, "0", "0", "0"], env=environ, cwd=tmp_path, check=True)
        path = tmp_path / "violations"
        return path.read_text(encoding="utf-8") if path.exists() else ""

    with open("/proc/self/stat", encoding="ascii") as file:
        start = file.read().rpartition(")")[2].split()[19]
    (tmp_path / "slot-0.busy").write_text(f"{os.getpid()} {int(start) + 1} 0123abcd-9\n", encoding="ascii")
    assert run(1) == ""
    (tmp_path / "slot-0.busy").write_text(f"{os.getpid()} {start} 0123abcd-9\n", encoding="ascii")
    assert f"slot 0 is taken by run 0123abcd-9, pid {os.getpid()}" in run(2)
    assert "began twice" in run(1)


def test_what_runs_is_found(tmp_path: Path) -> None:
    """A process with a workspace below the state directory counts as left running, another does not."""
    environ = {**os.environ, "AIR_WORKSPACE": f"{tmp_path}/jobs/a/workspace"}
    with subprocess.Popen(["sleep", "30"], env=environ) as child:
        assert [process.pid for process in processes.below(str(tmp_path))] == [child.pid]
        assert processes.below(f"{tmp_path}/jobs/b") == []
        processes.clear(str(tmp_path))
        assert child.wait() == -9
