"""What the cluster's objects mean for a run: a Pod's end or what keeps it from starting, a Job's failure, events.

Pure functions from the API's JSON to a few facts; `cluster.py` keeps these and nothing else of the objects.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Any

from air_executor.backends.container.platform_text import brief, instant
from air_executor.model import state as s

CONTAINER = "task"
"""The container of a Pod that is the runner; an operator's template may add others."""
LOST_CLAIM = 97
"""How a runner exits that another one has preceded: it says nothing about the run."""
JOB_UID = ("batch.kubernetes.io/controller-uid", "controller-uid")
"""Labels of a Pod that name its Job, on new servers and on old ones."""

_IMPOSSIBLE_IMAGE = frozenset({"InvalidImageName", "ErrImageNeverPull"})
_NO_IMAGE = frozenset({"ErrImagePull", "ImagePullBackOff", "RegistryUnavailable", "ImageInspectError"})
_UNDER_WAY = frozenset({"ContainerCreating", "PodInitializing", ""})
_EVICTED = frozenset({"Evicted", "Preempting", "Preempted", "Shutdown", "NodeShutdown", "Terminated", "NodeLost"})
_CANNOT_START = frozenset({"StartError", "ContainerCannotRun"})
_NO_SHELL = re.compile(r"executable file not found|no such file or directory", re.IGNORECASE)
_NOT_ALLOWED = re.compile(
    r"violates PodSecurity|denied (the )?request|(maximum|minimum) \w+ usage per|is forbidden: .*(not allowed|must be)"
    r"|failed quota: .*must specify",
    re.IGNORECASE,
)


class Stage(Enum):
    """How far a Pod has come that does not run yet; each has its own deadline."""

    SCHEDULE = "schedule"
    PULL = "pull"
    START = "start"
    NEVER = "never"
    """What it needs can never be had."""


@dataclass(frozen=True, slots=True)
class PendingReason:
    """What keeps a runner from starting."""

    stage: Stage
    message: str
    permanent: bool = False
    """Another try would meet the same."""


@dataclass(frozen=True, slots=True)
class PodTermination:
    """How a runner ended."""

    exit_code: int | None = None
    reason: str | None = None
    """The cluster's own verdict, where it has one."""
    message: str | None = None
    permanent: bool = False
    finished_at: float | None = None


@dataclass(slots=True)
class Pod:
    """What matters of one Pod."""

    uid: str
    name: str
    job_uid: str
    labels: Mapping[str, str]
    deleting: bool
    ending: PodTermination | None = None
    """None while the runner in it lives, or may yet."""
    hindrance: PendingReason | None = None
    """None once it runs."""
    remark: str | None = None
    """What people should know of it although it is alive."""


def read_pod(found: Mapping[str, Any]) -> Pod:
    """Return what matters of a Pod."""
    meta, status = found["metadata"], found.get("status") or {}
    labels = meta.get("labels") or {}
    owners = [owner["uid"] for owner in meta.get("ownerReferences") or () if owner.get("controller")]
    owner = owners[0] if owners else next((labels[key] for key in JOB_UID if key in labels), "")
    pod = Pod(meta["uid"], meta["name"], owner, labels, deleting="deletionTimestamp" in meta)
    container = _container(status)
    state = container.get("state") or {}
    terminated = state.get("terminated")
    if terminated is not None or status.get("phase") in {"Succeeded", "Failed"}:
        pod.ending = _ending(pod.name, status, terminated or {})
    elif "running" not in state:
        pod.hindrance = _hindrance(status, container, state.get("waiting") or {})
    elif _is_silent(status):
        node = (found.get("spec") or {}).get("nodeName")
        since = _condition(status, "Ready").get("lastTransitionTime")
        pod.remark = f"node {node} does not answer since {since}"
    return pod


def _container(status: Mapping[str, Any]) -> Mapping[str, Any]:
    found: Iterable[Mapping[str, Any]] = status.get("containerStatuses") or ()
    return next((one for one in found if one.get("name") == CONTAINER), {})


def _condition(status: Mapping[str, Any], kind: str) -> Mapping[str, Any]:
    found: Iterable[Mapping[str, Any]] = status.get("conditions") or ()
    return next((one for one in found if one.get("type") == kind), {})


def _is_silent(status: Mapping[str, Any]) -> bool:
    """Tell whether the Pod's node has stopped to report: then alone a Pod is not ready though its containers are."""
    if status.get("reason") == "NodeLost":
        return True
    ready, containers = _condition(status, "Ready"), _condition(status, "ContainersReady")
    return ready.get("status") == "False" and containers.get("status") == "True"


def _ending(name: str, status: Mapping[str, Any], terminated: Mapping[str, Any]) -> PodTermination:  # noqa: PLR0911
    code, why = terminated.get("exitCode"), terminated.get("reason") or ""
    at = instant(terminated.get("finishedAt"))
    why_pod, words = status.get("reason") or "", brief(status.get("message") or terminated.get("message") or "")
    disruption = _condition(status, "DisruptionTarget")
    if disruption.get("status") == "True":
        text = brief(disruption.get("message") or "")
        return PodTermination(
            code, s.EVICTED, f"pod {name} was evicted ({disruption.get('reason')}): {text}", finished_at=at
        )
    if why_pod in _EVICTED:
        return PodTermination(code, s.EVICTED, f"pod {name} was evicted ({why_pod}): {words}", finished_at=at)
    if why_pod == "DeadlineExceeded":
        return PodTermination(code, s.TIMEOUT, f"pod {name} was stopped: {words}", finished_at=at)
    if why == "OOMKilled":
        text = f"pod {name} ended with {code}; the kernel killed a process of it for want of memory"
        return PodTermination(code, s.OOM, text, finished_at=at)
    if why in _CANNOT_START:
        none = _NO_SHELL.search(words) is not None
        text = "the image has no shell `sh`, which the runner needs" if none else f"pod {name} could not be started"
        return PodTermination(None, s.START_FAILED, f"{text} ({words})", permanent=none, finished_at=at)
    if not terminated and why_pod:  # the node took it back: OutOfcpu, UnexpectedAdmissionError, NodeAffinity …
        return PodTermination(None, s.START_FAILED, f"pod {name} was refused by its node ({why_pod}): {words}")
    shown = "failed" if code is None else f"ended with {code}"
    return PodTermination(code, None, f"pod {name} {shown}" + (f": {words}" if words else ""), finished_at=at)


def _hindrance(status: Mapping[str, Any], container: Mapping[str, Any], waiting: Mapping[str, Any]) -> PendingReason:
    why, words = waiting.get("reason") or "", brief(waiting.get("message") or "")
    image = container.get("image")
    if why in _IMPOSSIBLE_IMAGE:
        return PendingReason(Stage.NEVER, f"image {image} cannot be had ({why}): {words}", permanent=True)
    if why in _NO_IMAGE:
        return PendingReason(Stage.PULL, f"image {image} cannot be pulled ({why}): {words}", permanent=True)
    if why not in _UNDER_WAY:
        return PendingReason(Stage.START, f"its container cannot be created ({why}): {words}")
    scheduled = _condition(status, "PodScheduled")
    if scheduled.get("status") == "True" or status.get("startTime"):
        return PendingReason(Stage.PULL, "its container is being created")
    words = brief(scheduled.get("message") or "")
    return PendingReason(Stage.SCHEDULE, f"no node takes it: {words}" if words else "it is not scheduled yet")


def read_failure(job: Mapping[str, Any]) -> PodTermination | None:
    """Return how a Job that has no Pod any more has ended; None if it has not."""
    status = job.get("status") or {}
    failed, complete = _condition(status, "Failed"), _condition(status, "Complete")
    if failed.get("status") == "True":
        why, words = failed.get("reason"), brief(failed.get("message") or "")
        reason = s.TIMEOUT if why == "DeadlineExceeded" else None
        return PodTermination(reason=reason, message=f"job {job['metadata']['name']} failed ({why}): {words}")
    if complete.get("status") == "True":
        return PodTermination(message=f"job {job['metadata']['name']} is complete, and its pod is gone")
    return None


def read_events(events: Iterable[Mapping[str, Any]]) -> PendingReason | None:
    """Return what the latest warning about a Job or a Pod that does not start says; None if there is none."""
    warnings = [one for one in events if one.get("type") == "Warning" and one.get("reason") != "FailedScheduling"]
    if not warnings:
        return None
    last = max(warnings, key=lambda event: str(event.get("lastTimestamp") or event.get("eventTime") or ""))
    why, words = last.get("reason"), brief(last.get("message") or "")
    text = f"{why}: {words}"
    if why == "FailedCreate" and _NOT_ALLOWED.search(words):
        return PendingReason(Stage.NEVER, f"the cluster does not admit its pod: {text}", permanent=True)
    return PendingReason(Stage.SCHEDULE, f"its pod cannot be made: {text}" if why == "FailedCreate" else text)


def is_final(words: str, status: int) -> bool:
    """Tell whether a Job that the server refused would be refused again as it stands."""
    if status in {400, 413, 422}:
        return True
    return _NOT_ALLOWED.search(words) is not None
