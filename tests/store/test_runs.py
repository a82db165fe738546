"""What a run leaves behind is hostile: whatever it is, it is a value that the state can hold, or none."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import pytest

from air_executor.core.submission import initial_state, parse_job
from air_executor.errors import CorruptFileError
from air_executor.model.state import RunnerOrigin
from air_executor.store.layout import Layout
from air_executor.store.run_dirs import FENCED, RunDirs
from air_executor.store.run_logs import open_log
from air_executor.store.run_outcome import MAX_NESTING

SEQ = 1


@pytest.fixture
def runs(layout: Layout) -> RunDirs:
    """Return the runs of a state directory in which job `j` has one run, of task `a`."""
    Path(layout.run("j", SEQ, "a")).mkdir(parents=True)
    return RunDirs(layout)


def leave(runs: RunDirs, name: str, text: str) -> None:
    """Write one of the files that a run leaves."""
    Path(runs.layout.run("j", SEQ, "a"), name).write_text(text, encoding="utf-8")


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "null",
        '{"exit_code": Infinity}',
        '{"exit_code": 1e999}',
        '{"exit_code": NaN}',
        '{"exit_code": "x"}',
        '{"exit_code": [0]}',
        '{"exit_code": 137, "oom_kills": Infinity}',
        '{"exit_code": 0, "user": ["m"]}',
        "[" * 20_000,
    ],
)
def test_what_is_no_outcome(runs: RunDirs, text: str) -> None:
    """An outcome that cannot be is none, so that the run counts as lost once its runner has gone."""
    leave(runs, "exit.json", text + "\n")
    assert runs.exit("j", SEQ, "a") is None


@pytest.mark.parametrize(
    "text",
    [
        '{"exit_code": 3, "memory_peak": NaN, "message": {"a": NaN}}',
        '{"exit_code": 3, "memory_peak": "much", "message": 5}',
        '{"exit_code": 3, "memory_peak": -1, "message": [[]]}',
        '{"exit_code": 3, "memory_peak": 1e300}',
        '{"exit_code": 3, "user": "nanm0s", "system": "0m0s"}',
        '{"exit_code": 3, "user": "infm0s", "system": "0m0s"}',
        '{"exit_code": 3, "user": "-9m0s", "system": "0m0s"}',
    ],
)
def test_what_is_unknown_of_an_outcome(runs: RunDirs, text: str) -> None:
    """The code counts; of the rest, what is not of its kind is unknown."""
    leave(runs, "exit.json", text + "\n")
    left = runs.exit("j", SEQ, "a")
    assert left is not None
    assert (left.exit_code, left.memory, left.message, left.cpu) == (3, None, None, None)


@pytest.mark.parametrize(
    "text",
    [
        "1e999",
        "[-1e999]",
        "NaN",
        '{"a": Infinity}',
        "[",
        "9" * 5000,
        "[" * 101 + "]" * 101,
        '{"a":' * 101 + "1" + "}" * 101,
    ],
    ids=lambda text: text[:12],
)
def test_what_is_no_result(runs: RunDirs, text: str) -> None:
    """What JSON cannot say, or no reader of the state could recurse into, is refused."""
    leave(runs, "result.json", text)
    with pytest.raises(CorruptFileError, match=r"result\.json: "):
        runs.left_behind("j", SEQ, "a")


@pytest.mark.parametrize(
    ("text", "words"),
    [("[" * 7000 + "]" * 7000, "nested deeper than"), ("9" * 5000, "a number that is too long")],
    ids=["deep", "long"],
)
def test_a_refused_result_is_told_in_our_words(runs: RunDirs, text: str, words: str) -> None:
    """Python's own words name limits of its interpreter, which the author of a task cannot change."""
    leave(runs, "result.json", text)
    with pytest.raises(CorruptFileError, match=words) as caught:
        runs.left_behind("j", SEQ, "a")
    assert "recursion" not in str(caught.value)
    assert "set_int_max_str_digits" not in str(caught.value)


@pytest.mark.parametrize("value", [None, 0, "", [], {}, {"a": [1.5, "x", None, True]}])
def test_a_result_comes_as_it_was(runs: RunDirs, value: object) -> None:
    """Any JSON value, and one as deep as may be."""
    leave(runs, "result.json", json.dumps(value))
    assert runs.left_behind("j", SEQ, "a") == (value, b"")
    deepest = "[" * MAX_NESTING + "]" * MAX_NESTING
    leave(runs, "result.json", deepest)
    assert runs.left_behind("j", SEQ, "a") == (json.loads(deepest), b"")


@pytest.mark.parametrize("name", ["²-a", "9" * 200 + "-a", "x", "-", "1"])
def test_numbers_that_are_none(runs: RunDirs, name: str) -> None:
    """What somebody made in `runs/` is no run, however much its name looks like one."""
    Path(runs.layout.runs("j"), name).mkdir()
    assert runs.highest_seq("j") == SEQ
    assert runs.supersede("j", SEQ) == []


# What a runner leaves


def test_an_outcome_in_the_claim(runs: RunDirs) -> None:
    """The run has begun when its claim was made, and ended when the outcome was complete."""
    assert runs.started("j", SEQ, "a") is None
    claim = Path(runs.layout.run("j", SEQ, "a"), "claim")
    leave(runs, "claim", " " * 511)
    os.utime(claim, (1000, 1000))
    assert (runs.started("j", SEQ, "a"), runs.exit("j", SEQ, "a")) == (1000, None)
    leave(runs, "claim", '{"exit_code": 3, "started": 1000.5}'.ljust(511) + "\n")
    os.utime(claim, (2000, 2000))
    left = runs.exit("j", SEQ, "a")
    assert left is not None
    assert (left.exit_code, left.started, left.ended) == (3, 1000.5, 2000)
    assert runs.started("j", SEQ, "a") == 1000.5
    assert not runs.fence("j", SEQ, "a")


@pytest.mark.parametrize("cut", [0, 1, 100, 511])
def test_an_outcome_that_is_not_complete(runs: RunDirs, cut: int) -> None:
    """Its runner was killed while it wrote: the run has begun, and left no outcome."""
    leave(runs, "claim", ('{"exit_code": 0}'.ljust(511) + "\n")[:cut])
    assert runs.exit("j", SEQ, "a") is None
    assert runs.started("j", SEQ, "a") is not None
    assert not runs.fence("j", SEQ, "a")


def test_a_fence_keeps_a_run_from_beginning(runs: RunDirs) -> None:
    """It is a claim that is the manager's, also after a crash behind it."""
    for _ in range(2):
        assert runs.fence("j", SEQ, "a")
        assert runs.started("j", SEQ, "a") is None
    assert Path(runs.layout.run("j", SEQ, "a"), "claim").read_bytes() == FENCED


@pytest.mark.parametrize("made", ["mkdir {0}", "mkfifo {0}", "ln -s nowhere {0}", "ln -s {0} {0}"])
@pytest.mark.parametrize("name", ["claim", "exit.json"])
def test_no_outcome_can_be_read(runs: RunDirs, name: str, made: str) -> None:
    """Whatever a task makes of its files, the run has begun if there is a claim, and the other file is still read."""
    folder = runs.layout.run("j", SEQ, "a")
    subprocess.run(["sh", "-c", f"cd {folder} && {made.format(name)}"], check=True)
    assert runs.exit("j", SEQ, "a") is None
    assert (runs.started("j", SEQ, "a") is None) == (name != "claim")
    assert runs.fence("j", SEQ, "a") == (name != "claim")
    other = "exit.json" if name == "claim" else "claim"
    leave(runs, other, '{"exit_code": 4}\n')
    left = runs.exit("j", SEQ, "a")
    assert left is not None
    assert left.exit_code == 4


# Directories of earlier versions


@pytest.fixture
def earlier(layout: Layout) -> RunDirs:
    """Return the runs of a state directory in which an earlier version has made the directory of one run."""
    folder = Path(layout.run("j", SEQ, "a"))
    (folder / "out").mkdir(parents=True)
    (folder / "run.json").write_text('{"run": "0badcafe-1", "job": "j", "task": "a", "backend": "local", "boot": "b"}')
    os.utime(folder / "run.json", (1000, 1000))
    return RunDirs(layout)


def test_a_run_of_an_earlier_version_is_read(earlier: RunDirs) -> None:
    """Its outcome, its result, its log and the times at which that grew."""
    out = Path(earlier.layout.run("j", SEQ, "a"), "out")
    assert earlier.earlier_origin("j", SEQ, "a") == RunnerOrigin(backend="local", boot="b", spawned=1000)
    for name, text in {"claim": "", "output.log": "x\n", "result.json": "7", "exit.json": '{"exit_code": 3}\n'}.items():
        (out / name).write_text(text)
    left = earlier.exit("j", SEQ, "a")
    assert left is not None
    assert (left.exit_code, left.started) == (3, None)
    assert earlier.started("j", SEQ, "a") == (out / "claim").stat().st_mtime
    assert not earlier.fence("j", SEQ, "a")
    assert earlier.left_behind("j", SEQ, "a") == (7, b"")
    job = initial_state(parse_job({"id": "j", "tasks": [{"id": "a", "command": "x"}]}), uid="0badcafe", now=1.0)
    assert earlier.note_log("j", SEQ, "a", 0) == 2
    assert (out.parent / "log-times").exists()
    log = open_log(earlier.layout, job, "a", SEQ)
    assert log is not None
    with log:
        assert log.read() == b"x\n"


def test_a_run_of_an_earlier_version_is_fenced(earlier: RunDirs) -> None:
    """Its runner looks for the claim in `out/`."""
    assert earlier.fence("j", SEQ, "a")
    assert Path(earlier.layout.run("j", SEQ, "a"), "out", "claim").read_bytes() == FENCED
