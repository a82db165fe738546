"""Runners as Jobs of a Kubernetes cluster: the Job's name is what makes a slot unique.

The manager's thread only creates Jobs, which is exclusive; deleting them is done by a few threads, and two watches keep
what is known of Jobs and Pods up to date, so that no cycle costs a request. Knows nothing of jobs' states or of what a
run leaves in its directory.
"""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

from air_executor.backends.base import Launch, RunnerStatus
from air_executor.backends.container import inside
from air_executor.backends.container.platform_text import brief
from air_executor.backends.container.workers import Workers
from air_executor.backends.kubernetes import objects
from air_executor.backends.kubernetes.api import (
    Api,
    ConflictError,
    MissingError,
    RefusedError,
    jobs,
    pods,
)
from air_executor.backends.kubernetes.manifests import VOLUME, ClusterConfig, job_manifest
from air_executor.backends.kubernetes.object_watch import ObjectWatch
from air_executor.backends.kubernetes.runner_cache import INSTANCE, RUN, Deadlines, RunnerCache, TrackedRunner
from air_executor.errors import AirExecutorError, BackendUnavailableError, DuplicateRunnerError, SpawnRejectedError
from air_executor.model import state as s
from air_executor.model.names import Slot

log = logging.getLogger(__name__)

WORKERS = 8
"""Requests under way at once."""
FIRST_LIST_SECONDS = 5.0
"""How long the manager may be held up by the first lists; afterwards they come when they come."""
CLOSE_SECONDS = 3.0
"""How long a manager that leaves waits for requests under way: it has 5 s for all that it does then."""


class KubernetesBackend:
    """The backend `kubernetes`: one Job per runner."""

    name = "kubernetes"
    remote = True
    evicts = True

    def __init__(self, api: Api, site: ClusterConfig) -> None:
        self._api = api
        self._site = site
        group = site.settings
        self._cluster = RunnerCache(Deadlines(group.schedule_deadline, group.pull_deadline, group.start_deadline))
        self._lock = threading.Lock()
        self._refused: dict[Slot, RunnerStatus] = {}
        """Runs whose Job could not be created, until their slot is removed."""
        watch = partial(ObjectWatch, api, site.selector, self._wake)
        self._jobs = watch(
            "jobs", jobs(site.namespace), before=self._before_jobs, came=self._jobs_came, take=self._take_job
        )
        self._pods = watch(
            "pods", pods(site.namespace), before=self._before_pods, came=self._pods_came, take=self._take_pod
        )
        self._watches = (self._jobs, self._pods)
        self._server: tuple[int, int] | None = None
        self._owner: Mapping[str, Any] | None = None
        self._wakes: list[Callable[[], None]] = []
        self._workers = Workers(WORKERS, "kubernetes")

    # What the manager calls

    def prepare(self, options: Mapping[str, Any]) -> str | None:
        """See `Backend.prepare`. Nodes pull images themselves, once a pod is there."""

    def spawn(self, launch: Launch) -> None:
        """See `Backend.spawn`. The Job is created when this returns; the cluster makes its pod."""
        self._check()
        with self._lock:
            if launch.slot in self._refused or self._cluster.in_slot(launch.slot) is not None:
                raise _duplicate(launch.slot)
        assert self._server is not None  # noqa: S101 - known since the first list
        body = job_manifest(self._site, launch, self._server, self._owner)
        inside.hand_over(launch, self._site.user)
        name = self._site.name(launch.slot)
        try:
            self._take_in(self._api.create_job(body))
        except ConflictError as error:
            self._meet(launch, name, error)
        except RefusedError as error:
            message = f"the cluster refuses job {name}: {brief(error)}"
            if objects.is_final(str(error), error.status):
                raise SpawnRejectedError(message) from error
            with self._lock:
                self._refused[launch.slot] = RunnerStatus(
                    launch.run, alive=False, finished=True, reason=s.START_FAILED, message=message
                )
            self._wake()

    def observe(self) -> Mapping[Slot, RunnerStatus]:
        """See `Backend.observe`. Answers from what the watches know; the first call waits for the first lists."""
        self._check()
        now = time.monotonic()
        with self._lock:
            found = self._cluster.statuses(now)
            doubtful = self._cluster.doubtful(now)
            for one in doubtful:
                one.busy = True
            refused = dict(self._refused)
        for one in doubtful:
            self._workers.submit(self._guard, self._look_at, one)
        return refused | found

    def remove(self, slot: Slot) -> None:
        """See `Backend.remove`."""
        self._check()
        with self._lock:
            self._refused.pop(slot, None)
            one = self._cluster.in_slot(slot)
            if one is None:
                return
            one.expected = True
            if not one.present and not one.live:
                self._cluster.forget(one)
                return
            # What was stopped in the foreground has its name until its Pods are cleared away, which can take long after
            # the last process of it has gone; asked again, the server lets go of the name at once.
            if one.busy or one.released or (one.told and one.may_run):
                return
            one.busy = True
        self._workers.submit(self._guard, self._end, one)

    def confirm_gone(self, slot: Slot) -> None:
        """See `Backend.confirm_gone`: its pods are forgotten, whatever their nodes would say."""
        with self._lock:
            one = self._cluster.in_slot(slot)
            if one is None:
                return
            one.expected = True
        self._workers.submit(self._guard, self._forget_pods, one)

    def on_change(self, wake: Callable[[], None]) -> None:
        """See `Backend.on_change`."""
        self._wakes.append(wake)

    def act_only_if(self, check: Callable[[], None]) -> None:
        """Let nothing be created or deleted while `check` raises: the requests of threads may wait, and come late.

        What it raises shows as a server that does not answer: nothing is concluded, and nothing is done.
        """

        def before_write() -> None:
            try:
                check()
            except AirExecutorError as error:
                raise BackendUnavailableError(str(error)) from error

        self._api.before_write = before_write

    def last_contact(self) -> float:
        """See `Backend.last_contact`. The server sends a bookmark every minute where nothing else happens."""
        return min(self._jobs.last_contact, self._pods.last_contact)

    def close(self) -> None:
        """See `Backend.close`. Requests under way are finished, if the server answers in time."""
        for watch in self._watches:
            watch.close()
        self._workers.close(CLOSE_SECONDS)
        self._api.close()
        for watch in self._watches:
            watch.join()

    def _wake(self) -> None:
        for wake in self._wakes:
            wake()

    def _check(self) -> None:
        """Start to watch, and wait for the first lists.

        Raises:
            BackendUnavailableError: the server does not answer.
        """
        for watch in self._watches:
            watch.start()
        for watch in self._watches:
            watch.listed.wait(FIRST_LIST_SECONDS)
        if (problem := self._jobs.problem or self._pods.problem) is not None:
            raise BackendUnavailableError(problem)

    # Starting

    def _take_in(self, job: Mapping[str, Any]) -> None:
        with self._lock:
            self._cluster.put_job(job, time.monotonic())

    def _meet(self, launch: Launch, name: str, conflict: ConflictError) -> None:
        """Find out who has the name, and act on it.

        Raises:
            DuplicateRunnerError: a runner of ours.
            SpawnRejectedError: somebody else, who may keep it for ever.
        """
        try:
            found = self._api.read_job(name)
        except MissingError:
            raise _duplicate(launch.slot) from conflict  # it has gone this moment
        meta = found["metadata"]
        labels = meta.get("labels") or {}
        if labels.get(INSTANCE) != self._site.instance:
            whose = (meta.get("annotations") or {}).get(VOLUME)
            owner = f"of the state directory {whose}" if whose else "that is not Air-Executor's"
            msg = f"there is a job {name} {owner}; set AIR_NAME_PREFIX for one of the two, or rename the job"
            raise SpawnRejectedError(msg) from conflict
        self._take_in(found)
        if labels.get(RUN) != launch.run or "deletionTimestamp" in meta:
            raise _duplicate(launch.slot) from conflict

    # Looking and ending

    def _guard(self, work: Callable[[TrackedRunner], None], one: TrackedRunner) -> None:
        """Do it; what fails is tried again in the next cycle, and wakes nobody who would try again at once."""
        try:
            work(one)
        except BackendUnavailableError as error:
            log.warning("job %s: %s", one.name, error)  # whether the server is there the watches tell
            return
        except RefusedError as error:
            log.warning("job %s: the API server refuses: %s", one.name, error)
            return
        except Exception:
            log.exception("a request to the API server failed in a way that is not foreseen")
            return
        finally:
            one.busy = False
        self._wake()

    def _look_at(self, one: TrackedRunner) -> None:
        """Learn why a runner does not start; where that may be its end, from all of it as it is now.

        A Pod that is under way speaks for itself, and the watch for the Pod: only what the cluster has noted is asked.
        """
        begun = time.monotonic()
        with self._lock:
            under_way = [] if self._cluster.is_due(one, begun) else one.live
        if under_way:
            words = objects.read_events(self._api.events_of(under_way[0].uid))
            if words is None or not words.permanent:
                with self._lock:
                    one.words, one.asked = words, begun
                return
        try:
            job = self._api.read_job(one.name)
        except MissingError:
            job = None
        if job is None or job["metadata"]["uid"] != one.uid:
            with self._lock:
                self._cluster.drop_job(one.uid)
            return
        found, _ = self._api.list(self._pods.resource, f"{self._site.selector},{RUN}={one.run}")
        mine = [pod for pod in found if objects.read_pod(pod).job_uid == one.uid]
        events = self._api.events_of(mine[0]["metadata"]["uid"] if mine else one.uid)
        with self._lock:
            for pod in mine:
                self._cluster.put_pod(pod, begun)
            if not mine:
                one.ending = one.ending or objects.read_failure(job)
            one.words = objects.read_events(events)
            one.asked = begun

    def _end(self, one: TrackedRunner) -> None:
        """Delete a runner: in the foreground while something of it may run, so that its name stays taken until then."""
        if not one.present:
            for pod in one.live:
                with contextlib.suppress(MissingError, ConflictError):
                    self._api.delete_pod(pod.name, pod.uid)
            one.told = True
            return
        running = one.may_run
        try:
            gone = self._api.delete_job(one.name, one.uid, wait_for_pods=running)
        except (MissingError, ConflictError):
            gone = True
        one.told, one.released = True, not running
        if gone:
            with self._lock:
                self._cluster.drop_job(one.uid)

    def _forget_pods(self, one: TrackedRunner) -> None:
        for pod in one.live:
            log.warning("job %s: forgetting pod %s, which an operator says is gone", one.name, pod.name)
            with contextlib.suppress(MissingError, ConflictError):
                self._api.delete_pod(pod.name, pod.uid, grace=0)
        self._end(one)

    # Watching

    def _before_jobs(self) -> None:
        self._server = self._api.version()
        self._owner = self._find_owner()
        self._list_begins("jobs")

    def _before_pods(self) -> None:
        self._jobs.listed.wait()  # what a pod belongs to is known first
        self._list_begins("pods")

    def _list_begins(self, what: str) -> None:
        with self._lock:
            self._cluster.list_begins(what)

    def _find_owner(self) -> Mapping[str, Any] | None:
        name = self._site.settings.owner
        if name is None:
            return None
        uid = self._api.read_deployment(name)["metadata"]["uid"]
        return {"apiVersion": "apps/v1", "kind": "Deployment", "name": name, "uid": uid}

    def _jobs_came(self, items: Sequence[Mapping[str, Any]]) -> None:
        with self._lock:
            self._cluster.jobs_came(items, time.monotonic())

    def _pods_came(self, items: Sequence[Mapping[str, Any]]) -> None:
        with self._lock:
            self._cluster.pods_came(items, time.monotonic())

    def _take_job(self, job: Mapping[str, Any], deleted: bool) -> None:  # noqa: FBT001 - of an event
        if not deleted:
            self._take_in(job)
            return
        with self._lock:
            self._cluster.drop_job(job["metadata"]["uid"])

    def _take_pod(self, pod: Mapping[str, Any], deleted: bool) -> None:  # noqa: FBT001 - of an event
        with self._lock:
            self._cluster.put_pod(pod, time.monotonic())
            if deleted:
                found = objects.read_pod(pod)
                self._cluster.drop_pod(found.uid, found.job_uid)


def _duplicate(slot: Slot) -> DuplicateRunnerError:
    msg = f"job {slot.job}: slot {slot.number} still has a job on the cluster"
    return DuplicateRunnerError(msg)
