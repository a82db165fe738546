"""Text on the volume ↔ records in memory: states and journal lines, in this version's format and in earlier ones.

`state.json` is made for people and git: fixed key order, one task per line, UTC times, no host paths. Unknown keys are
kept. Called by `jobs` and `journal`; what a record may hold is declared in `model`. Importing this does not import
pydantic, so that `show_job` can do without.
"""

from __future__ import annotations

import json
import sys
import zlib
from collections.abc import Iterable
from dataclasses import fields
from functools import cache
from itertools import repeat
from typing import TYPE_CHECKING, Any, TypeVar

from air_executor.errors import BadInputError, CorruptFileError, FormatTooNewError
from air_executor.model import quick, strict_json, types
from air_executor.model.defaults import Defaults
from air_executor.model.job import TaskDefaults
from air_executor.model.problems import InvalidError, lines
from air_executor.model.state import FORMAT, JobState, Running
from air_executor.model.times import to_text
from air_executor.store import old_formats

if TYPE_CHECKING:
    from air_executor.model.events import JournalLine
    from air_executor.model.job import Task
    from air_executor.model.records import CountersRecord
    from air_executor.model.state import TaskState
    from air_executor.model.usage import Usage

R = TypeVar("R")
_ALWAYS = "format id uid phase reason spec submitted_at started_at finished_at seq epoch version usage".split()
_SPEC_ALWAYS = ("max_runners", "on_failure", "pool")
_DECLARED = {field.name: field.type for field in fields(JobState) if field.name not in ("tasks", "extra")}
_HEAD = (*_ALWAYS, *(name for name in _DECLARED if name not in _ALWAYS))
_TIMES = frozenset(name for name, kind in _DECLARED.items() if kind in (types.Time, types.Time | None))

_MOST_QUICK = 100_000
"""Bytes of a state that are worth showing without pydantic."""

_encode = json.JSONEncoder(ensure_ascii=False, allow_nan=False).encode
_key = cache(_encode)


# Writing states


def _encode_value(value: Any) -> str:  # noqa: ANN401 - JSON data
    # An encoder's start costs more than the plain values that most of a head is.
    if value is None:
        return "null"
    return str(value) if type(value) is int else _encode(value)


def dump_job(job: JobState) -> bytes:
    """Return the text of `state.json`."""
    head = "".join([f"  {_key(key)}: {_encode_value(value)},\n" for key, value in job_head(job).items()])
    text = head.encode(errors="backslashreplace")  # half a surrogate pair in an unknown key
    lines = _task_lines(list(job.tasks.values()), Defaults(job.spec.defaults))
    tasks = b"    " + b",\n    ".join(lines) if lines else b""
    return b'{\n%b  "tasks": [\n%b\n  ]\n}\n' % (text, tasks)


def _task_lines(tasks: list[TaskState], defaults: Defaults) -> list[bytes]:
    from air_executor.model import parsing  # noqa: PLC0415 - see the module

    if defaults.names or any(task.extra for task in tasks):
        return _own_lines(tasks, defaults)
    return parsing.dump_each(tasks)


def _own_lines(tasks: Iterable[Task | TaskState], defaults: Defaults) -> list[bytes]:
    """Return each task on one line, without what it has from the defaults of its job, and with keys we do not know."""
    from air_executor.model import parsing  # noqa: PLC0415 - see the module

    lines = []
    for task in tasks:
        taken = defaults.taken(task)
        extra: dict[str, Any] = getattr(task, "extra", {})
        line = parsing.dump_json(task, {*taken, "extra"} if extra else taken)
        more = {**defaults.unset(task, taken), **extra}
        lines.append(b"%b,%b" % (line[:-1], parsing.to_json(more)[1:]) if more else line)
    return lines


def job_head(job: JobState) -> dict[str, Any]:
    """Return a job without its tasks as JSON data, in the order of `state.json`."""
    from air_executor.model import parsing  # noqa: PLC0415 - see the module

    head: dict[str, Any] = {}
    for name in _HEAD:
        value = getattr(job, name)
        if value is not None and name in _TIMES:
            value = to_text(value)
        if name in _ALWAYS or value not in (None, False, {}, []):
            head[name] = value
    if job.kept:
        head["kept"] = {task: parsing.dump(kept) for task, kept in job.kept.items()}
    spec = {name: getattr(job.spec, name) for name in _SPEC_ALWAYS} | parsing.dump(job.spec)
    if job.notices:
        head["notices"] = [parsing.dump(notice) for notice in job.notices]
    head["spec"] = spec | spec.pop("extra", {})
    head["usage"] = dump_usage(job.usage)
    return head | job.extra


def dump_usage(usage: Usage) -> dict[str, Any]:
    """Return what has been used, as `state.json` has it; seconds."""
    record: dict[str, Any] = {
        "runner_seconds": round(usage.runner_seconds, 6),
        "work_seconds": round(usage.work_seconds, 6),
        "start_seconds": round(usage.start_seconds, 6),
        "finish_seconds": round(usage.finish_seconds, 6),
        "cpu_seconds": round(usage.cpu_seconds, 6),
        "runs": usage.runs,
        "cost": round(usage.cost, 12),
    }
    if usage.succeeded:
        record["succeeded"] = usage.succeeded
    if usage.currency is not None:
        record["currency"] = usage.currency
    if usage.other_costs:
        record["other_costs"] = {name: round(cost, 12) for name, cost in usage.other_costs.items()}
    if usage.reported:
        record["reported"] = usage.reported
    return record


# Reading states


def load_job(data: bytes, path: str) -> JobState:
    """Read the text of a `state.json`.

    Raises:
        FormatTooNewError: a newer Air-Executor wrote it.
        CorruptFileError: it is not a state file; `path` is for the message.
    """
    from air_executor.model import parsing  # noqa: PLC0415 - see the module

    try:
        job = parsing.read_json(JobState, data)
        if job is None:  # unknown keys, an earlier format, or wrong: worth a closer look
            job = _load_by_hand(data, path)
        elif (defaults := Defaults(job.spec.defaults)).names:
            # Names that stand in the defaults alone are in no task: that saves parsing all of it once more.
            alone = all(data.count(b'"%b"' % name.encode()) == 1 for name in defaults.names)
            defaults.fill_all(job.tasks.values(), repeat(()) if alone else parsing.from_json(data)["tasks"])
        _check_tasks(job)
    except InvalidError as error:
        raise _corrupt(path, "; ".join(lines(error.problems))) from None
    except ValueError as error:
        raise _corrupt(path, str(error)) from None
    return job


def show_job(data: bytes, path: str) -> JobState:
    """Read a state to show it: without importing pydantic, if it is one of few and as this version writes. See `load_job`.

    Importing pydantic takes as long as showing hundreds of tasks without; from then on it is much faster.
    """  # noqa: E501
    if "pydantic" in sys.modules or len(data) > _MOST_QUICK:
        return load_job(data, path)
    try:
        raw = json.loads(data)
        job = quick.build(JobState, raw)
        Defaults(job.spec.defaults).fill_all(job.tasks.values(), raw["tasks"])
        _check_tasks(job)
    except (quick.NotQuickError, ValueError, RecursionError):
        return load_job(data, path)
    return job


def read_small(record: type[R], data: bytes) -> R | None:
    """Return the record that a small file holds, or None if it holds none; without pydantic where that will do."""
    try:
        return quick.build(record, json.loads(data))
    except (quick.NotQuickError, ValueError, RecursionError):
        pass
    from air_executor.model import parsing  # noqa: PLC0415 - see the module

    return parsing.read_json(record, data)


def _corrupt(path: str, why: str) -> CorruptFileError:
    return CorruptFileError(f"{path}: not a readable state file ({why})")


def _load_by_hand(data: bytes, path: str) -> JobState:
    from air_executor.model import parsing  # noqa: PLC0415 - see the module

    try:
        raw = strict_json.loads(data)
    except BadInputError as error:
        raise ValueError(str(error)) from None
    if not isinstance(raw, dict):
        raise ValueError("not a JSON object")  # noqa: TRY004 - what a file holds is no type of ours
    version = raw.get("format")
    if isinstance(version, int) and version > FORMAT:
        msg = f"{path}: format {version} is newer than {FORMAT}, the newest this version reads; upgrade"
        raise FormatTooNewError(msg)
    raw = old_formats.upgrade_state(raw)
    job = parsing.read_stored(JobState, raw)
    Defaults(job.spec.defaults).fill_all(job.tasks.values(), raw.get("tasks", ()))
    return job


def _check_tasks(job: JobState) -> None:
    """Refuse what no manager writes but a merge or an editor may: it would stop the manager, and with it every job."""
    slots: dict[int, str] = {}
    for number, task in enumerate(job.tasks.values()):
        if task.command is None and task.approve is None and task.joins is None:
            msg = f"tasks[{number}].command: is missing"
            raise ValueError(msg)
        for need in task.after:
            if need not in job.tasks:
                msg = f"task {task.id}: after: {need} is not a task of this job"
                raise ValueError(msg)
        if task.phase == "queued":
            continue
        if task.phase != "running":
            if task.finished_at is None or task.reason is None:
                msg = f"task {task.id}: is {task.phase} without finished_at and reason"
                raise ValueError(msg)
        elif not isinstance(task.run, Running):
            msg = f"task {task.id}: is running without a run"
            raise ValueError(msg)
        elif slots.setdefault(task.run.slot, task.id) != task.id:
            msg = f"tasks {slots[task.run.slot]} and {task.id} both run in slot {task.run.slot}"
            raise ValueError(msg)


# Journal lines


def seal(line: JournalLine, defaults: TaskDefaults) -> bytes:
    """Return the text of a journal line of a job with these defaults: the record, and a checksum over it."""
    from air_executor.model import parsing  # noqa: PLC0415 - see the module
    from air_executor.model.events import tasks_of  # noqa: PLC0415 - see the module

    tasks = [] if line.event is None else tasks_of(line.event)
    taken = Defaults(defaults) if tasks else None
    if taken is None or not taken.names:
        body = parsing.dump_json(line)[:-1]
    else:
        body = parsing.dump_json(line, {"end": {"queued"}, "request": {"tasks"}, "resolve": {"tasks"}})[:-1]
        body += b',"tasks":[%b]' % b",".join(_own_lines(tasks, taken))
    return _with_checksum(body)


def seal_counters(counters: CountersRecord) -> bytes:
    """Return the text of a journal line that holds counters."""
    from air_executor.model import parsing  # noqa: PLC0415 - see the module

    return _with_checksum(parsing.dump_json(counters)[:-1])


def _with_checksum(body: bytes) -> bytes:
    return b'%b,"crc":"%08x"}\n' % (body, zlib.crc32(body))


def unseal(text: bytes) -> JournalLine | None:
    """Return the record of a journal line, or None if the line is damaged."""
    from air_executor.model import parsing  # noqa: PLC0415 - see the module
    from air_executor.model.events import JournalLine  # noqa: PLC0415 - see the module

    body = _checked(text)
    if body is None:
        return None
    try:
        line = parsing.read_json(JournalLine, body)
        if line is None:
            line = parsing.read_stored(JournalLine, old_formats.upgrade_line(strict_json.loads(body)))
        elif line.tasks:
            for task, own in zip(line.tasks, json.loads(body)["tasks"], strict=True):
                task.given = frozenset(own)  # type: ignore[misc]  # a slot of a class above
    except (InvalidError, BadInputError, KeyError, TypeError, ValueError):
        return None
    return line if line.event is not None else None


def unseal_counters(text: bytes) -> CountersRecord | None:
    """Return the record of a journal line that holds counters, or None if the line is damaged or another one."""
    from air_executor.model import parsing  # noqa: PLC0415 - see the module
    from air_executor.model.records import CountersRecord  # noqa: PLC0415 - see the module

    body = _checked(text) if text.startswith(b'{"counters":') else None
    return None if body is None else parsing.read_json(CountersRecord, body)


def _checked(text: bytes) -> bytes | None:
    body, mark, tail = text.rpartition(b',"crc":"')
    return body + b"}" if mark and tail == b'%08x"}' % zlib.crc32(body) else None
