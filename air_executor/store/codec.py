"""JSON on the volume ↔ jobs and events in memory, and the version of the format.

`state.json` is made for people and git: fixed key order, two-space indent, one task per line, UTC times, no host paths.
Unknown keys are kept. A task's line is cached on the task, so a checkpoint costs what changed.
"""

from __future__ import annotations

import json
import math
import zlib
from collections.abc import Callable, Mapping
from dataclasses import fields
from typing import Any

from air_executor.errors import BadInputError, CorruptFileError, FormatTooNewError
from air_executor.model import events as ev
from air_executor.model.fields import TASK_FIELDS
from air_executor.model.state import (
    CANCELLED,
    FAILED,
    HELD,
    PAUSED,
    QUEUED,
    RUNNING,
    SKIPPED,
    SUCCEEDED,
    Attempt,
    Done,
    JobState,
    Queued,
    Running,
    TaskState,
)
from air_executor.model.times import from_text, to_text
from air_executor.model.usage import Moments, Usage
from air_executor.store import state_shape

FORMAT = 1

_spaced: Callable[[Any], str] = json.JSONEncoder(ensure_ascii=False, allow_nan=False).encode
_compact: Callable[[Any], str] = json.JSONEncoder(allow_nan=False, separators=(",", ":")).encode


def _encode(value: object) -> str:
    text = _spaced(value)
    if not text.isascii():
        try:
            text.encode()
        except UnicodeEncodeError:  # half a surrogate pair, which JSON allows and UTF-8 does not
            return json.dumps(value, allow_nan=False)
    return text


def _time(seconds: float | None) -> str | None:
    return None if seconds is None else to_text(seconds)


# Jobs

_JOB_KEYS = frozenset(
    "format id uid phase reason message spec submitted_at started_at finished_at deadline_from seq epoch version stop "
    "after_uids submitted_by usage tasks".split()
)
_TASK_KEYS = frozenset(
    "id phase reason exit_code runs queued_by result message finished_at waits_until retrying ready_at run charged "
    "faults attempts".split()
)
_DONE = frozenset({SUCCEEDED, FAILED, CANCELLED, SKIPPED})


def dump_job(job: JobState) -> bytes:
    """Return the text of `state.json`."""
    head: dict[str, Any] = {
        "format": FORMAT,
        "id": job.id,
        "uid": job.uid,
        "phase": job.phase,
        "reason": job.reason,
        "spec": job.spec,
        "submitted_at": _time(job.submitted_at),
        "started_at": _time(job.started_at),
        "finished_at": _time(job.finished_at),
        "seq": job.seq,
        "epoch": job.epoch,
        "version": job.version,
        "usage": dump_usage(job.usage),
    }
    optional = {
        "message": job.message,
        "deadline_from": _time(job.deadline_from),
        "stop": job.stop,
        "after_uids": dict(job.after_uids) or None,
        "submitted_by": job.submitted_by,
    }
    head |= {key: value for key, value in optional.items() if value is not None} | job.extra
    lines = [f"  {_encode(key)}: {_encode(value)},\n" for key, value in head.items()]
    tasks = ",\n".join([f"    {task.line or task_line(task)}" for task in job.tasks.values()])
    return f'{{\n{"".join(lines)}  "tasks": [\n{tasks}\n  ]\n}}\n'.encode()


def task_line(task: TaskState) -> str:
    """Return a task's line in `state.json`, and keep it on the task."""
    status = task.status
    record: dict[str, Any] = {
        "id": task.id,
        "phase": task.phase,
        "reason": status.reason if isinstance(status, Done) else None,
        "exit_code": status.exit_code if isinstance(status, Done) else None,
        "runs": task.runs,
        "queued_by": task.queued_by,
        **task.spec,
    }
    if isinstance(status, Done):
        record["result"] = status.result
        if status.message is not None:
            record["message"] = status.message
        record["finished_at"] = to_text(status.finished_at)
    elif isinstance(status, Running):
        run = {"seq": status.seq, "slot": status.slot, "since": to_text(status.since), "stop": status.stop}
        known = {
            "stop_message": status.stop_message,
            "hopeless": status.hopeless or None,
            "waited": status.waited,
            "memory_limit": status.memory_limit,
        }
        record["run"] = run | {key: value for key, value in known.items() if value is not None}
    else:
        if status.waits_until is not None:
            record["waits_until"] = to_text(status.waits_until)
        if status.retrying:
            record["retrying"] = True
        if task.ready_at is not None:
            record["ready_at"] = to_text(task.ready_at)
    if task.charged:
        record["charged"] = task.charged
    if task.faults:
        record["faults"] = task.faults
    if task.attempts:
        record["attempts"] = [_dump_attempt(a) for a in task.attempts]
    task.line = _encode(record | task.extra)
    return task.line


def load_job(data: bytes, path: str) -> JobState:
    """Read the text of a `state.json`.

    Raises:
        FormatTooNewError: a newer Air-Executor wrote it.
        CorruptFileError: it is not a state file; `path` is for the message.
    """
    try:
        raw = json.loads(data, parse_float=_number, parse_constant=_number)
        if not isinstance(raw, dict):
            raise TypeError("not a JSON object")  # noqa: TRY301 - becomes the message below
        if raw.get("format", 0) > FORMAT:
            msg = f"{path}: format {raw['format']} is newer than {FORMAT}, the newest this version reads; upgrade"
            raise FormatTooNewError(msg)
        return _load_job(raw)
    except (ValueError, OverflowError, TypeError, KeyError, AttributeError, BadInputError, RecursionError) as error:
        detail = f"missing {error}" if isinstance(error, KeyError) else str(error)
        msg = f"{path}: not a readable state file ({detail})"
        raise CorruptFileError(msg) from error


def _number(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        msg = f"{text} is no number that could be written again"
        raise ValueError(msg)
    return value


def _load_job(raw: dict[str, Any]) -> JobState:
    state_shape.check_job(raw)
    job = JobState(
        id=_text(raw["id"]),
        uid=_text(raw["uid"]),
        spec=dict(raw["spec"]),
        submitted_at=from_text(raw["submitted_at"]),
        phase=_one_of(raw["phase"], {HELD, QUEUED, RUNNING, PAUSED, SUCCEEDED, FAILED, CANCELLED}),
        reason=raw["reason"],
        message=raw.get("message"),
        started_at=_seconds(raw.get("started_at")),
        finished_at=_seconds(raw.get("finished_at")),
        deadline_from=_seconds(raw.get("deadline_from")),
        seq=int(raw["seq"]),
        epoch=int(raw["epoch"]),
        version=int(raw["version"]),
        stop=raw.get("stop"),
        after_uids=dict(raw.get("after_uids", {})),
        submitted_by=raw.get("submitted_by"),
        usage=_load_usage(raw.get("usage", {})),
        extra={key: value for key, value in raw.items() if key not in _JOB_KEYS},
    )
    for position, record in enumerate(raw["tasks"]):
        task = _load_task(record, position)
        if task.id in job.tasks:
            msg = f"task id {task.id} appears twice"
            raise ValueError(msg)
        job.tasks[task.id] = task
    _check_tasks(job)
    return job


def _check_tasks(job: JobState) -> None:
    """Refuse what no manager writes but a merge or an editor may: it would stop the manager, and with it every job."""
    slots: dict[int, str] = {}
    for task in job.tasks.values():
        for need in task.after:
            if need not in job.tasks:
                msg = f"task {task.id}: after: {need} is not a task of this job"
                raise ValueError(msg)
        if isinstance(task.status, Running) and slots.setdefault(task.status.slot, task.id) != task.id:
            msg = f"tasks {slots[task.status.slot]} and {task.id} both run in slot {task.status.slot}"
            raise ValueError(msg)


def _load_task(raw: dict[str, Any], position: int) -> TaskState:
    state_shape.check_task(raw, position)
    phase = raw["phase"]
    status: Queued | Running | Done
    if phase == QUEUED:
        status = Queued(_seconds(raw.get("waits_until")), bool(raw.get("retrying", False)))
    elif phase == RUNNING:
        run = raw["run"]
        status = Running(
            int(run["seq"]),
            int(run["slot"]),
            from_text(run["since"]),
            stop=run.get("stop"),
            stop_message=run.get("stop_message"),
            hopeless=bool(run.get("hopeless", False)),
            waited=run.get("waited"),
            memory_limit=run.get("memory_limit"),
        )
    else:
        status = Done(
            _one_of(phase, _DONE),
            _text(raw["reason"]),
            from_text(raw["finished_at"]),
            raw.get("exit_code"),
            raw.get("message"),
            raw.get("result"),
        )
    spec = {key: value for key, value in raw.items() if key in TASK_FIELDS}
    task = TaskState(_text(raw["id"]), spec, position=position, queued_by=raw.get("queued_by"), status=status)
    task.runs = int(raw.get("runs", 0))
    task.charged = int(raw.get("charged", 0))
    task.faults = int(raw.get("faults", 0))
    task.attempts = [_load_attempt(a) for a in raw.get("attempts", ())]
    task.ready_at = _seconds(raw.get("ready_at")) if phase == QUEUED else None
    task.extra = {key: value for key, value in raw.items() if key not in _TASK_KEYS and key not in TASK_FIELDS}
    return task


def _dump_attempt(a: Attempt) -> dict[str, Any]:
    record: dict[str, Any] = {
        "seq": a.seq,
        "slot": a.slot,
        "spawned_at": to_text(a.spawned_at),
        "start": a.start,
        "work": a.work,
        "finish": a.finish,
        "reason": a.reason,
        "exit_code": a.exit_code,
    }
    optional = {
        "message": a.message,
        "cpu": a.cpu,
        "memory": a.memory,
        "memory_limit": a.memory_limit,
        "cost": a.cost or None,
        "clock_stepped": a.clock_stepped or None,
        "waited": a.waited,
        "backend": a.backend,
        "price": a.price,
        "currency": a.currency,
    }
    return record | {key: value for key, value in optional.items() if value is not None}


def _load_attempt(raw: Mapping[str, Any]) -> Attempt:
    known = {key: raw[key] for key in _ATTEMPT_KEYS if key in raw}
    return Attempt(**known | {"spawned_at": from_text(raw["spawned_at"])})


_ATTEMPT_KEYS = tuple(f.name for f in fields(Attempt))


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
    if usage.currency is not None:
        record["currency"] = usage.currency
    if usage.other_costs:
        record["other_costs"] = {name: round(cost, 12) for name, cost in usage.other_costs.items()}
    return record


def _load_usage(raw: Mapping[str, Any]) -> Usage:
    known = {f.name: raw[f.name] for f in fields(Usage) if f.name in raw}
    return Usage(**known | {"other_costs": dict(raw.get("other_costs", {}))})


def _text(value: object) -> str:
    if not isinstance(value, str):
        msg = f"{value!r} should be text"
        raise TypeError(msg)
    return value


def _one_of(value: object, allowed: set[str] | frozenset[str]) -> str:
    if value not in allowed:
        msg = f"phase {value!r} is none of {', '.join(sorted(allowed))}"
        raise ValueError(msg)
    return str(value)


def _seconds(text: str | None) -> float | None:
    return None if text is None else from_text(text)


# Events

_EVENTS: dict[str, type[Any]] = {
    "start": ev.Started,
    "stop": ev.StopRequested,
    "end": ev.Ended,
    "request": ev.Requested,
    "release": ev.Released,
    "deadline": ev.DeadlinePassed,
    "upstream": ev.UpstreamFailed,
    "clock": ev.ClockStepped,
}
_NAMES = {cls: name for name, cls in _EVENTS.items()}
_FIELDS = {cls: tuple(f.name for f in fields(cls)) for cls in _EVENTS.values()}
_MOMENTS = tuple(f.name for f in fields(Moments))


def dump_event(event: ev.Event) -> dict[str, Any]:
    """Return an event as JSON data: its kind and its fields, times as Unix seconds."""
    cls = type(event)
    record: dict[str, Any] = {"event": _NAMES[cls]}
    for name in _FIELDS[cls]:
        value = getattr(event, name)
        if name == "moments":
            value = [getattr(value, m) for m in _MOMENTS]
        if value is not None and value != ():
            record[name] = value
    return record


def load_event(raw: Mapping[str, Any]) -> ev.Event:
    """Return the event that `dump_event` wrote.

    Raises:
        KeyError, TypeError: it is none.
    """
    cls = _EVENTS[raw["event"]]
    known = {name: raw[name] for name in _FIELDS[cls] if name in raw}
    if "moments" in known:
        known["moments"] = Moments(*known["moments"])
    event: ev.Event = cls(**known)
    return event


def seal(record: Mapping[str, Any]) -> bytes:
    """Return a journal line: the record with a checksum over what comes before it."""
    body = _compact(record)[:-1].encode()
    return b'%b,"crc":"%08x"}\n' % (body, zlib.crc32(body))


def unseal(line: bytes) -> dict[str, Any] | None:
    """Return the record of a journal line, or None if the line is damaged."""
    body, mark, tail = line.rpartition(b',"crc":"')
    if not mark or tail != b'%08x"}' % zlib.crc32(body):
        return None
    try:
        record = json.loads(body + b"}")
    except ValueError:
        return None
    return record if isinstance(record, dict) else None
