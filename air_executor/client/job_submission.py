"""Submits jobs to a state directory: all are checked first, and each becomes a directory and a wake request."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from air_executor.core.job_checks import in_order
from air_executor.core.submission import initial_state
from air_executor.model import parsing
from air_executor.store import files
from air_executor.store.named_runs import UID_BYTES

if TYPE_CHECKING:
    from air_executor.client.directory_client import Client
    from air_executor.model.job import Job
    from air_executor.model.state import JobState


def submit_jobs(
    client: Client,
    jobs: Sequence[Job],
    workspace: Mapping[str, bytes] | None,
    *,
    uids: Mapping[str, str],
    owner: str | None,
    existing: Mapping[str, JobState],
) -> list[JobState]:
    """Submit several checked jobs, which may wait for each other; see `Client.submit_all`."""
    by_key = {job.key: job for job in jobs}
    order = in_order({key: job.after for key, job in by_key.items()})
    known = {name: client.named_runs.upstream(name) for job in jobs for name in job.after if name not in by_key}
    client.jobs.prepare()
    if len(jobs) > 1:
        for job in jobs:
            if job.id is not None and job.key not in existing:
                client.jobs.ensure_free(job.id, uids.get(job.key))
                client.named_runs.check_id(job.id)
    created: dict[str, JobState] = {}
    for key in order:
        upstream = [known[name] if name in known else created[name] for name in by_key[key].after]
        if key in existing:
            created[key] = existing[key]
        else:
            created[key] = _create(client, by_key[key], upstream, workspace, uid=uids.get(key), owner=owner)
        client.wake(created[key].id)
    return [created[job.key] for job in jobs]


def _create(
    client: Client,
    job: Job,
    upstream: Sequence[JobState],
    workspace: Mapping[str, bytes] | None,
    *,
    uid: str | None,
    owner: str | None,
) -> JobState:
    def make(name: str) -> JobState:
        now = round(time.time(), 3)
        made = initial_state(job, uid=uid or files.random_hex(UID_BYTES), now=now, id=name, upstream=upstream)
        made.owner = owner
        return made

    def create(state: JobState) -> None:
        client.jobs.create(state, workspace)

    if job.id is None and uid is not None:
        return client.named_runs.create_once(job, uid, make, create)
    if job.id is None:
        return client.named_runs.create(job, make, create)
    client.named_runs.check_id(job.id)
    state = make(job.id)
    create(state)
    return state


def submit_once(client: Client, jobs: Sequence[Job], owner: str, key: str) -> tuple[list[JobState], bool]:
    """Submit checked jobs unless this key of this owner did so before; return them, and whether one of them is new.

    The key decides their uids, and a uid gets one id: so each is created once, also by several processes at a time.

    Raises: as `Client.submit`.
    """
    uids = {job.key: uid_of_key(job, owner, key) for job in jobs}
    found = {job.key: state for job in jobs if (state := _with_uid(client, job, uids[job.key])) is not None}
    # The first request may have ended before it told the manager: it is told again.
    return client.submit_all(jobs, uids=uids, owner=owner, existing=found, checked=True), len(found) < len(jobs)


def uid_of_key(job: Job, owner: str, key: str) -> str:
    """Return the uid of the job that an idempotency key of an owner submits."""
    text = parsing.to_json([owner, job.id, job.name, key])
    return hashlib.blake2b(text, digest_size=UID_BYTES).hexdigest()


def _with_uid(client: Client, job: Job, uid: str) -> JobState | None:
    if job.id is not None:
        return client.jobs.find(job.id, uid)
    return client.named_runs.with_uid(job.name or "", uid)
