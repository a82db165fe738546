"""The cache of the state directory: a new version whenever it may have changed, one read for all viewers."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from air_executor.client import Client
from air_executor.model.state import JobState
from air_executor.store.job_summary import JobSummary
from air_executor.web import state_cache as module
from air_executor.web.state_cache import StateCache
from tests.conftest import wait_for
from tests.web.ended_jobs import ended_job, put


@pytest.fixture
def client(tmp_path: Path) -> Client:
    """A state directory with one job, as its manager has it."""
    made = Client(tmp_path)
    put(made, ended_job("one", 3))
    Path(made.layout.epoch_tmp(1)).mkdir()
    return made


def _checkpoint(client: Client, state: JobState) -> None:
    client.jobs.checkpoint(state, client.layout.epoch_tmp(1))


def test_a_checkpoint_is_news(client: Client) -> None:
    """Each checkpoint makes a new version of the list and of its job, also one that no decision follows."""
    cache = StateCache(client)
    state = ended_job("one", 3)
    for phase in ("running", "failed", "queued"):
        before, of_one = cache.version_of_all(), cache.version_of("one")
        state.phase = phase
        _checkpoint(client, state)
        wait_for(lambda old=before: cache.version_of_all() != old, what="a new version")  # type: ignore[misc]
        assert cache.version_of("one") != of_one


def test_a_change_within_the_clocks_step_is_news(client: Client) -> None:
    """Two changes with the same time stamp make two versions: what was read in between is read again."""
    cache = StateCache(client)
    folder = client.layout.epoch_tmp(1)
    now = time.time()
    os.utime(folder, (now, now))
    at_once = cache.version_of_all()
    os.utime(folder, (now, now))
    wait_for(lambda: cache.version_of_all() != at_once, what="another version once it has settled")
    settled = cache.version_of_all()
    assert cache.version_of_all() == settled


def test_what_has_not_changed_is_not_read_again(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of many jobs only those are read whose state is another one; a deleted one goes."""
    monkeypatch.setattr(module, "REST", 0)
    for number in range(20):
        put(client, ended_job(f"job-{number}", 1, uid=f"{number:08x}"))
    cache = StateCache(client)
    assert len(cache.jobs()[0]) == 21
    loaded: list[str] = []
    read = client.jobs.summary

    def noted(name: str) -> JobSummary:
        loaded.append(name)
        return read(name)

    monkeypatch.setattr(client.jobs, "summary", noted)
    changed = ended_job("job-7", 1, uid=f"{7:08x}")
    changed.phase = "running"
    _checkpoint(client, changed)
    client.jobs.remove("job-9")
    lines = {line.id: line for line in cache.jobs()[0] if isinstance(line, JobSummary)}
    assert loaded == ["job-7"]
    assert lines["job-7"].phase == "running"
    assert "job-9" not in lines


def test_a_costly_reading_is_not_repeated_at_once(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    """After a reading the page rests in proportion, and meanwhile shows what it has, as the version that it is."""
    monkeypatch.setattr(module, "REST", 1e9)
    cache = StateCache(client)
    cache.job("one")
    _checkpoint(client, ended_job("one", 4))
    first, version = cache.job("one")
    assert len(first.tasks) == 4, "after the first reading it does not rest: that loads modules, too"
    _checkpoint(client, ended_job("one", 5))
    again, same = cache.job("one")
    assert again is first
    assert same == version != cache.version_of("one")


def test_who_changes_a_job_sees_it(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where reading takes long, an older state is shown for a while; not of a job that was just changed here."""
    monkeypatch.setattr(module, "REST", 10**9)
    cache = StateCache(client)
    state = ended_job("one", 3)
    for tasks in (2, 3):  # the first time needs no rest
        _checkpoint(client, ended_job("one", tasks))
        assert cache.job("one")[0].phase == "succeeded"
        cache.jobs()
    state.phase = "running"
    _checkpoint(client, state)
    assert cache.job("one")[0].phase == "succeeded", "it rests"
    cache.changed("one")
    assert cache.job("one")[0].phase == "running"
    state.phase = "failed"  # the effect itself comes later: a request is applied before its checkpoint is written
    _checkpoint(client, state)
    assert cache.job("one")[0].phase == "failed"
    (listed,) = cache.jobs()[0]
    assert isinstance(listed, JobSummary)
    assert listed.phase == "failed"
    monkeypatch.setattr(module, "NEWS_WITHIN", -1.0)
    cache.changed("one")
    state.phase = "queued"
    _checkpoint(client, state)
    assert cache.job("one")[0].phase == "failed", "it rests again"
