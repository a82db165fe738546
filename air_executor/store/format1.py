"""Format 1 of states and journal lines, as versions up to 0.1 wrote them: read, never written.

Called by `codec` for what the current format does not describe. Works on JSON data; whether the result is sound is for
`model.parsing` to say.
"""

from __future__ import annotations

from typing import Any

_MOMENTS = ("spawned", "started", "ended", "gone", "cpu", "memory", "clock_stepped")
_HEAD = {"job": "job", "uid": "uid", "v": "version", "from": "before"}


def upgrade_state(raw: dict[str, Any]) -> dict[str, Any]:
    """Return a state of format 1 as one of format 2: `queue` is `pool`, `held` is `pending`."""
    state = {**raw, "format": 2}
    if state.get("phase") == "held":
        state["phase"] = "pending"
    spec = state.get("spec")
    if isinstance(spec, dict) and "queue" in spec:
        spec = dict(spec)
        spec["pool"] = spec.pop("queue")
        state["spec"] = spec
    return state


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
