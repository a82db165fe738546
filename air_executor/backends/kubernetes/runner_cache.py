"""What is known of the runners of one state directory: from watches, from lists, and from our own requests.

A runner is a Job and the Pods that it made, by the Job's uid. It stays as long as the Job has the name or anything in
its Pods may run. Pure: no requests, no threads, no clock. `cluster_watch` and the backend use it under their lock.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from air_executor.backends.base import RunnerStatus
from air_executor.backends.container.platform_text import parse_time
from air_executor.backends.container.termination import Termination
from air_executor.backends.kubernetes.ended_pods import EndedPods
from air_executor.backends.kubernetes.manifests import DELIVER_WITHIN, labeled_run
from air_executor.backends.kubernetes.object_status import (
    LOST_CLAIM,
    TASK,
    PendingReason,
    Pod,
    Stage,
    read_pod,
    read_suspension,
)
from air_executor.model import state as s
from air_executor.model.names import Slot

INSPECT_AFTER = 5.0
"""Seconds after which a runner without a Pod is inspected; then when it has waited twice as long, and so on."""
CLOCK_STEP = 1.0
"""Seconds by which the difference of two of the cluster's times may be too large."""
NO_DEADLINE = frozenset({Stage.SUSPENDED, Stage.FETCH, Stage.SERVICES})
INSPECT_POD_AFTER = 15.0
"""The same for a runner whose Pod gets its image and its container, which takes a busy node some seconds anyway."""


@dataclass(frozen=True, slots=True)
class Deadlines:
    """How long a Pod may take, in seconds, to find a node, to get its image, and to start after an error."""

    schedule: float
    pull: float
    start: float

    def of(self, stage: Stage) -> float:
        """Return how long a stage may last."""
        limits = {Stage.SCHEDULE: self.schedule, Stage.PULL: self.pull, Stage.START: self.start}
        return math.inf if stage in NO_DEADLINE else limits.get(stage, 0.0)


@dataclass(slots=True, eq=False)
class TrackedRunner:
    """One Job and its Pods. Times are monotonic seconds."""

    uid: str
    slot: Slot
    run: str
    first_seen: float
    name: str = ""
    task: str = ""
    """Id of the task."""
    created_at: float | None = None
    """When its Job, or a Pod of it, was created: Unix seconds by the cluster's clock."""
    scheduled_at: float | None = None
    """When a Pod of it got a node, by the same clock; None if none has yet."""
    image: str | None = None
    """The image of its task, with its digest, once a node has it."""
    present: bool = False
    """Its Job exists."""
    deleting: bool = False
    suspended: str | None = None
    """Why its Job makes no Pods, if it is suspended."""
    generation: object = None
    """Of its Job's spec, as the metadata last said."""
    read_generation: object = None
    """Of the spec that was read last: lists and watches have the metadata alone."""
    pods: dict[str, Pod] = field(default_factory=dict)
    termination: Termination | None = None
    """How it ended, if known."""
    deleted_by_others: bool = False
    """Somebody else deleted a Pod of it before we did."""
    delete_requested: bool = False
    """We have asked for its deletion, or an earlier manager may have."""
    delete_accepted: bool = False
    """The server has accepted a deletion."""
    name_released: bool = False
    """The server has accepted the last one, which frees the name at once."""
    busy: bool = False
    """A request about it is in flight."""
    stage: Stage | None = None
    stage_since: float = 0.0
    inspected_at: float | None = None
    """When the live objects were last inspected."""
    inspected_reason: PendingReason | None = None
    """What that found."""
    kept_logs: bool = False
    """What its services printed is kept."""
    leaves_pods: bool = False
    """A Pod of it stays for a while after its Job."""

    @property
    def live(self) -> list[Pod]:
        """Return the Pods in which something runs, or may yet."""
        return [pod for pod in self.pods.values() if pod.termination is None]

    @property
    def delivering_since(self) -> list[float]:
        """Return since when its Pods deliver what their commands left, in monotonic seconds."""
        return [pod.delivering_since for pod in self.live if pod.delivering_since is not None]

    @property
    def unowned(self) -> list[Pod]:
        """Return the Pods that stay until we delete them: those that may run, and those of which no Job knows."""
        return [pod for pod in self.pods.values() if pod.orphaned or pod.termination is None]

    @property
    def may_run(self) -> bool:
        """Something of it runs, or may yet: nothing is known of its end."""
        return bool(self.live) or (self.present and self.termination is None)

    @property
    def has_unread_spec(self) -> bool:
        """Somebody may have suspended or resumed it. One whose Pod runs is only asked about after a change."""
        return self.generation != self.read_generation and (self.read_generation is not None or not self.live)

    @property
    def node_wait(self) -> float | None:
        """Return for how many seconds it certainly had no node; None while it has none.

        The clock that stamped both times knows whole seconds only.
        """
        if self.scheduled_at is None:
            return None
        return 0.0 if self.created_at is None else max(0.0, self.scheduled_at - self.created_at - CLOCK_STEP)

    def note_creation(self, at: float | None) -> None:
        """Note when one of its objects was created."""
        if at is not None:
            self.created_at = at if self.created_at is None else min(at, self.created_at)

    def pending_reason(self) -> PendingReason | None:
        """Return why it has not started; None if it has."""
        live = self.live
        if any(pod.pending_reason is None for pod in live):
            return None
        if self.suspended is not None and not live:
            return PendingReason(Stage.SUSPENDED, self.suspended)
        found = live[0].pending_reason if live else PendingReason(Stage.SCHEDULE, "it has no pod yet")
        if self.inspected_reason is None:
            return found
        if not live:
            return self.inspected_reason
        unexplained = found is not None and found.stage is Stage.PULL and not found.permanent
        return replace(self.inspected_reason, stage=Stage.PULL) if unexplained else found

    def record_end(self, pod: Pod) -> None:
        """Note how one of its Pods ended. The first end counts, unless another Pod had the claim."""
        found = pod.termination or Termination(message=f"{pod.where} vanished")
        by_others = self.deleted_by_others or (pod.deleting and not self.delete_requested)
        if found.reason is None and by_others and found.exit_code != 0:
            text = f"{pod.where} was deleted, and not by us"
            found = replace(found, reason=s.EVICTED, message=f"{text}; {self.suspended}" if self.suspended else text)
        if self.termination is None or self.termination.exit_code == LOST_CLAIM:
            self.termination = found


class RunnerCache:
    """All runners of one state directory."""

    def __init__(self, deadlines: Deadlines) -> None:
        self._deadlines = deadlines
        self._by_uid: dict[str, TrackedRunner] = {}
        self._known_before: dict[str, frozenset[str]] = {}
        self.ended_pods = EndedPods()

    def by_slot(self) -> Mapping[Slot, TrackedRunner]:
        """Return the runners by slot. While one goes and the next one comes, the live one counts, or else the older."""
        found: dict[Slot, TrackedRunner] = {}
        for one in self._by_uid.values():
            other = found.get(one.slot)
            if other is None or (not one.may_run, one.first_seen) < (not other.may_run, other.first_seen):
                found[one.slot] = one
        return found

    def all(self) -> list[TrackedRunner]:
        """Return all runners."""
        return list(self._by_uid.values())

    def in_slot(self, slot: Slot) -> TrackedRunner | None:
        """Return the runner of a slot."""
        return self.by_slot().get(slot)

    def forget(self, one: TrackedRunner) -> None:
        """Drop a runner whose Job and pods are gone."""
        self._by_uid.pop(one.uid, None)

    # Jobs

    def put_job(self, found: Mapping[str, Any], now: float, queue_words: str = "") -> TrackedRunner | None:
        """Update a Job; return its runner, or None if its labels aren't a runner's.

        `queue_words`, if not empty, is why a queue of the cluster keeps it suspended.
        """
        meta = found["metadata"]
        one = self._runner(meta["uid"], meta, now)
        if one is None:
            return None
        deleting = "deletionTimestamp" in meta
        one.delete_requested = one.delete_requested or (deleting and not one.present)
        one.name, one.present, one.deleting = meta["name"], True, deleting
        one.task = (meta.get("annotations") or {}).get(TASK, "")
        one.note_creation(parse_time(meta.get("creationTimestamp")))
        one.generation = meta.get("generation")
        if "spec" in found:
            self._note_spec(one, found, now, queue_words)
        return one

    def _note_spec(self, one: TrackedRunner, job: Mapping[str, Any], now: float, queue_words: str) -> None:
        one.read_generation = one.generation
        suspended = read_suspension(job, queue_words)
        if (suspended is None) != (one.suspended is None):
            one.stage_since, one.inspected_at = now, None  # deadlines begin when it is resumed
        one.suspended = suspended

    def drop_job(self, uid: str) -> None:
        """Note that a Job is gone. A runner that ended without our doing stays until it is committed and removed."""
        if (one := self._by_uid.get(uid)) is not None:
            one.present = False
            if not one.may_run and one.delete_requested:
                self.forget(one)

    # Pods

    def put_pod(self, found: Mapping[str, Any], now: float) -> None:
        """Update a Pod."""
        pod = read_pod(found)
        known = self._by_uid.get(pod.job_uid)
        if self.ended_pods.put(found):
            if known is not None:
                self._leave(known, pod)
            return
        if known is None and pod.termination is not None and not pod.orphaned:
            return  # its Job is gone, or else the Job's own list or event will bring the Pod here again
        one = known or self._runner(pod.job_uid, found["metadata"], now)
        if one is None:
            return
        before = one.pods.get(pod.uid)
        one.pods[pod.uid] = pod
        if before is not None:
            pod.started |= before.started
        if pod.delivering:
            pod.delivering_since = now if before is None or before.delivering_since is None else before.delivering_since
        one.deleted_by_others = one.deleted_by_others or (pod.deleting and not one.delete_requested)
        one.note_creation(pod.created_at)
        if one.scheduled_at is None:
            one.scheduled_at = pod.scheduled_at
        one.image = pod.image or one.image
        stage = pod.pending_reason.stage if pod.pending_reason else None
        if stage is not one.stage:
            one.stage, one.stage_since = stage, now
            one.inspected_reason = one.inspected_at = None
        if pod.termination is not None and (before is None or before.termination is None):
            one.record_end(pod)
            self._drop_if_gone(one)

    def _leave(self, one: TrackedRunner, pod: Pod) -> None:
        """Note that a Pod no longer belongs to its runner."""
        one.leaves_pods = True
        one.pods.pop(pod.uid, None)
        one.termination = one.termination or pod.termination
        self._drop_if_gone(one)

    def drop_pod(self, uid: str, job_uid: str) -> None:
        """Note that a Pod is gone."""
        self.ended_pods.drop(uid)
        one = self._by_uid.get(job_uid)
        if one is None or (pod := one.pods.pop(uid, None)) is None:
            return
        if pod.termination is None:
            pod.deleting = True
            one.record_end(pod)
        self._drop_if_gone(one)

    def _drop_if_gone(self, one: TrackedRunner) -> None:
        if not one.present:
            self.drop_job(one.uid)

    def _runner(self, uid: str, metadata: Mapping[str, Any], now: float) -> TrackedRunner | None:
        if (known := self._by_uid.get(uid)) is not None:
            return known
        labeled = labeled_run(metadata)
        if not uid or labeled is None:
            return None
        one = self._by_uid[uid] = TrackedRunner(uid, labeled.slot, labeled.run, now, stage_since=now)
        return one

    # Lists

    def begin_list(self, what: str) -> None:
        """Remember what is known now: only that can be missing from the list."""
        runners = self._by_uid.values()
        known = (
            [one.uid for one in runners if one.present]
            if what == "jobs"
            else [*self.ended_pods, *(uid for one in runners for uid in one.pods)]
        )
        self._known_before[what] = frozenset(known)

    def apply_jobs(self, listed: Iterable[Mapping[str, Any]], now: float) -> None:
        """Apply a list of Jobs."""
        seen = set()
        for found in listed:
            seen.add(found["metadata"]["uid"])
            self.put_job(found, now)
        for uid in self._known_before["jobs"] - seen:
            self.drop_job(uid)

    def apply_pods(self, listed: Iterable[Mapping[str, Any]], now: float) -> None:
        """Apply a list of Pods."""
        seen = set()
        for found in listed:
            seen.add(found["metadata"]["uid"])
            self.put_pod(found, now)
        missing = self._known_before["pods"] - seen
        for uid in missing:
            self.ended_pods.drop(uid)
        for one in list(self._by_uid.values()):
            for uid in missing & one.pods.keys():
                self.drop_pod(uid, one.uid)

    # What follows

    def statuses(self, now: float) -> dict[Slot, RunnerStatus]:
        """Return every runner as the manager sees it."""
        return {
            slot: self._status(one, now)._replace(node_wait=one.node_wait, image=one.image)
            for slot, one in self.by_slot().items()
        }

    def to_inspect(self, now: float) -> list[TrackedRunner]:
        """Return the runners to inspect: what is known of them may be old, or does not say why they do not start."""
        return [one for one in self._by_uid.values() if self._needs_inspection(one, now)]

    def _needs_inspection(self, one: TrackedRunner, now: float) -> bool:
        if one.busy or one.delete_accepted or not one.present or not one.may_run:
            return False
        if one.has_unread_spec:
            return True
        if (found := one.pending_reason()) is None or found.stage in {Stage.FETCH, Stage.SERVICES}:
            return False
        if self.is_overdue(one, now):
            return True
        if one.live and found.stage is not Stage.PULL:
            return False  # the Pod itself says why
        first = INSPECT_POD_AFTER if one.live else INSPECT_AFTER
        waited = first if one.inspected_at is None else 2 * (one.inspected_at - one.stage_since)
        return now - one.stage_since > waited

    def is_overdue(self, one: TrackedRunner, now: float) -> bool:
        """Tell whether a runner has passed a deadline for its start and was not inspected since."""
        found = one.pending_reason()
        end = now if found is None else self._end_of_stage(one, found)
        return end < now and (one.inspected_at is None or one.inspected_at <= end)

    def _end_of_stage(self, one: TrackedRunner, found: PendingReason) -> float:
        return one.stage_since + self._deadlines.of(found.stage)

    def _status(self, one: TrackedRunner, now: float) -> RunnerStatus:
        if not one.may_run:
            return (one.termination or Termination()).status(one.run)
        ended = next((pod.service_end for pod in one.live if pod.service_end and not pod.deleting), None)
        if ended is not None and not one.delete_requested:
            return RunnerStatus(one.run, alive=True, reason=s.ERROR, message=ended)
        if one.delivering_since:
            return _delivering(one, now - max(one.delivering_since))
        found = one.pending_reason()
        if found is None or one.delete_accepted:
            warning = next((pod.warning for pod in one.live if pod.warning), None)
            advice = f"{warning}; if it will not come back: air-executor confirm-gone {one.slot.job}"
            return RunnerStatus(one.run, alive=True, message=advice if warning else None)
        # Given up only after an inspection of the live objects that began after the deadline.
        if one.inspected_at is not None and one.inspected_at > self._end_of_stage(one, found):
            return RunnerStatus(
                one.run, alive=True, reason=s.START_FAILED, permanent=found.permanent, message=found.message
            )
        late = found.stage is Stage.SERVICES or now - one.stage_since > INSPECT_AFTER
        return RunnerStatus(one.run, alive=True, message=found.message if late else None)


def _delivering(one: TrackedRunner, seconds: float) -> RunnerStatus:
    if seconds > DELIVER_WITHIN and not one.delete_requested:
        text = f"what its command left was not delivered within {DELIVER_WITHIN / 3600:g} h"
        return RunnerStatus(one.run, alive=True, reason=s.EVICTED, message=text)
    words = "its command has ended, and what it left is being delivered"
    return RunnerStatus(one.run, alive=True, message=words if seconds > INSPECT_AFTER else None)
