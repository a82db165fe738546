"""Reading states: what is said of one that cannot be, and how one is shown that is small and as a manager writes it."""

from __future__ import annotations

import json
import sys
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from air_executor.errors import CorruptFileError, FormatTooNewError
from air_executor.model import events as ev
from air_executor.model import parsing
from air_executor.model.defaults import Defaults
from air_executor.model.job import Task, TaskDefaults
from air_executor.model.records import CountersRecord
from air_executor.model.usage import Moments, Usage
from air_executor.store import codec
from tests.store.conftest import state

FIXTURES = Path(__file__).parent.parent / "fixtures" / "format-3"
GONE = object()
"""In place of a field's value: it is missing."""
ENDED = {"phase": "succeeded", "reason": "ok", "finished_at": "2026-01-31T12:00:00.000Z"}


def running(slot: int, seq: int = 1) -> dict[str, Any]:
    """Return the fields of a task that runs."""
    return {"phase": "running", "run": {"seq": seq, "slot": slot, "since": "2026-01-31T12:00:00.000Z"}}


def written(*changes: dict[str, Any], **head: Any) -> bytes:  # noqa: ANN401 - JSON data
    """Return the text of a job of two queued tasks, x0 and x1, with changes of each."""
    raw = json.loads(codec.dump_job(state())) | head
    for task, change in zip(raw["tasks"], changes, strict=False):
        for name, value in change.items():
            task[name] = value
            if value is GONE:
                del task[name]
    return json.dumps(raw).encode()


@pytest.mark.parametrize(
    ("text", "why"),
    [
        (written({}, {"command": GONE}), "tasks[1].command: is missing"),
        (written({"after": ["x1"]}, {"after": ["x0", "y"]}), "task x1: after: y is not a task of this job"),
        (written({}, ENDED | {"reason": None}), "task x1: is succeeded without finished_at and reason"),
        (written({}, ENDED | {"finished_at": GONE}), "task x1: is succeeded without finished_at and reason"),
        (written(ENDED, running(0) | {"run": GONE}), "task x1: is running without a run"),
        (written(running(3), running(3, 2)), "tasks x0 and x1 both run in slot 3"),
        (
            written(uid="x", message=7),
            'uid: must be 8 to 32 hexadecimal digits, got "x"; message: must be text, got 7; put it in quotes',
        ),
        (b"[]", "not a JSON object"),
        (b'{"id": "j", "id": "k"}', 'the key "id" appears twice in one object'),
    ],
)
@pytest.mark.parametrize("read", [codec.load_job, codec.show_job])
def test_why_a_state_cannot_be_read(read: Callable[[bytes, str], Any], text: bytes, why: str) -> None:
    """Its path, and all that is wrong."""
    with pytest.raises(CorruptFileError) as caught:
        read(text, "a/state.json")
    assert str(caught.value) == f"a/state.json: not a readable state file ({why})"


@pytest.mark.parametrize(
    "text",
    [
        written(),
        written(running(0), running(1, 2)),
        written(ENDED, running(0)),
        written({"approve": "Really?", "command": GONE}, {"after": ["x0"]}),
    ],
)
def test_what_can_be_is_read(text: bytes) -> None:
    """Tasks that need no command, and runs in several slots."""
    assert list(codec.load_job(text, "").tasks) == ["x0", "x1"]


def test_a_newer_format_is_named() -> None:
    """With the newest one that can be read, and what to do."""
    said = "^a/state.json: format 4 is newer than 3, the newest this version reads; upgrade$"
    with pytest.raises(FormatTooNewError, match=said):
        codec.load_job(b'{"format": 4}', "a/state.json")


@pytest.fixture
def loaded(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The paths of all states that are read with pydantic, in a process that has not imported it."""
    paths: list[str] = []
    whole = codec.load_job

    def load(data: bytes, path: str) -> Any:  # noqa: ANN401 - as the original
        paths.append(path)
        return whole(data, path)

    monkeypatch.setattr(codec, "load_job", load)
    monkeypatch.delitem(sys.modules, "pydantic")
    return paths


@pytest.mark.parametrize("name", ["memory.json", "defaults.json"])
def test_a_small_state_is_shown_without_pydantic(loaded: list[str], name: str) -> None:
    """And is the same."""
    text = (FIXTURES / name).read_bytes()
    assert (codec.dump_job(codec.show_job(text, name)), loaded) == (text, [])


@pytest.mark.parametrize(
    "text",
    [
        written(later=1),
        written(ENDED | {"reason": None}),
        b"garbage",
        b"[" * 50_000,
        b"[]",
    ],
)
def test_what_is_not_as_a_manager_writes_it_is_read_with_pydantic(loaded: list[str], text: bytes) -> None:
    """Which can tell what is wrong with it, or that nothing is."""
    try:
        assert codec.show_job(text, "a/state.json").extra == {"later": 1}
    except CorruptFileError as error:
        assert str(error).startswith("a/state.json: not a readable")  # noqa: PT017 - the other branch compares
    assert loaded == ["a/state.json"]


def test_a_large_state_is_read_with_pydantic(loaded: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """And so is every state, once it is imported anyway."""
    text = written()
    monkeypatch.setattr(codec, "_MOST_QUICK", len(text))
    codec.show_job(text, "just fits")
    monkeypatch.setattr(codec, "_MOST_QUICK", len(text) - 1)
    codec.show_job(text, "large")
    monkeypatch.setattr(codec, "_MOST_QUICK", len(text))
    monkeypatch.setitem(sys.modules, "pydantic", None)
    codec.show_job(text, "imported")
    assert loaded == ["large", "imported"]


@pytest.mark.parametrize(
    ("text", "found"),
    [
        (b'{"counters": {"a": 1.0}, "shown": {}}', CountersRecord({"a": 1.0}, {})),
        (b'{"counters": {"a": 1.0}, "shown": null}', None),
        (b"garbage", None),
        (b"[" * 50_000, None),
    ],
)
def test_a_small_file(text: bytes, found: CountersRecord | None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Holds its record, which is read without pydantic, or none."""
    if found is not None:
        monkeypatch.setattr(parsing, "read_json", None)
    assert codec.read_small(CountersRecord, text) == found


def test_usage_as_data() -> None:
    """Seconds to the microsecond, money to twelve decimals; what there is none of is left out."""
    usage = Usage(
        3,
        work_seconds=1.5000014,
        start_seconds=2.5000014,
        finish_seconds=3.5000014,
        cpu_seconds=4.5000014,
        cost=0.5000000000014,
        currency="EUR",
        other_costs={"USD": 0.2500000000014},
        reported={"rows": 7.0},
        succeeded=2,
    )
    seconds = {"runner_seconds": 7.500004, "work_seconds": 1.500001, "start_seconds": 2.500001}
    assert codec.dump_usage(usage) == {
        **seconds,
        "finish_seconds": 3.500001,
        "cpu_seconds": 4.500001,
        "runs": 3,
        "cost": 0.500000000001,
        "succeeded": 2,
        "currency": "EUR",
        "other_costs": {"USD": 0.250000000001},
        "reported": {"rows": 7.0},
    }
    assert list(codec.dump_usage(Usage())) == [*seconds, "finish_seconds", "cpu_seconds", "runs", "cost"]


def test_half_a_surrogate_pair_in_a_job() -> None:
    """Of a later version's key, as of its tasks' results."""
    job = state()
    job.extra["later"] = "\ud800"
    assert codec.load_job(codec.dump_job(job), "").extra == {"later": "\ud800"}


@pytest.mark.parametrize(
    "make",
    [
        lambda tasks: ev.Ended(2.0, 1, "ok", Moments(1.0, 1.1, 1.9, 2.0), queued=tasks),
        lambda tasks: ev.Requested(3.0, "r1", "add", tasks=tasks),
        lambda tasks: ev.Resolved(3.0, "a", tasks=tasks),
    ],
)
def test_a_line_has_what_its_tasks_do_not_have_from_their_job(make: Callable[[list[Task]], ev.Event]) -> None:
    """Each once, whatever kind of decision adds them; a reader that has the defaults puts the rest back."""
    defaults = TaskDefaults(command="run", retries=3)
    tasks = [Task(id="x", command="run", retries=3), Task(id="y", command="own", retries=0)]
    text = codec.seal(ev.journal_line(make(tasks), job="j", uid="0badcafe", version=1, before=None), defaults)
    raw = json.loads(text)
    assert raw["tasks"] == [{"id": "x"}, {"id": "y", "command": "own", "retries": 0}]
    assert (text.count(b'"tasks"'), text.count(b'"queued"'), text.count(b'"own"')) == (1, 0, 1)
    line = codec.unseal(text[:-1])
    assert line is not None
    assert line.event is not None
    assert [task.given for task in line.tasks] == [frozenset({"id"}), frozenset({"id", "command", "retries"})]
    assert ev.tasks_of(ev.with_tasks(line.event, line, Defaults(defaults))) == tasks


def test_counters_are_no_decision() -> None:
    """And no decision is counters; a damaged line is neither."""
    counted = CountersRecord({"runs": 1.0}, {"ends": 2.0})
    counters = codec.seal_counters(counted)[:-1]
    decision = codec.seal(
        ev.journal_line(ev.Released(1.0), job="j", uid="0badcafe", version=1, before=None), TaskDefaults()
    )[:-1]
    assert (codec.unseal_counters(counters), codec.unseal(counters)) == (counted, None)
    assert (codec.unseal_counters(decision), codec.unseal_counters(counters.replace(b"1.0", b"2.0"))) == (None, None)


def test_a_decision_without_tasks_says_nothing_of_them() -> None:
    """Whatever the defaults of its job; a line without a decision is none."""
    defaults = TaskDefaults(retries=3)
    text = codec.seal(ev.journal_line(ev.Released(1.0), job="j", uid="0badcafe", version=1, before=None), defaults)
    assert b"tasks" not in text
    empty = b'{"job":"j","uid":"0badcafe","version":1'
    assert codec.unseal(b'%b,"crc":"%08x"}' % (empty, zlib.crc32(empty))) is None


def test_a_result_may_look_like_the_end_of_a_line() -> None:
    """Only the last of several checksums is that of the line."""
    event = ev.Ended(2.0, 1, "ok", Moments(1.0, 1.1, 1.9, 2.0), result={"a": 1, "crc": "00000000"})
    text = codec.seal(ev.journal_line(event, job="j", uid="0badcafe", version=1, before=None), TaskDefaults())
    line = codec.unseal(text[:-1])
    assert line is not None
    assert line.event == event


def test_what_a_manager_has_written_is_read_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a closer look, and without a second one for tasks that have everything from their job."""
    monkeypatch.setattr(codec, "_load_by_hand", None)
    monkeypatch.setattr(parsing, "from_json", None)
    plain = {"id": "x0", "phase": "queued", "reason": None, "exit_code": None, "runs": 0, "queued_by": None}
    spec = {"max_runners": 1, "on_failure": "stop", "pool": "default", "defaults": {"command": "x", "retries": 3}}
    job = codec.load_job(written(spec=spec, tasks=[plain]), "")
    assert (job.tasks["x0"].command, job.tasks["x0"].retries) == ("x", 3)


def test_a_job_without_tasks_that_an_editor_has_written() -> None:
    """Has defaults for none."""
    raw = json.loads(written(spec={"defaults": {"retries": 3}}, later=1))
    del raw["tasks"]
    assert codec.load_job(json.dumps(raw).encode(), "").tasks == {}


def test_all_that_a_job_has_besides_its_tasks() -> None:
    """Runners that are kept, notifications, what a later version says of its spec: all under their names."""
    head = {
        "kept": {"x0": {"seq": 1, "slot": 0, "since": ENDED["finished_at"], "until": ENDED["finished_at"]}},
        "notices": [{"at": ENDED["finished_at"], "version": 1, "on": "failed", "to": "ops"}],
        "spec": {"max_runners": 1, "on_failure": "stop", "pool": "default", "later": {"a": 1}},
    }
    raw = json.loads(codec.dump_job(codec.load_job(written(**head), "")))
    assert {name: raw[name] for name in head} == head
