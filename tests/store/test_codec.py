"""`state.json` and journal lines: what is written is read back the same, by this version and by every later one."""

from __future__ import annotations

import json
import zlib
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from air_executor.core.memory import memory_of
from air_executor.core.transitions import LiveJob
from air_executor.errors import CorruptFileError, FormatTooNewError
from air_executor.model import events as ev
from air_executor.model import quick
from air_executor.model.defaults import BUILT_IN, Defaults
from air_executor.model.job import Task, TaskDefaults
from air_executor.model.state import JobState, Queued, Running, TaskState
from air_executor.model.usage import Moments, Stages
from air_executor.store import codec
from air_executor.store.json_output import job_record
from tests.records import make_attempt, make_done
from tests.store.conftest import state
from tests.store.strategies import IDS, JSON, TEXT, jobs

FORMAT_1 = Path(__file__).parent.parent / "fixtures" / "format-1" / "state.json"


def values(task: TaskState) -> dict[str, Any]:
    """Return all that is stored of a task."""
    return {field.name: getattr(task, field.name) for field in fields(task)}


def whole(job: JobState) -> dict[str, Any]:
    """Return all that is stored of a job."""
    return asdict(job) | {"tasks": [values(task) for task in job.tasks.values()]}


@given(jobs())
@settings(max_examples=40)
def test_round_trip(job: JobState) -> None:
    """What was dumped loads as the same job, and dumps as the same text."""
    text = codec.dump_job(job)
    loaded = codec.load_job(text, "state.json")
    assert whole(loaded) == whole(job)
    assert codec.dump_job(loaded) == text


@given(jobs())
@settings(max_examples=40)
def test_text_is_made_for_people_and_git(job: JobState) -> None:
    """UTF-8, valid JSON, one key and one task per line, keys in their order, a newline at the end."""
    text = codec.dump_job(job).decode("utf-8")
    raw = json.loads(text)
    assert text.endswith("\n  ]\n}\n")
    assert list(raw)[:13] == (
        "format id uid phase reason spec submitted_at started_at finished_at seq epoch version usage".split()
    )
    assert list(raw)[-1] == "tasks"
    lines = text.split("\n")
    assert [json.loads(line.strip().rstrip(",")) for line in lines if line.startswith("    ")] == raw["tasks"]
    assert all(list(task)[:6] == "id phase reason exit_code runs queued_by".split() for task in raw["tasks"])


def test_format_1_loads_for_ever() -> None:
    """The fixture of format 1 means what it meant."""
    text = FORMAT_1.read_bytes()
    job = codec.load_job(text, str(FORMAT_1))
    assert (job.id, job.uid, job.phase, job.seq, job.epoch, job.version) == ("census", "9f1c2b7a", "paused", 6, 4, 17)
    assert (job.max_runners, job.pool, job.priority) == (4, "gpu", 2)
    assert (job.submitted_at, job.started_at, job.deadline_at) == (1769860800.123, 1769860800.14, 1769864400.14)
    assert (job.after_uids, job.submitted_by) == ({"fetch": "00c0ffee"}, "00c0ffee-12")
    assert (job.usage.runs, job.usage.cost) == (5, 0.000123)
    assert job.usage.runner_seconds == pytest.approx(1.31)
    tasks = job.tasks
    assert list(tasks) == ["discover", "count-json", "count-ast", "t1-3", "needs-it", "merge", "later"]
    assert tasks["discover"].status == make_done(
        "succeeded", "ok", 1769860800.4, 0, None, {"packages": 2, "größte": "json"}
    )
    assert (tasks["discover"].attempts[0].memory, tasks["discover"].attempts[0].clock_stepped) == (12582912, True)
    assert tasks["count-json"].status == Running(6, 2, 1769860802.0, "timeout")
    assert (tasks["count-json"].runs, tasks["count-json"].charged, tasks["count-json"].faults) == (2, 1, 2)
    assert tasks["count-ast"].status == Queued(1769860812.0, retrying=True)
    assert tasks["t1-3"].status == make_done("failed", "error", 1769860801.0, 127, "not found", None)
    assert tasks["t1-3"].extra == {"note": "unknown keys stay"}
    written = codec.dump_job(job)
    assert json.loads(written) == as_written_now(text)
    assert codec.dump_job(codec.load_job(written, "state.json")) == written
    progress = LiveJob(job).progress
    assert progress.nodes["merge"].place == (1, 5)
    assert [node.cleanup for node in progress.nodes.values()] == [False] * 5 + [True, False]


def as_written_now(text: bytes) -> dict[str, Any]:
    """Return what the current version writes in place of a state of format 1."""
    raw: dict[str, Any] = json.loads(text)
    raw["format"] = 3
    raw["spec"]["pool"] = raw["spec"].pop("queue")
    for task in raw["tasks"]:
        if task.get("result", ...) is None:
            del task["result"]
        if "not_before" in task:
            task["not_before"] = task["not_before"].replace("00Z", "00.000Z")
        if "run" in task and task["run"]["stop"] is None:
            del task["run"]["stop"]
        for name, value in raw["spec"].get("defaults", {}).items():
            if task.setdefault(name, BUILT_IN[name]) == value:
                del task[name]
    return raw


@pytest.mark.parametrize("name", ["state.json", "memory.json", "defaults.json"])
def test_format_2_loads_for_ever(name: str) -> None:
    """It means the same as its counterpart of format 3, in which tasks have their own fields alone."""
    old, new = ((FORMAT_1.parent.parent / folder / name).read_bytes() for folder in ("format-2", "format-3"))
    assert codec.dump_job(codec.load_job(old, name)) == new


@pytest.mark.parametrize("name", ["state.json", "memory.json", "defaults.json"])
def test_format_3_loads_for_ever(name: str) -> None:
    """What this version writes today, every later one reads; and as long as it is the newest, it writes the same."""
    text = (FORMAT_1.parent.parent / "format-3" / name).read_bytes()
    assert codec.dump_job(codec.load_job(text, name)) == text
    assert whole(codec.show_job(text, name)) == whole(codec.load_job(text, name))


def test_format_2_had_the_defaults_in_each_task() -> None:
    """A task that is written without them has them in memory; where it had its own values, it keeps those."""
    text = (FORMAT_1.parent.parent / "format-2/defaults.json").read_bytes()
    job = codec.load_job(text, "")
    old = {task["id"]: task for task in json.loads(text)["tasks"]}
    for name, task in job.tasks.items():
        assert job.env_of(task) == old[name]["env"]
        assert job.labels_of(task) == old[name]["labels"]
        assert task.command == old[name]["command"]
        for field in ("timeout", "retries", "delay"):
            assert getattr(task, field) == old[name].get(field, BUILT_IN[field])
        assert task.resources is job.spec.defaults.resources
    assert job_record(job)["tasks"] == [
        {**task, "env": job.env_of(job.tasks[task["id"]])} for task in json.loads(text)["tasks"]
    ]


def test_format_1_calls_a_pending_child_job_held() -> None:
    """A job that a run had submitted before that run was committed."""
    raw = json.loads(FORMAT_1.read_bytes()) | {"phase": "held"}
    assert codec.load_job(json.dumps(raw).encode(), "state.json").phase == "pending"


def test_format_1_with_memory_loads_for_ever() -> None:
    """Tasks with limits on their memory, from before and after each run kept its own, mean what they meant."""
    text = FORMAT_1.with_name("memory.json").read_bytes()
    job = codec.load_job(text, "memory.json")
    old, grown = job.tasks["old"], job.tasks["grown"]
    assert [one.memory_limit for one in (*old.attempts, *grown.attempts)] == [None, 64 << 20]
    assert isinstance(grown.status, Running)
    assert (grown.status.memory_limit, memory_of(grown), memory_of(old)) == (96 << 20, 96 << 20, 128 << 20)
    assert json.loads(codec.dump_job(job)) == as_written_now(text)


def test_format_1_can_be_worked_on() -> None:
    """The fixture of format 1 is a job that a manager can go on with."""
    job = LiveJob(codec.load_job(FORMAT_1.read_bytes(), str(FORMAT_1)))
    job.apply(ev.Requested(1769860900.0, "r", "resume"), 5)
    job.progress.start_order.promote(1769860900.0)
    ready = job.progress.start_order.next_ready()
    assert ready is not None
    assert ready.id == "count-ast"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda raw: raw.pop("uid"), "uid: is missing"),
        (lambda raw: raw.update(phase="asleep"), "asleep"),
        (lambda raw: raw["tasks"][0].update(phase="done"), "done"),
        (lambda raw: raw["tasks"].append(raw["tasks"][0]), "discover appears twice"),
        (lambda raw: raw["tasks"][5].update(after=["nobody"]), "nobody is not a task"),
        (lambda raw: raw["tasks"].append(raw["tasks"][1] | {"id": "other"}), "both run in slot 2"),
        (lambda raw: raw["tasks"][1].pop("run"), "is running without a run"),
        (lambda raw: raw["tasks"][0].pop("finished_at"), "is succeeded without finished_at"),
        (lambda raw: raw.update(submitted_at="yesterday"), "yesterday"),
        (lambda raw: raw.update(submitted_at=5), "submitted_at: must be a time"),
        (lambda raw: raw.update(tasks=None), "tasks: must be a list"),
        (lambda raw: raw.update(tasks=[1]), "tasks[0]: must be a mapping"),
        (lambda raw: raw.update(seq="many"), "many"),
        (lambda raw: raw.update(seq=10**20), "seq: must be a whole number"),
        (lambda raw: raw.update(version=float("inf")), "Infinity"),
        (lambda raw: raw.update(uid="../../x"), "uid: must be 8 to 32 hexadecimal digits"),
        (lambda raw: raw.update(after_uids={"fetch": "../../x"}), "after_uids.fetch: must be 8 to 32"),
        (lambda raw: raw["usage"].update(work_seconds=None), "usage.work_seconds: must be"),
        (lambda raw: raw["usage"].update(work_seconds=1e999), "Infinity"),
        (lambda raw: raw["usage"].update(work_seconds=-1), "usage.work_seconds: must be a number"),
        (lambda raw: raw["spec"].update(deadline="1h"), 'spec.deadline: must be a duration, got "1h"'),
        (lambda raw: raw["spec"].update(priority="high"), "spec.priority: must be"),
        (lambda raw: raw["spec"].update(max_runners=0), "spec.max_runners: must be"),
        (lambda raw: raw["spec"].update(defaults={"timeout": "soon"}), "spec.defaults.timeout: must be"),
        (lambda raw: raw["tasks"][2].update(id="../x"), "tasks[2].id: must be letters, digits"),
        (lambda raw: raw["tasks"][2].update(timeout="1h"), "tasks[2].timeout: must be a duration"),
        (lambda raw: raw["tasks"][2].update(env={"A": 1}), "tasks[2].env.A: must be text"),
        (lambda raw: raw["tasks"][2].update(queued_by=[]), "tasks[2].queued_by: must be letters, digits"),
        (lambda raw: raw["tasks"][2].pop("command"), "tasks[2].command: is missing"),
        (lambda raw: raw["tasks"][2].update(resources={"memory": "1Gi"}), "tasks[2].resources.memory: must be"),
        (
            lambda raw: raw["tasks"][2].update(resources={"memory": 1 << 30, "memory_growth": 0}),
            "memory_growth: must be",
        ),
        (lambda raw: raw["spec"].update(defaults={"resources": {"cpu": []}}), "spec.defaults.resources.cpu: must be"),
        (lambda raw: raw["tasks"][0].update(result=float("nan")), "NaN"),
        (lambda raw: raw["tasks"][0].update(exit_code=10**20), "tasks[0].exit_code: must be a whole number"),
        (lambda raw: raw["tasks"][1]["run"].update(slot=-1), "tasks[1].run.slot: must be"),
        (lambda raw: raw["tasks"][0]["attempts"][0].update(work="long"), "tasks[0].attempts[0].work: must be"),
        (lambda raw: raw["tasks"][0]["attempts"][0].update(cpu=1e300), "tasks[0].attempts[0].cpu: must be"),
    ],
)
def test_what_is_no_state_is_refused(change: Any, message: str) -> None:  # noqa: ANN401 - a lambda
    """A state that cannot be is refused with its path and what is wrong, so it is never overwritten."""
    raw = json.loads(FORMAT_1.read_bytes())
    change(raw)
    with pytest.raises(CorruptFileError, match=r"a/state\.json: not a readable state file") as caught:
        codec.load_job(json.dumps(raw).encode(), "a/state.json")
    assert message in str(caught.value)


@given(st.binary(max_size=200))
def test_garbage_is_refused(data: bytes) -> None:
    """No bytes make the reader fail in any other way."""
    with pytest.raises(CorruptFileError):
        codec.load_job(data, "state.json")


@pytest.mark.parametrize("text", [b"<<<<<<< HEAD", b"", b"[" * 100_000, b"null", b'{"format": "x"}'])
def test_typical_garbage_is_refused(text: bytes) -> None:
    """Conflict markers, nothing, bottomless nesting: all refused."""
    with pytest.raises(CorruptFileError):
        codec.load_job(text, "state.json")


def test_newer_format_is_refused() -> None:
    """A newer format is refused as such, whatever else is in it."""
    with pytest.raises(FormatTooNewError, match="format 4 is newer than 3"):
        codec.load_job(b'{"format": 4, "jobs": []}', "state.json")


TIMES = st.floats(0, 4e9)
SEQS = st.integers(0, 10**9 - 1)
WORDS = st.text(max_size=20)
MOMENTS = st.builds(
    Moments, TIMES, st.none() | TIMES, st.none() | TIMES, TIMES, st.none() | TIMES, st.none() | st.integers(0, 2**50)
)
TASKS = st.lists(st.builds(Task, id=IDS, command=TEXT), max_size=2)
CODES = st.none() | st.integers(-(2**31), 2**32 - 1)
EVENTS = st.one_of(
    st.builds(ev.Started, TIMES, IDS, SEQS, st.integers(0, 10_000)),
    st.builds(ev.StopRequested, TIMES, SEQS, WORDS, st.none() | TEXT, st.booleans()),
    st.builds(ev.Ended, TIMES, SEQS, WORDS, MOMENTS, CODES, st.none() | TEXT, JSON, TASKS),
    st.builds(ev.Requested, TIMES, WORDS, WORDS, st.none() | IDS, TASKS),
    st.builds(ev.Released, TIMES),
    st.builds(ev.DeadlinePassed, TIMES),
    st.builds(ev.UpstreamFailed, TIMES, IDS),
    st.builds(ev.ClockStepped, TIMES, st.floats(-1e9, 1e9)),
)


def sealed(event: ev.Event) -> bytes:
    """Return the journal line of an event, without its end."""
    line = codec.seal(ev.journal_line(event, job="j", uid="0badcafe", version=3, before=(1, 2)), TaskDefaults())
    assert line.count(b"\n") == 1
    return line[:-1]


@given(EVENTS)
def test_events_round_trip_through_a_line(event: ev.Event) -> None:
    """An event comes back from its journal line as it was, whatever text is in it; the line is one line."""
    line = codec.unseal(sealed(event))
    assert line is not None
    assert (line.job, line.uid, line.version, line.before) == ("j", "0badcafe", 3, (1, 2))
    assert line.event == event


@pytest.mark.parametrize("result", ["\udcff", {"\udef7": 1}, {"a": ["x\ud800y"]}, "\udbff\ud800"])
def test_half_a_surrogate_pair_comes_back(result: Any) -> None:  # noqa: ANN401 - any JSON
    """JSON can hold it, so a task's result can."""
    event = ev.Ended(at=1.0, seq=1, reason="ok", moments=Moments(1.0, 2.0, 3.0, 4.0), result=result)
    line = codec.unseal(sealed(event))
    assert line is not None
    assert line.event == event
    assert codec.unseal(sealed(event)[:-1]) is None


@given(EVENTS, st.data())
def test_damage_to_a_line_is_noticed(event: ev.Event, data: st.DataObject) -> None:
    """One changed byte, or a missing end, makes a line no line."""
    line = sealed(event)
    at = data.draw(st.integers(0, len(line) - 1))
    byte = data.draw(st.integers(0, 255).filter(lambda value: value != line[at]))
    assert codec.unseal(line[:at] + bytes([byte]) + line[at + 1 :]) is None
    assert codec.unseal(line[:at]) is None


@pytest.mark.parametrize(
    ("old", "event"),
    [
        ({"event": "start", "at": 1.5, "task": "a", "seq": 1, "slot": 0}, ev.Started(1.5, "a", 1, 0)),
        (
            {"event": "stop", "at": 2.0, "seq": 1, "reason": "start-failed", "message": "no", "permanent": True},
            ev.StopRequested(2.0, 1, "start-failed", "no", permanent=True),
        ),
        (
            {
                "event": "end",
                "at": 3.0,
                "seq": 1,
                "reason": "ok",
                "moments": [1.0, 1.1, 1.9, 2.0, 0.5, None, False],
                "exit_code": 0,
                "result": {"n": 1},
                "queued": [{"id": "t1-1", "command": "x", "timeout": 60, "not_before": "2026-01-31T12:00:00.000Z"}],
                "cost": 0.0,
            },
            ev.Ended(
                3.0,
                1,
                "ok",
                Moments(1.0, 1.1, 1.9, 2.0, 0.5),
                0,
                result={"n": 1},
                queued=[Task(id="t1-1", command="x", timeout=60, not_before=1769860800.0)],
            ),
        ),
        ({"event": "request", "at": 4.0, "request": "r", "op": "pause"}, ev.Requested(4.0, "r", "pause")),
        ({"event": "clock", "at": 5.0, "by": -3600.0}, ev.ClockStepped(5.0, -3600.0)),
    ],
)
def test_lines_of_format_1_are_read_for_ever(old: dict[str, Any], event: ev.Event) -> None:
    """What a manager of version 0.1 wrote before it was killed is what the next one starts from."""
    body = json.dumps({"job": "j", "uid": "0badcafe", "v": 3, "from": [1, 2], **old}, separators=(",", ":"))[:-1]
    line = codec.unseal(f'{body},"crc":"{zlib.crc32(body.encode()):08x}"}}'.encode())
    assert line is not None
    assert (line.version, line.before, line.event) == (3, (1, 2), event)


@given(jobs())
@settings(max_examples=40)
def test_a_state_that_is_only_shown_is_the_same(job: JobState) -> None:
    """The reader without pydantic and the other agree on all that a manager writes."""
    raw = json.loads(codec.dump_job(job))
    try:
        shown = quick.build(JobState, raw)
    except quick.NotQuickError:
        assert job.extra or any(task.extra for task in job.tasks.values())
        return
    Defaults(shown.spec.defaults).fill_all(shown.tasks.values(), raw["tasks"])
    assert whole(shown) == whole(codec.load_job(codec.dump_job(job), "state.json"))


def test_no_price_is_too_high_to_be_read_again() -> None:
    """What settings allow and a long run costs can be written, so it must be readable."""
    job = codec.load_job(FORMAT_1.read_bytes(), str(FORMAT_1))
    price = {"cpu": 1e9 * 100_000}
    job.tasks["discover"].attempts = [
        make_attempt(1, 0, 0.0, 0.0, 1e8, 0.0, "ok", cost=1e22, price=price, currency="EUR")
    ]
    job.usage.add(Stages(0, 1e8, 0), None, 1e22, "EUR")
    job.usage.add(Stages(0, 1e8, 0), None, 1e22, "USD")
    loaded = codec.load_job(codec.dump_job(job), "state.json")
    assert (loaded.usage.cost, loaded.usage.other_costs) == (1e22, {"EUR": 1e22})
    assert loaded.tasks["discover"].attempts == job.tasks["discover"].attempts


def test_half_a_surrogate_pair_beside_unknown_keys() -> None:
    """JSON allows in a result what UTF-8 cannot hold; a task with a later version's keys is written all the same."""
    job = state()
    task = next(iter(job.tasks.values()))
    task.result = {"name": "\ud800"}
    task.extra["later"] = "\udfff"
    again = next(iter(codec.load_job(codec.dump_job(job), "").tasks.values()))
    assert (again.result, again.extra) == (task.result, task.extra)
