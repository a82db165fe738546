"""The list of jobs: its order, its search, its sentences, and what it costs with ten thousand jobs."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from air_executor.client import Client
from air_executor.core.submission import initial_state, parse_job
from air_executor.model.state import JobState
from air_executor.store.job_summary import JobSummary, summary_of
from air_executor.store.presence import Presence
from air_executor.web import job_reasons, views
from air_executor.web.job_reasons import JobReasons
from tests.web.conftest import ServedProject, gated
from tests.web.ended_jobs import ended_job, put

NOBODY = Presence(running=False, record={})


def job_in(phase: str, *, age: float = 10.0, ended: float | None = None, **fields: object) -> JobState:
    """Return a job in a phase, submitted so many seconds ago, and ended so many."""
    now = round(time.time(), 3)
    spec = parse_job({"id": f"{phase}-{age:.0f}", "tasks": [{"id": "only", "command": "true"}], **fields})
    state = initial_state(spec, uid=f"{int(age):08x}{len(phase):04x}", now=now - age)
    state.phase = phase  # type: ignore[assignment]
    state.finished_at = None if ended is None else now - ended
    return state


def test_the_order() -> None:
    """What runs, what failed within a day, what waits, and the rest, each the newest first."""
    day = 86_400.0
    jobs = [
        job_in("succeeded", age=1, ended=1),
        job_in("failed", age=3 * day, ended=2 * day),
        job_in("queued", age=2),
        job_in("failed", age=2 * day, ended=10),
        job_in("running", age=5 * day),
        job_in("cancelled", age=50, ended=40),
        job_in("running", age=4 * day),
    ]
    found = sorted(map(summary_of, jobs), key=lambda job: views.place_of(job, time.time()))
    assert [job.phase for job in found] == [
        "running", "running", "cancelled", "failed", "queued", "succeeded", "failed",
    ]  # fmt: skip
    assert found[0].submitted_at > found[1].submitted_at


def test_the_search(tmp_path: Path) -> None:
    """Id, name, pool, labels and the first command, as the file has them and as memory has them."""
    client = Client(tmp_path / ".air-executor")
    job = parse_job(
        {
            "id": "Census",
            "labels": {"team": "Data"},
            "pool": "gpu",
            "tasks": [{"id": "a", "command": ["python", 'Count "it".py']}, {"command": "other"}],
        }
    )
    state = client.submit(job)
    for found in (client.jobs.summary("Census"), summary_of(state)):
        for text in ("census", "team=data", "gpu", 'count "it".py'):
            assert found.has(text), text
        assert not found.has("other")
    asking = client.submit(parse_job({"id": "asks", "tasks": [{"id": "a", "approve": "Go?"}]}))
    assert (client.jobs.summary("asks").command, summary_of(asking).command) == ("", "")


def test_sentences_are_read_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A sentence costs its job's whole state: only what is shown, only when changed, never too much."""
    client = Client(tmp_path / ".air-executor")
    put(client, ended_job("failed", 60))
    client.submit(parse_job({"id": "waits", "tasks": [{"id": "only", "command": "true"}]}))
    shown = [one for one in client.summaries() if isinstance(one, JobSummary)]
    reasons = JobReasons(client, None)
    loaded: list[str] = []
    load = client.jobs.load

    def noted(job: str) -> JobState:
        loaded.append(job)
        return load(job)

    monkeypatch.setattr(client.jobs, "load", noted)
    monkeypatch.setattr(job_reasons, "FRESH", 600.0)
    monkeypatch.setattr(job_reasons, "AT_ONCE", 600.0)
    found = reasons.of(shown, (one.facts for one in shown), NOBODY, time.time())
    assert "task t50: exit code 3" in found["failed"]
    assert "no manager is running" in found["waits"]
    reasons.of(shown, (one.facts for one in shown), NOBODY, time.time())
    assert loaded == ["failed", "waits"]
    reasons = JobReasons(client, None)
    monkeypatch.setattr(job_reasons, "AT_ONCE", 0.0)
    assert reasons.of(shown, (), NOBODY, time.time()) == {"failed": "error", "waits": ""}


def test_the_list_says_what_matters(served: ServedProject, look: Callable[..., Page]) -> None:
    """Who manages with how many runners, tasks by outcome, and why; a search finds by command; nothing is markup."""
    served.submit("busy", [gated("open"), {"id": "next", "after": ["open"], "command": "true"}])
    served.submit("bad", [{"id": "one", "command": "echo '<I>'; exit 3"}, {"id": "two", "command": "true"}])
    served.ended("bad")
    page = look(served.url)
    expect(page.locator("#manager")).to_contain_text("manager up · local · 1/4 runners · v")
    rows = page.locator("table.jobs tbody tr")
    expect(rows.nth(0)).to_contain_text("Running 1 of 2 tasks, 1 queued")
    expect(rows.nth(1)).to_contain_text("1 ✗")
    expect(rows.nth(1)).to_contain_text("task one: exit code 3")
    page.get_by_role("searchbox").fill("ECHO '<i>")
    expect(rows).to_have_count(1)
    expect(rows).to_contain_text("bad")


def test_an_empty_list_offers_a_job(served: ServedProject, look: Callable[..., Page]) -> None:
    """By a command to copy, and by a button."""
    token = served.token("submitter")
    page = look(served.url)
    page.locator("summary", has_text="Command line").click()
    expect(page.locator("#commands")).to_contain_text("air-executor submit hello -- echo hello")
    page.get_by_role("button", name="Run a sample job").click()
    page.get_by_role("dialog", name="Sign in").get_by_label("Token").fill(token)
    page.get_by_role("dialog", name="Sign in").get_by_role("button", name="Sign in").click()
    expect(page.get_by_role("row", name="hello")).to_contain_text("succeeded")
