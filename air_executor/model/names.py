"""Ids of jobs, tasks, runs and slots: which are allowed, and how they become names on a platform.

Everything that turns an id into a path, a container name or a Job name relies on the rule here, so hostile ids
(`../x`, `-rf`, a newline) cannot leave this module. Knows nothing of files or platforms.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import NamedTuple

from air_executor.errors import BadInputError

MAX_ID = 40
"""Longest id: with a prefix of 12, `--` and a slot number a name stays below Kubernetes' 63 characters."""

ID_PATTERN = "^[a-z0-9]+(-[a-z0-9]+)*$"
"""The rule for ids as JSON Schema and pydantic write it; `MAX_ID` comes on top."""
_ID = re.compile(r"[a-z0-9](?:[a-z0-9-]*[a-z0-9])?")
_RESERVED = re.compile(r"t[0-9]+(?:-[0-9]+)?")
_RUN_ID = re.compile(r"([0-9a-f]{8,32})-([0-9]{1,9})")

ID_RULE = f"lower-case letters, digits and single hyphens between them, at most {MAX_ID} characters"


MAX_NAME = MAX_ID - 17
"""Longest name of a definition: the ids of its runs end in a number or a time, like `-20260131-020000`."""
NAME_RULE = ID_RULE.replace(str(MAX_ID), str(MAX_NAME))


class Slot(NamedTuple):
    """One of a job's `max_runners` places; at most one runner can hold it."""

    job: str
    number: int


class Host(NamedTuple):
    """Where a process lives: a pid means something only together with both."""

    name: str
    boot: str


def check_id(value: str, field: str = "id") -> str:
    """Return `value` if it is a valid job or task id.

    Raises:
        BadInputError: it is not; ids are refused, never rewritten.
    """
    if len(value) > MAX_ID or "--" in value or not _ID.fullmatch(value):
        shown = repr(value) if len(repr(value)) <= 60 else repr(value)[:57] + "..."  # noqa: PLR2004
        msg = f"{field}: {shown} is not a valid id; use {ID_RULE}"
        raise BadInputError(msg)
    return value


def is_reserved_task_id(value: str) -> bool:
    """Tell whether a task id has one of the shapes that Air-Executor gives to tasks without an id."""
    return _RESERVED.fullmatch(value) is not None


def job_id(name: str, number: int) -> str:
    """Return the id of one run of a definition."""
    return f"{name}-{number}"


def run_number(job: str, name: str) -> int | None:
    """Return which run of the definition `name` the id `job` would be; None: of none."""
    found = re.fullmatch(re.escape(name) + r"-([1-9][0-9]{0,8})", job)
    return int(found[1]) if found else None


def scheduled_id(name: str, time: float) -> str:
    """Return the id of the run of a definition for a scheduled time, in whole Unix seconds."""
    return f"{name}-{datetime.fromtimestamp(time, UTC):%Y%m%d-%H%M%S}"


def scheduled_time(job: str, name: str) -> float | None:
    """Return the scheduled time of which the id `job` would be the run, in Unix seconds; None: of none."""
    found = re.fullmatch(re.escape(name) + r"-([0-9]{8}-[0-9]{6})", job)
    try:
        return datetime.strptime(f"{found[1]}Z", "%Y%m%d-%H%M%S%z").timestamp() if found else None
    except ValueError:
        return None


def run_id(uid: str, seq: int) -> str:
    """Return the id of one run: unique over time, because neither uids nor sequence numbers come back."""
    return f"{uid}-{seq}"


def parse_run_id(value: str) -> tuple[str, int] | None:
    """Return the job uid and the sequence number of a run id, or None for any other text."""
    match = _RUN_ID.fullmatch(value)
    return (match[1], int(match[2])) if match else None


def runner_name(prefix: str, slot: Slot) -> str:
    """Return the platform name of a slot's runner: `air-<job>`, from slot 1 on `air-<job>--<n>`."""
    return f"{prefix}-{slot.job}" if slot.number == 0 else f"{prefix}-{slot.job}--{slot.number}"


RUN_ENVIRONMENT = frozenset(
    {
        "AIR_JOB_ID",
        "AIR_TASK_ID",
        "AIR_RUN_ID",
        "AIR_ATTEMPT",
        "AIR_QUEUE",
        "AIR_RESULT",
        "AIR_INPUTS",
        "AIR_WORKSPACE",
        "AIR_SCHEDULED_AT",
        "AIR_SLOT",
    }
)
"""Variables that every run gets; a task cannot set them itself."""
