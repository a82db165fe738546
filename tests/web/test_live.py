"""The page in a real browser while real jobs run: what changes appears by itself, and nothing is loaded again."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Callable

import pytest
from playwright.sync_api import Browser, Page, Route, expect

from air_executor.core.job_cost import money
from tests.web.conftest import ServedProject, gated


def test_first_job_appears_by_itself(served: ServedProject, look: Callable[..., Page]) -> None:
    """Who looks at an empty list sees the first job come and end without loading anything again."""
    page = look(served.url)
    expect(page.get_by_text("No jobs yet.")).to_be_visible()
    page.evaluate("window.mark = 1")
    served.submit("hello", [{"command": "true"}])
    row = page.get_by_role("row", name="hello")
    expect(row).to_be_visible()
    expect(row).to_contain_text("succeeded")
    assert page.evaluate("window.mark") == 1


def test_job_from_start_to_end(served: ServedProject, look: Callable[..., Page]) -> None:
    """A job's page follows it: a task that queues others, their rows below it, bars, phases, outcomes and the bill."""
    queue = """printf '{"id": "child", "command": "echo 7 >$AIR_RESULT"}\\n' >>"$AIR_QUEUE\""""
    served.submit("grow", [gated("parent", after=queue), {"id": "last", "after": ["parent"], "command": "exit 3"}])
    page = look(f"{served.url}/jobs/grow")
    page.evaluate("window.mark = 1")
    expect(page.locator("#t-parent")).to_contain_text("running")
    expect(page.locator("#t-parent rect.open")).to_have_count(1)
    served.open_gate("parent.gate", "grow")
    expect(page.get_by_role("heading", level=1)).to_have_text(re.compile("grow\\s+failed"))
    child = page.get_by_role("row", name="child")
    expect(child).to_contain_text("queued by parent")
    expect(child).to_contain_text("7")
    assert page.locator("table.grid tbody tr").evaluate_all("rows => rows.map((row) => row.id)") == [
        "t-parent",
        "t-child",
        "t-last",
    ]
    expect(page.locator("#t-last")).to_contain_text("exit code 3")
    expect(page.locator("#t-last rect.work.bad")).to_have_count(1)
    expect(page.locator("#t-parent rect.work.ok")).to_have_count(1)
    expect(page.get_by_role("row", name="Always on")).to_be_visible()
    assert page.evaluate("window.mark") == 1
    assert page.title().startswith("grow failed")


def test_runs_of_a_task_stand_on_one_row(served: ServedProject, look: Callable[..., Page]) -> None:
    """A task that is run three times has three bars in its row, and its page tells of each run why it ended."""
    served.submit("again", [{"id": "flaky", "command": "echo out of luck; exit 9", "retries": 2}])
    served.ended("again")
    page = look(f"{served.url}/jobs/again")
    expect(page.locator("#t-flaky rect.work.bad")).to_have_count(3)
    page.locator("#t-flaky").get_by_role("link", name="flaky").click()
    expect(page.locator("table.runs tbody tr")).to_have_count(3)
    expect(page.locator("table.runs tbody tr").first).to_contain_text("exit code 9")
    page.get_by_role("link", name="1 of 3").click()
    expect(page.get_by_role("heading", name="Log of attempt 1 of 3")).to_be_visible()
    expect(page.get_by_role("log")).to_contain_text("out of luck")


def test_a_window_in_the_background_holds_no_stream(served: ServedProject, look: Callable[..., Page]) -> None:
    """A hidden window lets its stream go; in sight again, it catches up with what happened meanwhile."""
    page = look(served.url)
    expect(page.get_by_text("No jobs yet.")).to_be_visible()
    hide = """(hidden) => {
      Object.defineProperty(document, "hidden", { configurable: true, get: () => hidden });
      document.dispatchEvent(new Event("visibilitychange"));
    }"""
    with page.expect_event("requestfailed", lambda request: request.url.endswith("/events")):
        page.evaluate(hide, arg=True)
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    served.submit("meanwhile", [{"command": "true"}])
    served.ended("meanwhile")
    expect(page.get_by_text("No jobs yet.")).to_be_visible()
    assert asked == []
    page.evaluate(hide, arg=False)
    expect(page.get_by_role("row", name="meanwhile")).to_contain_text("succeeded")


def test_a_manager_that_goes_and_comes(served: ServedProject, browser: Browser) -> None:
    """A manager stops although a page is open; the page says that it is not live, until the next manager is there."""
    served.submit("one", [{"command": "true"}])
    served.ended("one")
    page = browser.new_page()
    page.goto(f"{served.url}/jobs/one")
    expect(page.get_by_role("heading", level=1)).to_contain_text("succeeded")
    served.terminate()
    expect(page.get_by_role("status")).to_contain_text("not live")
    served.start()
    expect(page.get_by_role("status")).to_have_text("")
    served.client.ask("add", "one", tasks=[{"id": "more", "command": "true"}])
    expect(page.locator("#t-more")).to_contain_text("succeeded")
    page.close()


def test_live_with_a_token(served: ServedProject, browser: Browser) -> None:
    """With a token the page asks for it as a password, and is live as ever."""
    served.terminate()
    served.start(AIR_TOKEN="sesame")  # noqa: S106 - of this test alone
    assert served.get("/").status == 401
    assert served.get("/jobs/one/events").status == 401
    page = browser.new_page(http_credentials={"username": "any", "password": "sesame"})
    page.goto(served.url)
    expect(page.get_by_text("No jobs yet.")).to_be_visible()
    served.submit("hello", [{"command": "true"}])
    expect(page.get_by_role("row", name="hello")).to_contain_text("succeeded")
    page.close()


def test_the_bill_is_that_of_the_report(served: ServedProject, look: Callable[..., Page]) -> None:
    """Runner-seconds, the pool's size and both costs on a job's page are the numbers that `report` gives for it."""
    served.terminate()
    served.start(AIR_COST_RUNNER_HOUR="36", AIR_COST_CURRENCY="EUR")
    served.submit("work", [{"id": f"t-{n}", "command": "sleep 0.2"} for n in range(4)], max_runners=2)
    served.ended("work")
    words = [sys.executable, "-m", "air_executor", "--state-dir", served.client.layout.root, "--json", "report", "work"]
    report = json.loads(subprocess.run(words, check=True, capture_output=True).stdout)
    pool = report["pool"]
    page = look(f"{served.url}/jobs/work")
    ours, theirs = (page.get_by_role("row", name=name).get_by_role("cell") for name in ("On demand", "Always on"))
    shown = [[cells.nth(n).inner_text() for n in (1, 5)] for cells in (ours, theirs)]
    assert shown == [
        [f"{pool['used_seconds']:.2f}", money(pool["used_cost"])],
        [f"{pool['runner_seconds']:.2f}", money(pool["cost"])],
    ]
    assert theirs.nth(0).inner_text() == str(pool["size"])
    assert report["total"]["cost"] == pytest.approx(pool["used_cost"])
    page.goto(served.url)
    expect(page.get_by_role("row", name="work")).to_contain_text(f"{money(report['total']['cost'])} EUR")


def test_a_page_that_is_behind_catches_up(served: ServedProject, look: Callable[..., Page]) -> None:
    """When the server answers with what it read before the last news, the page asks again, though no more news come."""
    served.submit("slow", [gated("only")])
    page = look(served.url)
    expect(page.get_by_role("row", name="slow")).to_contain_text("running")
    old = served.get("/").text
    held = [8]

    def answer(route: Route) -> None:
        if held[0] > 0:
            held[0] -= 1
            route.fulfill(status=200, content_type="text/html", body=old)
        else:
            route.continue_()

    page.route(f"{served.url}/", answer)
    served.open_gate("only.gate", "slow")
    served.ended("slow")
    expect(page.get_by_role("row", name="slow")).to_contain_text("succeeded")
    assert held == [0]
