"""Whatever bytes a task writes, whoever reads them gets a value that can be used, or refuses it in a way of its own.

One reader for each place that a task can write to: what a run leaves, and, where tasks are processes of the same user,
the other files of the state directory. What tasks print is in `tests/cli/test_terminal.py` too.
"""

from __future__ import annotations

import contextlib
import io
import json
import math
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from air_executor.backends.base import RunnerStatus
from air_executor.backends.container.platform_text import brief
from air_executor.backends.local import proc_reader, slot_file
from air_executor.backends.local.local_runner import holder_text
from air_executor.core.queue_lines import parse_queue_line
from air_executor.core.submission import initial_state, parse_job
from air_executor.errors import BadInputError, CorruptFileError
from air_executor.model.job import TaskDefaults
from air_executor.model.parsing import dump_json
from air_executor.model.plain_text import clean
from air_executor.model.steps import at_once
from air_executor.store import codec, job_head, log_times
from air_executor.store.inbox import Inbox
from air_executor.store.jobs import Jobs
from air_executor.store.layout import Layout
from air_executor.store.presence import read_presence
from air_executor.store.run_dirs import RunDirs
from air_executor.store.schedules import Schedules
from air_executor.web import log_text

KEYS = (
    "id command job tasks env after when retries exit_code timed_out stopped user system memory_peak oom_kills message"
    " op task host boot run grace kind pid pid_namespace epoch since until problems backend waiting only page format"
).split()
"""What readers look for, among others."""
NUMBERS = [0, -1, 1.5, 2**53, -(2**63), 10**400, 1e308, -0.0, math.inf, math.nan]
SCALARS = st.none() | st.booleans() | st.sampled_from(NUMBERS) | st.text(max_size=8) | st.sampled_from(KEYS)
VALUES: st.SearchStrategy[Any] = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(KEYS) | st.text(), inner, max_size=4),
    max_leaves=8,
)
"""Values that JSON texts can have, such as Python writes and reads them, in objects with keys that matter."""


def damaged(whole: bytes) -> st.SearchStrategy[bytes]:
    """Return a good text of which some bytes are replaced by others."""
    places = st.integers(0, len(whole))
    return st.builds(
        lambda begin, count, new: whole[:begin] + new + whole[begin + count :], places, places, st.binary(max_size=8)
    )


def bytes_like(whole: bytes) -> st.SearchStrategy[bytes]:
    """Return any bytes, any JSON, and what is nearly right."""
    return st.binary(max_size=200) | VALUES.map(lambda value: json.dumps(value).encode()) | damaged(whole)


def out(layout: Layout, name: str, data: bytes) -> RunDirs:
    """Leave a file in `out/` of the only run of task `a` of job `j`."""
    folder = Path(layout.run("j", 1, "a"), "out")
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_bytes(data)
    return RunDirs(layout)


def read_queue(_: Layout, data: bytes) -> None:
    """A line is a task, a job, or wrong in one line of words."""
    words = ""
    try:
        assert dump_json(at_once(parse_queue_line(data)))
    except BadInputError as error:
        words = str(error)
    assert "\n" not in words
    assert len(words) < 10_000


def read_result(layout: Layout, data: bytes) -> None:
    """A result is JSON that the state can hold."""
    with contextlib.suppress(CorruptFileError):
        found, queue = out(layout, "result.json", data).left_behind("j", 1, "a")
        json.dumps(found, allow_nan=False)
        assert queue == b""


def read_exit(layout: Layout, data: bytes) -> None:
    """An outcome has a code, and numbers that can be added up; or it is none."""
    found = out(layout, "exit.json", data + b"\n").exit("j", 1, "a")
    if found is not None:
        assert isinstance(found.exit_code, int)
        assert all(number is None or 0 <= number < math.inf for number in (found.cpu, found.memory, found.oom_kills))


def read_claim(layout: Layout, data: bytes) -> None:
    """What is written into a claim decides nothing but whether it is the manager's."""
    assert (out(layout, "claim", data).started("j", 1, "a") is None) == bool(data)


def read_run(layout: Layout, data: bytes) -> None:
    """The record of a run is that of a manager, or none."""
    runs = out(layout, "claim", b"")
    Path(layout.run("j", 1, "a"), "run.json").write_bytes(data)
    found = runs.record("j", 1, "a")
    assert found is None or dump_json(found[0])


def read_slot(layout: Layout, data: bytes) -> None:
    """The header of a slot's file is that of a manager, with a grace that can be waited for, or none."""
    path = f"{layout.root}/runner.pid"
    Path(path).write_bytes(data)
    found = slot_file.read_header(path)
    assert found is None or 0 <= found.grace < math.inf


def read_environment(_: Layout, data: bytes) -> None:
    """A process that a task left may have any environment, and its command any name."""
    if not os.path.isdir("/proc/self"):
        return  # other systems have no such reader
    fields = proc_reader.stat(os.getpid())
    assert fields is not None
    found = proc_reader.inspect(os.getpid(), fields, data, "/nowhere/")
    assert all(name.startswith("AIR_") for name in found.variables)
    words = holder_text([type(found)(**{**_fields(found), "command": (os.fsdecode(data),)})])
    assert words == clean(words)


def _fields(record: object) -> dict[str, Any]:
    return {name: getattr(record, name) for name in type(record).__annotations__}


def read_request(layout: Layout, data: bytes) -> None:
    """A request is one, or refused."""
    Path(layout.inbox, "1-x.json").write_bytes(data)
    with contextlib.suppress(CorruptFileError):
        assert Inbox(layout).read("1-x.json") is not None


def read_state(_: Layout, data: bytes) -> None:
    """A state can be written again as it was read, whole or only its head, or is refused."""
    with contextlib.suppress(CorruptFileError):
        assert codec.dump_job(codec.load_job(data, "state.json"))
    head = job_head.parse_ended(data[: job_head.LONGEST], data[-len(job_head.TAIL) :], "j")
    assert head is None or head.phase in {"succeeded", "failed", "cancelled"}


def read_journal(_: Layout, data: bytes) -> None:
    """A line of a journal has its checksum, or is none."""
    found = codec.unseal(data)
    assert found is None or codec.seal(found, TaskDefaults())


def read_manager(layout: Layout, data: bytes) -> None:
    """Whatever `manager.json` says, it can be shown."""
    Path(layout.manager).write_bytes(data)
    found = read_presence(layout)
    assert isinstance(found.who, str)
    assert isinstance(found.problems, list)
    assert isinstance(found.waiting, dict)
    assert found.running in {True, False, None}
    json.dumps([found.only, found.page, found.backend, found.backend_problem])


def read_log(_: Layout, data: bytes) -> None:
    """A page gets harmless lines, of a bounded length, wherever it begins to read."""
    for part in (
        log_text.last_part(io.BytesIO(data)),
        log_text.last_part(io.BytesIO(data), len(data) // 2),
        log_text.next_part(io.BytesIO(data), len(data) // 3),
        log_text.next_part(io.BytesIO(data), 10**9),
    ):
        assert 0 <= part.begin <= part.end <= part.size == len(data)
        for line in (*part.text.split("\n"), part.rest):
            assert line.replace("\t", "").isprintable() or clean(line) != line or "\u200c" in line or "\u200d" in line
            assert not set(line) & {"\x1b", "\r", "\x07", "\x9b"}


def read_log_times(layout: Layout, data: bytes) -> None:
    """Whatever is noted about the times of a log, each of its lines has one."""
    Path(layout.root, "log-times").write_bytes(data)
    with open(f"{layout.root}/log-times", "rb") as log:
        found = log_times.read(str(layout.root), log)
    assert all(isinstance(found.at(place), float) for place in (0, 50, 10**9))
    assert found.start(found.modified / 2) is not None


def read_schedule(layout: Layout, data: bytes) -> None:
    """A schedule is one, or refused; a time up to which it is settled is a number."""
    Path(layout.schedule("s")).parent.mkdir(exist_ok=True)
    Path(layout.settled("s")).parent.mkdir(parents=True, exist_ok=True)
    Path(layout.schedule("s")).write_bytes(data)
    Path(layout.settled("s")).write_bytes(data)
    schedules = Schedules(layout)
    with contextlib.suppress(CorruptFileError):
        assert dump_json(schedules.load("s"))
    assert math.isfinite(schedules.settled("s"))


def read_message(_: Layout, data: bytes) -> None:
    """What a container says at its end is one line of bounded length."""
    found = RunnerStatus("r", alive=False, message=brief(data.decode(errors="replace")))
    assert found.message is not None
    assert len(found.message.splitlines()) <= 1
    assert len(found.message) <= 501


STATE = codec.dump_job(
    initial_state(parse_job({"id": "j", "tasks": [{"id": "a", "command": "x"}]}), uid="0000001f", now=1.0)
)
READERS: dict[str, tuple[Callable[[Layout, bytes], None], bytes]] = {
    "queue.jsonl": (read_queue, b'{"id": "a", "command": ["x"], "after": ["b"], "env": {"A": "1"}, "retries": 2}'),
    "queue.jsonl, a job": (read_queue, b'{"job": {"id": "j", "tasks": [{"command": "x"}]}}'),
    "result.json": (read_result, b'{"a": [1, 2.5, "x", null, {"b": true}]}'),
    "exit.json": (read_exit, b'{"exit_code": 0, "user": "0m1.5s", "system": "0m0.1s", "memory_peak": 4096}'),
    "claim": (read_claim, b""),
    "run.json": (read_run, b'{"run": "0000001f-1", "job": "j", "task": "a", "attempt": 1, "slot": 0}'),
    "slot file": (read_slot, b'{"host": "h", "boot": "b", "run": "0000001f-1", "grace": 10.0}\n123\n'),
    "environment": (read_environment, b"AIR_RUN_ID=1\0AIR_WORKSPACE=/w\0AIR_SLOT=1\0PATH=/bin\0"),
    "inbox": (read_request, b'{"op": "add", "job": "j", "tasks": [{"command": "x"}]}'),
    "state.json": (read_state, STATE),
    "journal": (read_journal, b'{"job":"j","uid":"0000001f","v":1,"start":{"at":1.5,"task":"a","seq":1,"slot":0}}'),
    "manager.json": (read_manager, b'{"kind": "file", "host": "h", "pid": 7, "boot": "b", "epoch": 1, "only": ["j"]}'),
    "output.log": (read_log, b"one\r\ntwo\x1b[31m red \x1b[0m\xe2\x80\x8d\n50 %\r100 %\nlast"),
    "log-times": (read_log_times, b"10 1769860800.125\n20 1769860801.500\n"),
    "schedule": (read_schedule, b'{"format": 1, "name": "s", "schedule": {"cron": "0 3 * * *"}, "since": 1.5}'),
    "settled": (read_schedule, b"2026-01-31T12:00:00.123Z"),
    "message": (read_message, b"it failed\nin line 2\n"),
}


@pytest.fixture
def place(tmp_path_factory: pytest.TempPathFactory) -> Layout:
    """A state directory for all examples of a test."""
    made = Layout(tmp_path_factory.mktemp("hostile"))
    Jobs(made).prepare()
    return made


@pytest.mark.parametrize("reader", READERS)
def test_the_good_text_is_good(place: Layout, reader: str) -> None:
    """Otherwise the damaged ones would tell nothing."""
    read, whole = READERS[reader]
    read(place, whole)


@pytest.mark.parametrize("reader", READERS)
@given(data=st.data())
def test_no_bytes_make_a_reader_fail(place: Layout, reader: str, data: st.DataObject) -> None:
    """Neither garbage nor odd numbers nor a damaged text does."""
    read, whole = READERS[reader]
    read(place, data.draw(bytes_like(whole)))


@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize(
    "number", ["1e999", "-1e999", "NaN", "1" + "0" * 400, "1" + "0" * 5000, '"\\ud800"', "[" * 5000, '{"a":' * 5000]
)
def test_odd_values(place: Layout, reader: str, number: str) -> None:
    """In place of each value of the good text, one that Python's own reader takes, or chokes on."""
    read, whole = READERS[reader]
    try:
        raw = json.loads(whole.partition(b"\n")[0])
    except ValueError:
        raw = {}
    read(place, number.encode())
    for key in raw if isinstance(raw, dict) else {}:
        text = json.dumps({**raw, key: "@"}).replace('"@"', number)
        read(place, text.encode() + b"\n")
