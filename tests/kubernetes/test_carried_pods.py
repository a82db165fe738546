"""What a pod without a volume means for its run: while its carrier fetches and delivers, and however that ends."""

from __future__ import annotations

import re
from typing import Any

import pytest

from air_executor.backends.kubernetes.end_notes import NOTE_AFTER, EndNotes
from air_executor.backends.kubernetes.manifests import DELIVER_WITHIN
from air_executor.backends.kubernetes.object_status import LOST_CLAIM, TASK, UNRECORDED, Stage, read_pod
from air_executor.backends.kubernetes.runner_cache import INSPECT_AFTER, Deadlines, RunnerCache
from air_executor.model.names import Slot
from tests.kubernetes.server import job, pod
from tests.kubernetes.test_objects import RUNNING, scheduled, terminated, waiting

JOB = job("census", "0badcafe-1")
DONE = terminated(0, "Completed")
WAITS = waiting("PodInitializing")
NOBODY = "air-carrier: OSError: the manager at air:8080 does not answer: ConnectionRefusedError: refused"


def carried(phase: str, *, fetch: Any = DONE, task: Any = None, carrier: Any = None, **fields: Any) -> dict[str, Any]:  # noqa: ANN401 - JSON
    """Return a pod with its containers in these states."""
    found = pod(JOB, phase, state=RUNNING if task is None else task, conditions=scheduled(), **fields)
    status = found["status"]
    status["initContainerStatuses"] = [{"name": "fetch", "image": "i", "state": fetch}]
    carrier = RUNNING if carrier is None else carrier
    status["containerStatuses"].append({"name": "carrier", "image": "i", "state": carrier})
    return found


@pytest.mark.parametrize("end", [DONE, terminated(3), terminated(137), terminated(137, "OOMKilled")])
def test_a_run_has_not_ended_while_it_delivers(end: dict[str, Any]) -> None:
    """Whatever became of the command, what it left is still to come."""
    found = read_pod(carried("Running", task=end))
    assert (found.termination, found.pending_reason, found.delivering) == (None, None, True)


@pytest.mark.parametrize(
    "end",
    [terminated(UNRECORDED), terminated(128, "StartError", "no such device"), terminated(128, "ContainerCannotRun")],
)
def test_what_never_began_leaves_nothing(end: dict[str, Any]) -> None:
    """Its carrier would wait for ever for a command to begin."""
    assert read_pod(carried("Running", task=end)).termination is not None


@pytest.mark.parametrize(
    ("found", "reason", "words"),
    [
        (carried("Failed", task=DONE, carrier=terminated(96, message=f"waiting\n{NOBODY}\n")), None, "does not answer"),
        (carried("Failed", task=DONE, carrier=terminated(97, message="refuses (409): has ended")), None, "has ended"),
        (carried("Failed", task=DONE, carrier=terminated(137, "OOMKilled")), None, "deliver.*OOMKilled"),
        (carried("Failed", task=terminated(3), carrier=terminated(96, message=NOBODY)), None, "does not answer"),
        (carried("Failed", task=terminated(137, "OOMKilled"), carrier=DONE), "oom", "out of memory"),
        (carried("Failed", fetch=terminated(96, message=NOBODY), task=WAITS, carrier=WAITS), "start-failed", "answer"),
        (carried("Failed", fetch=terminated(137, "OOMKilled"), task=WAITS, carrier=WAITS), "start-failed", "OOMKilled"),
        (carried("Failed", fetch=terminated(1, message=""), task=WAITS, carrier=WAITS), "start-failed", r"Error \(1\)"),
        (carried("Failed", task=DONE, carrier=DONE, reason="Evicted", message="disk"), "evicted", "disk"),
        (carried("Failed", task=DONE, carrier=terminated(137), reason="DeadlineExceeded"), "timeout", "stopped"),
    ],
)
def test_what_was_not_delivered_is_no_success(found: dict[str, Any], reason: str | None, words: str) -> None:
    """An exit code of 0 counts only where the carrier has done its part; the message says what went wrong."""
    termination = read_pod(found).termination
    assert termination is not None
    assert (termination.reason, termination.exit_code == 0) == (reason, found["status"].get("reason") is not None)
    assert re.search(words, str(termination.message)), termination.message


def test_a_claim_that_another_pod_has() -> None:
    """The pod that is refused says nothing about the run: the other one does."""
    cache = RunnerCache(Deadlines(1, 1, 1))
    cache.put_job(JOB, 0)
    refused = carried("Failed", fetch=terminated(LOST_CLAIM, message="it is another's"), task=WAITS, carrier=WAITS)
    refused["metadata"]["uid"] = "second"
    cache.put_pod(carried("Running"), 0)
    cache.put_pod(refused, 1)
    assert cache.statuses(2)[Slot("census", 0)].alive
    cache.put_pod(carried("Failed", task=terminated(3), carrier=DONE), 3)
    status = cache.statuses(4)[Slot("census", 0)]
    assert (status.alive, status.exit_code) == (False, 3)


@pytest.mark.parametrize(
    ("fetch", "stage", "words"),
    [
        (RUNNING, Stage.FETCH, "being fetched"),
        (waiting("ErrImagePull"), Stage.PULL, "cannot be pulled"),
        (waiting("InvalidImageName"), Stage.NEVER, "InvalidImageName"),
        (waiting("CreateContainerConfigError", 'secret "x" not found'), Stage.START, "not found"),
        (waiting("PodInitializing"), Stage.PULL, "being created"),
        (DONE, Stage.PULL, "being created"),
    ],
)
def test_why_a_run_has_not_begun(fetch: dict[str, Any], stage: Stage, words: str) -> None:
    """What keeps the first container from its work is told, not that the others wait for it."""
    found = read_pod(carried("Pending", fetch=fetch, task=WAITS, carrier=WAITS)).pending_reason
    assert found is not None
    assert found.stage is stage
    assert words in found.message


def test_a_long_fetch_is_no_failed_start() -> None:
    """It has no deadline here, and is not looked into again and again."""
    cache = RunnerCache(Deadlines(1, 1, 1))
    cache.put_job(JOB, 0)
    cache.put_pod(carried("Pending", fetch=RUNNING, task=WAITS, carrier=WAITS), 0)
    assert cache.to_inspect(10_000) == []
    status = cache.statuses(10_000)[Slot("census", 0)]
    assert (status.alive, status.reason) == (True, None)
    assert "being fetched" in str(status.message)


def test_who_is_told_that_a_command_has_ended() -> None:
    """Carriers that stay a while after it, once each."""
    cache, told = RunnerCache(Deadlines(1, 1, 1)), list[tuple[Slot, str, str]]()
    ended = EndNotes(lambda *run: told.append(run))
    cache.put_job({**JOB, "metadata": {**JOB["metadata"], "annotations": {TASK: "a"}}}, 0)
    for now, found in ((0, carried("Running")), (10, carried("Running", task=terminated(137)))):
        cache.put_pod(found, now)
        ended.look(cache.all(), now + NOTE_AFTER)
        assert told == []
    for now in (20, 30):
        ended.look(cache.all(), now)
    assert told == [(Slot("census", 0), "0badcafe-1", "a")]


def test_a_carrier_that_hangs_is_given_up() -> None:
    """A delivery takes its time, but a slot is not taken for ever."""
    cache = RunnerCache(Deadlines(1, 1, 1))
    cache.put_job(JOB, 0)
    cache.put_pod(carried("Running"), 0)

    def seen(now: float) -> tuple[bool, str | None, str | None]:
        status = cache.statuses(now)[Slot("census", 0)]
        return status.alive, status.reason, status.message

    assert seen(5) == (True, None, None)
    cache.put_pod(carried("Running", task=DONE), 10)
    cache.put_pod(carried("Running", task=DONE), 20)
    assert seen(10 + INSPECT_AFTER) == (True, None, None)
    assert seen(10 + DELIVER_WITHIN)[:2] == (True, None)
    assert "being delivered" in str(seen(10 + DELIVER_WITHIN)[2])
    alive, reason, message = seen(11 + DELIVER_WITHIN)
    assert (alive, reason) == (True, "evicted")
    assert "not delivered within 2 h" in str(message)
