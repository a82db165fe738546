"""The summary of a job that is read without its tasks says what the whole state says."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from air_executor.model.state import JobState
from air_executor.store import codec, job_summary
from tests.store.conftest import state
from tests.store.strategies import jobs


@given(jobs())
@settings(max_examples=60)
def test_a_summary_says_what_the_whole_state_says(job: JobState) -> None:
    """Every state that a manager writes is read without its tasks, and no field of the summary differs."""
    found = job_summary.parse(codec.dump_job(job), job.id)
    whole = job_summary.summary_of(job)
    if not job.tasks:
        assert found in (None, whole)
        return
    assert found == whole
    assert list(found.counts) == list(whole.counts)
    assert found.command == whole.command


def test_parameters_are_read_without_the_tasks() -> None:
    """In one line, cut: a list of ten thousand jobs is in memory."""
    job = state()
    job.spec.params.update({"DATE": "2026-01-31", "N": 3, "L": ["a", 1]})
    found = job_summary.parse(codec.dump_job(job), "j")
    assert found is not None
    assert found.params == 'DATE=2026-01-31 N=3 L=["a",1]'
    job.spec.params["LONG"] = "x" * 5000
    found = job_summary.parse(codec.dump_job(job), "j")
    assert found is not None
    assert found == job_summary.summary_of(job)
    assert len(found.params) == job_summary.LONGEST_PARAMS


@given(st.sampled_from([b"\xff", b"\xe2\x82", b"\xed\xa0\x80"]))
def test_bytes_that_are_no_text_are_read_whole(damage: bytes) -> None:
    """Wherever they are: `codec` says what is wrong."""
    text = codec.dump_job(state("j", tasks=3))
    for line in (b'"uid": "', b'"command":"'):
        assert job_summary.parse(text.replace(line, line + damage, 1), "j") is None
    assert job_summary.parse(text, "j") is not None
