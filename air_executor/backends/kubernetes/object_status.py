"""What the cluster's objects mean for a run: a Pod's end or why it is pending, a Job's failure, events.

Pure functions from the API's JSON to a few facts; `runner_cache` keeps these and nothing else of the objects.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Any

from air_executor.backends.container.platform_text import brief, parse_time
from air_executor.backends.container.refusals import RefusedError
from air_executor.backends.container.termination import Termination
from air_executor.backends.kubernetes.pod_transport import CARRIER, FETCH
from air_executor.backends.kubernetes.service_status import ServiceStatus, read_services
from air_executor.model import state as s

CONTAINER = "task"
"""Name of the runner's container in its Pod; an operator's template may add others."""
UNRECORDED, LOST_CLAIM = 96, 97
"""Exit codes of a runner that could not record its run, and of one whose run another one has claimed already.

The second says nothing about the run."""
TASK = "air-executor/task"
"""Annotation with the id of the task."""
QUEUE = "kueue.x-k8s.io/queue-name"
"""Label of a Job that Kueue admits."""
JOB_UID = ("batch.kubernetes.io/controller-uid", "controller-uid")
"""Labels of a Pod that name its Job, on new and on old servers."""

_IMPOSSIBLE_IMAGE = frozenset({"InvalidImageName", "ErrImageNeverPull"})
_NO_IMAGE = frozenset({"ErrImagePull", "ImagePullBackOff", "RegistryUnavailable", "ImageInspectError"})
_UNDER_WAY = frozenset({"ContainerCreating", "PodInitializing", ""})
_EVICTED = frozenset({"Evicted", "Preempting", "Preempted", "Shutdown", "NodeShutdown", "Terminated", "NodeLost"})
_CANNOT_START = frozenset({"StartError", "ContainerCannotRun"})
_NO_SHELL = re.compile(r"executable file not found|no such file or directory", re.IGNORECASE)
_NEEDS_SHELL = (
    "image {} has no shell `sh` in the PATH, which starts the runner; set AIR_KUBERNETES_COPY_RUNNER=true"
    " (chart: copyRunner), or select nodes of one architecture (kubernetes.io/arch) in the pod template"
)
_NOT_ALLOWED = re.compile(
    r"violates PodSecurity|denied (the )?request|(maximum|minimum) \w+ usage per|max limit to request ratio per"
    r"|is forbidden: .*(not allowed|must be)"
    r"|failed quota: .*must specify",
    re.IGNORECASE,
)


_QUOTED = re.compile(r'"([A-Za-z_][A-Za-z0-9_]*)=(?:[^"\\]|\\.)*(?:"|\Z)', re.DOTALL)
"""A variable as the container runtime quotes it, perhaps cut."""


class Stage(Enum):
    """How far the start of a Pod has come. Each stage has a deadline of its own."""

    SUSPENDED = "suspended"
    """Somebody, such as a queue of the cluster, has not yet let it start. No deadline."""
    SCHEDULE = "schedule"
    PULL = "pull"
    START = "start"
    FETCH = "fetch"
    """Its run's files are being fetched. No deadline: the carrier has one, and a large workspace takes long."""
    SERVICES = "services"
    """The services of its task are not ready. No deadline: each has its own, which its node keeps."""
    NEVER = "never"
    """It needs something that can never be provided."""


@dataclass(frozen=True, slots=True)
class PendingReason:
    """Why a runner has not started."""

    stage: Stage
    message: str
    permanent: bool = False
    """Another attempt would fail the same way."""


@dataclass(slots=True)
class Pod:
    """What matters of one Pod."""

    uid: str
    name: str
    job_uid: str
    deleting: bool
    node: str | None = None
    orphaned: bool = False
    """No Job owns it any more, so that nobody else deletes it."""
    termination: Termination | None = None
    """None while the runner in it lives, or may yet."""
    over: bool = False
    """All its containers have ended."""
    pending_reason: PendingReason | None = None
    """None once it runs."""
    services: tuple[ServiceStatus, ...] = ()
    """The services of its task."""
    started: frozenset[str] = frozenset()
    """Names of those that can be used, or could before."""
    task: str = ""
    """Id of the task."""
    warning: str | None = None
    """For the user, though it is alive."""
    delivering: bool = False
    """Its command has ended, and what it left is on its way to the manager."""
    delivering_since: float | None = None
    """Since when that is known, in monotonic seconds."""
    created_at: float | None = None
    """Unix seconds by the cluster's clock, which knows whole ones only."""
    scheduled_at: float | None = None
    """When it got a node, by the same clock; None while it has none."""
    image: str | None = None
    """The image of the task, with its digest, once its node has it."""

    @property
    def service_end(self) -> str | None:
        """How a service has ended; None if none has."""
        ends = (one.end(was_started=one.name in self.started) for one in self.services)
        return next((end for end in ends if end is not None), None)

    @property
    def where(self) -> str:
        """The Pod and its node, in words."""
        return f"pod {self.name} on node {self.node}" if self.node else f"pod {self.name}"


def read_pod(found: Mapping[str, Any]) -> Pod:
    """Return what matters of a Pod."""
    meta, status = found["metadata"], found.get("status") or {}
    labels = meta.get("labels") or {}
    owners = [owner["uid"] for owner in meta.get("ownerReferences") or () if owner.get("controller")]
    owner = owners[0] if owners else next((labels[key] for key in JOB_UID if key in labels), "")
    pod = Pod(meta["uid"], meta["name"], owner, deleting="deletionTimestamp" in meta, orphaned=not owners)
    pod.node = (found.get("spec") or {}).get("nodeName")
    names = _secret_names(found)
    pod.services = tuple(read_services(found, lambda text: hide_values(text, names)))
    pod.started = frozenset(one.name for one in pod.services if one.started)
    pod.task = (meta.get("annotations") or {}).get(TASK, "")
    status = {**status, "message": hide_values(status.get("message"), names)}
    container = _container(status)
    state = {kind: _without_values(one, names) for kind, one in (container.get("state") or {}).items()}
    terminated = state.get("terminated")
    pod.image = container.get("imageID") or None
    pod.created_at = parse_time(meta.get("creationTimestamp"))
    scheduled = _condition(status, "PodScheduled")
    if scheduled.get("status") == "True" or status.get("startTime") or terminated is not None or "running" in state:
        times = parse_time(scheduled.get("lastTransitionTime")), parse_time(status.get("startTime")), pod.created_at
        pod.scheduled_at = next((at for at in times if at is not None), 0.0)
    pod.over = status.get("phase") in {"Succeeded", "Failed"} or _all_have_ended(found)
    if terminated is not None and _is_delivering(status, terminated):
        pod.delivering = True
    elif terminated is not None or pod.over:
        pod.termination = _termination(pod.where, _image(found), status, terminated or {})
    elif pod.service_end is not None:
        pass  # what it waits for will not come
    elif (late := next((one for one in pod.services if not one.started), None)) and pod.scheduled_at is not None:
        pod.pending_reason = _pending_service(status, late)
    elif "running" not in state:
        fetching = _fetching(status)
        pod.pending_reason = fetching or _pending_reason(status, container, state.get("waiting") or {})
    elif _is_silent(status):
        since = _condition(status, "Ready").get("lastTransitionTime")
        pod.warning = f"node {pod.node} does not answer since {since}"
    return pod


def _all_have_ended(pod: Mapping[str, Any]) -> bool:
    """Tell whether all containers of a Pod have ended. From Kubernetes 1.27 on its phase says so a moment later."""
    spec, status = pod.get("spec") or {}, pod.get("status") or {}
    if any(one.get("restartPolicy") == "Always" for one in spec.get("initContainers") or ()):
        return False  # sidecars, which the node ends after the others
    found = status.get("containerStatuses") or ()
    ended = [one for one in found if "terminated" in (one.get("state") or {})]
    return len(ended) == len(found) == len(spec.get("containers") or ()) > 0


def _pending_service(status: Mapping[str, Any], late: ServiceStatus) -> PendingReason:
    if late.runs:
        return PendingReason(Stage.SERVICES, late.pending_text)
    return _pending_reason(status, late.status, late.waiting)


def _secret_names(pod: Mapping[str, Any]) -> list[str]:
    """Return the variables of a Pod whose values the node takes from a Secret."""
    spec = pod.get("spec") or {}
    containers = (*(spec.get("containers") or ()), *(spec.get("initContainers") or ()))
    variables = [one for container in containers for one in container.get("env") or ()]
    return [one["name"] for one in variables if "secretKeyRef" in (one.get("valueFrom") or {})]


def _without_values(state: Mapping[str, Any], names: Iterable[str]) -> Mapping[str, Any]:
    return {**state, "message": hide_values(state["message"], names)} if "message" in state else state


def hide_values(text: str | None, names: Iterable[str] = ()) -> str:
    """Return a message without the values of variables that it quotes: we cannot know which of them are secrets.

    Nor what they are: the manager may not read them. Of variables with these `names` it goes, quoted or not.
    """
    text = _QUOTED.sub(r'"\1=***"', text or "")
    for name in names:
        text = re.sub(rf"\b{re.escape(name)}=(?!\*\*\*\").*", f"{name}=***", text, flags=re.DOTALL)
    return text


def _container(status: Mapping[str, Any], name: str = CONTAINER) -> Mapping[str, Any]:
    found: Iterable[Mapping[str, Any]] = (
        *(status.get("initContainerStatuses") or ()),
        *(status.get("containerStatuses") or ()),
    )
    return next((one for one in found if one.get("name") == name), {})


def _image(pod: Mapping[str, Any]) -> str:
    """Return the name of the task's image, as it was given."""
    containers: Iterable[Mapping[str, Any]] = (pod.get("spec") or {}).get("containers") or ()
    return next((str(one.get("image")) for one in containers if one.get("name") == CONTAINER), "")


def _end_of(status: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    """Return how a container has ended; empty if it has not, or if there is none."""
    found: Mapping[str, Any] = (_container(status, name).get("state") or {}).get("terminated") or {}
    return found


def _is_delivering(status: Mapping[str, Any], terminated: Mapping[str, Any]) -> bool:
    """Tell whether a carrier still delivers what the runner, which has ended so, has left."""
    carries = "running" in (_container(status, CARRIER).get("state") or {})
    left_nothing = terminated.get("reason") in _CANNOT_START or terminated.get("exitCode") == UNRECORDED
    return carries and not left_nothing


def _fetching(status: Mapping[str, Any]) -> PendingReason | None:
    """Return why its run's files are not there yet; None if they are, or come from a volume."""
    found = _container(status, FETCH)
    state = found.get("state") or {}
    if "running" in state:
        return PendingReason(Stage.FETCH, "its run's files are being fetched")
    return _pending_reason(status, found, state["waiting"]) if "waiting" in state else None


def _condition(status: Mapping[str, Any], kind: str) -> Mapping[str, Any]:
    found: Iterable[Mapping[str, Any]] = status.get("conditions") or ()
    return next((one for one in found if one.get("type") == kind), {})


def _is_silent(status: Mapping[str, Any]) -> bool:
    """Tell whether the Pod's node no longer reports: only then a Pod isn't ready though its containers are."""
    if status.get("reason") == "NodeLost":
        return True
    ready, containers = _condition(status, "Ready"), _condition(status, "ContainersReady")
    return ready.get("status") == "False" and containers.get("status") == "True"


def _termination(  # noqa: PLR0911 - one return for each way to end
    where: str, image: str, status: Mapping[str, Any], terminated: Mapping[str, Any]
) -> Termination:
    code, why = terminated.get("exitCode"), terminated.get("reason") or ""
    at = parse_time(terminated.get("finishedAt"))
    pod_reason, message = status.get("reason") or "", brief(status.get("message") or terminated.get("message") or "")
    disruption = _condition(status, "DisruptionTarget")
    if disruption.get("status") == "True":
        text = brief(disruption.get("message") or "")
        return Termination(code, s.EVICTED, f"{where} was evicted ({disruption.get('reason')}): {text}", finished_at=at)
    if pod_reason in _EVICTED:
        return Termination(code, s.EVICTED, f"{where} was evicted ({pod_reason}): {message}", finished_at=at)
    if pod_reason == "DeadlineExceeded":
        return Termination(code, s.TIMEOUT, f"{where} was stopped: {message}", finished_at=at)
    if why == "OOMKilled":
        text = f"{where} ended with {code}; the kernel killed one of its processes: out of memory"
        return Termination(code, s.OOM, text, finished_at=at)
    if why in _CANNOT_START:
        none = _NO_SHELL.search(message) is not None
        text = _NEEDS_SHELL.format(image) if none else f"{where} could not be started"
        return Termination(None, s.START_FAILED, f"{text} ({message})", permanent=none, finished_at=at)
    if not terminated and pod_reason:  # the node rejected it: OutOfcpu, UnexpectedAdmissionError, NodeAffinity …
        return Termination(None, s.START_FAILED, f"{where} was refused by its node ({pod_reason}): {message}")
    if code is None and (fetched := _end_of(status, FETCH).get("exitCode")):
        if fetched == LOST_CLAIM:
            return Termination(LOST_CLAIM, None, f"{where}: {_said(status, FETCH)}", finished_at=at)
        text = f"{where} could not fetch what its run needs: {_said(status, FETCH)}"
        return Termination(None, s.START_FAILED, text, finished_at=at)
    if _end_of(status, CARRIER).get("exitCode"):
        text = f"{where} could not deliver what its run left: {_said(status, CARRIER)}"
        return Termination(None, None, text, finished_at=at)
    shown = "failed" if code is None else f"ended with {code}"
    return Termination(code, None, f"{where} {shown}" + (f": {message}" if message else ""), finished_at=at)


def _said(status: Mapping[str, Any], name: str) -> str:
    """Return what a container said last, or how it ended."""
    end = _end_of(status, name)
    lines = str(end.get("message") or "").strip().splitlines()
    return brief(lines[-1]) if lines else f"{end.get('reason')} ({end.get('exitCode')})"


def _pending_reason(
    status: Mapping[str, Any], container: Mapping[str, Any], waiting: Mapping[str, Any]
) -> PendingReason:
    why, message = waiting.get("reason") or "", brief(waiting.get("message") or "")
    image = container.get("image")
    if why in _IMPOSSIBLE_IMAGE:
        return PendingReason(Stage.NEVER, f"image {image} is unavailable ({why}): {message}", permanent=True)
    if why in _NO_IMAGE:
        return PendingReason(Stage.PULL, f"image {image} cannot be pulled ({why}): {message}", permanent=True)
    if why not in _UNDER_WAY:
        return PendingReason(Stage.START, f"its container cannot be created ({why}): {message}")
    scheduled = _condition(status, "PodScheduled")
    if scheduled.get("status") == "True" or status.get("startTime"):
        return PendingReason(Stage.PULL, "its container is being created")
    message = brief(scheduled.get("message") or "")
    return PendingReason(Stage.SCHEDULE, f"no node takes it: {message}" if message else "it is not scheduled yet")


def is_queued(job: Mapping[str, Any]) -> bool:
    """Tell whether a queue of Kueue has suspended a Job."""
    return bool((job.get("spec") or {}).get("suspend")) and QUEUE in (job["metadata"].get("labels") or {})


def read_suspension(job: Mapping[str, Any], queue_words: str) -> str | None:
    """Return why the server makes no Pods for a Job, if it is suspended: by a queue such as Kueue's, or by hand.

    `queue_words`, if not empty, say more than the Job does.
    """
    if not (job.get("spec") or {}).get("suspend"):
        return None
    queue = (job["metadata"].get("labels") or {}).get(QUEUE)
    said = queue_words or brief(_condition(job.get("status") or {}, "Suspended").get("message") or "")
    return f"its Job is suspended{f' in queue {queue}' if queue else ''}" + (f": {said}" if said else "")


def read_workloads(workloads: Iterable[Mapping[str, Any]]) -> str:
    """Return why Kueue has not admitted a Job, in the words of its Workload; empty if it has said nothing.

    A Workload first gets quota and then passes its queue's checks. Source: Kueue's `Workload` conditions.
    """
    for workload in workloads:
        status = workload.get("status") or {}
        for kind in ("QuotaReserved", "Admitted"):
            found = _condition(status, kind)
            if found.get("status") == "False":
                return brief(found.get("message") or found.get("reason") or "")
    return ""


def read_failure(job: Mapping[str, Any]) -> Termination | None:
    """Return how a Job without Pods has ended; None if it has not."""
    status = job.get("status") or {}
    failed, complete = _condition(status, "Failed"), _condition(status, "Complete")
    if failed.get("status") == "True":
        why, message = failed.get("reason"), brief(failed.get("message") or "")
        reason = s.TIMEOUT if why == "DeadlineExceeded" else None
        return Termination(reason=reason, message=f"job {job['metadata']['name']} failed ({why}): {message}")
    if complete.get("status") == "True":
        return Termination(message=f"job {job['metadata']['name']} is complete, and its pod is gone")
    return None


def read_events(events: Iterable[Mapping[str, Any]]) -> PendingReason | None:
    """Return what the latest warning says about a Job or a Pod that does not start; None if there is none.

    What failed (`FailedMount`, `FailedCreatePodSandBox`) comes before what the cluster only remarks on, such as
    `MissingClusterDNS`, however often it repeats that.
    """
    warnings = [one for one in events if one.get("type") == "Warning" and one.get("reason") != "FailedScheduling"]
    if not warnings:
        return None
    last = max(warnings, key=_weight)
    why, message = last.get("reason"), brief(hide_values(last.get("message")))
    text = f"{why}: {message}"
    if "Multi-Attach" in message:
        text += "; use a ReadWriteMany claim, or keep all pods on one node"
    if why == "FailedCreate" and _NOT_ALLOWED.search(message):
        return PendingReason(Stage.NEVER, f"the cluster does not admit its pod: {text}", permanent=True)
    return PendingReason(Stage.SCHEDULE, f"its pod cannot be created: {text}" if why == "FailedCreate" else text)


def _weight(event: Mapping[str, Any]) -> tuple[bool, str]:
    failed = str(event.get("reason") or "").startswith("Failed")
    return failed, str(event.get("lastTimestamp") or event.get("eventTime") or "")


def is_permanent(error: RefusedError) -> bool:
    """Tell whether a Job that the server refused would be refused again as it stands."""
    return error.permanent or _NOT_ALLOWED.search(str(error)) is not None
