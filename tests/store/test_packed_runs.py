"""A packed run says the same as before in fewer files; what a task put in their place is left alone."""

from __future__ import annotations

import json
import os
import resource
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from air_executor.errors import CorruptFileError
from air_executor.store import log_times, packed_runs
from air_executor.store.layout import Layout
from air_executor.store.run_dirs import RunDirs
from air_executor.store.run_files import LONGEST_RESULT, MAX_KEPT_RESULT, MAX_PACKED_QUEUE, MAX_QUEUE, MAX_RESULT
from air_executor.store.run_outcome import parse_result_text

SEQ = 1
OUTCOME = '{"exit_code": 3, "user": "0m0.5s", "system": "0m0.5s"}'
BEGUN = 1_795_999_990.25
ENDED = 1_796_000_000.5


@pytest.fixture
def runs(layout: Layout) -> RunDirs:
    """Return the runs of a state directory in which job `j` has one run, of task `a`, with more files than it needs."""
    folder = Path(layout.run("j", SEQ, "a"))
    folder.mkdir(parents=True)
    for name, text in {
        "claim": OUTCOME.ljust(500) + "\n",
        "output.log": "one\ntwo\n",
        "queue.jsonl": '{"command": "true"}\n',
        "result.json": '{\n  "rows": 7\n}\n',
        "log-times": "4 1796000000.100\n",
    }.items():
        (folder / name).write_text(text, encoding="utf-8")
    os.utime(folder / "claim", (ENDED, ENDED))
    return RunDirs(layout)


def folder(runs: RunDirs) -> Path:
    """Return the run's directory."""
    return Path(runs.layout.run("j", SEQ, "a"))


def contents(runs: RunDirs) -> dict[str, str]:
    """Return the text of each file in the run's directory."""
    return {path.name: path.read_text(encoding="utf-8") for path in folder(runs).iterdir() if path.is_file()}


def times(runs: RunDirs) -> log_times.LogTimes:
    """Return what is noted about the run's log."""
    path = folder(runs) / "output.log"
    with path.open("rb") as file:
        return log_times.read(str(path), file)


def test_nothing_is_lost(runs: RunDirs) -> None:
    """The outcome, its time, what was queued, the times of the log: all can be read as before."""
    before = runs.exit("j", SEQ, "a"), runs.started("j", SEQ, "a"), times(runs)
    runs.pack("j", SEQ, "a")
    assert sorted(contents(runs)) == ["claim", "output.log", "queue.jsonl"]
    assert (runs.exit("j", SEQ, "a"), runs.started("j", SEQ, "a"), times(runs)) == before
    assert runs.left_behind("j", SEQ, "a") == (None, b'{"command": "true"}\n {"result": {"rows": 7}}\n')
    packed = contents(runs)
    runs.pack("j", SEQ, "a")
    assert contents(runs) == packed


def test_the_outcome_of_the_script_goes_into_the_claim(runs: RunDirs) -> None:
    """It keeps its time, which is that of the run's end, and gets that of the claim, at which the run began."""
    (folder(runs) / "claim").write_text("", encoding="utf-8")
    os.utime(folder(runs) / "claim", (BEGUN, BEGUN))
    message = "command not found: a" + 40 * " " + "b"
    record = f'"exit_code": 3, "started": null, "user": "0m0.5s", "system": "0m0.5s", "message": "{message}"'
    (folder(runs) / "exit.json").write_text(f"{{{record.ljust(509)}}}\n", encoding="utf-8")
    os.utime(folder(runs) / "exit.json", (ENDED, ENDED))
    before, begun = runs.exit("j", SEQ, "a"), runs.started("j", SEQ, "a")
    assert begun == BEGUN
    runs.pack("j", SEQ, "a")
    assert sorted(contents(runs)) == ["claim", "output.log", "queue.jsonl"]
    after = runs.exit("j", SEQ, "a")
    assert before is not None
    assert before.ended == ENDED
    assert before.message == message
    assert after == before._replace(started=BEGUN)
    assert runs.started("j", SEQ, "a") == begun


def test_few_files_stay_as_they_are(runs: RunDirs) -> None:
    """Packing would only cost time."""
    (folder(runs) / "queue.jsonl").unlink()
    (folder(runs) / "log-times").unlink()
    before = contents(runs)
    runs.pack("j", SEQ, "a")
    assert contents(runs) == before
    assert sorted(before) == ["claim", "output.log", "result.json"]


def test_without_a_queue_a_result_stays(runs: RunDirs) -> None:
    """As a file of its own it is the fourth inode; the times of the log would be a fifth."""
    (folder(runs) / "queue.jsonl").unlink()
    before = times(runs)
    (folder(runs) / "other").write_text("", encoding="utf-8")
    runs.pack("j", SEQ, "a")
    assert sorted(contents(runs)) == ["claim", "other", "output.log", "result.json"]
    assert times(runs) == before


@pytest.mark.parametrize("outcome", ["", " " * 500, "fenced\n"])
def test_a_run_without_an_outcome_has_none_then(runs: RunDirs, outcome: str) -> None:
    """It is lost, or was fenced, before and after."""
    (folder(runs) / "claim").write_text(outcome, encoding="utf-8")
    before = times(runs), (runs.started("j", SEQ, "a") is None)
    runs.pack("j", SEQ, "a")
    assert runs.exit("j", SEQ, "a") is None
    assert (times(runs), runs.started("j", SEQ, "a") is None) == before


@pytest.mark.parametrize("last", ['{"command": "false"}', '{"comm', "{", '{"result": {"rows": '])
def test_an_incomplete_last_line_stays_a_line(runs: RunDirs, last: str) -> None:
    """The result never goes on in the line of a task."""
    with (folder(runs) / "queue.jsonl").open("a", encoding="utf-8") as file:
        file.write(last)
    runs.pack("j", SEQ, "a")
    assert contents(runs)["queue.jsonl"].splitlines()[1:] == [last, ' {"result": {"rows": 7}}']


@pytest.mark.parametrize(
    ("text", "line"),
    [
        (b'"\xc3\xa9\xf0\x9f\x98\x80"', "\u00e9\U0001f600"),
        (b'"\\ud800"', "\ud800"),
        (b'{"a": 1, "a": 2}', {"a": 2}),
        ('{"a": 1}'.encode("utf-16"), {"a": 1}),
        (b"1e300", 1e300),
    ],
)
def test_any_result_is_one_line(runs: RunDirs, text: bytes, line: object) -> None:
    """Whatever encoding and layout it had."""
    (folder(runs) / "result.json").write_bytes(text)
    assert runs.left_behind("j", SEQ, "a")[0] == line
    runs.pack("j", SEQ, "a")
    added = contents(runs)["queue.jsonl"].splitlines()[1:]
    assert [json.loads(one) for one in added] == [{"result": line}]


@pytest.mark.parametrize("nothing", [b"", b" \n", b"null"])
def test_no_result_is_no_line(runs: RunDirs, nothing: bytes) -> None:
    """An empty file, or null, goes."""
    (folder(runs) / "result.json").write_bytes(nothing)
    runs.pack("j", SEQ, "a")
    assert contents(runs)["queue.jsonl"] == '{"command": "true"}\n'
    assert not (folder(runs) / "result.json").exists()


@pytest.mark.parametrize("refused", [b"{", b"[" * 200 + b"]" * 200, b"\xff\x00", b"{\n" * 8000, b"NaN"])
def test_a_refused_result_is_a_line_with_its_text(runs: RunDirs, refused: bytes) -> None:
    """It is refused again for the same reason, and none of its bytes is lost."""
    (folder(runs) / "result.json").write_bytes(refused)
    with pytest.raises(CorruptFileError) as before:
        runs.left_behind("j", SEQ, "a")
    runs.pack("j", SEQ, "a")
    assert sorted(contents(runs)) == ["claim", "output.log", "queue.jsonl"]
    line = contents(runs)["queue.jsonl"].splitlines()[1]
    assert len(line) < LONGEST_RESULT
    text = json.loads(line)["result_text"]
    assert text.encode(errors="surrogateescape") == refused
    with pytest.raises(CorruptFileError) as after:
        parse_result_text(text)
    assert str(after.value) == str(before.value)


def test_a_result_that_is_too_large_as_a_line(runs: RunDirs) -> None:
    """Numbers may be short only as they were written."""
    text = f"[{','.join(['1e15'] * 3000)}]"
    (folder(runs) / "result.json").write_text(text, encoding="utf-8")
    before, _ = runs.left_behind("j", SEQ, "a")
    runs.pack("j", SEQ, "a")
    line = contents(runs)["queue.jsonl"].splitlines()[1]
    assert json.loads(line) == {"result_text": text}
    assert parse_result_text(text) == before


@pytest.mark.parametrize("size", [MAX_RESULT + 1, MAX_KEPT_RESULT, 2 * MAX_KEPT_RESULT])
@pytest.mark.parametrize("byte", [b"1", b" ", b"\xff"])
def test_a_result_that_was_refused_for_its_size(runs: RunDirs, size: int, byte: bytes) -> None:
    """It is too large again, whatever it says, and the lines stay: reports count however a run ends."""
    (folder(runs) / "result.json").write_bytes(byte * size)
    runs.pack("j", SEQ, "a")
    assert sorted(contents(runs)) == ["claim", "output.log", "queue.jsonl"]
    first, last = contents(runs)["queue.jsonl"].splitlines()
    assert first == '{"command": "true"}'
    text = json.loads(last)["result_text"]
    assert text.encode(errors="surrogateescape") == byte * min(size, MAX_KEPT_RESULT)
    with pytest.raises(CorruptFileError, match=f"^result.json: {len(text)} bytes, more than"):
        parse_result_text(text)


@pytest.mark.parametrize("kept", range(0, 24, 4))
def test_a_manager_died_while_it_packed(runs: RunDirs, kept: int) -> None:
    """The line that it began is completed."""
    with (folder(runs) / "queue.jsonl").open("a", encoding="utf-8") as file:
        file.write(' {"result": {"rows": 7}}\n'[:kept])
    runs.pack("j", SEQ, "a")
    assert contents(runs)["queue.jsonl"].splitlines() == ['{"command": "true"}', ' {"result": {"rows": 7}}']


def test_what_a_killed_helper_left(runs: RunDirs) -> None:
    """The result that it was writing is removed; names of the task's own stay."""
    for name in ("queue.jsonl", "log-times", "result.json"):
        (folder(runs) / name).unlink()
    for name in ("result.json.7.tmp", "result.json.99.tmp", "result.json.old", "my.tmp"):
        (folder(runs) / name).write_text("7", encoding="utf-8")
    runs.pack("j", SEQ, "a")
    assert sorted(contents(runs)) == ["claim", "my.tmp", "output.log", "result.json.old"]


def test_a_queue_file_as_large_as_it_may_be(runs: RunDirs) -> None:
    """With the result it may be larger; one that was refused for its size is packed, too."""
    queue = folder(runs) / "queue.jsonl"
    os.truncate(queue, MAX_QUEUE)
    assert runs.left_behind("j", SEQ, "a")[0] == {"rows": 7}
    runs.pack("j", SEQ, "a")
    assert runs.left_behind("j", SEQ, "a")[1].endswith(b'{"result": {"rows": 7}}\n')
    os.truncate(queue, MAX_PACKED_QUEUE + 1)
    (folder(runs) / "result.json").write_text("7", encoding="utf-8")
    runs.pack("j", SEQ, "a")
    assert sorted(contents(runs)) == ["claim", "output.log", "queue.jsonl"]
    with pytest.raises(CorruptFileError, match="more than"):
        runs.left_behind("j", SEQ, "a")


def test_lines_without_a_result_may_not_be_larger(runs: RunDirs) -> None:
    """The room is that of the packed result alone; reports beyond the limit are not read."""
    (folder(runs) / "result.json").unlink()
    queue = folder(runs) / "queue.jsonl"
    queue.write_bytes(b"\n" * MAX_QUEUE)
    assert len(runs.left_behind("j", SEQ, "a")[1]) == MAX_QUEUE
    for more in (b"\n", b'{"result": 7}\n', b'x\n {"result": 7}\n'):
        queue.write_bytes(b"\n" * MAX_QUEUE + more)
        with pytest.raises(CorruptFileError, match=f"^queue.jsonl: .* more than the {MAX_QUEUE} that are allowed"):
            runs.left_behind("j", SEQ, "a")


def _to_a_link(path: Path, elsewhere: Path) -> None:
    path.unlink()
    path.symlink_to(elsewhere)


def _to_a_second_name(path: Path, elsewhere: Path) -> None:
    path.unlink()
    path.hardlink_to(elsewhere)


def _to_a_fifo(path: Path, elsewhere: Path) -> None:
    path.unlink()
    os.mkfifo(path)


def _to_a_folder(path: Path, elsewhere: Path) -> None:
    path.unlink()
    path.mkdir()


@pytest.mark.parametrize("change", [_to_a_link, _to_a_second_name, _to_a_fifo, _to_a_folder])
@pytest.mark.parametrize("name", ["claim", "queue.jsonl"])
def test_what_a_task_put_there_instead(
    runs: RunDirs, tmp_path: Path, change: Callable[[Path, Path], Any], name: str
) -> None:
    """Nothing is written to another file, nobody waits, and what would have been packed there stays."""
    elsewhere = tmp_path / "elsewhere"
    elsewhere.write_text("mine\n", encoding="utf-8")
    change(folder(runs) / name, elsewhere)
    runs.pack("j", SEQ, "a")
    assert elsewhere.read_text(encoding="utf-8") == "mine\n"
    assert (folder(runs) / {"claim": "log-times", "queue.jsonl": "result.json"}[name]).is_file()


@pytest.mark.parametrize("name", ["log-times", "result.json", "exit.json"])
def test_what_a_task_put_in_place_of_what_is_packed(runs: RunDirs, tmp_path: Path, name: str) -> None:
    """A link is not followed, and stays."""
    (tmp_path / "elsewhere").write_text('"secret"\n', encoding="utf-8")
    (folder(runs) / name).unlink(missing_ok=True)
    (folder(runs) / name).symlink_to(tmp_path / "elsewhere")
    runs.pack("j", SEQ, "a")
    assert (folder(runs) / name).is_symlink()
    assert "secret" not in (folder(runs) / "queue.jsonl").read_text("utf-8")
    assert "secret" not in (folder(runs) / "claim").read_text("utf-8")


@pytest.mark.parametrize("record", ['{"exit_code": 3, "started": null}', '"started": null' + 20 * " "])
def test_an_outcome_with_no_place_for_the_start(runs: RunDirs, record: str) -> None:
    """It gets no longer: a task may have written anything."""
    (folder(runs) / "exit.json").write_text(record, encoding="utf-8")
    runs.pack("j", SEQ, "a")
    assert len(contents(runs)["claim"].split("\n")[0]) == len(record)


def test_a_folder_of_many_names(runs: RunDirs, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is not read to its end: a task can make millions, and every job would wait."""
    for number in range(2 * packed_runs.MOST):
        (folder(runs) / str(number)).write_text("", encoding="utf-8")
    looked: list[set[str]] = []
    monkeypatch.setattr(packed_runs, "_pack", lambda names, _: looked.append(names))
    runs.pack("j", SEQ, "a")
    assert len(looked[0]) == packed_runs.MOST


def test_a_volume_that_takes_half_a_line(runs: RunDirs) -> None:
    """The half is taken back, and the file that was to be packed stays."""
    before = contents(runs)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (len(before["claim"]) + 5, limits[1]))
    try:
        runs.pack("j", SEQ, "a")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert {name: contents(runs)[name] for name in ("claim", "log-times")} == {
        name: before[name] for name in ("claim", "log-times")
    }


@pytest.mark.parametrize("text", ["", "a"])
def test_no_run_directory(layout: Layout, text: str) -> None:
    """One that is gone, or is no directory, is nobody's trouble."""
    if text:
        Path(layout.runs("j")).mkdir(parents=True)
        Path(layout.run("j", SEQ, "a")).write_text(text, encoding="utf-8")
    RunDirs(layout).pack("j", SEQ, "a")
