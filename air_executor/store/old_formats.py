"""Earlier formats of states and journal lines: read, never written. Versions up to 0.1 wrote format 1.

Called by `codec` for what the current format does not describe. Works on JSON data; whether the result is sound is for
`model.parsing` to say.
"""

from __future__ import annotations

from typing import Any

from air_executor.model.defaults import BUILT_IN
from air_executor.model.job import MERGED_FIELDS

_MOMENTS = ("spawned", "started", "ended", "gone", "cpu", "memory", "clock_stepped")
_HEAD = {"job": "job", "uid": "uid", "v": "version", "from": "before"}


def upgrade_state(raw: dict[str, Any]) -> dict[str, Any]:
    """Return a state of whatever format as one of the newest."""
    if raw.get("format") == 1:
        raw = _from_1(raw)
    return _from_2(raw) if raw.get("format") == 2 else raw  # noqa: PLR2004 - a format


def _from_1(raw: dict[str, Any]) -> dict[str, Any]:
    """`queue` is `pool`, `held` is `pending`."""
    state = {**raw, "format": 2}
    if state.get("phase") == "held":
        state["phase"] = "pending"
    spec = state.get("spec")
    if isinstance(spec, dict) and "queue" in spec:
        spec = dict(spec)
        spec["pool"] = spec.pop("queue")
        state["spec"] = spec
    return state


def _from_2(raw: dict[str, Any]) -> dict[str, Any]:
    """Tasks have the defaults of their job, too; what they do not have is as if nobody had given it."""
    state = {**raw, "format": 3}
    spec, tasks = raw.get("spec"), raw.get("tasks")
    defaults = spec.get("defaults") if isinstance(spec, dict) else None
    if isinstance(defaults, dict) and isinstance(tasks, list):
        state["tasks"] = [_own(task, defaults) if isinstance(task, dict) else task for task in tasks]
    return state


def _own(task: dict[str, Any], defaults: dict[str, Any]) -> dict[str, Any]:
    own = {name: value for name, value in task.items() if name not in defaults or value != defaults[name]}
    for name, value in defaults.items():
        if name in MERGED_FIELDS:
            if isinstance(entries := own.get(name), dict) and isinstance(value, dict):
                own[name] = {key: entry for key, entry in entries.items() if value.get(key) != entry}
        elif name not in task and name in BUILT_IN:
            own[name] = BUILT_IN[name]
    return own


def upgrade_line(raw: dict[str, Any]) -> dict[str, Any]:
    """Return a journal line of format 1, in which the event's fields lie beside the job's, as one of format 2.

    Raises:
        KeyError, TypeError: it is none.
    """
    line = {new: raw[old] for old, new in _HEAD.items() if old in raw}
    event = {name: value for name, value in raw.items() if name not in _HEAD and name != "event"}
    if "moments" in event:
        event["moments"] = dict(zip(_MOMENTS, event["moments"], strict=True))
    line[raw["event"]] = event
    return line
