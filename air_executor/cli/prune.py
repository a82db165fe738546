"""`air-executor prune`: archive or delete ended jobs."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from functools import partial
from typing import TYPE_CHECKING, Annotated

import typer

from air_executor.cli.flags import read_duration
from air_executor.cli.session import session_of
from air_executor.cli.terminal import print_json, say
from air_executor.errors import AirExecutorError, AlreadyExistsError, BackendUnavailableError, DuplicateRunnerError
from air_executor.model.names import Slot, run_id

if TYPE_CHECKING:
    from air_executor.backends.base import Backend
    from air_executor.cli.session import Session
    from air_executor.client import Client
    from air_executor.settings import Settings
    from air_executor.store.retention import LockSlots, Retention

DEFAULT_AGE = "7d"
LET_GO_SECONDS, LOOK_EVERY = 30.0, 0.1
"""Longest wait for the end of a runner that stayed after a failure, and the pause between two looks at it."""


def prune(  # noqa: PLR0917 - one parameter per option
    ctx: typer.Context,
    older_than: Annotated[
        str, typer.Option(metavar="DURATION", help="Minimum time since the job ended.")
    ] = DEFAULT_AGE,
    delete: Annotated[
        bool, typer.Option("--delete", help="Delete jobs, archived ones included, instead of archiving.")
    ] = False,
    keep_runs: Annotated[
        int | None,
        typer.Option(metavar="N", min=1, help="Run directories to keep per job. Default: the setting `keep_runs`."),
    ] = None,
    keep_runs_for: Annotated[
        str | None,
        typer.Option(metavar="DURATION", help="Age of run directories to keep. Default: the setting `keep_runs_for`."),
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print the actions without doing them.")] = False,
) -> None:
    """Archive or delete ended jobs, and remove old run directories of the others.

    Archiving frees the job's id. Jobs that an unfinished job or a pending request needs, and jobs with a live runner,
    are spared. Run directories (logs and files of runs) are removed only where a limit is set; the newest run of a job
    and the last run of a task that has not succeeded are kept. Safe while a manager runs.
    """
    from air_executor.store.retention import SPARED  # noqa: PLC0415

    session = session_of(ctx)
    client = session.directory("prune")
    age = read_duration("--older-than", older_than)
    settings = session.settings(keep_runs=keep_runs, keep_runs_for=keep_runs_for)
    with _retention(settings) as retention:
        found = list(retention.prune(time.time() - age, delete=delete, dry_run=dry_run))
    runs = _prune_runs(client, settings, dry_run=dry_run)
    if session.json:
        print_json(
            {
                "dry_run": dry_run,
                "jobs": [{"id": p.id, "uid": p.uid, "action": p.action, "reason": p.reason} for p in found],
                "runs_removed": runs,
            }
        )
        return
    done = "would be " if dry_run else ""
    for one in found:
        if one.action == SPARED:
            say(f"{one.id} spared: {one.reason}")
        else:
            say(f"{one.id} {done}{one.action}")
    for job, number in runs.items():
        say(f"{job}: {number} run {'directory' if number == 1 else 'directories'} {done}removed")
    if not found:
        say(f"no job ended more than {older_than} ago")


def _prune_runs(client: Client, settings: Settings, *, dry_run: bool) -> dict[str, int]:
    """Remove the run directories that are not kept; return how many by job."""
    from air_executor.store import run_retention  # noqa: PLC0415

    limits = run_retention.RunLimits(settings.keep_runs, settings.keep_runs_for)
    found: dict[str, int] = {}
    for job in [] if limits.keep_all else client.jobs.ids():
        with contextlib.suppress(AirExecutorError):  # `doctor` reports a job that cannot be read
            for name in run_retention.expired(client.layout, job, partial(client.jobs.load, job), limits, time.time()):
                if name is not None:
                    found[job] = found.get(job, 0) + 1
                    for _ in [] if dry_run else run_retention.remove(client.layout, job, name):
                        pass
    return found


def archive_ended(session: Session, names: Sequence[str], settings: Settings | None = None) -> None:
    """Archive these jobs, so that their ids are free; those that do not exist are fine.

    The backend is asked for live runners only if it answers: no run of an ended job is open, and `submit` must work
    where only the manager reaches the platform.

    Raises:
        AlreadyExistsError: one of them has not ended, or something still needs it.
    """
    from air_executor.store.retention import SPARED  # noqa: PLC0415

    client = session.directory()
    taken = set(client.jobs.ids()).intersection(names)
    kept: dict[Slot, str] = {}
    for name in sorted(taken):
        job = client.status(name)
        if not job.ended:
            msg = f"job {name} is {job.phase}; only an ended job can be replaced: `air-executor cancel {name}`"
            raise AlreadyExistsError(msg)
        kept |= {Slot(job.id, one.slot): run_id(job.uid, one.seq) for one in job.kept.values()}
    if kept:
        _let_go(client, settings or session.settings(), kept)
    if taken:
        with _retention(settings or session.settings(), must_answer=False) as retention:
            for one in retention.archive(taken):
                if one.action == SPARED:
                    msg = f"job {one.id} cannot be replaced: {one.reason}"
                    raise AlreadyExistsError(msg)


def _let_go(client: Client, settings: Settings, kept: Mapping[Slot, str]) -> None:
    """Remove runners that stay after a failure, by slot with their runs, and wait until a running manager knows."""
    from air_executor.store.layout import Layout  # noqa: PLC0415
    from air_executor.store.this_host import this_host  # noqa: PLC0415
    from air_executor.wiring import make_backend  # noqa: PLC0415

    until = time.monotonic() + LET_GO_SECONDS
    with contextlib.suppress(BackendUnavailableError):  # then only the manager reaches the platform
        backend = make_backend(settings, Layout(settings.state_dir), this_host())
        with contextlib.closing(backend):
            while time.monotonic() < until:
                left = [slot for slot, one in backend.observe().items() if kept.get(slot) == one.run]
                if not left:
                    break
                for slot in left:
                    backend.remove(slot)
                time.sleep(LOOK_EVERY)
    jobs = {slot.job for slot in kept}
    while client.presence().running and time.monotonic() < until and any(client.status(job).kept for job in jobs):
        time.sleep(LOOK_EVERY)


@contextmanager
def _retention(settings: Settings, *, must_answer: bool = True) -> Iterator[Retention]:
    from air_executor.store.layout import Layout  # noqa: PLC0415
    from air_executor.store.retention import Retention  # noqa: PLC0415
    from air_executor.store.this_host import this_host  # noqa: PLC0415
    from air_executor.wiring import make_backend, open_object_workspaces  # noqa: PLC0415

    layout = Layout(settings.state_dir)
    objects = open_object_workspaces(settings, layout)
    try:
        backend = make_backend(settings, layout, this_host())
    except BackendUnavailableError:  # in a container, it is asked for our mounts already
        if must_answer:
            raise
        yield Retention(layout, lambda *_: nullcontext(), objects)
        return
    try:
        yield Retention(layout, _lock(backend, must_answer=must_answer), objects)
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
