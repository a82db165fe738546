"""`air-executor prune`: archive or delete ended jobs."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated

import typer

from air_executor.cli.session import session_of
from air_executor.cli.terminal import print_json, say
from air_executor.errors import AlreadyExistsError, BackendUnavailableError, DuplicateRunnerError

if TYPE_CHECKING:
    from air_executor.backends.base import Backend
    from air_executor.cli.session import Session
    from air_executor.settings import Settings
    from air_executor.store.retention import LockSlots, Retention

DEFAULT_AGE = "7d"


def prune(
    ctx: typer.Context,
    older_than: Annotated[
        str, typer.Option(metavar="DURATION", help="Minimum time since the job ended.")
    ] = DEFAULT_AGE,
    delete: Annotated[
        bool, typer.Option("--delete", help="Delete jobs, archived ones included, instead of archiving.")
    ] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print the actions without doing them.")] = False,
) -> None:
    """Archive or delete ended jobs.

    Archiving frees the job's id. Jobs that an unfinished job or a pending request needs, and jobs with a live runner,
    are spared. Safe while a manager runs.
    """
    from air_executor.model.times import parse_duration  # noqa: PLC0415
    from air_executor.store.retention import SPARED  # noqa: PLC0415

    session = session_of(ctx)
    age = parse_duration(older_than)
    with _retention(session.settings()) as retention:
        found = list(retention.prune(time.time() - age, delete=delete, dry_run=dry_run))
    if session.json:
        print_json(
            {
                "dry_run": dry_run,
                "jobs": [{"id": p.id, "uid": p.uid, "action": p.action, "reason": p.reason} for p in found],
            }
        )
        return
    for one in found:
        if one.action == SPARED:
            say(f"{one.id} spared: {one.reason}")
        else:
            say(f"{one.id} {'would be ' if dry_run else ''}{one.action}")
    if not found:
        say(f"no job ended more than {older_than} ago")


def archive_ended(session: Session, names: Sequence[str], settings: Settings | None = None) -> None:
    """Archive these jobs, so that their ids are free; those that do not exist are fine.

    The backend is asked for live runners only if it answers: no run of an ended job is open, and `submit` must work
    where only the manager reaches the platform.

    Raises:
        AlreadyExistsError: one of them has not ended, or something still needs it.
    """
    from air_executor.store.retention import SPARED  # noqa: PLC0415

    client = session.client()
    taken = set(client.jobs.ids()).intersection(names)
    for name in sorted(taken):
        job = client.status(name)
        if not job.ended:
            msg = f"job {name} is {job.phase}; only an ended job can be replaced: `air-executor cancel {name}`"
            raise AlreadyExistsError(msg)
    if taken:
        with _retention(settings or session.settings(), must_answer=False) as retention:
            for one in retention.archive(taken):
                if one.action == SPARED:
                    msg = f"job {one.id} cannot be replaced: {one.reason}"
                    raise AlreadyExistsError(msg)


@contextmanager
def _retention(settings: Settings, *, must_answer: bool = True) -> Iterator[Retention]:
    from air_executor.store.layout import Layout  # noqa: PLC0415
    from air_executor.store.retention import Retention  # noqa: PLC0415
    from air_executor.wiring import make_backend, this_host  # noqa: PLC0415

    layout = Layout(settings.state_dir)
    backend = make_backend(settings, layout, this_host())
    try:
        yield Retention(layout, _lock(backend, must_answer=must_answer))
    finally:
        backend.close()


def _lock(backend: Backend, *, must_answer: bool) -> LockSlots:
    """Return how to lock a job's slots. A backend without lock files is asked for live runners instead."""
    from air_executor.backends.local.local_backend import LocalBackend  # noqa: PLC0415

    if isinstance(backend, LocalBackend):
        return backend.lock_slots

    @contextmanager
    def look(job: str, _: Iterable[int]) -> Iterator[None]:
        try:
            slots = list(backend.observe())
        except BackendUnavailableError:
            if must_answer:
                raise
            slots = []
        if any(slot.job == job for slot in slots):
            msg = f"job {job}: a runner is still alive"
            raise DuplicateRunnerError(msg)
        yield

    return look
