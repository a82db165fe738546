"""Deletes Jobs and their Pods. Run by the backend's worker threads, each cycle again until the runner is gone."""

from __future__ import annotations

import contextlib
import logging

from air_executor.backends.container.refusals import ConflictError, MissingError
from air_executor.backends.kubernetes.api import Api
from air_executor.backends.kubernetes.cluster_watch import ClusterWatch
from air_executor.backends.kubernetes.runner_cache import TrackedRunner

log = logging.getLogger(__name__)


class JobRemover:
    """Deletes runners."""

    def __init__(self, api: Api, watch: ClusterWatch) -> None:
        self._api = api
        self._watch = watch

    def remove(self, one: TrackedRunner) -> None:
        """Delete a runner: in the foreground while something of it may run, so that its name stays taken until then."""
        if not one.present:
            for pod in one.unowned:
                with contextlib.suppress(MissingError, ConflictError):
                    self._api.delete_pod(pod.name, pod.uid)
            one.delete_accepted = True
            return
        running = one.may_run
        try:
            gone = self._api.delete_job(one.name, one.uid, wait_for_pods=running)
        except (MissingError, ConflictError):
            gone = True
        one.delete_accepted, one.name_released = True, not running
        if gone:
            with self._watch.lock:
                self._watch.cache.drop_job(one.uid)

    def remove_unreachable(self, one: TrackedRunner) -> None:
        """Delete a runner whose node does not answer, without waiting for the node."""
        for pod in one.live:
            log.warning("job %s: dropping pod %s: an operator has confirmed that it is gone", one.name, pod.name)
            with contextlib.suppress(MissingError, ConflictError):
                self._api.delete_pod(pod.name, pod.uid, grace=0)
        self.remove(one)
