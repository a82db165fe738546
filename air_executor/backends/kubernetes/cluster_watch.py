"""Keeps what is known of a state directory's runners up to date: by one watch of its Jobs and one of their Pods.

The backend answers from this cache, so that no cycle costs a request.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

from air_executor.backends.kubernetes import object_status
from air_executor.backends.kubernetes.api import Api, jobs, pods
from air_executor.backends.kubernetes.manifests import ClusterConfig
from air_executor.backends.kubernetes.object_watch import ObjectWatch
from air_executor.backends.kubernetes.runner_cache import Deadlines, RunnerCache


class ClusterWatch:
    """The Jobs and Pods of one state directory, watched from the first `check` until `close`.

    Args:
        api: the API server.
        config: what all Jobs have in common.
        lock: guards `cache`.
        wake: called from other threads when something has changed.
    """

    def __init__(self, api: Api, config: ClusterConfig, lock: threading.Lock, wake: Callable[[], None]) -> None:
        self._api = api
        self._owner_name = config.settings.owner
        group = config.settings
        self.lock = lock
        self.cache = RunnerCache(Deadlines(group.schedule_deadline, group.pull_deadline, group.start_deadline))
        """To be used under `lock`."""
        self.server: tuple[int, int] = (0, 0)
        """The server's version, known since the first list of Jobs."""
        self.owner: Mapping[str, Any] | None = None
        """A reference to the Deployment whose deletion takes the Jobs along, known since then."""
        watch = partial(ObjectWatch, api, config.selector, wake)
        self._jobs = watch(
            "jobs", jobs(config.namespace), begin=self._begin_jobs, apply=self._apply_jobs, change=self._change_job
        )
        self._pods = watch(
            "pods", pods(config.namespace), begin=self._begin_pods, apply=self._apply_pods, change=self._change_pod
        )
        self.watches = (self._jobs, self._pods)

    @property
    def last_contact(self) -> float:
        """When both were certainly up to date. The server sends a bookmark every minute if nothing else happens."""
        return min(watch.contact.last for watch in self.watches)

    def check(self) -> None:
        """Start to watch; the first time, wait for both lists.

        Raises:
            BackendUnavailableError: the server does not answer.
        """
        for watch in self.watches:
            watch.start()
        for watch in self.watches:
            watch.contact.check()

    def close(self) -> None:
        """Stop watching."""
        for watch in self.watches:
            watch.close()

    def join(self) -> None:
        """Wait a moment for the threads, whose requests end with the connection."""
        for watch in self.watches:
            watch.join()

    def put_job(self, job: Mapping[str, Any]) -> None:
        """Update a Job in the cache."""
        with self.lock:
            self.cache.put_job(job, time.monotonic())

    def _begin_jobs(self) -> None:
        self.server = self._api.version()
        self.owner = self._find_owner()
        self._begin_list("jobs")

    def _begin_pods(self) -> None:
        self._jobs.contact.wait()  # Jobs first: a Pod belongs to one
        self._begin_list("pods")

    def _begin_list(self, what: str) -> None:
        with self.lock:
            self.cache.begin_list(what)

    def _find_owner(self) -> Mapping[str, Any] | None:
        name = self._owner_name
        if name is None:
            return None
        uid = self._api.read_deployment(name)["metadata"]["uid"]
        return {"apiVersion": "apps/v1", "kind": "Deployment", "name": name, "uid": uid}

    def _apply_jobs(self, items: Sequence[Mapping[str, Any]]) -> None:
        with self.lock:
            self.cache.apply_jobs(items, time.monotonic())

    def _apply_pods(self, items: Sequence[Mapping[str, Any]]) -> None:
        with self.lock:
            self.cache.apply_pods(items, time.monotonic())

    def _change_job(self, job: Mapping[str, Any], deleted: bool) -> None:  # noqa: FBT001 - of an event
        if not deleted:
            self.put_job(job)
            return
        with self.lock:
            self.cache.drop_job(job["metadata"]["uid"])

    def _change_pod(self, pod: Mapping[str, Any], deleted: bool) -> None:  # noqa: FBT001 - of an event
        with self.lock:
            self.cache.put_pod(pod, time.monotonic())
            if deleted:
                found = object_status.read_pod(pod)
                self.cache.drop_pod(found.uid, found.job_uid)
