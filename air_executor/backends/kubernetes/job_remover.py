"""Deletes Jobs and their Pods. Run by the backend's worker threads, each cycle again until the runner is gone."""

from __future__ import annotations

import contextlib
import logging
import time

from air_executor.backends.base import KeepServiceLog
from air_executor.backends.container.refusals import ConflictError, MissingError, RefusedError
from air_executor.backends.kubernetes.api import Api, Propagation
from air_executor.backends.kubernetes.cluster_watch import ClusterWatch
from air_executor.backends.kubernetes.ended_pods import keep_patch
from air_executor.backends.kubernetes.object_status import Pod
from air_executor.backends.kubernetes.runner_cache import TrackedRunner
from air_executor.backends.kubernetes.service_status import PREFIX, ServiceStatus
from air_executor.errors import BackendUnavailableError

log = logging.getLogger(__name__)


class JobRemover:
    """Deletes runners."""

    def __init__(self, api: Api, watch: ClusterWatch, keep_log: KeepServiceLog, keep_pods: float) -> None:
        """`keep_pods`: for how many seconds ended Pods stay."""
        self._api = api
        self._keep_pods = keep_pods
        self._watch = watch
        self._keep_log = keep_log

    def remove(self, one: TrackedRunner) -> None:
        """Delete a runner: in the foreground while something of it may run, so that its name stays taken until then."""
        self._keep_logs(one)
        if not one.present:
            for pod in one.unowned:
                with contextlib.suppress(MissingError, ConflictError):
                    self._api.delete_pod(pod.name, pod.uid)
            one.delete_accepted = True
            return
        running = one.may_run
        if not running:
            self._leave_pods(one)
        policy = (
            Propagation.FOREGROUND if running else Propagation.ORPHAN if one.leaves_pods else Propagation.BACKGROUND
        )
        try:
            gone = self._api.delete_job(one.name, one.uid, policy)
        except (MissingError, ConflictError):
            gone = True
        one.delete_accepted, one.name_released = True, not running
        if gone:
            with self._watch.lock:
                self._watch.cache.drop_job(one.uid)

    def _leave_pods(self, one: TrackedRunner) -> None:
        """Let the Pods of an ended runner stay for a while, unless something in one of them still runs."""
        with self._watch.lock:
            ended = list(one.pods.values())
        if self._keep_pods <= 0 or not all(pod.over and not pod.deleting for pod in ended):
            return
        for pod in ended:
            try:
                self._api.patch_pod(pod.name, keep_patch(time.time() + self._keep_pods, self._watch.owner))
            except RefusedError as error:  # it is gone, or we may not: then it goes with its Job
                log.warning("job %s: pod %s cannot be kept: %s", one.name, pod.name, error)
                continue
            one.leaves_pods = True

    def delete_ended(self, name: str, uid: str) -> None:
        """Delete an ended Pod whose time has come."""
        try:
            self._api.delete_pod(name, uid)
        except (MissingError, ConflictError):
            return
        except (RefusedError, BackendUnavailableError) as error:
            log.warning("pod %s has ended and cannot be deleted: %s", name, error)

    def _keep_logs(self, one: TrackedRunner) -> None:
        """Keep what the services of a runner printed, once; of one that is still running, as far as it has come."""
        if one.kept_logs:
            return
        with self._watch.lock:
            pods = list(one.pods.values())
        for pod in pods:
            for service in pod.services:
                self._keep_log_of(one, pod, service)
        one.kept_logs = True

    def _keep_log_of(self, one: TrackedRunner, pod: Pod, service: ServiceStatus) -> None:
        container, text = f"{PREFIX}{service.name}", b""
        if service.end(was_started=True) is not None:
            with contextlib.suppress(RefusedError):  # its node has not started it again
                text = self._api.container_log(pod.name, container, previous=True)
        try:
            text += self._api.container_log(pod.name, container)
        except RefusedError as error:  # it is gone, or has not begun, or we may not read it
            log.info("job %s: no log of service %s: %s", one.name, service.name, error)
        if text:
            self._keep_log(one.slot, one.run, pod.task, service.name, text)

    def remove_unreachable(self, one: TrackedRunner) -> None:
        """Delete a runner whose node does not answer, without waiting for the node."""
        for pod in one.live:
            log.warning("job %s: dropping pod %s: an operator has confirmed that it is gone", one.name, pod.name)
            with contextlib.suppress(MissingError, ConflictError):
                self._api.delete_pod(pod.name, pod.uid, grace=0)
        self.remove(one)
