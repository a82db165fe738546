"""The only place that picks a backend and puts the parts together; everything else is handed what it needs."""

from __future__ import annotations

import contextlib
import importlib.util
import logging
import os
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from importlib import metadata, resources
from typing import TYPE_CHECKING, NamedTuple

from air_executor.core.finding import BAD, FINE, Finding
from air_executor.errors import AirExecutorError, BadInputError
from air_executor.model.names import Host
from air_executor.runner import native
from air_executor.settings import DEFAULT
from air_executor.store.ended_commands import noter_of
from air_executor.store.layout import Layout
from air_executor.store.secret_files import RESERVED
from air_executor.store.service_logs import keeper_of
from air_executor.store.space import space
from air_executor.store.this_host import this_host

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

    from air_executor.backends.base import Backend, Requested
    from air_executor.backends.container.remote_process import RemoteProcess
    from air_executor.backends.local.run_process import RunProcess
    from air_executor.core.observer import Observer
    from air_executor.core.price import Prices
    from air_executor.manager.lease import Lease
    from air_executor.manager.loop import Manager
    from air_executor.model.names import Slot
    from air_executor.settings import Settings
    from air_executor.store.object_workspaces import ObjectWorkspaces
    from air_executor.web.server_process import ServerProcess

log = logging.getLogger(__name__)

BACKENDS = ("local", "docker", "kubernetes")
PATIENCE = 60.0
"""Seconds without a sign of life after which a manager counts as hanging, beside what it may wait for an answer."""


class Service(NamedTuple):
    """What a manager serves on its port."""

    observer: Observer
    """Is told what the manager does."""
    server: ServerProcess
    first_token: bool
    """Whether the token that was created at the first start is valid."""


def version() -> str:
    """Return the installed version."""
    return metadata.version("air-executor")


def runner_files() -> dict[str, bytes]:
    """Return what a state directory's `bin/` holds, by path: runners, helpers, and the in-task API as one file.

    The native runner and what it is under other names lie in a folder for each machine that it was built for.
    """
    package = resources.files("air_executor")
    helper = (package / "runner" / "air-helper").read_bytes()
    content = {
        "air-runner": (package / "runner" / "air-runner").read_bytes(),
        "air_executor.py": (package / "task.py").read_bytes(),
        **dict.fromkeys(native.HELPERS, helper),
    }
    for machine, program in native.builds().items():
        content |= {f"{machine}/{name}": program for name in (native.NAME, *native.HELPERS)}
    return content


def check_backend(settings: Settings) -> None:
    """Refuse a backend that does not exist, before anything is done for its sake.

    Raises:
        BadInputError: there is no such backend.
    """
    if settings.backend not in BACKENDS:
        msg = f"backend: there is no {settings.backend!r}; use {', '.join(BACKENDS[:-1])} or {BACKENDS[-1]}"
        raise BadInputError(msg)
    if settings.backend != "local" and importlib.util.find_spec(settings.backend) is None:
        msg = f"backend: {settings.backend} needs its client library: pip install 'air-executor[{settings.backend}]'"
        raise BadInputError(msg)
    _check_workspace_store(settings)
    for name in settings.cost.backends:
        if name.partition(".")[0] not in BACKENDS:
            msg = f"cost.backends: {name}: there is no such backend; use {', '.join(BACKENDS[:-1])} or {BACKENDS[-1]}"
            raise BadInputError(msg)


def _check_workspace_store(settings: Settings) -> None:
    if settings.workspace_store is None:
        return
    if settings.transport is None:
        msg = (
            "AIR_WORKSPACE_STORE needs runs whose files come over HTTP: set AIR_KUBERNETES_TRANSPORT=http or"
            f" AIR_DOCKER_TRANSPORT=http; on the backend {settings.backend} with a volume, tasks share a folder"
        )
        raise BadInputError(msg)
    from air_executor.store.object_store import check_library  # noqa: PLC0415 - only where there is a store

    check_library()


def open_object_workspaces(settings: Settings, layout: Layout) -> ObjectWorkspaces | None:
    """Return the workspaces of jobs, where a setting names an object store for them.

    Raises:
        BadInputError: its library is missing.
    """
    if settings.workspace_store is None:
        return None
    from air_executor.store.object_workspaces import ObjectWorkspaces  # noqa: PLC0415 - only where there is a store

    return ObjectWorkspaces(layout, settings.workspace_store)


def _check_store(settings: Settings) -> Iterator[Finding]:
    """Check that the object store of the workspaces answers."""
    objects = open_object_workspaces(settings, Layout(settings.state_dir))
    if objects is None:
        return
    try:
        objects.objects.check()
    except AirExecutorError as error:
        yield Finding("workspace store", BAD, str(error), "check its address, its credentials and the network")
    else:
        yield Finding("workspace store", FINE, f"{objects.url} takes, returns and deletes objects")


def reach_backend(settings: Settings) -> None:
    """Make sure that the platform answers, before a job is submitted for its sake.

    Raises:
        BadInputError: as `check_backend`.
        BackendUnavailableError: it does not; the message says what to do.
    """
    check_backend(settings)
    if settings.backend == "docker":
        from air_executor.backends.docker import engine_check  # noqa: PLC0415

        engine_check.reach(settings)
    elif settings.backend == "kubernetes":
        from air_executor.backends.kubernetes import cluster_check as check_kubernetes  # noqa: PLC0415

        check_kubernetes.reach(settings)


def check_platform(settings: Settings) -> Iterator[Finding]:
    """Check what the chosen backend rests on; each finding that is not good says what to do."""
    try:
        check_backend(settings)
    except BadInputError as error:
        yield Finding("backend", BAD, str(error), "set AIR_BACKEND, or install what is missing")
        return
    if settings.backend == "docker":
        from air_executor.backends.docker import engine_check  # noqa: PLC0415

        yield from engine_check.check(settings, version())
    elif settings.backend == "kubernetes":
        from air_executor.backends.kubernetes import cluster_check as check_kubernetes  # noqa: PLC0415

        yield from check_kubernetes.check(settings, version())
    else:
        from air_executor.backends.local import local_check  # noqa: PLC0415

        yield from local_check.check(settings.state_dir)
    yield from _check_store(settings)


def open_shell(settings: Settings, run: str, command: Sequence[str], *, tty: bool) -> RemoteProcess | RunProcess:
    """Start a command, or else a shell, in the container of a run; without containers, return the task's process.

    Raises:
        NotFoundError: the run has no running container, or no process that can be seen from here.
        BadInputError: the platform refuses, or cannot be used with these settings.
        BackendUnavailableError: it does not answer.
    """
    check_backend(settings)
    if settings.backend == "docker":
        from air_executor.backends.docker import container_shell  # noqa: PLC0415

        return container_shell.open_shell(settings, run, command, tty=tty)
    if settings.backend == "kubernetes":
        from air_executor.backends.kubernetes import pod_shell  # noqa: PLC0415

        return pod_shell.open_shell(settings, run, command, tty=tty)
    from air_executor.backends.local import run_process  # noqa: PLC0415

    return run_process.find(run)


def make_backend(settings: Settings, layout: Layout, host: Host, requested: Requested | None = None) -> Backend:
    """Return the backend that the settings name; its module is imported only now.

    `requested` is told of each request to its platform.

    Raises:
        BadInputError: there is no such backend, or it cannot work with these settings.
        BackendUnavailableError: it does not answer.
    """
    check_backend(settings)
    if settings.backend == "docker":
        from air_executor.backends.docker import make_backend as make_docker_backend  # noqa: PLC0415

        return make_docker_backend(settings, version(), keeper_of(layout), requested, run_tokens(layout))
    if settings.backend == "kubernetes":
        from air_executor.backends.kubernetes import make_backend as make_kubernetes_backend  # noqa: PLC0415

        make_token, keep = run_tokens(layout), keeper_of(layout)
        return make_kubernetes_backend(settings, version(), keep, requested, make_token, note_end=noter_of(layout))
    from air_executor.backends.local.cgroups import open_cgroups  # noqa: PLC0415
    from air_executor.backends.local.inherited_environment import inherit  # noqa: PLC0415
    from air_executor.backends.local.local_backend import LocalBackend  # noqa: PLC0415

    environ = inherit(os.environ, sys.prefix, without=RESERVED)
    return LocalBackend(
        layout, host, environ=environ, make_cgroups=lambda: open_cgroups(layout.root, settings.local.pids)
    )


def run_tokens(layout: Layout) -> Callable[[Slot, str, str], str]:
    """Return what makes the tokens of runs without a volume."""
    from air_executor.store.run_tokens import RunAddress, RunTokens  # noqa: PLC0415

    tokens = RunTokens(layout)

    def make(slot: Slot, run: str, task: str) -> str:
        return tokens.make(RunAddress(slot.job, int(run.rpartition("-")[2]), task, run), time.time())

    return make


def _prices(settings: Settings, backend: str) -> Prices:
    from air_executor.settings.price_file import with_price_file  # noqa: PLC0415

    return with_price_file(settings.cost.prices(backend), backend, settings.cost.file)


def make_manager(
    settings: Settings,
    *,
    scope: set[str] | None = None,
    from_files: bool = False,
    observer: Observer | None = None,
    page: str | None = None,
) -> Manager:
    """Return a manager for the state directory of these settings, not started yet.

    `scope` limits it to these jobs (and what they submit); `from_files` makes state files win over the journal;
    `observer` is told what it does; `page` is the address of the page that this process serves.
    """
    from air_executor.manager.held_directory import HeldDirectory  # noqa: PLC0415

    layout = Layout(settings.state_dir)
    directory = HeldDirectory(layout.root)  # before all that takes time
    from air_executor.core.price import FREE  # noqa: PLC0415
    from air_executor.manager.loop import Manager  # noqa: PLC0415
    from air_executor.manager.manager_state import ManagerOptions  # noqa: PLC0415
    from air_executor.model.job import NotifyRule  # noqa: PLC0415
    from air_executor.store.run_retention import RunLimits  # noqa: PLC0415

    host = this_host()
    options = ManagerOptions(
        version=version(),
        max_runners=settings.max_runners,
        runner_files=runner_files(),
        project=os.path.dirname(layout.root),
        stored_workspaces=settings.workspace_store is not None,
        poll_interval=settings.poll_interval,
        pools=settings.pools,
        platform_retries=settings.platform_retries,
        keep_runners=settings.keep_runners,
        keep_runners_for=settings.keep_runners_for,
        prices={name: found for name in BACKENDS if (found := _prices(settings, name)) != FREE},
        budgets=settings.cost.limits,
        cost_labels=settings.cost.labels,
        secrets_dir=None if settings.secrets_dir is None else str(settings.secrets_dir),
        jobs_dir=None if settings.jobs_dir is None else str(settings.jobs_dir),
        notify=[NotifyRule(on=list(on), to=to) for to, on in settings.notify.items()],
        name_prefix=None if settings.backend == "local" else settings.name_prefix,
        kept_runs=RunLimits(settings.keep_runs, settings.keep_runs_for),
        secrets_by_name=settings.backend == "kubernetes",
        visibility=settings.kubernetes.visibility if _mounts_volume(settings) else 0.0,
        events=settings.events,
        page=page,
        from_files=from_files,
        scope=scope,
    )
    requested = None if observer is None else observer.requested
    backend = make_backend(settings, layout, host, requested)
    lease = _make_lease(settings, layout, host, backend, scope=scope, requested=requested)
    return Manager(layout, backend, host, options, lease=lease, observer=observer, directory=directory)


def _make_lease(
    settings: Settings,
    layout: Layout,
    host: Host,
    backend: Backend,
    *,
    scope: set[str] | None,
    requested: Requested | None,
) -> Lease | None:
    """Return the proof that no other manager is running; None: a lock file. `run` does not stand by: it follows."""
    if settings.backend != "kubernetes" or not settings.kubernetes.lease:
        return None
    from air_executor.backends.kubernetes import KubernetesBackend, make_lease_record  # noqa: PLC0415
    from air_executor.manager.leader import LeaderLease  # noqa: PLC0415

    record = make_lease_record(settings, requested)
    lease = LeaderLease(layout, host, record, stands_by=scope is None, only=scope)
    if isinstance(backend, KubernetesBackend):
        backend.act_only_if(lease.check)
    return lease


def make_service(settings: Settings) -> Service | None:
    """Open the port and return what a manager serves there; None where it shall serve nothing, or cannot by default.

    Raises:
        BadInputError: it cannot listen where it was told to, or a setting of the server is wrong.
    """
    if settings.http_port == 0:
        return None
    from air_executor.client import Client  # noqa: PLC0415
    from air_executor.metrics.collector import Collector, ManagerInfo  # noqa: PLC0415 - 0.2 s, and only where there is a port
    from air_executor.metrics.health import shared_memory  # noqa: PLC0415
    from air_executor.settings.http_types import known_url  # noqa: PLC0415
    from air_executor.store.tokens import Tokens, first_token  # noqa: PLC0415
    from air_executor.web.application import check  # noqa: PLC0415
    from air_executor.web.server_process import ServerProcess, listen  # noqa: PLC0415

    try:
        listening = listen(settings.http_host, settings.http_port)
    except BadInputError as error:
        chosen = {settings.sources.get("http_port"), settings.sources.get("http_host")} != {DEFAULT}
        if chosen or settings.transport is not None:
            raise
        log.warning("no metrics and no page: %s", error)
        return None
    check(settings)
    about = ManagerInfo(
        version=version(),
        backend=settings.backend,
        max_runners=settings.max_runners,
        baseline_pool=settings.cost.always_on_workers or settings.max_runners,
        pools=settings.pools,
        prices=_prices(settings, settings.backend),
        patience=PATIENCE + settings.poll_interval + _longest_answer(settings),
    )
    layout = Layout(settings.state_dir)
    tokens = Tokens(str(settings.tokens_file or layout.tokens), settings.admin_token_file)
    if settings.first_token and settings.token is None:
        Client(settings.state_dir).jobs.prepare()  # with a .gitignore: tokens are not for git
        tokens.create_first(layout.first_token, round(time.time(), 3))
    shown = first_token(layout.first_token)
    memory = shared_memory()
    collector = Collector(about, lambda: space(settings.state_dir), memory=memory)
    # What runs in the process of the server begins in `cli.http_server`.
    message = (settings, about.patience, logging.getLogger("air_executor").getEffectiveLevel())
    return Service(
        collector,
        ServerProcess(listening, memory, message, collector.scrape, known_url(settings.public_url)),
        shown is not None and tokens.caller(shown, time.time()) is not None,
    )


def serve_runs(settings: Settings) -> AbstractContextManager[object]:
    """Return a block in which runs without a volume reach this process; it opens a port only where there are such.

    Raises:
        BadInputError: it cannot listen where it was told to.
    """
    service = make_service(settings) if settings.transport is not None else None
    return contextlib.nullcontext() if service is None else service.server


def _mounts_volume(settings: Settings) -> bool:
    """Whether runners write to the volume through a mount of their own, which may show files late."""
    return settings.backend == "kubernetes" and settings.transport is None


def _longest_answer(settings: Settings) -> float:
    """Return how many seconds the platform may take to answer one request."""
    return {"docker": settings.docker.timeout, "kubernetes": settings.kubernetes.timeout}.get(settings.backend, 0.0)
