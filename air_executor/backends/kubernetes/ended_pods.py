"""Ended Pods that stay for a while after their run, so that log shippers can read them. Pure, as `runner_cache`.

A Pod's label says until when. With it a Pod belongs to no runner: it takes no slot, costs nothing, and only its time
deletes it, by whichever manager runs then.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from air_executor.backends.kubernetes.manifests import KEEP_UNTIL

RETRY_SECONDS = 30.0
"""How long a deletion may take before it is requested again."""


@dataclass(slots=True)
class _EndedPod:
    name: str
    until: float
    delete_at: float


class EndedPods:
    """Those of one state directory. Times in Unix seconds by the clock of the managers."""

    def __init__(self) -> None:
        self._by_uid: dict[str, _EndedPod] = {}

    def __iter__(self) -> Iterator[str]:
        """Yield their uids."""
        return iter(list(self._by_uid))

    def put(self, found: Mapping[str, Any]) -> bool:
        """Update a Pod; False if it is none of them."""
        meta = found["metadata"]
        until = (meta.get("labels") or {}).get(KEEP_UNTIL, "")
        if not until.isdecimal():
            return False
        known = self._by_uid.get(meta["uid"])
        if known is None or known.until != float(until):
            self._by_uid[meta["uid"]] = _EndedPod(meta["name"], float(until), float(until))
        return True

    def drop(self, uid: str) -> None:
        """Note that a Pod is gone."""
        self._by_uid.pop(uid, None)

    def due(self, now: float) -> list[tuple[str, str]]:
        """Return name and uid of those to delete now; each again only if it is still there some time later."""
        found = []
        for uid, pod in self._by_uid.items():
            if pod.delete_at <= now:
                pod.delete_at = now + RETRY_SECONDS
                found.append((pod.name, uid))
        return found


def keep_patch(until: float, owner: Mapping[str, Any] | None) -> dict[str, Any]:
    """Return the strategic merge patch that makes an ended Pod one of these, gone with `owner` at the latest."""
    metadata: dict[str, Any] = {"labels": {KEEP_UNTIL: str(int(until))}}
    if owner is not None:
        metadata["ownerReferences"] = [dict(owner)]
    return {"metadata": metadata}
