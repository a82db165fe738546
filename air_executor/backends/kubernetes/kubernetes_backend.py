"""Runners as Jobs of a Kubernetes cluster: the Job's name makes a slot unique.

The manager's thread only creates Jobs, which is exclusive. Worker threads inspect and delete them, and two watches keep
what is known of Jobs and Pods up to date. Knows nothing of job states or of a run's files.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from air_executor.backends.base import KeepServiceLog, Launch, RunnerStatus
from air_executor.backends.container.container_backend import ContainerBackend, NameHolder
from air_executor.backends.container.inside import change_owner
from air_executor.backends.container.platform_text import brief
from air_executor.backends.container.refusals import ConflictError, RefusedError
from air_executor.backends.kubernetes.api import Api
from air_executor.backends.kubernetes.cluster_watch import ClusterWatch
from air_executor.backends.kubernetes.end_notes import EndNotes
from air_executor.backends.kubernetes.job_remover import JobRemover
from air_executor.backends.kubernetes.manifests import INSTANCE, RUN, STATE_DIR, ClusterConfig, job_manifest
from air_executor.backends.kubernetes.object_status import is_permanent
from air_executor.backends.kubernetes.refused_starts import RefusedStarts
from air_executor.backends.kubernetes.run_secrets import RunSecrets
from air_executor.backends.kubernetes.runner_cache import RunnerCache, TrackedRunner
from air_executor.backends.kubernetes.start_inspector import StartInspector
from air_executor.errors import (
    AirExecutorError,
    BackendUnavailableError,
    DuplicateRunnerError,
    SpawnRejectedError,
)
from air_executor.model.names import Slot

log = logging.getLogger(__name__)

WORKERS = 8
"""Concurrent requests."""


class KubernetesBackend(ContainerBackend):
    """The backend `kubernetes`: one Job per runner."""

    name = "kubernetes"
    remote = True
    object_kind = "Kubernetes Job"

    def __init__(
        self,
        api: Api,
        config: ClusterConfig,
        keep_log: KeepServiceLog,
        secrets: RunSecrets | None = None,
        end_notes: EndNotes | None = None,
    ) -> None:
        """`secrets` and `end_notes`: of runs whose files come over HTTP; None: all pods mount the volume."""
        super().__init__(api, config, WORKERS)
        self._api = api
        self._config = config
        self._watch: ClusterWatch = ClusterWatch(api, config, self._lock, self._wake)
        self._cache: RunnerCache = self._watch.cache
        self._inspector = StartInspector(api, self._watch, config.selector)
        self._remover = JobRemover(api, self._watch, keep_log, config.settings.keep_pods)
        self._refused = RefusedStarts()
        self._secrets = secrets
        self._end_notes = end_notes

    def prepare(self, options: Mapping[str, Any]) -> str | None:
        """See `Backend.prepare`. Nodes pull images themselves, for a pod that exists."""

    def spawn(self, launch: Launch) -> None:
        """See `Backend.spawn`. The Job is created when this returns; the cluster creates its pod."""
        if launch.worktree is not None:
            msg = "worktree: pods do not see the project folder; use the backend local or docker"
            raise SpawnRejectedError(msg)
        self._watch.check()
        self._ensure_free(launch.slot)
        if launch.slot in self._refused:
            raise self._duplicate(launch.slot)
        self._create(launch)

    def _create(self, launch: Launch) -> None:
        """Request the Job of a run; one that the server refuses for now waits in `_refused`."""
        body = job_manifest(self._config, launch, self._watch.server, self._watch.owner)
        if self._secrets is None:
            change_owner(launch, self._config.user)
        name = self._config.name(launch.slot)
        now = time.monotonic()
        try:
            self._watch.put_job(self._api.create_job(body))
        except ConflictError as error:
            self._resolve_conflict(launch, name, error, partial(self._adopt, launch))
        except RefusedError as error:
            message = f"the cluster refuses job {name}: {brief(error)}"
            if is_permanent(error):
                raise SpawnRejectedError(message) from error
            self._refused.refuse(launch, f"the cluster refuses its Job: {brief(error)}", now)
            return
        self._refused.created(launch.slot, now)
        self._give_secrets()

    def _give_secrets(self) -> None:
        """Have the workers create the Secrets that runs wait for."""
        if self._secrets is None:
            return
        with self._lock:
            missing = [one for one in self._secrets.missing(self._cache.all()) if not one.busy]
            for one in missing:
                one.busy = True
        for one in missing:
            self._workers.submit(self._guard, self._secrets.give, one)

    def _retry_refused(self, now: float) -> None:
        for launch in self._refused.due(now):
            try:
                self._create(launch)
            except DuplicateRunnerError:
                self._refused.drop(launch.slot)  # what has the name is observed from now on
            except SpawnRejectedError as error:
                self._refused.drop(launch.slot)
                self._fail_start(launch, str(error), permanent=True)

    def observe(self) -> Mapping[Slot, RunnerStatus]:
        """See `Backend.observe`. Answers from the cache; the first call waits for the first lists."""
        self._watch.check()
        now = time.monotonic()
        self._retry_refused(now)
        self._give_secrets()
        with self._lock:
            found = self._cache.statuses(now)
            unexplained = self._cache.to_inspect(now)
            for one in unexplained:
                one.busy = True
            failed = dict(self._failed_starts)
            ended = self._cache.ended_pods.due(time.time())
            if self._end_notes is not None:
                self._end_notes.look(self._cache.all(), now)
        for name, uid in ended:
            self._workers.submit(self._remover.delete_ended, name, uid)
        for one in unexplained:
            self._workers.submit(self._guard, self._inspector.inspect, one)
        return failed | self._refused.statuses() | self._refused.with_wait(found)

    def remove(self, slot: Slot) -> None:
        """See `Backend.remove`."""
        self._watch.check()
        self._refused.drop(slot)
        with self._lock:
            self._failed_starts.pop(slot, None)
            one = self._cache.in_slot(slot)
            if one is None:
                return
            one.delete_requested = True
            if not one.present and not one.unowned:
                self._cache.forget(one)
                return
            # A Job deleted in the foreground keeps its name until its Pods are deleted, which can take long after their
            # last process has ended. A second request then frees the name at once.
            if one.busy or one.name_released or (one.delete_accepted and (one.may_run or not one.present)):
                return
            one.busy = True
        self._workers.submit(self._guard, self._remover.remove, one)

    def confirm_gone(self, slot: Slot) -> None:
        """See `Backend.confirm_gone`. The pods are deleted without waiting for their nodes."""
        with self._lock:
            one = self._cache.in_slot(slot)
            if one is None:
                return
            one.delete_requested = True
        self._workers.submit(self._guard, self._remover.remove_unreachable, one)

    def act_only_if(self, check: Callable[[], None]) -> None:
        """Create and delete nothing while `check` raises: requests of worker threads may be sent late.

        Its error counts as a server that does not answer: nothing is concluded, and nothing is done.
        """

        def before_write() -> None:
            try:
                check()
            except AirExecutorError as error:
                raise BackendUnavailableError(str(error)) from error

        self._api.before_write = before_write

    def _read_holder(self, name: str) -> NameHolder:
        found = self._api.read_job(name)
        meta = found["metadata"]
        labels, annotations = meta.get("labels") or {}, meta.get("annotations") or {}
        return NameHolder(labels.get(INSTANCE), annotations.get(STATE_DIR), found)

    def _adopt(self, launch: Launch, job: Mapping[str, Any]) -> bool:
        self._watch.put_job(job)
        meta = job["metadata"]
        return (meta.get("labels") or {}).get(RUN) == launch.run and "deletionTimestamp" not in meta

    def _guard(self, work: Callable[[TrackedRunner], None], one: TrackedRunner) -> None:
        """Call `work`. A failure is retried in the next cycle and does not wake the manager, which would retry now."""
        try:
            work(one)
        except RefusedError as error:
            log.warning("job %s: the API server refuses: %s", one.name, error)
            return
        except AirExecutorError as error:  # the watches find out whether the server is up
            log.warning("job %s: %s", one.name, error)
            return
        except Exception:
            log.exception("unexpected failure of a request to the API server")
            return
        finally:
            one.busy = False
        self._wake()
