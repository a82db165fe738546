"""Ids of jobs, tasks, runs and slots: which are allowed, and how they become names on a platform.

Everything that turns an id into a path, a container name or a Job name relies on the rule here, so hostile ids
(`../x`, `-rf`, a newline) cannot leave this module. Knows nothing of files or platforms.
"""

from __future__ import annotations

import hashlib
import re
from datetime import UTC, datetime
from typing import NamedTuple

from air_executor.errors import BadInputError

MAX_ID = 64

ID_PATTERN = "^[A-Za-z0-9_]([A-Za-z0-9_.-]*[A-Za-z0-9_-])?$"
"""The rule for ids as JSON Schema and pydantic write it; `MAX_ID` comes on top.

No dot or hyphen first (hidden files, `..`, options), no dot last (Windows drops it).
"""
_ID = re.compile(ID_PATTERN.strip("^$"))
GENERATED_PATTERN = "^_[0-9]+(-[0-9]+)?$"
_GENERATED = re.compile(GENERATED_PATTERN.strip("^$"))
_EARLIER = re.compile("t[0-9]+(?:-[0-9]+)?")
_RUN_ID = re.compile(r"([0-9a-f]{8,32})-([0-9]{1,9})")

ID_RULE = f"letters, digits, -, _ and ., neither beginning with - or . nor ending with ., at most {MAX_ID} characters"

_PLAIN = re.compile(r"[a-z0-9]+(?:-[a-z0-9]+)*")
"""Ids that are names on every platform as they stand, up to `_LONGEST_PLAIN` characters."""
_LONGEST_PLAIN = 40
"""With a prefix of 12, `--` and a slot number a name stays below Kubernetes' 63 characters."""
PLAIN_RULE = f"lower-case letters, digits and single hyphens between them, at most {_LONGEST_PLAIN} characters"
_STEM, _HASH = 26, 12
"""Characters of a derived name that show the id, and that make it unique."""


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
    machine: str | None = None
    """What stays when the machine is renamed and restarted; None if it has no such id."""


def check_id(value: str, field: str = "id") -> str:
    """Return `value` if it is a valid job or task id.

    Raises:
        BadInputError: it is not; ids are refused, never rewritten.
    """
    if len(value) > MAX_ID or not _ID.fullmatch(value):
        shown = repr(value) if len(repr(value)) <= 60 else repr(value)[:57] + "..."  # noqa: PLR2004
        msg = f"{field}: {shown} is not a valid id; use {ID_RULE}"
        raise BadInputError(msg)
    return value


def generated_id(*numbers: int) -> str:
    """Return the id of a task that was given none: `_3` by its place in the job, `_2-3` by run and queued line."""
    return f"_{'-'.join(map(str, numbers))}"


def is_generated_id(value: str) -> bool:
    """Tell whether a task id has the shape of `generated_id`, so that no user may choose it."""
    return _GENERATED.fullmatch(value) is not None


def renamed_id(value: str) -> str:
    """Return what the generated id of an earlier version is called today: `_3-2` was `t3-2`. Others stay."""
    return f"_{value[1:]}" if _EARLIER.fullmatch(value) else value


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


def is_plain(value: str) -> bool:
    """Tell whether an id is a platform name as it stands: lower case, digits, single hyphens, not too long."""
    return len(value) <= _LONGEST_PLAIN and _PLAIN.fullmatch(value) is not None


def platform_name(job: str) -> str:
    """Return a job's id as a platform can name it: lower case and hyphens, at most 40 characters, no two alike.

    A plain id stays as it is. Any other gets `--x` and a hash, which no plain id has.
    """
    if is_plain(job):
        return job
    stem = re.sub("[^a-z0-9]+", "-", job.lower())[:_STEM].strip("-")
    return f"{stem or 'job'}--x{hashlib.sha256(job.encode()).hexdigest()[: _HASH - 1]}"


def runner_name(prefix: str, slot: Slot) -> str:
    """Return the platform name of a slot's runner: `air-<job>`, from slot 1 on `air-<job>--<n>`."""
    name = f"{prefix}-{platform_name(slot.job)}"
    return name if slot.number == 0 else f"{name}--{slot.number}"


RUN_ENVIRONMENT = frozenset(
    {
        "AIR_JOB_ID",
        "AIR_TASK_ID",
        "AIR_RUN_ID",
        "AIR_ATTEMPT",
        "AIR_QUEUE",
        "AIR_RESULT",
        "AIR_INPUTS",
        "AIR_OUTCOMES",
        "AIR_BASE",
        "AIR_BRANCH",
        "AIR_JOB_PHASE",
        "AIR_WORKSPACE",
        "AIR_SCHEDULED_AT",
        "AIR_SLOT",
    }
)
"""Variables that every run gets; a task cannot set them itself."""
