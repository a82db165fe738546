"""Finds out why a runner does not start: from the live objects and their events. Run by the backend's workers."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

from air_executor.backends.container.refusals import MissingError, RefusedError
from air_executor.backends.kubernetes import object_status
from air_executor.backends.kubernetes.api import Api, pods
from air_executor.backends.kubernetes.cluster_watch import ClusterWatch
from air_executor.backends.kubernetes.manifests import RUN
from air_executor.backends.kubernetes.runner_cache import TrackedRunner


class StartInspector:
    """Inspects runners; `selector` selects those of one state directory."""

    def __init__(self, api: Api, watch: ClusterWatch, selector: str) -> None:
        self._api = api
        self._watch = watch
        self._selector = selector

    def inspect(self, one: TrackedRunner) -> None:
        """Inspect a runner that does not start.

        Before its deadline, only the events of its Pod are read: the watch keeps the Pod itself up to date. Past it,
        everything is read, because the runner may be given up.
        """
        begun = time.monotonic()
        with self._watch.lock:
            starting = [] if one.has_unread_spec or self._watch.cache.is_overdue(one, begun) else one.live
        if starting:
            found = object_status.read_events(self._api.events_of(starting[0].uid))
            if found is None or not found.permanent:
                with self._watch.lock:
                    one.inspected_reason, one.inspected_at = found, begun
                return
        self._inspect_all(one, begun)

    def _inspect_all(self, one: TrackedRunner, begun: float) -> None:
        try:
            job = self._api.read_job(one.name)
        except MissingError:
            job = None
        if job is None or job["metadata"]["uid"] != one.uid:
            with self._watch.lock:
                self._watch.cache.drop_job(one.uid)
            return
        listed, _ = self._api.list(pods(self._api.namespace), f"{self._selector},{RUN}={one.run}")
        mine = [pod for pod in listed if object_status.read_pod(pod).job_uid == one.uid]
        queue_words = self._queue_words(job)
        events = self._api.events_of(mine[0]["metadata"]["uid"] if mine else one.uid)
        with self._watch.lock:
            was_suspended = one.suspended is not None
            self._watch.cache.put_job(job, begun, queue_words)
            if (one.suspended is not None) != was_suspended:
                return  # the inspection of a new wait begins
            for pod in mine:
                self._watch.cache.put_pod(pod, begun)
            if not mine:
                one.termination = one.termination or object_status.read_failure(job)
            one.inspected_reason = object_status.read_events(events)
            one.inspected_at = begun

    def _queue_words(self, job: Mapping[str, Any]) -> str:
        """Return why Kueue keeps a Job waiting; empty if it does not, or if we may not ask."""
        if not object_status.is_queued(job):
            return ""
        try:
            return object_status.read_workloads(self._api.workloads_of(job["metadata"]["uid"]))
        except (MissingError, RefusedError):
            return ""
