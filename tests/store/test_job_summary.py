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


@given(st.sampled_from([b"\xff", b"\xe2\x82", b"\xed\xa0\x80"]))
def test_bytes_that_are_no_text_are_read_whole(damage: bytes) -> None:
    """Wherever they are: `codec` says what is wrong."""
    text = codec.dump_job(state("j", tasks=3))
    for line in (b'"uid": "', b'"command":"'):
        assert job_summary.parse(text.replace(line, line + damage, 1), "j") is None
    assert job_summary.parse(text, "j") is not None
