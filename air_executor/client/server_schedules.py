"""The schedules behind a server."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from air_executor.client.job_access import AppliedSchedule, BackfillResult, ScheduleRecord, SubmittedJob
from air_executor.model.names import check_id

if TYPE_CHECKING:
    from air_executor.client.connection import Connection

JSON, YAML = "application/json", "application/yaml"


class ServerSchedules:
    """See `ScheduleAccess`."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def all(self) -> tuple[list[ScheduleRecord], list[tuple[str, str]]]:
        """Return all schedules by name, and which cannot be read, with the errors."""
        found = self._connection.json("/schedules")
        return found["schedules"], [(one["id"], one["message"]) for one in found["unreadable"]]

    def next_times(self, name: str, count: int) -> list[str]:
        """Return when the next runs of a schedule start."""
        return list(self._connection.json(f"/schedules/{check_id(name)}/next", [("limit", count)])["next"])

    def apply(self, files: Sequence[tuple[str, bytes]]) -> list[AppliedSchedule]:
        """Apply job files, given by name and content. All are checked before any is applied."""
        if len(files) > 1:
            for name, data in files:
                self._apply(name, data, dry_run=True)
        return [self._apply(name, data, dry_run=False) for name, data in files]

    def _apply(self, name: str, data: bytes, *, dry_run: bool) -> AppliedSchedule:
        is_json = name.lower().endswith(".json")
        query = [("name", name), ("dry_run", "true" if dry_run else None)]
        found = self._connection.ask("POST", "/schedules", query=query, body=data, kind=JSON if is_json else YAML)
        record = self._connection.data(found)
        return AppliedSchedule(record, bool(record.pop("changed", True)))

    def pause(self, names: Sequence[str], *, paused: bool) -> list[ScheduleRecord]:
        """Pause or resume schedules, once all are found."""
        for name in names:
            self._connection.json(f"/schedules/{check_id(name)}")
        verb = "pause" if paused else "resume"
        return [
            self._connection.data(self._connection.ask("POST", f"/schedules/{check_id(name)}/{verb}", body=b"{}"))
            for name in names
        ]

    def delete(self, names: Sequence[str]) -> list[ScheduleRecord]:
        """Delete schedules, once all are found; return them as they were."""
        found = [self._connection.json(f"/schedules/{check_id(name)}") for name in names]
        for name in names:
            self._connection.ask("DELETE", f"/schedules/{check_id(name)}")
        return found

    def run(self, name: str, params: Mapping[str, Any]) -> SubmittedJob:
        """Submit the next run of a schedule's job; its next time stays as it is."""
        body = json.dumps({"params": dict(params)}).encode()
        found = self._connection.data(self._connection.ask("POST", f"/schedules/{check_id(name)}/run", body=body))
        return SubmittedJob(found["id"], found["uid"], found["phase"])

    def backfill(
        self, name: str, since: str, until: str, *, max_active: int, newest_first: bool, retry: bool, dry_run: bool
    ) -> BackfillResult:
        """Create the runs that a schedule would have had between two times."""
        order = {"since": since, "until": until, "max_active": max_active}
        order |= {"newest_first": newest_first, "retry": retry, "dry_run": dry_run}
        asked = self._connection.ask("POST", f"/schedules/{check_id(name)}/backfill", body=json.dumps(order).encode())
        found = self._connection.data(asked)
        return BackfillResult(found["created"], found["left_out"], found["unsuccessful"], found["retried"])

    def cancel_backfill(self, name: str) -> list[str]:
        """Cancel all unfinished runs of a schedule that backfills made; return their ids."""
        asked = self._connection.ask("DELETE", f"/schedules/{check_id(name)}/backfill")
        cancelled: list[str] = self._connection.data(asked)["cancelled"]
        return cancelled
