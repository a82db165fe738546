"""Whatever bytes a task writes, whoever reads them gets a value that can be used, or refuses it in a way of its own.

One reader for each place that a task can write to: what a run leaves, and, where tasks are processes of the same user,
the other files of the state directory. What tasks print is in `tests/cli/test_terminal.py` too.
"""

from __future__ import annotations

import io
import json
import math
import os
import unicodedata
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from air_executor.airflow.notes import JobRef, notes_on
from air_executor.backends.base import RunnerStatus
from air_executor.backends.container.platform_text import brief
from air_executor.backends.local import proc_reader, slot_file
from air_executor.backends.local.local_runner import holder_text
from air_executor.client import Client
from air_executor.core.queue_lines import parse_queue_line
from air_executor.core.run_reports import RunReports
from air_executor.core.submission import initial_state, parse_job
from air_executor.errors import BadInputError, CorruptFileError
from air_executor.model.callers import ROLES
from air_executor.model.job import TaskDefaults
from air_executor.model.parsing import dump_json
from air_executor.model.plain_text import clean
from air_executor.model.reports import progress_bar
from air_executor.model.steps import at_once
from air_executor.store import codec, counters_file, job_head, job_summary, log_times, worktree_notes
from air_executor.store.audit import AuditLog
from air_executor.store.deleted_runs import DeletedRuns
from air_executor.store.inbox import Inbox
from air_executor.store.jobs import Jobs
from air_executor.store.layout import Layout
from air_executor.store.memo_cache import MemoCache
from air_executor.store.presence import read_presence
from air_executor.store.run_dirs import RunDirs
from air_executor.store.schedules import Schedules
from air_executor.store.tokens import Tokens
from air_executor.web import log_text

KEYS = (
    "id command job tasks env after when retries exit_code timed_out stopped user system memory_peak oom_kills message"
    " op task host boot run grace kind pid pid_namespace epoch since until problems backend waiting only page format"
    " again delay progress done of note usage usd join result at request who action key made_at files counters shown"
    " tokens"
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


def countable(value: float | None) -> bool:
    """Tell whether a value can be added up."""
    return value is None or 0 <= value < math.inf


def environment(_: Layout, data: bytes) -> bool:
    """A process that a task left may have any environment, and its command any name."""
    if not os.path.isdir("/proc/self"):
        return True  # other systems have no such reader
    fields = proc_reader.stat(os.getpid())
    assert fields is not None
    found = proc_reader.inspect(os.getpid(), fields, data, "/nowhere/")
    as_it_is = {name: getattr(found, name) for name in type(found).__annotations__}
    words = holder_text([type(found)(**{**as_it_is, "command": (os.fsdecode(data),)})])
    return words == clean(words) and all(name.startswith("AIR_") for name in found.variables)


def is_harmless(char: str) -> bool:
    """Tell whether a page may show a character: fonts of symbols use private ones, newer scripts ones not assigned yet.

    For Python, no space but the plain one is printable. Of those not assigned, those of plane 14 are never seen.
    """
    if "\U000e0000" <= char <= "\U000e0fff":
        return char.isprintable()
    return char.isprintable() or char in "\t\u200c\u200d" or unicodedata.category(char) in {"Co", "Cn", "Zs"}


def log(_: Layout, data: bytes) -> bool:
    """A page gets harmless lines, of a bounded length, wherever it begins to read."""
    for part in (
        log_text.last_part(io.BytesIO(data)),
        log_text.last_part(io.BytesIO(data), len(data) // 2),
        log_text.next_part(io.BytesIO(data), len(data) // 3),
        log_text.next_part(io.BytesIO(data), 10**9),
    ):
        assert 0 <= part.begin <= part.end <= part.size == len(data)
        for line in (*part.text.split("\n"), part.rest):
            assert all(map(is_harmless, line)) or clean(line) != line
            assert not set(line) & {"\x1b", "\r", "\x07", "\x9b"}
    return True


def times(layout: Layout, _: bytes) -> bool:
    """Whatever is noted about the times of a log, each of its lines has one."""
    with open(f"{layout.root}/log-times", "rb") as file:
        found = log_times.read(f"{layout.root}/output.log", file)
    return found.start(found.modified / 2) is not None and all(
        isinstance(found.at(place), float) for place in (0, 50, 10**9)
    )


def reports(_: Layout, data: bytes) -> bool:
    """However a file grows, what is reported in it is the same, and can be shown and added up."""
    found = []
    for size in (1, 7, len(data) or 1):
        read = RunReports()
        for begin in range(0, len(data), size):
            read.take(data[begin : begin + size])
        read.finish()
        assert read.offset == len(data)
        found.append((read.progress, read.reported))
    progress, reported = found[0]
    assert all(one == found[0] for one in found)
    assert progress is None or (dump_json(progress) and progress_bar(progress) == clean(progress_bar(progress)))
    return all(map(countable, reported.values()))


def log_position(layout: Layout, _: bytes) -> bool:
    """Where the log of a job for Airflow goes on is a place in it, whatever was noted."""
    with notes_on(Client(layout.root), JobRef("j", "0000001f")).log_positions() as found:
        assert found is not None
        begin, repeated = found.resume(1)
        return min(begin, repeated) >= 0


def summary(_: Layout, data: bytes) -> bool:
    """What a list of jobs shows of one can be shown."""
    found = job_summary.parse(data, "j")
    return found is None or (found.runner_seconds >= 0 and bool(dump_json([found.costs, found.command])))


def head(_: Layout, data: bytes) -> bool:
    """The head of a job is that of an ended one, or none."""
    found = job_head.parse_ended(data[: job_head.LONGEST], data[-len(job_head.TAIL) :], "j")
    return found is None or found.phase in {"succeeded", "failed", "cancelled"}


def presence(layout: Layout, _: bytes) -> bool:
    """Whatever `manager.json` says, it can be shown."""
    found = read_presence(layout)
    assert isinstance(found.who, str)
    assert isinstance(found.problems, list)
    assert isinstance(found.waiting, dict)
    json.dumps([found.only, found.page, found.backend, found.backend_problem])
    return found.running in {True, False, None}


class Reader(NamedTuple):
    """Who reads what a task can write."""

    whole: bytes
    """A good text."""
    read: Callable[[Layout, bytes], Any]
    holds: Callable[[Any], object] = bool
    """Of what was read."""
    path: str | None = None
    """Of the file in the state directory; None: the bytes are read as they are."""
    end: bytes = b""
    """What the file has behind them."""
    refuses: type[Exception] | tuple[()] = ()
    """How it refuses a text."""


RUN = "jobs/j/runs/1-a"
STATE = codec.dump_job(
    initial_state(parse_job({"id": "j", "tasks": [{"id": "a", "command": "x"}]}), uid="0000001f", now=1.0)
)
READERS = {
    "queue.jsonl": Reader(
        b'{"id": "a", "command": ["x"], "after": ["b"], "env": {"A": "1"}, "retries": 2}',
        lambda _, data: at_once(parse_queue_line(data)),
        dump_json,
        refuses=BadInputError,
    ),
    "queue.jsonl, a job": Reader(
        b'{"job": {"id": "j", "tasks": [{"command": "x"}]}}',
        lambda _, data: at_once(parse_queue_line(data)),
        dump_json,
        refuses=BadInputError,
    ),
    "queue.jsonl, a decision": Reader(
        b'{"again": {"delay": "10m"}}',
        lambda _, data: at_once(parse_queue_line(data)),
        dump_json,
        refuses=BadInputError,
    ),
    "queue.jsonl, a result": Reader(
        b'{"result": {"rows": [7, 1.5, null, "x"]}}',
        lambda _, data: at_once(parse_queue_line(data)),
        dump_json,
        refuses=BadInputError,
    ),
    "queue.jsonl, progress": Reader(
        b'{"progress": {"done": 3, "of": 10, "note": "half"}}',
        lambda _, data: at_once(parse_queue_line(data)),
        dump_json,
        refuses=BadInputError,
    ),
    "queue.jsonl, usage": Reader(
        b'{"usage": {"usd": 0.35, "tokens": 1200}}',
        lambda _, data: at_once(parse_queue_line(data)),
        dump_json,
        refuses=BadInputError,
    ),
    "queue.jsonl, as it grows": Reader(
        b'{"usage": {"usd": 0.35}}\n{"progress": {"done": 3, "of": 10, "note": "half"}}\n{"usage": {"usd": 1}}', reports
    ),
    "result.json": Reader(
        b'{"a": [1, 2.5, "x", null, {"b": true}]}',
        lambda layout, _: RunDirs(layout).left_behind("j", 1, "a"),
        lambda found: json.dumps(found[0], allow_nan=False) and found[1] == b"",
        f"{RUN}/result.json",
        refuses=CorruptFileError,
    ),
    "exit.json": Reader(
        b'{"exit_code": 0, "user": "0m1.5s", "system": "0m0.1s", "memory_peak": 4096}',
        lambda layout, _: RunDirs(layout).exit("j", 1, "a"),
        lambda found: (
            found is None
            or (isinstance(found.exit_code, int) and all(map(countable, (found.cpu, found.memory, found.oom_kills))))
        ),
        f"{RUN}/exit.json",
        b"\n",
    ),
    "claim": Reader(  # what is in it decides nothing but whether it is the manager's, and when the run began
        b'{"exit_code": 0, "signal": null, "started": 1769860800.125, "message": null}\n',
        lambda layout, data: (RunDirs(layout).started("j", 1, "a"), data.startswith(b"f")),
        lambda found: (found[0] is None) == found[1] and countable(found[0]),
        f"{RUN}/claim",
    ),
    "run.json": Reader(
        b'{"run": "0000001f-1", "job": "j", "task": "a", "attempt": 1, "slot": 0}',
        lambda layout, _: RunDirs(layout).earlier_origin("j", 1, "a"),
        lambda found: found is None or dump_json(found),
        f"{RUN}/run.json",
    ),
    "slot file": Reader(
        b'{"host": "h", "boot": "b", "run": "0000001f-1", "grace": 10.0}\n123\n',
        lambda layout, _: slot_file.read_header(f"{layout.root}/runner.pid"),
        lambda found: found is None or countable(found.grace),
        "runner.pid",
    ),
    "environment": Reader(b"AIR_RUN_ID=1\0AIR_WORKSPACE=/w\0AIR_SLOT=1\0PATH=/bin\0", environment),
    "inbox": Reader(
        b'{"op": "add", "job": "j", "tasks": [{"command": "x"}]}',
        lambda layout, _: Inbox(layout).read("1-x.json"),
        lambda found: found is None or found.job == "j",  # an empty file is what a power failure leaves
        path="inbox/1-x.json",
        refuses=CorruptFileError,
    ),
    "state.json": Reader(
        STATE,
        lambda _, data: codec.load_job(data, "state.json"),
        codec.dump_job,
        refuses=CorruptFileError,
    ),
    "state.json, its head": Reader(STATE, head),
    "journal": Reader(
        b'{"job":"j","uid":"0000001f","v":1,"start":{"at":1.5,"task":"a","seq":1,"slot":0}}',
        lambda _, data: codec.unseal(data),
        lambda found: found is None or codec.seal(found, TaskDefaults()),
    ),
    "manager.json": Reader(
        b'{"kind": "file", "host": "h", "pid": 7, "boot": "b", "epoch": 1, "only": ["j"]}',
        presence,
        path="manager.json",
    ),
    "output.log": Reader(b"one\r\ntwo\x1b[31m red \x1b[0m\xe2\x80\x8d\n50 %\r100 %\nlast", log),
    "log-times": Reader(b"10 1769860800.125\n20 1769860801.500\n", times, path="log-times"),
    "schedule": Reader(
        b'{"format": 1, "name": "s", "since": "2026-01-31T12:00:00Z", "applied_at": "2026-01-31T12:00:00Z", '
        b'"definition": {"name": "s", "schedule": {"cron": "0 3 * * *"}, "tasks": [{"command": "x"}]}}',
        lambda layout, _: Schedules(layout).load("s"),
        dump_json,
        "schedules/s.json",
        refuses=CorruptFileError,
    ),
    "settled": Reader(
        b"2026-01-31T12:00:00.123Z",
        lambda layout, _: Schedules(layout).settled("s"),
        math.isfinite,
        "schedules/.settled/s",
    ),
    "worktree": Reader(
        b'{"format": 1, "job": "j", "uid": "0000001f", "task": "a", "repository": "/r/.git", "branch": "air/j/a", '
        b'"commit": "0f0f0f0f", "ready": true}',
        lambda layout, _: worktree_notes.read_note(layout, "j", "0000001f", "a"),
        dump_json,
        "worktrees/j-0000001f/.a.json",
        refuses=CorruptFileError,
    ),
    "cache": Reader(
        b'{"format": 1, "key": "0f", "depends": {"command": "x"}, "made_at": "2026-01-31T12:00:00Z", "expires_at": '
        b'"2026-02-01T12:00:00Z", "job": "j", "task": "a", "run": "0000001f-1", "result": {"a": 1}, '
        b'"files": [{"path": "out", "size": 3, "sha256": "0f", "mode": 420}]}',
        lambda layout, _: MemoCache(layout).find("0f", 1769860801.0, 60.0),
        lambda found: found is None or (found.reused and dump_json(found)),
        "cache/0f/entry.json",
        refuses=CorruptFileError,
    ),
    "counters.json": Reader(
        b'{"counters": {"runs": 2.0}, "shown": {"runs": 2.5}}',
        lambda layout, _: counters_file.load(layout),
        lambda found: found is not None and all(map(countable, found.counters.values())),
        "counters.json",
        refuses=CorruptFileError,
    ),
    "tokens.json": Reader(
        b'{"format": 1, "tokens": [{"name": "ci", "role": "viewer", "sha256": "' + b"0f" * 32 + b'", '
        b'"created_at": "2026-01-31T12:00:00Z", "expires_at": null}]}',
        lambda layout, _: Tokens(layout.tokens).load(),
        lambda found: all(token.role in ROLES for token in found),
        "tokens.json",
        refuses=CorruptFileError,
    ),
    "audit.jsonl": Reader(
        b'{"at": "2026-01-31T12:00:00Z", "request": "r", "who": "ci", "role": "admin", "origin": "::1", '
        b'"action": "cancel", "job": "j"}',
        lambda layout, _: AuditLog(layout.audit).newest(10),
        lambda found: all(json.dumps(json.loads(line), allow_nan=False) for line in found),
        "audit.jsonl",
        b"\nhalf a li",
    ),
    "runs of deleted jobs": Reader(
        b'{"job": "j", "uid": "0000001f", "task": "a", "labels": {"team": "data"}, "after": 1.5, "before": 2.5}',
        lambda layout, _: list(DeletedRuns(layout).lines()),
        lambda found: all(0 <= line.after < math.inf and dump_json(line) for line in found),
        "ledger/2026-01.jsonl",
    ),
    "shown to Airflow": Reader(b" " * 33 + b"12 " + b" " * 12 + b"8\n", log_position, path="notes/j-0000001f.shown"),
    "state.json, its summary": Reader(STATE, summary),
    "message": Reader(
        b"it failed\nin line 2\n",
        lambda _, data: RunnerStatus("r", alive=False, message=brief(data.decode(errors="replace"))).message,
        lambda found: found is not None and len(found.splitlines()) <= 1 and len(found) <= 501,
    ),
}


def is_taken(layout: Layout, reader: Reader, data: bytes) -> bool:
    """Let a reader look at some bytes: they are good for something, or refused in one line of words."""
    if reader.path is not None:
        path = Path(layout.root, reader.path)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data + reader.end)
    words = ""
    try:
        assert reader.holds(reader.read(layout, data))
    except reader.refuses as error:
        words = str(error)
    assert "\n" not in words
    assert len(words) < 10_000
    return not words


@pytest.fixture
def place(tmp_path_factory: pytest.TempPathFactory) -> Layout:
    """A state directory for all examples of a test."""
    made = Layout(tmp_path_factory.mktemp("hostile"))
    Jobs(made).prepare()
    return made


@pytest.mark.parametrize("reader", READERS)
def test_the_good_text_is_good(place: Layout, reader: str) -> None:
    """Otherwise the damaged ones would tell nothing."""
    assert is_taken(place, READERS[reader], READERS[reader].whole)


@pytest.mark.parametrize("reader", READERS)
@given(data=st.data())
def test_no_bytes_make_a_reader_fail(place: Layout, reader: str, data: st.DataObject) -> None:
    """Neither garbage nor odd numbers nor a damaged text does."""
    is_taken(place, READERS[reader], data.draw(bytes_like(READERS[reader].whole)))


@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize(
    "number", ["1e999", "-1e999", "NaN", "1" + "0" * 400, "1" + "0" * 5000, '"\\ud800"', "[" * 5000, '{"a":' * 5000]
)
def test_odd_values(place: Layout, reader: str, number: str) -> None:
    """In place of each value of the good text, one that Python's own reader takes, or chokes on."""
    try:
        raw = json.loads(READERS[reader].whole.partition(b"\n")[0])
    except ValueError:
        raw = {}
    is_taken(place, READERS[reader], number.encode())
    for key in raw if isinstance(raw, dict) else {}:
        text = json.dumps({**raw, key: "@"}).replace('"@"', number)
        is_taken(place, READERS[reader], text.encode() + b"\n")
