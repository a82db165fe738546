"""What the cluster's objects mean, on objects as servers send them: also what no server at hand can be made to do.

Those of newer servers (`DisruptionTarget`) and of machines that vanish are written after the documentation of the API.
"""

from __future__ import annotations

from typing import Any

import pytest

from air_executor.backends.container.refusals import RefusedError
from air_executor.backends.kubernetes.object_status import Stage, is_permanent, read_events, read_failure, read_pod
from air_executor.backends.kubernetes.runner_cache import INSPECT_AFTER, Deadlines, RunnerCache
from air_executor.model.names import Slot
from tests.kubernetes.server import job, pod

JOB = job("census", "0badcafe-1")
SLOT = Slot("census", 0)
READY = {"type": "Ready", "status": "False", "lastTransitionTime": "2026-01-31T12:00:00Z"}


def scheduled(at: str = "2026-01-31T12:01:30Z") -> list[dict[str, Any]]:
    """Return the condition of a Pod that got its node then."""
    return [{"type": "PodScheduled", "status": "True", "lastTransitionTime": at}]


def terminated(code: int, reason: str = "Error", message: str = "") -> dict[str, Any]:
    """Return the state of a container that has ended."""
    end = {"exitCode": code, "reason": reason, "message": message, "finishedAt": "2026-01-31T12:00:05Z"}
    return {"terminated": end}


def waiting(reason: str, message: str = "words") -> dict[str, Any]:
    """Return the state of a container that does not start."""
    return {"waiting": {"reason": reason, "message": message}}


@pytest.mark.parametrize(
    ("found", "reason", "permanent", "words"),
    [
        (pod(JOB, "Succeeded", state=terminated(0, "Completed")), None, False, "ended with 0"),
        (pod(JOB, "Failed", state=terminated(3)), None, False, "ended with 3"),
        (pod(JOB, "Running", state=terminated(3)), None, False, "ended with 3"),
        (pod(JOB, "Failed", state=terminated(137, "OOMKilled")), "oom", False, "out of memory"),
        (
            pod(JOB, "Failed", reason="Evicted", message="The node was low on resource: memory."),
            "evicted",
            False,
            "low on resource",
        ),
        (pod(JOB, "Failed", state=terminated(143), reason="Preempting"), "evicted", False, "Preempting"),
        (
            pod(JOB, "Failed", state=terminated(143), reason="Terminated", message="node shutdown"),
            "evicted",
            False,
            "shut",
        ),
        (
            pod(
                JOB,
                "Failed",
                state=terminated(143),
                conditions=[{"type": "DisruptionTarget", "status": "True", "reason": "EvictionByEvictionAPI"}],
            ),
            "evicted",
            False,
            "EvictionByEvictionAPI",
        ),
        (pod(JOB, "Failed", reason="OutOfcpu", message="Node didn't have enough"), "start-failed", False, "OutOfcpu"),
        (pod(JOB, "Failed", reason="DeadlineExceeded", message="Pod was active"), "timeout", False, "active"),
        (
            pod(JOB, "Failed", state=terminated(128, "StartError", 'exec: "sh": executable file not found in $PATH')),
            "start-failed",
            True,
            "image team/task:1 has no shell",
        ),
        (
            pod(JOB, "Failed", state=terminated(128, "StartError", "cgroup: device or resource busy")),
            "start-failed",
            False,
            "resource busy",
        ),
    ],
)
def test_how_a_pod_ended(found: dict[str, Any], reason: str | None, words: str, *, permanent: bool) -> None:
    """The platform's verdict, if it has one, and words that say more."""
    termination = read_pod(found).termination
    assert termination is not None
    assert (termination.reason, termination.permanent) == (reason, permanent)
    assert words in str(termination.message)


@pytest.mark.parametrize(
    ("found", "stage", "permanent"),
    [
        (pod(JOB, "Pending"), Stage.SCHEDULE, False),
        (pod(JOB, "Pending", conditions=[{"type": "PodScheduled", "status": "True"}]), Stage.PULL, False),
        (pod(JOB, "Pending", state=waiting("ContainerCreating"), startTime="x"), Stage.PULL, False),
        (pod(JOB, "Pending", state=waiting("ErrImagePull")), Stage.PULL, True),
        (pod(JOB, "Pending", state=waiting("ImagePullBackOff")), Stage.PULL, True),
        (pod(JOB, "Pending", state=waiting("InvalidImageName")), Stage.NEVER, True),
        (pod(JOB, "Pending", state=waiting("ErrImageNeverPull")), Stage.NEVER, True),
        (pod(JOB, "Pending", state=waiting("CreateContainerConfigError")), Stage.START, False),
        (pod(JOB, "Pending", state=waiting("RunContainerError")), Stage.START, False),
    ],
)
def test_what_keeps_a_pod_from_starting(found: dict[str, Any], stage: Stage, *, permanent: bool) -> None:
    """Each stage of a start has its own deadline."""
    pending = read_pod(found).pending_reason
    assert pending is not None
    assert (pending.stage, pending.permanent) == (stage, permanent)


def test_why_a_job_has_no_pod() -> None:
    """A quota may have room later; what an admission refuses it refuses again; old trouble with a node is none now."""

    def warning(reason: str, message: str, at: str = "2026-01-31T12:00:00Z") -> dict[str, Any]:
        return {"type": "Warning", "reason": reason, "message": message, "lastTimestamp": at}

    quota = warning("FailedCreate", 'pods "x" is forbidden: exceeded quota: none, requested: pods=1')
    level = warning("FailedCreate", 'pods "x" is forbidden: violates PodSecurity "restricted:latest"', "2026-02-01")
    assert read_events([]) is None
    assert read_events([warning("FailedScheduling", "0/1 nodes"), {"type": "Normal", "reason": "Pulled"}]) is None
    first, last = read_events([quota]), read_events([level, quota])
    assert first is not None
    assert last is not None
    assert (first.stage, first.permanent) == (Stage.SCHEDULE, False)
    assert (last.stage, last.permanent) == (Stage.NEVER, True)
    sandbox = warning("FailedCreatePodSandBox", "no network")
    remark = read_events([sandbox, warning("MissingClusterDNS", "kubelet does not have ClusterDNS", "2026-03-01")])
    assert remark is not None
    assert remark.message == "FailedCreatePodSandBox: no network", "what failed comes before a later remark"
    second = read_events([warning("FailedAttachVolume", 'Multi-Attach error for volume "v" Volume is already used')])
    assert second is not None
    assert "use a ReadWriteMany claim" in second.message


def test_a_job_without_pods_that_has_failed() -> None:
    """Its own deadline is a timeout; anything else is no verdict."""

    def failed(reason: str) -> dict[str, Any]:
        return JOB | {"status": {"conditions": [{"type": "Failed", "status": "True", "reason": reason}]}}

    late, other = read_failure(failed("DeadlineExceeded")), read_failure(failed("BackoffLimitExceeded"))
    assert (late and late.reason, other and other.reason) == ("timeout", None)
    assert read_failure(JOB | {"status": {"active": 1}}) is None


@pytest.mark.parametrize(
    ("words", "status", "permanent"),
    [
        ('Job.batch "x" is invalid', 422, True),
        ('jobs.batch "x" is forbidden: exceeded quota', 403, False),
        ('jobs.batch is forbidden: User "u" cannot create resource', 403, False),
        ('admission webhook "w" denied the request: no', 400, True),
        ('admission webhook "w" denied the request: no', 403, True),
        ("jobs \"x\" is forbidden: ValidatingAdmissionPolicy 'p' with binding 'b' denied request: no", 403, True),
        ('pods "x" is forbidden: failed quota: q: must specify limits.cpu for: task', 403, True),
        ('pods "x" is forbidden: memory max limit to request ratio per Container is 2, but it is 4', 403, True),
        ('namespaces "here" not found', 404, False),
    ],
)
def test_which_refusals_are_permanent(words: str, status: int, *, permanent: bool) -> None:
    """What is wrong in itself is not tried again; what the operator or time may change is."""
    assert is_permanent(RefusedError(words, status)) == permanent


@pytest.fixture
def cache() -> RunnerCache:
    """A cluster that has seen our Job at time 0; deadlines are 10, 20 and 30 s."""
    made = RunnerCache(Deadlines(10, 20, 30))
    made.put_job(JOB, 0.0)
    return made


def test_a_node_that_does_not_answer_keeps_the_slot(cache: RunnerCache) -> None:
    """Its pod is alive until somebody knows better, and the message says since when and what an operator can do."""
    lost = pod(JOB, conditions=[READY, {"type": "ContainersReady", "status": "True"}])
    lost["metadata"]["deletionTimestamp"] = "x"
    cache.put_pod(lost, 1.0)
    status = cache.statuses(1e6)[SLOT]
    assert (status.alive, status.reason) == (True, None)
    assert "node-1 does not answer since 2026-01-31T12:00:00Z" in str(status.message)
    assert "confirm-gone census" in str(status.message)


def test_a_deadline_is_only_believed_after_a_look(cache: RunnerCache) -> None:
    """A cache may lag: the live objects are asked for when the time is up, and once more before it counts."""
    cache.put_pod(pod(JOB, "Pending", state=waiting("ErrImagePull")), 1.0)
    assert not cache.to_inspect(1.0 + INSPECT_AFTER)
    [one] = cache.to_inspect(21.5)
    assert cache.statuses(21.5)[SLOT].reason is None
    one.inspected_at = 21.5
    assert cache.statuses(21.5)[SLOT].reason == "start-failed"
    cache.put_pod(pod(JOB), 22.0)
    assert cache.statuses(22.0)[SLOT].reason is None


def test_looks_become_rarer(cache: RunnerCache) -> None:
    """A Job that gets no pod is looked at when it has waited twice as long each time, not in every cycle."""
    looks = 0
    for second in range(1, 10):
        for one in cache.to_inspect(float(second)):
            looks, one.inspected_at = looks + 1, float(second)
    assert looks == 1


def test_a_lost_claim_decides_nothing(cache: RunnerCache) -> None:
    """Of two pods of one Job the one that ran says how it ended, whichever is seen first."""
    second = pod(JOB, "Failed", state=terminated(97))
    second["metadata"]["uid"] = "second"
    cache.put_pod(second, 1.0)
    cache.put_pod(pod(JOB, "Failed", state=terminated(3)), 2.0)
    assert cache.statuses(3.0)[SLOT].exit_code == 3
    cache.put_pod(pod(JOB), 4.0)
    assert cache.statuses(4.0)[SLOT].alive


def test_a_pod_that_we_had_deleted_is_not_evicted(cache: RunnerCache) -> None:
    """Only what somebody else deletes is the platform's fault."""
    one = cache.in_slot(SLOT)
    assert one is not None
    one.delete_requested = True
    cache.put_pod(pod(JOB, "Failed", state=terminated(143), metadata={"deletionTimestamp": "x"}), 1.0)
    assert cache.statuses(2.0)[SLOT].reason is None


def test_a_pod_that_others_had_deleted_before_us(cache: RunnerCache) -> None:
    """Its outcome is there before its end is seen, so that we remove it too: who was first is not forgotten."""
    one = cache.in_slot(SLOT)
    assert one is not None
    cache.put_pod(pod(JOB, metadata={"deletionTimestamp": "x"}), 1.0)
    one.delete_requested = True
    cache.put_pod(pod(JOB, "Failed", state=terminated(143), metadata={"deletionTimestamp": "x"}), 2.0)
    found = cache.statuses(3.0)[SLOT]
    assert (found.reason, found.message) == (
        "evicted",
        "pod air-census-abcde on node node-1 was deleted, and not by us",
    )


@pytest.mark.parametrize("seen_running", [0, 1])
def test_an_orphaned_pod_that_has_ended_is_ours_to_delete(cache: RunnerCache, seen_running: int) -> None:
    """No Job owns it, so no garbage collector takes it; also if it ended while no manager looked."""
    orphan = {"ownerReferences": [], "labels": {**JOB["metadata"]["labels"], "controller-uid": JOB["metadata"]["uid"]}}
    if seen_running:
        cache.put_pod(pod(JOB, metadata=orphan), 1.0)
    cache.drop_job(JOB["metadata"]["uid"])
    cache.put_pod(pod(JOB, "Succeeded", state=terminated(0), metadata=orphan), 2.0)
    one = cache.in_slot(SLOT)
    assert one is not None
    assert (cache.statuses(3.0)[SLOT].finished, len(one.unowned)) == (True, 1)
    one.delete_requested = True
    cache.drop_pod(f"pod-{JOB['metadata']['uid']}", JOB["metadata"]["uid"])
    assert cache.statuses(4.0) == {}


def suspended(words: str = "Job suspended", *, by: bool = True) -> dict[str, Any]:
    """Return the Job as a queue of the cluster keeps it, as servers from 1.21 on show it."""
    labels = {**JOB["metadata"]["labels"], "kueue.x-k8s.io/queue-name": "team-a"}
    condition = {"type": "Suspended", "status": "True", "reason": "JobSuspended", "message": words}
    return {
        "metadata": {**JOB["metadata"], "labels": labels},
        "spec": {"suspend": by},
        "status": {"conditions": [condition] if by else []},
    }


def test_a_suspended_job_is_a_wait_without_a_deadline(cache: RunnerCache) -> None:
    """However long the queue is; once it is resumed, the deadline for a node begins."""
    cache.put_job(suspended(), 1.0)
    waits = cache.in_slot(SLOT)
    assert waits is not None
    assert not cache.is_overdue(waits, 9e6)
    found = cache.statuses(9e6)[SLOT]
    assert (found.alive, found.reason, found.node_wait) == (True, None, None)
    assert found.message == "its Job is suspended in queue team-a: Job suspended"
    cache.put_job(suspended(by=False), 9e6)
    assert cache.statuses(9e6 + INSPECT_AFTER + 1)[SLOT].message == "it has no pod yet"
    one = cache.in_slot(SLOT)
    assert one is not None
    assert not cache.is_overdue(one, 9e6 + INSPECT_AFTER + 1)
    assert cache.is_overdue(one, 9e6 + 1e5)


def test_preemption_by_a_queue_is_the_platforms_fault(cache: RunnerCache) -> None:
    """It suspends the Job again, and the server deletes its pod."""
    cache.put_pod(pod(JOB), 1.0)
    cache.put_job(suspended("Preempted to accommodate a higher priority workload"), 2.0)
    cache.put_pod(pod(JOB, "Failed", state=terminated(143), metadata={"deletionTimestamp": "x"}), 3.0)
    found = cache.statuses(4.0)[SLOT]
    assert (found.alive, found.reason) == (False, "evicted")
    assert "Preempted to accommodate" in str(found.message)


def test_what_is_not_ours_is_not_listed(cache: RunnerCache) -> None:
    """Objects without our labels, and finished pods of Jobs that are gone, take no slot."""
    cache.put_job({"metadata": {"name": "x", "uid": "x", "labels": {}}}, 1.0)
    cache.put_pod(pod(job("gone", "0badcafe-9"), "Failed", state=terminated(1)), 1.0)
    assert set(cache.statuses(2.0)) == {SLOT}


def test_a_live_pod_of_a_job_that_is_gone_keeps_its_slot(cache: RunnerCache) -> None:
    """Its name is free, but something of the run still runs."""
    cache.put_pod(pod(JOB), 1.0)
    cache.drop_job(JOB["metadata"]["uid"])
    assert cache.statuses(2.0)[SLOT].alive
    cache.put_pod(pod(job("other", "0badcafe-2")), 3.0)
    assert cache.statuses(4.0)[Slot("other", 0)].alive


@pytest.mark.parametrize(
    ("fields", "wait"),
    [
        ({"phase": "Pending"}, None),
        ({"phase": "Pending", "conditions": [{"type": "PodScheduled", "status": "False"}]}, None),
        ({"phase": "Pending", "conditions": scheduled()}, 89.0),
        ({"phase": "Running", "conditions": scheduled()}, 89.0),
        ({"phase": "Failed", "state": terminated(1), "conditions": scheduled()}, 89.0),
        ({"phase": "Running", "conditions": scheduled("2026-01-31T12:00:01Z")}, 0.0),
        ({"phase": "Running", "conditions": scheduled("2026-01-31T11:59:00Z")}, 0.0),
        ({"phase": "Running", "startTime": "2026-01-31T12:00:11Z"}, 10.0),
        ({"phase": "Running"}, 4.0),
    ],
)
def test_the_wait_for_a_node(fields: dict[str, Any], wait: float | None) -> None:
    """From the creation of its Job until a node took its pod; the second by which both may be rounded is not waited."""
    cache = RunnerCache(Deadlines(300.0, 300.0, 300.0))
    created = {"creationTimestamp": "2026-01-31T12:00:00Z"}
    cache.put_job(job("census", "0badcafe-1", **created), 0.0)
    cache.put_pod(pod(JOB, metadata={"creationTimestamp": "2026-01-31T12:00:05Z"}, **fields), 0.0)
    assert cache.statuses(1.0)[SLOT].node_wait == wait


NUL = (
    "failed to create containerd task: OCI runtime create failed: environment variable value can't contain "
    'null(\\x00): "TOKEN=first\\x00 hunter2 \\"word\\"": unknown'
)


@pytest.mark.parametrize("text", [NUL, NUL.replace('"TOKEN', "TOKEN"), NUL[:-20], NUL.replace('"', '\\"')])
def test_no_message_has_the_value_of_a_secret(text: str) -> None:
    """The manager may not read it, so whatever a node quotes of a variable goes, however it is cut or escaped."""
    secret = {"name": "TOKEN", "valueFrom": {"secretKeyRef": {"name": "keys", "key": "TOKEN"}}}
    for state in (terminated(128, "StartError", text), waiting("RunContainerError", text)):
        found = pod(JOB, "Pending", state=state)
        found["spec"]["containers"] = [{"name": "task", "env": [{"name": "A", "value": "b"}, secret]}]
        seen = read_pod(found)
        message = str(seen.termination.message if seen.termination else seen.pending_reason)
        assert "hunter2" not in message
        assert "first" not in message
        assert "TOKEN=***" in message


def test_an_event_has_no_quoted_variable() -> None:
    """Events do not say which variables are secrets."""
    found = read_events([{"type": "Warning", "reason": "Failed", "message": f"Error: {NUL}"}])
    assert found is not None
    assert "hunter2" not in found.message
    assert "unknown" in found.message


SERVICE = {"name": "service-db", "startupProbe": {"failureThreshold": 30, "periodSeconds": 1}}
RUNNING = {"running": {"startedAt": "2026-01-31T12:00:00Z"}}
ENDED = {"startedAt": "2026-01-31T12:00:00Z", "finishedAt": "2026-01-31T12:00:05Z", "exitCode": 3}
LATE = {**ENDED, "finishedAt": "2026-01-31T12:00:31Z", "exitCode": 137}


def with_service(native: bool, state: dict[str, Any], **fields: Any) -> dict[str, Any]:  # noqa: ANN401, FBT001 - JSON
    """Return a Pod whose task waits for a service in this state, as a native sidecar or beside the task."""
    status = {"name": "service-db", "image": "pg", "state": state, "restartCount": 0, "started": False, **fields}
    found = pod(JOB, "Pending" if native else "Running", state=waiting("PodInitializing") if native else RUNNING)
    spec, status_of = found.setdefault("spec", {}), found["status"]
    status_of["conditions"] = scheduled()
    spec.setdefault("initContainers" if native else "containers", []).append(SERVICE)
    status_of.setdefault("initContainerStatuses" if native else "containerStatuses", []).append(status)
    return found


@pytest.mark.parametrize("native", [True, False])
def test_what_a_task_waits_for_is_its_service(native: bool) -> None:  # noqa: FBT001 - a parameter
    """Until it is ready, however the task's own container is; an image that nobody has is told, too."""
    found = read_pod(with_service(native, RUNNING)).pending_reason
    assert found is not None
    assert (found.stage, found.message) == (Stage.SERVICES, "waiting for service db to be ready (at most 30s)")
    found = read_pod(with_service(native, waiting("ImagePullBackOff"))).pending_reason
    assert found is not None
    assert (found.stage, found.permanent) == (Stage.PULL, True)
    ready = read_pod(with_service(native, RUNNING, started=True))
    assert (ready.service_end, ready.started) == (None, frozenset({"db"}))
    assert ready.pending_reason is None or ready.pending_reason.stage is not Stage.SERVICES


@pytest.mark.parametrize(
    ("state", "fields", "words"),
    [
        ({"terminated": ENDED}, {}, "ended with exit code 3"),
        ({"terminated": {**ENDED, "message": "loading\nno license\n"}}, {}, "ended with exit code 3: no license"),
        ({"terminated": {**ENDED, "reason": "OOMKilled"}}, {}, "exit code 3, out of memory"),
        ({"terminated": {**ENDED, "reason": "StartError", "message": "no pg"}}, {}, "could not be started: no pg"),
        ({"terminated": LATE}, {}, "was not ready within 30s"),
        (RUNNING, {"restartCount": 1, "lastState": {"terminated": ENDED}}, "ended with exit code 3"),
        (waiting("CrashLoopBackOff"), {"restartCount": 1, "lastState": {"terminated": LATE}}, "was not ready within"),
    ],
)
@pytest.mark.parametrize("native", [True, False])
def test_a_service_that_has_ended_ends_the_run(
    native: bool,  # noqa: FBT001 - a parameter
    state: dict[str, Any],
    fields: dict[str, Any],
    words: str,
) -> None:
    """Also one that its node has started again, as it does with native sidecars; not in a pod that is deleted."""
    cache = RunnerCache(Deadlines(10.0, 10.0, 10.0))
    cache.put_job(JOB, 0.0)
    found = with_service(native, state, **fields)
    cache.put_pod(found, 1.0)
    status = cache.statuses(2.0)[SLOT]
    assert status.alive
    assert status.reason == "error"
    assert words in (status.message or "")
    found["metadata"]["deletionTimestamp"] = "2026-01-31T12:00:40Z"
    cache.put_pod(found, 3.0)
    assert cache.statuses(4.0)[SLOT].reason is None


def test_a_service_that_was_ready_before_its_end() -> None:
    """A container that has ended is never `started`: what was known of it before tells both ends apart."""
    cache = RunnerCache(Deadlines(10.0, 10.0, 10.0))
    cache.put_job(JOB, 0.0)
    cache.put_pod(with_service(False, RUNNING, started=True), 1.0)  # noqa: FBT003 - a parameter
    assert cache.statuses(2.0)[SLOT].reason is None
    cache.put_pod(with_service(False, {"terminated": LATE}), 3.0)  # noqa: FBT003 - a parameter
    assert cache.statuses(4.0)[SLOT].message == "service db ended with exit code 137"
