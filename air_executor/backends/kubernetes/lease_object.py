"""A Lease object as the record of who manages a state directory.

It has a connection of its own: a renewal must not wait behind requests for runners. Its times are informational.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from air_executor.backends.container.refusals import ConflictError, MissingError, RefusedError
from air_executor.backends.kubernetes.api import Api
from air_executor.backends.lease_record import LeaseSnapshot
from air_executor.errors import BackendUnavailableError


class LeaseObject:
    """One Lease object. Used by one thread at a time."""

    def __init__(self, api: Api, name: str) -> None:
        self._api = api
        self.object_name = name
        self._acquired = ""
        self.name = f"the Lease {api.namespace}/{name}"

    def read(self) -> LeaseSnapshot | None:
        """See `LeaseRecord.read`."""
        try:
            return _snapshot(self._api.read_lease(self.object_name))
        except MissingError:
            return None
        except RefusedError as error:
            raise self._forbidden(error) from error

    def write(self, holder: str, before: LeaseSnapshot | None, lasts: float) -> LeaseSnapshot | None:
        """See `LeaseRecord.write`."""
        now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
        changes_hands = before is None or before.holder != holder
        if changes_hands:
            self._acquired = now
        spec: dict[str, Any] = {
            "holderIdentity": holder,
            "leaseDurationSeconds": max(1, round(lasts)),
            "acquireTime": self._acquired or now,
            "renewTime": now,
            "leaseTransitions": 0 if before is None else before.transitions + changes_hands,
        }
        metadata: dict[str, Any] = {"name": self.object_name, "labels": {"app.kubernetes.io/name": "air-executor"}}
        try:
            if before is None:
                return _snapshot(self._api.create_lease({"metadata": metadata, "spec": spec}))
            metadata["resourceVersion"] = before.version
            return _snapshot(self._api.replace_lease(self.object_name, {"metadata": metadata, "spec": spec}))
        except (ConflictError, MissingError):
            return None
        except RefusedError as error:
            raise self._forbidden(error) from error

    def _forbidden(self, error: RefusedError) -> BackendUnavailableError:
        return BackendUnavailableError(f"no access to {self.name}: {error}; does the service account have its Role?")


def _snapshot(found: dict[str, Any]) -> LeaseSnapshot:
    spec = found.get("spec") or {}
    return LeaseSnapshot(
        holder=str(spec.get("holderIdentity") or ""),
        version=str(found["metadata"]["resourceVersion"]),
        transitions=int(spec.get("leaseTransitions") or 0),
        uid=str(found["metadata"]["uid"]),
    )
