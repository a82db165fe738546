"""Jobs are not affected while parts of Airflow are killed, paused and restarted; each is started once."""

from __future__ import annotations

import contextlib
import os
import signal
from collections import Counter
from collections.abc import Callable, Iterator
from functools import partial
from itertools import pairwise
from pathlib import Path

import psutil
import pytest

from air_executor.client import Client
from tests.airflow.rig import Airflow, Run
from tests.airflow.test_modes import MODES, jobs_of, running_job
from tests.conftest import wait_for

pytestmark = pytest.mark.timeout(900)

COUNTING = """
echo >> {folder}/$AIRFLOW_CTX_DAG_ID.started
i=0; while [ ! -e {folder}/may-end ]; do echo "line $i"; i=$((i+1)); sleep 0.02; done
echo last
"""


@pytest.fixture
def counting(tmp_path: Path) -> Iterator[tuple[str, Callable[[Run], int], Callable[[], None]]]:
    """Return a command that prints until it may end, a function that counts its starts, and one that lets it end."""
    let_end = (tmp_path / "may-end").touch
    yield (
        COUNTING.format(folder=tmp_path),
        lambda run: len((tmp_path / f"{run.dag}.started").read_text()),
        let_end,
    )
    let_end()


def numbered(run: Run, *tries: int) -> list[str]:
    """Return the output of the task as Airflow's log view shows it, over these tries in order."""
    lines = [line for number in tries for line in run.log(number=number)]
    return [line.removeprefix("t1 | ") for line in lines if line.startswith("t1 | ")]


def mistakes(printed: list[str]) -> list[str]:
    """Return the mistakes in an output: each line must be there once, in order, and the last one last."""
    numbers = [line.removeprefix("line ") for line in printed[:-1]]
    wanted = list(map(str, range(len(set(numbers)))))
    if printed[-1:] == ["last"] and numbers == wanted:
        return []
    counts = Counter(numbers)
    return [
        *(f"{number} lost" for number in wanted if not counts[number]),
        *(f"{number} {count} times" for number, count in counts.items() if count > 1),
        *(f"{before}, then {after}" for before, after in pairwise(numbers) if int(after) != int(before) + 1),
        f"at the end {printed[-1:]}",
    ]


def log_mistakes(printed: Callable[[], list[str]]) -> list[str]:
    """Return the mistakes in a log; a worker's last lines are written after Airflow has reported the end."""
    with contextlib.suppress(pytest.fail.Exception):
        wait_for(lambda: mistakes(printed()) == [], 60)
    return mistakes(printed())


def without_repeats(run: Run, *tries: int) -> list[str]:
    """Return the output without the lines that were shown again after a kill, which must be announced."""
    printed = numbered(run, *tries)
    kept: list[str] = []
    for line in printed:
        if not kept or line == "last" or int(line.split()[1]) > int(kept[-1].split()[1]):
            kept.append(line)
    if len(kept) < len(printed):
        assert any(
            line.startswith("The process that showed this log before") for n in tries for line in run.log(number=n)
        )
    return kept


def sent(airflow: Airflow, run: Run) -> int:
    """Return how many bytes of the job's log were sent to Airflow."""
    (job,) = jobs_of(run)
    note = Path(Client(airflow.state_dir).layout.note(f"{job.id}-{job.uid}", "shown"))
    position = note.read_bytes()[32:].split() if note.exists() else []
    return int(position[0]) if position else 0


def wait_for_lines(airflow: Airflow, run: Run) -> None:
    """Wait until more lines were sent to Airflow."""
    before = sent(airflow, run)
    wait_for(lambda: sent(airflow, run) > before + 200, 180, f"more lines of {run.dag}")


@pytest.mark.parametrize(
    "number",
    [
        pytest.param(signal.SIGTERM, id="stopped", marks=pytest.mark.nightly),
        pytest.param(signal.SIGKILL, id="killed, of two"),
    ],
)
def test_triggerer(
    airflow: Airflow, counting: tuple[str, Callable[[Run], int], Callable[[], None]], number: int
) -> None:
    """The end of a triggerer, and its death beside another, do not affect the job; the next continues its log."""
    command, starts, let_end = counting
    runs = []
    for mode in ("deferred", "workerless"):
        name = f"triggerer_{mode}_{number}"
        airflow.write_dag(name, f"AirExecutorOperator(task_id='t', command={command!r}, {MODES[mode]})")
        runs.append(airflow.trigger(name))
    before = [running_job(run) for run in runs]
    for run in runs:
        run.wait("deferred")
        wait_for_lines(airflow, run)
    if number == signal.SIGKILL:
        airflow.start("second triggerer")
        wait_for(lambda: len(airflow.jobs("TriggererJob")) == 2, 60, "two triggerers")
        airflow.stop("triggerer", number)
        airflow.running["triggerer"] = airflow.running.pop("second triggerer")
    else:
        airflow.replace("triggerer", number)
    for run in runs:
        wait_for_lines(airflow, run)
    let_end()
    for run, job in zip(runs, before, strict=True):
        assert run.ended() == "success", run.log()
        assert [(found.id, found.uid) for found in jobs_of(run)] == [(job.id, job.uid)]
        assert starts(run) == 1
        # Airflow's scheduler may count one more, having read a state of it twice ("TI try_number mismatch").
        assert run.ti()["try_number"] in {1, 2}
        assert log_mistakes(partial(without_repeats if number == signal.SIGKILL else numbered, run, 1)) == []


@pytest.mark.parametrize(
    ("kept", "marked"),
    [
        pytest.param(["deferred"], ["workerless"], id="one of each"),
        pytest.param(["workerless"], ["deferred"], id="the others", marks=pytest.mark.nightly),
    ],
)
def test_paused_triggerer(
    airflow: Airflow,
    counting: tuple[str, Callable[[Run], int], Callable[[], None]],
    kept: list[str],
    marked: list[str],
) -> None:
    """A triggerer that pauses, loses its triggers to another one and resumes cancels no job; a mark still does."""
    command, starts, let_end = counting
    airflow.stop("triggerer")
    # Takes nothing back: it would overwrite its logs, which the test reads.
    airflow.start("triggerer", AIRFLOW__TRIGGERER__TRIGGERER_HEALTH_CHECK_THRESHOLD="600")
    runs = {}
    for name in [*kept, *(f"{mode}_marked" for mode in marked)]:
        mode = name.removesuffix("_marked")
        airflow.write_dag(f"paused_{name}", f"AirExecutorOperator(task_id='t', command={command!r}, {MODES[mode]})")
        runs[name] = airflow.trigger(f"paused_{name}")
    before = {name: running_job(run) for name, run in runs.items()}
    for run in runs.values():
        run.wait("deferred")
        wait_for_lines(airflow, run)
    first = {name: run.ti()["triggerer_job"]["id"] for name, run in runs.items()}
    airflow.start("second triggerer")
    wait_for(lambda: len(airflow.jobs("TriggererJob")) == 2, 120, "two triggerers")
    airflow.pause("triggerer")
    try:
        for name, run in runs.items():
            wait_for(partial(is_followed_by_another, run, first[name]), 120, f"the other triggerer to follow {name}")
    finally:
        airflow.resume("triggerer")
    for name, run in runs.items():
        wait_for(partial(has_let_go, airflow, run), 240, f"the first triggerer to let go of {name}", pause=0.5)
        (job,) = jobs_of(run)
        assert (job.uid, job.phase, job.stop) == (before[name].uid, "running", None)
    for name in [f"{mode}_marked" for mode in marked]:
        runs[name].mark("failed")
        wait_for(lambda name=name: jobs_of(runs[name])[0].ended, 180, "the end of the job")  # type: ignore[misc]
        assert jobs_of(runs[name])[0].phase == "cancelled"
    airflow.stop("triggerer")
    airflow.running["triggerer"] = airflow.running.pop("second triggerer")
    let_end()
    for name in kept:
        run = runs[name]
        assert run.ended() == "success", run.log()
        assert [(found.id, found.uid) for found in jobs_of(run)] == [(before[name].id, before[name].uid)]
        assert starts(run) == 1
        assert run.ti()["try_number"] == 1
        assert numbered(run, 1)[-1] == "last"


def is_followed_by_another(run: Run, first: int) -> bool:
    """Tell whether Airflow has given the trigger of a task to another triggerer than the first."""
    job = run.ti()["triggerer_job"]
    return job is not None and job["id"] != first


def has_let_go(airflow: Airflow, run: Run) -> bool:
    """Tell whether the first triggerer was told to kill the task of a run and let its job go on, or is gone itself."""
    if airflow.running["triggerer"].poll() is not None:
        return True
    folder = airflow.home / "logs" / f"dag_id={run.dag}"
    return any("is not cancelled" in path.read_text() for path in folder.rglob("*.log*"))


def test_failure_without_triggerer(
    airflow: Airflow, counting: tuple[str, Callable[[Run], int], Callable[[], None]]
) -> None:
    """A job that fails while no triggerer is running is started once: the next triggerer reports its end."""
    command, starts, let_end = counting
    runs = []
    for mode in ("deferred", "workerless"):
        words = f"task_id='t', command={command + 'exit 3'!r}, {MODES[mode]}"
        airflow.write_dag(f"unheard_{mode}", f"AirExecutorOperator({words})")
        runs.append(airflow.trigger(f"unheard_{mode}"))
    for run in runs:
        running_job(run)
        run.wait("deferred")
        wait_for_lines(airflow, run)
    airflow.stop("triggerer")
    let_end()
    for run in runs:
        wait_for(lambda run=run: jobs_of(run)[0].ended, 180, "the end of the job")  # type: ignore[misc]
    airflow.start("triggerer")
    for run in runs:
        assert run.ended() == "failed"
        assert len(jobs_of(run)) == 1
        assert starts(run) == 1
        assert log_mistakes(partial(numbered, run, 1)) == []


@pytest.mark.nightly
def test_slow_triggerer(airflow: Airflow) -> None:
    """A triggerer that reads more slowly than jobs print at their end still has all lines in the log."""
    burst = "sleep 3; i=0; while [ $i -lt 200 ]; do echo $i; i=$((i+1)); done; exit 3"
    for mode in ("deferred", "workerless"):
        airflow.write_dag(f"burst_{mode}", f"AirExecutorOperator(task_id='t', command='{burst}', {MODES[mode]})")
    airflow.stop("triggerer")
    airflow.start("slow triggerer")
    try:
        runs = [airflow.trigger(f"burst_{mode}") for mode in ("deferred", "workerless")]
        for run in runs:
            assert run.ended() == "failed"
            log = run.log()
            assert [line for line in log if line.startswith("t1 | ")] == [f"t1 | {number}" for number in range(200)]
            assert any("failed (error); task t1 failed (error, exit code 3)" in line for line in log)
    finally:
        airflow.stop("slow triggerer")
        airflow.start("triggerer")


def test_scheduler(airflow: Airflow, counting: tuple[str, Callable[[Run], int], Callable[[], None]]) -> None:
    """The kill -9 and restart of a scheduler do not affect the jobs of deferred tasks."""
    command, starts, let_end = counting
    airflow.write_dag("scheduler", f"AirExecutorOperator(task_id='t', command={command!r}, {MODES['deferred']})")
    run = airflow.trigger("scheduler")
    running_job(run)
    run.wait("deferred")
    wait_for_lines(airflow, run)  # the worker that deferred it has left
    airflow.stop("scheduler", signal.SIGKILL)
    wait_for_lines(airflow, run)
    airflow.start("scheduler")
    let_end()
    assert run.ended() == "success", run.log()
    assert starts(run) == 1
    assert run.ti()["try_number"] == 1
    assert log_mistakes(partial(numbered, run, 1)) == []


@pytest.mark.parametrize(
    "whole", [pytest.param(False, id="task process"), pytest.param(True, id="worker", marks=pytest.mark.nightly)]
)
def test_worker(
    airflow: Airflow, counting: tuple[str, Callable[[Run], int], Callable[[], None]], *, whole: bool
) -> None:
    """After the kill -9 of a worker the next try attaches to the job, which continues and is started once.

    Of its process with the user's code, or of the one that supervises that, too: then nobody tells Airflow.
    """
    command, starts, let_end = counting
    retries = "retries=1, retry_delay=timedelta(seconds=0)"
    name = f"worker_{whole}"
    airflow.write_dag(name, f"AirExecutorOperator(task_id='t', command={command!r}, {retries}, {MODES['worker']})")
    run = airflow.trigger(name)
    job = running_job(run)
    wait_for_lines(airflow, run)
    pid = int(run.ti()["pid"])
    supervisor = psutil.Process(pid).ppid()
    for victim in [supervisor, pid] if whole else [pid]:
        os.kill(victim, signal.SIGKILL)
    wait_for(lambda: run.ti()["try_number"] == 2 and run.state() == "running", 240, "the next try")
    wait_for_lines(airflow, run)
    let_end()
    assert run.ended() == "success", run.log(number=2)
    assert [(found.id, found.uid) for found in jobs_of(run)] == [(job.id, job.uid)]
    assert starts(run) == 1
    assert any(line.startswith(f"Attached to job {job.id}") for line in run.log(number=2))
    assert log_mistakes(partial(without_repeats, run, 1, 2)) == []


def test_runner(airflow: Airflow) -> None:
    """After the kill -9 of a runner the job says so, and the task runs again on the budget for platform faults."""
    airflow.write_dag(
        "runner", f"AirExecutorOperator(task_id='t', command='echo pid $$; sleep 300', {MODES['deferred']})"
    )
    run = airflow.trigger("runner")
    job = running_job(run)
    client = Client(airflow.state_dir)
    log = client.log(job.id, "t1", 1)
    pid = int(wait_for(lambda: log.exists() and log.read_text().removeprefix("pid ").strip(), 30, "the pid"))
    os.killpg(os.getpgid(pid), signal.SIGKILL)
    wait_for(lambda: client.status(job.id).tasks["t1"].attempts, 60, "the end of the run")
    assert client.status(job.id).tasks["t1"].attempts[0].reason == "lost"
    client.ask("cancel", job.id)
    wait_for(lambda: client.status(job.id).ended, 60, "the end of the job")
    assert run.ended() == "failed"
