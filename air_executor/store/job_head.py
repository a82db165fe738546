"""What a starting manager needs of a job that has ended: the head of its `state.json`, without its tasks.

A state directory may hold a hundred thousand ended jobs, and parsing all their tasks takes most of a start. So `jobs`
asks here first. The answer is None unless the file looks exactly as a manager writes it: its head is JSON with one key
per line, each task is one line, and its end is complete. Unfinished jobs, and files that an editor, a merge or a crash
has touched, must be read whole: `codec` alone says what is wrong with them. Knows no paths.
"""

from __future__ import annotations

import json
import re
from typing import NamedTuple

from air_executor.model.state import FORMAT

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


class JobHead(NamedTuple):
    """An ended job."""

    uid: str
    phase: str
    epoch: int


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
    numbers = [raw.get(name) for name in ("format", "seq", "epoch", "version")]
    if not all(type(number) is int and number >= 0 for number in numbers) or raw["format"] > FORMAT:
        return None
    uid, phase = found[2].decode(), found[3].decode()
    if (raw["id"], raw["uid"], raw["phase"]) != (job, uid, phase) or "submitted_at" not in raw:
        return None
    return JobHead(uid, phase, raw["epoch"])


def _has_one_task_per_line(text: bytes, begin: int) -> bool:
    return text.count(b"\n", begin) == text.count(_TASK, begin) + OTHER_LINES
