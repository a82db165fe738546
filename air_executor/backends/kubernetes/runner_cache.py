"""What is known of the runners of one state directory: from watches, from lists, and from our own requests.

A runner is a Job and the Pods that it made, by the Job's uid; it stays for as long as the Job has the name or anything
in its Pods may run. Pure: no requests, no threads, no clock; `backend.py` calls it under its lock.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from air_executor.backends.base import RunnerStatus
from air_executor.backends.kubernetes.objects import LOST_CLAIM, PendingReason, Pod, PodTermination, Stage, read_pod
from air_executor.model import state as s
from air_executor.model.names import Slot

LABEL = "air-executor"
INSTANCE, JOB, UID, RUN, SLOT, EPOCH = (
    f"{LABEL}/{name}" for name in ("instance", "job", "uid", "run", "slot", "epoch")
)

ASK_AFTER = 5.0
"""Seconds after which a runner is looked at that has no Pod; then when it has waited twice as long, and so on."""
ASK_OF_POD_AFTER = 15.0
"""The same where a Pod gets its image and its container, which takes a node that is busy some seconds anyway."""


@dataclass(frozen=True, slots=True)
class Deadlines:
    """How long a Pod may take, in seconds, to find a node, to get its image, and to start after an error."""

    schedule: float
    pull: float
    start: float

    def of(self, stage: Stage) -> float:
        """Return how long a stage may last."""
        return {Stage.SCHEDULE: self.schedule, Stage.PULL: self.pull, Stage.START: self.start}.get(stage, 0.0)


@dataclass(slots=True, eq=False)
class TrackedRunner:
    """One Job and its Pods. Times are monotonic seconds."""

    uid: str
    slot: Slot
    run: str
    seen: float
    name: str = ""
    present: bool = False
    """Its Job exists."""
    deleting: bool = False
    pods: dict[str, Pod] = field(default_factory=dict)
    ending: PodTermination | None = None
    """How it ended, as far as that is known."""
    expected: bool = False
    """That it is deleted is, or may be, our own doing."""
    told: bool = False
    """The server has accepted a request for its end."""
    released: bool = False
    """The last one: its name need not wait for anything."""
    busy: bool = False
    """A request about it is under way."""
    stage: Stage | None = None
    stage_since: float = 0.0
    asked: float | None = None
    """When it was last looked at."""
    words: PendingReason | None = None
    """What that look found."""

    @property
    def live(self) -> list[Pod]:
        """Return the Pods in which something runs, or may yet."""
        return [pod for pod in self.pods.values() if pod.ending is None]

    @property
    def may_run(self) -> bool:
        """Something of it runs, or may yet: nothing is known of its end."""
        return bool(self.live) or (self.present and self.ending is None)

    def hindrance(self) -> PendingReason | None:
        """Return what keeps it from starting; None if nothing does."""
        live = self.live
        if any(pod.hindrance is None for pod in live):
            return None
        found = live[0].hindrance if live else PendingReason(Stage.SCHEDULE, "it has no pod yet")
        if self.words is None:
            return found
        if not live:
            return self.words
        bare = found is not None and found.stage is Stage.PULL and not found.permanent
        return replace(self.words, stage=Stage.PULL) if bare else found

    def judge(self, pod: Pod) -> None:
        """Take in how one of its Pods ended; what the first one says counts, unless another had the claim."""
        found = pod.ending or PodTermination(message=f"pod {pod.name} vanished")
        if found.reason is None and pod.deleting and not self.expected and found.exit_code != 0:
            text = f"pod {pod.name} was deleted, and not by us"
            found = replace(found, reason=s.EVICTED, message=text)
        if self.ending is None or self.ending.exit_code == LOST_CLAIM:
            self.ending = found


class RunnerCache:
    """All runners of one state directory."""

    def __init__(self, deadlines: Deadlines) -> None:
        self._deadlines = deadlines
        self._by_uid: dict[str, TrackedRunner] = {}
        self._known_before: dict[str, frozenset[str]] = {}

    def by_slot(self) -> Mapping[Slot, TrackedRunner]:
        """Return the runners by slot; where one has not quite gone as the next one comes, the living one, the older."""
        found: dict[Slot, TrackedRunner] = {}
        for one in self._by_uid.values():
            other = found.get(one.slot)
            if other is None or (not one.may_run, one.seen) < (not other.may_run, other.seen):
                found[one.slot] = one
        return found

    def in_slot(self, slot: Slot) -> TrackedRunner | None:
        """Return the runner of a slot."""
        return self.by_slot().get(slot)

    def forget(self, one: TrackedRunner) -> None:
        """Drop a runner of which nothing is left."""
        self._by_uid.pop(one.uid, None)

    # Jobs

    def put_job(self, found: Mapping[str, Any], now: float) -> TrackedRunner | None:
        """Take in a Job as it is; return its runner, or None if its labels are not ours."""
        meta = found["metadata"]
        one = self._runner(meta["uid"], meta.get("labels") or {}, now)
        if one is None:
            return None
        deleting = "deletionTimestamp" in meta
        one.expected = one.expected or (deleting and not one.present)
        one.name, one.present, one.deleting = meta["name"], True, deleting
        return one

    def drop_job(self, uid: str) -> None:
        """Take note that a Job is gone. What ended without our doing stays until it was booked and is removed."""
        if (one := self._by_uid.get(uid)) is not None:
            one.present = False
            if not one.may_run and one.expected:
                self.forget(one)

    # Pods

    def put_pod(self, found: Mapping[str, Any], now: float) -> None:
        """Take in a Pod as it is."""
        pod = read_pod(found)
        known = self._by_uid.get(pod.job_uid)
        if known is None and pod.ending is not None:
            return  # left over from a Job that is gone, or the Job's own list or event comes and asks for it
        one = known or self._runner(pod.job_uid, pod.labels, now)
        if one is None:
            return
        before = one.pods.get(pod.uid)
        one.pods[pod.uid] = pod
        stage = pod.hindrance.stage if pod.hindrance else None
        if stage is not one.stage:
            one.stage, one.stage_since = stage, now
            one.words = one.asked = None
        if pod.ending is not None and (before is None or before.ending is None):
            one.judge(pod)
            self.drop_job_of(one)

    def drop_pod(self, uid: str, job_uid: str) -> None:
        """Take note that a Pod is gone."""
        one = self._by_uid.get(job_uid)
        if one is None or (pod := one.pods.pop(uid, None)) is None:
            return
        if pod.ending is None:
            pod.deleting = True
            one.judge(pod)
        self.drop_job_of(one)

    def drop_job_of(self, one: TrackedRunner) -> None:
        """Drop a runner of which nothing is left and nothing is to be said."""
        if not one.present:
            self.drop_job(one.uid)

    def _runner(self, uid: str, labels: Mapping[str, str], now: float) -> TrackedRunner | None:
        if (known := self._by_uid.get(uid)) is not None:
            return known
        job, run, number = labels.get(JOB), labels.get(RUN), labels.get(SLOT, "")
        if not uid or not job or not run or not number.isdecimal():
            return None
        one = self._by_uid[uid] = TrackedRunner(uid, Slot(job, int(number)), run, now, stage_since=now)
        return one

    # Lists

    def list_begins(self, what: str) -> None:
        """Remember what is known now: only what was known before can be missing from a list."""
        runners = self._by_uid.values()
        known = (
            [one.uid for one in runners if one.present] if what == "jobs" else [p for one in runners for p in one.pods]
        )
        self._known_before[what] = frozenset(known)

    def jobs_came(self, listed: Iterable[Mapping[str, Any]], now: float) -> None:
        """Take in a list of Jobs."""
        seen = set()
        for found in listed:
            seen.add(found["metadata"]["uid"])
            self.put_job(found, now)
        for uid in self._known_before["jobs"] - seen:
            self.drop_job(uid)

    def pods_came(self, listed: Iterable[Mapping[str, Any]], now: float) -> None:
        """Take in a list of Pods."""
        seen = set()
        for found in listed:
            seen.add(found["metadata"]["uid"])
            self.put_pod(found, now)
        missing = self._known_before["pods"] - seen
        for one in list(self._by_uid.values()):
            for uid in missing & one.pods.keys():
                self.drop_pod(uid, one.uid)

    # What it amounts to

    def statuses(self, now: float) -> dict[Slot, RunnerStatus]:
        """Return every runner as the manager sees it."""
        return {slot: self._status(one, now) for slot, one in self.by_slot().items()}

    def doubtful(self, now: float) -> list[TrackedRunner]:
        """Return the runners to look at: what is known of them may be old, or does not say why they do not start."""
        return [one for one in self._by_uid.values() if self._is_doubtful(one, now)]

    def _is_doubtful(self, one: TrackedRunner, now: float) -> bool:
        if one.busy or one.told or not one.present or not one.may_run or (found := one.hindrance()) is None:
            return False
        if self.is_due(one, now):
            return True
        if one.live and found.stage is not Stage.PULL:
            return False  # the Pod itself says why
        first = ASK_OF_POD_AFTER if one.live else ASK_AFTER
        waited = first if one.asked is None else 2 * (one.asked - one.stage_since)
        return now - one.stage_since > waited

    def is_due(self, one: TrackedRunner, now: float) -> bool:
        """Tell whether a runner's time to start is up and nobody has looked since: now it is given up, or has begun."""
        found = one.hindrance()
        end = now if found is None else self._end_of_stage(one, found)
        return end < now and (one.asked is None or one.asked <= end)

    def _end_of_stage(self, one: TrackedRunner, found: PendingReason) -> float:
        return one.stage_since + self._deadlines.of(found.stage)

    def _status(self, one: TrackedRunner, now: float) -> RunnerStatus:
        if not one.may_run:
            end = one.ending or PodTermination()
            return RunnerStatus(
                one.run,
                alive=False,
                finished=True,
                exit_code=end.exit_code,
                reason=end.reason,
                permanent=end.permanent,
                message=end.message,
                finished_at=end.finished_at,
            )
        found = one.hindrance()
        if found is None or one.told:
            remark = next((pod.remark for pod in one.live if pod.remark), None)
            advice = f"{remark}; if it is gone for good: air-executor confirm-gone {one.slot.job}"
            return RunnerStatus(one.run, alive=True, message=advice if remark else None)
        # Given up only after a look at the live objects that was begun when the time was up.
        if one.asked is not None and one.asked > self._end_of_stage(one, found):
            return RunnerStatus(
                one.run, alive=True, reason=s.START_FAILED, permanent=found.permanent, message=found.message
            )
        late = now - one.stage_since > ASK_AFTER
        return RunnerStatus(one.run, alive=True, message=found.message if late else None)
