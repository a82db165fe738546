"""The graph in a real browser: it grows while the job runs, leads to tasks, and shows hostile names as text."""

from __future__ import annotations

import re
from collections.abc import Callable

from playwright.sync_api import Page, expect

from tests.web.conftest import ServedProject, gated
from tests.web.ended_jobs import ended_job, put


def test_grows_as_tasks_queue_tasks(served: ServedProject, look: Callable[..., Page]) -> None:
    """A task that is queued appears in the graph by itself; folding the graph away stays so."""
    queue = "air-queue --id child -- true"
    served.submit("grow", [gated("parent", after=queue), {"id": "last", "after": ["parent"], "command": "exit 3"}])
    page = look(f"{served.url}/jobs/grow")
    nodes = page.locator("svg.graph a.node")
    expect(nodes).to_have_count(2)
    expect(page.locator("#n-parent")).to_have_class("node running")
    served.open_gate("parent.gate", "grow")
    expect(nodes).to_have_count(3)
    expect(page.locator("#n-last")).to_have_class("node failed")
    expect(page.locator("svg.graph path.edge.queued")).to_have_count(1)
    expect(page.locator("svg.graph path.edge.after")).to_have_count(1)
    page.get_by_text("Graph", exact=True).click()
    expect(page.locator("svg.graph")).to_be_hidden()
    version = page.evaluate("document.body.dataset.version")
    served.client.ask("retry", "grow")
    page.wait_for_function("before => document.body.dataset.version !== before", arg=version)
    expect(page.locator("svg.graph")).to_be_hidden()
    page.get_by_text("Graph", exact=True).click()
    page.locator("#n-child").click()
    expect(page.get_by_role("heading", level=1)).to_contain_text("child")


def test_large_job(served: ServedProject, look: Callable[..., Page]) -> None:
    """Five thousand tasks are a node of two, with counts."""
    put(served.client, ended_job("large", 5000))
    page = look(f"{served.url}/jobs/large")
    nodes = page.locator("svg.graph a.node")
    expect(nodes).to_have_count(2)
    expect(nodes.last).to_contain_text("4999")
    expect(nodes.last).to_have_attribute("aria-label", re.compile("4899 ✓ 100 ✗"))
    expect(page.locator("svg.graph rect.share.failed")).to_have_count(1)


def test_separate_tasks_have_no_graph(served: ServedProject, look: Callable[..., Page]) -> None:
    """Where nothing depends on anything there is nothing to draw."""
    served.submit("flat", [{"command": "true"}, {"command": "true"}])
    served.ended("flat")
    page = look(f"{served.url}/jobs/flat")
    expect(page.get_by_role("heading", name="Tasks")).to_be_visible()
    expect(page.locator("svg.graph")).to_have_count(0)
