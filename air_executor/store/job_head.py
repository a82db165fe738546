"""What a starting manager needs of a job that has ended: the head of its `state.json`, without its tasks.

A state directory may hold a hundred thousand ended jobs, and parsing all their tasks takes most of a start. So `jobs`
asks here first. The answer is None unless the file looks exactly as a manager writes it: its head is JSON with one key
per line, each task is one line, and its end is complete. Unfinished jobs, and files that an editor, a merge or a crash
has touched, must be read whole: `codec` alone says what is wrong with them. Knows no paths.
"""

from __future__ import annotations

import json
import re
from typing import Any, NamedTuple

from air_executor.errors import BadInputError
from air_executor.model import quick
from air_executor.model.job import RunRetention
from air_executor.model.state import FORMAT, JobState
from air_executor.model.times import from_text

LONGEST = 16 * 1024
"""Bytes to read of a file for its head; a job with a longer head is read whole."""
TAIL = b"\n  ]\n}\n"
"""How a complete file ends."""
_BEGIN = re.compile(
    rb'\{\n  "format": [0-9]+,\n  "id": "([^"]+)",\n  "uid": "([^"]+)",\n  "phase": "(succeeded|failed|cancelled)",\n'
)
TASKS = b',\n  "tasks": [\n'
"""Where the head ends and the tasks begin, one a line."""
_TASK = b'\n    {"id":'
OTHER_LINES = 3
"""Line ends after that of `"tasks"` beside the ones before each task: those of `TAIL`."""


class RunFacts(NamedTuple):
    """What a manager needs of a job that is a run of a name."""

    name: str
    submitted_at: float
    finished_at: float
    retention: RunRetention | None


class JobHead(NamedTuple):
    """An ended job that has no notifications to be delivered, and keeps no runner."""

    uid: str
    phase: str
    epoch: int
    run: RunFacts | None = None


def parse_ended(head: bytes, tail: bytes, job: str) -> JobHead | None:
    """Return what the beginning and the end of a file say of the ended job with this id; None: read it whole."""
    found = _BEGIN.match(head)
    end = head.find(TASKS)
    if found is None or end < 0 or tail != TAIL:
        return None
    if len(head) < LONGEST and not _has_one_task_per_line(head, end + len(TASKS) - 1):
        return None
    try:
        raw = json.loads(head[:end] + b"}")
    except (ValueError, RecursionError):
        return None
    uid, phase = found[2].decode(), found[3].decode()
    numbers = [raw.get(name) for name in ("format", "seq", "epoch", "version")]
    sound = all(type(number) is int and number >= 0 for number in numbers) and raw["format"] <= FORMAT
    same = (raw["id"], raw["uid"], raw["phase"]) == (job, uid, phase) and "submitted_at" in raw
    if not sound or not same or "notices" in raw or "kept" in raw:
        return None
    try:
        return JobHead(uid, phase, raw["epoch"], _run_of(raw))
    except (quick.NotQuickError, BadInputError, KeyError, TypeError, AttributeError):
        return None


def _run_of(raw: dict[str, Any]) -> RunFacts | None:
    name, retention = raw["spec"].get("name"), raw["spec"].get("retention")
    if name is None:
        return None
    rule = None if retention is None else quick.build(RunRetention, retention)
    return RunFacts(str(name), from_text(raw["submitted_at"]), from_text(raw["finished_at"]), rule)


def head_of(state: JobState) -> JobHead:
    """Return the head of an ended job in memory."""
    run, spec = None, state.spec
    if spec.name is not None:
        run = RunFacts(spec.name, state.submitted_at, state.finished_at or state.submitted_at, spec.retention)
    return JobHead(state.uid, state.phase, state.epoch, run)


def _has_one_task_per_line(text: bytes, begin: int) -> bool:
    return text.count(b"\n", begin) == text.count(_TASK, begin) + OTHER_LINES
