"""What a run leaves behind is hostile: whatever it is, it is a value that the state can hold, or none."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from air_executor.errors import CorruptFileError
from air_executor.store.layout import Layout
from air_executor.store.run_dirs import MAX_NESTING, RunDirs

SEQ = 1


@pytest.fixture
def runs(layout: Layout) -> RunDirs:
    """Return the runs of a state directory in which job `j` has one run, of task `a`."""
    Path(layout.run("j", SEQ, "a"), "out").mkdir(parents=True)
    return RunDirs(layout)


def leave(runs: RunDirs, name: str, text: str) -> None:
    """Write one of the files that a run leaves."""
    Path(runs.layout.run("j", SEQ, "a"), "out", name).write_text(text, encoding="utf-8")


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
