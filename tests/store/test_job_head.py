"""The head of an ended job's `state.json` tells the truth, or says that the file must be read whole."""

from __future__ import annotations

import json
import re
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from air_executor.errors import CorruptFileError
from air_executor.model.state import FORMAT, SUCCEEDED, JobState
from air_executor.store import codec, job_head
from air_executor.store.job_head import JobHead
from air_executor.store.jobs import Jobs
from air_executor.store.layout import Layout
from tests.store.conftest import state
from tests.store.strategies import jobs


def head_of(text: bytes, job: str, longest: int = job_head.LONGEST) -> JobHead | None:
    """Return what a file with this text says."""
    return job_head.parse_ended(text[:longest], text[-len(job_head.TAIL) :], job)


def ended(tasks: int = 3) -> JobState:
    """Return an ended job. Its tasks have not ended, but nobody looks at them."""
    job = state("done", tasks=tasks)
    job.phase, job.epoch = SUCCEEDED, 7
    return job


@given(jobs())
@settings(max_examples=40)
def test_what_a_manager_writes_is_recognised(job: JobState) -> None:
    """Every ended job with tasks is told by its head; every other one must be read whole."""
    found = head_of(codec.dump_job(job), job.id)
    if job.ended and job.tasks:
        assert found == JobHead(job.uid, job.phase, job.epoch)
    elif not job.ended:
        assert found is None


@given(jobs(), st.data())
@settings(max_examples=60)
def test_what_is_recognised_is_what_the_whole_says(job: JobState, data: st.DataObject) -> None:
    """However lines are cut, repeated or swapped: what the head says is what a reader of the whole finds, or None."""
    lines = codec.dump_job(job).splitlines(keepends=True)
    at = data.draw(st.integers(0, len(lines) - 1))
    other = data.draw(st.integers(0, len(lines) - 1))
    change = data.draw(st.sampled_from(["drop", "repeat", "swap", "cut"]))
    if change == "drop":
        del lines[at]
    elif change == "repeat":
        lines.insert(other, lines[at])
    elif change == "swap":
        lines[at], lines[other] = lines[other], lines[at]
    else:
        lines[at] = lines[at][: len(lines[at]) // 2]
    text = b"".join(lines)
    found = head_of(text, job.id)
    if found is None:
        return
    try:
        whole = codec.load_job(text, "state.json")
    except CorruptFileError as error:
        # What no head says, or what is harmless in one.
        assert re.search("task|spec|usage|is not JSON|twice", str(error))  # noqa: PT017 - the other branch compares
    else:
        assert found == JobHead(whole.uid, whole.phase, whole.epoch)


@pytest.mark.parametrize(
    "change",
    [
        lambda text: text.replace(b'"id": "done"', b'"id": "other"', 1),
        lambda text: text.replace(b'"phase": "succeeded"', b'"phase": "queued"', 1),
        lambda text: text.replace(b'"epoch": 7', b'"epoch": "7"', 1),
        lambda text: text.replace(b'"epoch": 7', b'"epoch": true', 1),
        lambda text: text.replace(b'"epoch": 7', b'"epoch": -7', 1),
        lambda text: text.replace(b'"epoch": 7,\n', b'"epoch": 7,\n  "phase": "queued",\n', 1),
        lambda text: text.replace(b'"epoch": 7', b'"epoch": ' + b"9" * 5000, 1),
        lambda text: text.replace(b'"spec": {', b'"spec": ' + b"[" * 10_000, 1),
        lambda text: text.replace(f'"format": {FORMAT}'.encode(), b'"format": 999', 1),
        lambda text: text.replace(b"    {", b"<<<<<<< HEAD\n    {", 1),
        lambda text: text[:-2],
        lambda text: text[: len(text) // 2],
        lambda text: json.dumps(json.loads(text)).encode(),
        lambda text: json.dumps(json.loads(text), indent=2).encode() + b"\n",
        lambda _: b"",
        lambda _: b"{",
    ],
)
def test_what_was_touched_is_read_whole(change: Callable[[bytes], bytes]) -> None:
    """An editor's formatting, a merge, a crash of the disk, another job's file, a later version: not for us."""
    text = codec.dump_job(ended())
    assert head_of(text, "done") == JobHead("00000001", "succeeded", 7)
    assert head_of(change(text), "done") is None


def test_a_large_file_is_read_at_its_ends(layout: Layout) -> None:
    """Ten thousand tasks cost no more than one; an end that is missing is noticed."""
    store = Jobs(layout)
    job = ended(10_000)
    store.create(job)
    assert len(codec.dump_job(job)) > 10 * job_head.LONGEST
    assert store.head_of_ended("done") == JobHead("00000001", "succeeded", 7)
    with open(layout.state("done"), "r+b") as file:
        file.truncate(500_000)
    assert store.head_of_ended("done") is None


def test_a_head_that_does_not_fit_is_read_whole(layout: Layout) -> None:
    """A job whose own fields take more than we read for a head."""
    job = ended()
    job.extra["key_of_later_versions"] = "x" * job_head.LONGEST
    Jobs(layout).create(job)
    assert Jobs(layout).head_of_ended("done") is None


def test_no_file(layout: Layout) -> None:
    """A job that does not exist has no head."""
    assert Jobs(layout).head_of_ended("nobody") is None
