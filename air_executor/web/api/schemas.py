"""Schemas of the API's document: those of the records that are read and written, under names."""

from __future__ import annotations

from functools import cache
from typing import Any

from air_executor.model import parsing
from air_executor.model.attempt import Attempt
from air_executor.model.callers import AuditLine
from air_executor.model.change_bodies import (
    Approval,
    BackfillOrder,
    NewRun,
    OfJob,
    OfTask,
    Rejection,
    Rerun,
    Resumption,
    Retry,
    SubmissionOrder,
)
from air_executor.model.job import Task
from air_executor.model.records import ManagerFile
from air_executor.model.state import JobState, TaskState
from air_executor.web.problem_details import MEDIA_TYPE

Json = dict[str, Any]

_TIME: Json = {"type": "string", "format": "date-time"}
_TEXT_OR_NONE: Json = {"type": ["string", "null"]}
_TIME_OR_NONE: Json = {"type": ["string", "null"], "format": "date-time"}


def _object(description: str, /, **properties: Json) -> Json:
    return {"type": "object", "description": description, "properties": properties, "required": list(properties)}


def _list_of(name: str) -> Json:
    return {"type": "array", "items": ref(name)}


def ref(name: str) -> Json:
    """Return the reference to a schema."""
    return {"$ref": f"#/components/schemas/{name}"}


_SUMMARY = _object(
    "A job with task counts by phase instead of its tasks.",
    id={"type": "string"},
    uid={"type": "string"},
    phase={"type": "string"},
    reason=_TEXT_OR_NONE,
    message=_TEXT_OR_NONE,
    owner=_TEXT_OR_NONE,
    submitted_at=_TIME,
    started_at=_TIME_OR_NONE,
    finished_at=_TIME_OR_NONE,
    pool={"type": "string"},
    expect_by=_TIME_OR_NONE,
    late_since=_TIME_OR_NONE,
    name=_TEXT_OR_NONE,
    labels={"type": "object", "additionalProperties": {"type": "string"}},
    submitted_by=_TEXT_OR_NONE,
    lock={**_TEXT_OR_NONE, "description": "The lock that it holds."},
    priority={"type": "integer"},
    max_runners={"type": "integer"},
    usage={"type": "object"},
    task_counts={"type": "object", "additionalProperties": {"type": "integer"}},
    in_use={
        "type": "object",
        "description": "What its running tasks take, by pool.",
        "additionalProperties": {"type": "integer"},
    },
)
_SCHEDULE = _object(
    "A schedule.",
    name={"type": "string"},
    paused={"type": "boolean"},
    source=_TEXT_OR_NONE,
    schedule={"type": ["object", "null"], "description": "As the definition has it; null: it runs on demand."},
    next_at=_TIME_OR_NONE,
)
_SCHEDULE["properties"]["problem"] = {"type": "string", "description": "Why it has no next time, if it is wrong."}
_UNREADABLE: Json = {"type": "array", "items": _object("What cannot be read.", id={}, message={"type": "string"})}

PLAIN: dict[str, Json] = {
    "Problem": _object(
        "An error (RFC 9457); `detail` is the message of the command line.",
        type={"type": "string", "description": "Stable word for programs, as a URN."},
        title={"type": "string"},
        status={"type": "integer"},
        detail={"type": "string"},
    ),
    "JobSummary": _SUMMARY,
    "JobList": _object(
        "Jobs, the newest first.",
        jobs=_list_of("JobSummary"),
        unreadable=_UNREADABLE,
        next={**_TEXT_OR_NONE, "description": "Cursor of the next page; null: this is the last one."},
    ),
    "TaskList": _object("Tasks in the order of the queue.", tasks=_list_of("TaskState")),
    "Inputs": {
        "type": "object",
        "description": "Results of the tasks that have succeeded, by task.",
        "additionalProperties": True,
    },
    "Outcomes": {
        "type": "object",
        "description": "How the tasks have ended, by task.",
        "additionalProperties": _object(
            "How a task has ended.",
            phase={"type": "string"},
            reason=_TEXT_OR_NONE,
            exit_code={"type": ["integer", "null"]},
            result={"description": "Its result, or null."},
        ),
    },
    "AttemptList": _object(
        "Runs of a task.",
        attempts=_list_of("Attempt"),
        running={"description": "The open run, or null.", "type": ["object", "null"]},
    ),
    "Submitted": _object(
        "A job that is stored durably.",
        id={"type": "string"},
        uid={"type": "string"},
        phase={"type": "string"},
    ),
    "Submissions": _object("Jobs that are stored durably.", jobs=_list_of("Submitted")),
    "RequestList": _object(
        "Requests that wait for the manager, the oldest first.",
        requests={"type": "array", "items": {"type": "string", "description": "Verb, job and task."}},
    ),
    "FileList": _object(
        "Files of a workspace.",
        files={
            "type": "array",
            "items": _object(
                "A file.", path={"type": "string"}, size={"type": "integer"}, executable={"type": "boolean"}
            ),
        },
    ),
    "LogTimes": _object(
        "When the lines of a log were written: the log had each of the sizes at the time of the same place.",
        sizes={"type": "array", "items": {"type": "integer"}},
        times={"type": "array", "items": {"type": "number", "description": "Unix seconds."}},
        modified={"type": "number", "description": "When the log was last written, in Unix seconds."},
    ),
    "Answer": _object(
        "A request that is stored durably.",
        request={"type": "string"},
        job={"type": "string"},
        applied={"type": "boolean", "description": "Whether a manager has applied it; if not, the next one will."},
    ),
    "Explanation": _object(
        "Why something is not running, or how it ended.",
        job={"type": "string"},
        task=_TEXT_OR_NONE,
        phase={"type": "string"},
        explanation={"type": "string"},
        description=_TEXT_OR_NONE,
    ),
    "NameList": _object(
        "Names of definitions that have runs, or a schedule.",
        names={"type": "array", "items": {"type": "string"}},
    ),
    "History": _object("Runs of a name, the newest first.", name={"type": "string"}, runs=_list_of("JobSummary")),
    "Schedule": _SCHEDULE,
    "AppliedSchedule": {
        **_SCHEDULE,
        "properties": {
            **_SCHEDULE["properties"],
            "changed": {"type": "boolean", "description": "Whether it was not stored already."},
        },
    },
    "ScheduleList": _object("Schedules.", schedules=_list_of("Schedule"), unreadable=_UNREADABLE),
    "Backfill": _object(
        "Runs that a backfill created, or would create.",
        created={"type": "array", "items": {"type": "string"}},
        left_out={"type": "array", "items": {"type": "string"}},
        unsuccessful={
            "type": "array",
            "description": "Those of `left_out` that have failed, or were cancelled.",
            "items": {"type": "string"},
        },
        retried={
            "type": "array",
            "description": "Those of `unsuccessful` that are retried.",
            "items": {"type": "string"},
        },
        dry_run={"type": "boolean"},
    ),
    "CancelledBackfill": _object(
        "Runs that a backfill made, and that are cancelled.", cancelled={"type": "array", "items": {"type": "string"}}
    ),
    "Report": {"type": "object", "description": "As `air-executor report --json`.", "additionalProperties": True},
    "Charges": _object(
        "What runs cost, for tools of finance.",
        csv={"type": "string", "description": "As FOCUS 1.2 defines it."},
        left_out={"type": "integer", "description": "Runs of tasks with more than 100 runs, whose days are not known."},
        unreadable={"type": "array", "items": _object("A job.", id={}, problem={"type": "string"})},
    ),
    "PoolList": _object(
        "Pools with a limit, or with running tasks.",
        pools={
            "type": "array",
            "items": _object(
                "A pool.", name={"type": "string"}, limit={"type": ["integer", "null"]}, running={"type": "integer"}
            ),
        },
    ),
    "Manager": {
        "type": "object",
        "description": "The manager, as `manager.json` has it.",
        "properties": {"running": {"type": ["boolean", "null"]}},
        "additionalProperties": True,
    },
    "Caller": _object("Who asks.", name={"type": "string"}, role={"type": "string"}),
    "AuditList": _object("The newest changes, the newest last.", lines=_list_of("AuditLine")),
}

WRITTEN = {
    "Task": Task,
    "SubmissionOrder": SubmissionOrder,
    "OfJob": OfJob,
    "OfTask": OfTask,
    "Rerun": Rerun,
    "Resumption": Resumption,
    "Retry": Retry,
    "Approval": Approval,
    "Rejection": Rejection,
    "BackfillOrder": BackfillOrder,
    "NewRun": NewRun,
}
"""Records as people write them."""
STORED = {
    "JobState": JobState,
    "TaskState": TaskState,
    "Attempt": Attempt,
    "ManagerFile": ManagerFile,
    "AuditLine": AuditLine,
}
"""Records as they are stored, and answered."""


@cache
def components() -> dict[str, Json]:
    """Return all schemas by name."""
    found: dict[str, Json] = dict(PLAIN)
    _add(found, "JobFile", parsing.job_schema(), "JobFile.")
    for name, record in WRITTEN.items():
        _add(found, name, parsing.adapter(record).json_schema(), "Written.")
    for name, record in STORED.items():
        _add(found, name, parsing.stored(record).json_schema(mode="serialization"), "Stored.")
    return dict(sorted(found.items()))


def _add(found: dict[str, Json], name: str, schema: Json, prefix: str) -> None:
    """Add a schema; what it refers to stands beside it, with the prefix."""
    schema = _moved(schema, prefix)
    for inner, one in schema.pop("$defs", {}).items():
        found[prefix + inner] = one
    schema.pop("$schema", None)
    found[name] = schema


def _moved(part: Any, prefix: str) -> Any:  # noqa: ANN401 - JSON data
    if isinstance(part, dict):
        return {
            key: value.replace("#/$defs/", f"#/components/schemas/{prefix}")
            if key == "$ref" and isinstance(value, str)
            else _moved(value, prefix)
            for key, value in part.items()
        }
    return [_moved(one, prefix) for one in part] if isinstance(part, list) else part


def takes(name: str, *, required: bool = False, yaml: bool = False, description: str = "") -> Json:
    """Return what a route's declaration says of its body."""
    kinds = ["application/json", *(["application/yaml"] if yaml else [])]
    body: Json = {"required": required, "content": {kind: {"schema": ref(name)} for kind in kinds}}
    return {"requestBody": body | ({"description": description} if description else {})}


def answers(name: str, description: str, *, status: int = 200) -> dict[int | str, Json]:
    """Return what a route's declaration says of its answer."""
    return {status: {"description": description, "content": {"application/json": {"schema": ref(name)}}}}


def problems(*statuses: int) -> dict[int | str, Json]:
    """Return what a route's declaration says of its errors."""
    words = {
        304: "Not changed since the version that `If-None-Match` names.",
        401: "The token is missing or wrong.",
        403: "The role of the token does not allow this.",
        404: "There is no such thing.",
        408: "The body did not come in time.",
        409: "It exists already, or does not fit how the job stands.",
        413: "The body is too large.",
        415: "The body has another type than those that are read.",
        416: "The range is not within the log.",
        421: "The server is not asked by one of its names.",
        422: "Something of the request is wrong; `detail` names it.",
        429: "Too many changes at a time.",
        503: "It cannot be read or written now, or too many ask at a time.",
    }
    content = {MEDIA_TYPE: {"schema": ref("Problem")}}
    return {
        status: {"description": words[status]} | ({} if status == 304 else {"content": content})  # noqa: PLR2004
        for status in statuses
    }


READING = problems(401, 404, 421, 422, 503)
CHANGING = problems(401, 403, 404, 408, 409, 413, 415, 421, 422, 429, 503)
