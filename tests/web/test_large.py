"""Many tasks and many jobs: only what is looked at is in the page, and all of it can be reached."""

from __future__ import annotations

from collections.abc import Callable

from playwright.sync_api import Page, expect

from tests.web.conftest import ServedProject
from tests.web.ended_jobs import ended_job, put


def test_five_thousand_tasks(served: ServedProject, look: Callable[..., Page]) -> None:
    """A large job opens with its first rows, has the height of all, and brings the last ones when scrolled to."""
    put(served.client, ended_job("large", 5000))
    page = look(f"{served.url}/jobs/large?all")
    rows = page.locator("table.grid tbody tr")
    expect(rows).to_have_count(500)
    assert page.evaluate("document.documentElement.scrollHeight") > 5000 * 28
    expect(page.get_by_role("navigation", name="Pages")).to_be_hidden()
    page.evaluate("scrollTo(0, document.documentElement.scrollHeight)")
    expect(page.locator("#t-t5000")).to_be_in_viewport()
    expect(page.locator("#t-t5000")).to_contain_text("exit code 3")
    assert rows.count() < 1000
    page.evaluate("scrollTo(0, document.documentElement.scrollHeight / 2)")
    expect(page.locator("#t-t2500")).to_be_visible()
    page.get_by_role("searchbox").fill("t4999")
    expect(rows).to_have_count(1)
    page.get_by_role("searchbox").fill("")
    expect(page.locator("#t-t1")).to_be_visible()


def test_many_jobs_have_pages(served: ServedProject, look: Callable[..., Page]) -> None:
    """A list of more than a hundred jobs has pages, newest first, which keep what was searched for."""
    for number in range(250):
        job = ended_job(f"job-{number}", 1, uid=f"{number:08x}")
        job.submitted_at += number
        put(served.client, job)
    page = look(f"{served.url}/?q=job")
    rows = page.locator("table.jobs tbody tr")
    expect(rows).to_have_count(100)
    expect(rows.first).to_contain_text("job-249")
    page.get_by_role("link", name="Next").click()
    page.get_by_role("link", name="Next").click()
    expect(rows).to_have_count(50)
    expect(rows.last).to_contain_text("job-0")
    assert "q=job" in page.url
    expect(page.get_by_text("page 3 of 3")).to_be_visible()


def test_an_idle_page_asks_for_nothing(served: ServedProject, look: Callable[..., Page]) -> None:
    """While nothing happens, the open stream is all there is between page and server."""
    put(served.client, ended_job("still", 10))
    page = look("about:blank")
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.goto(f"{served.url}/jobs/still")
    page.wait_for_timeout(4000)
    names = [url.rpartition("/")[2] for url in asked]
    assert names[0] == "still"
    assert sorted(names[1:]) == [
        "actions.js",
        "colors.css",
        "events",
        "graph.css",
        "icon.svg",
        "log.css",
        "log.js",
        "page.css",
        "page.js",
    ]
