"""WCAG 2.2 AA on every page, by day and by night, on a desk and on a phone: what axe-core can check of it."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Page, expect

from air_executor.core.submission import parse_job
from tests.lanes import missing
from tests.web.conftest import ServedProject, gated
from tests.web.ended_jobs import ended_job, put

LEVELS = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa"]
RUN = """async (levels) => {
  const wanted = { runOnly: { type: "tag", values: levels }, resultTypes: ["violations"], preload: false };
  const { violations } = await axe.run(document, wanted);
  const told = (id) => (node) => `${id}: ${node.html.slice(0, 200)} ${node.failureSummary}`;
  return violations.flatMap(({ id, nodes }) => nodes.map(told(id)));
}"""
COLORS = (
    r"for i in $(seq 0 255); do "
    r"printf '\033[38;5;%sm%s\033[0m \033[48;5;%sm%s\033[0m \033[7mx\033[0m\n' $i $i $i $i; done"
)
PAGES = (
    "/",
    "/?phase=failed",
    "/?q=nothing",
    "/names/nightly",
    "/names/daily",
    "/schedules",
    "/costs",
    "/jobs/large",
    "/jobs/large?all",
    "/jobs/ship",
    "/jobs/ship/tasks/deploy",
    "/jobs/talk",
    "/jobs/talk/tasks/one",
    "/jobs/busy",
    "/jobs/daily-1",
    "/jobs/busy/tasks/open",
    "/jobs/none",
)


@pytest.fixture(scope="session")
def axe() -> str:
    """The script of axe-core; without it tests skip, and in CI fail."""
    path = Path(os.environ.get("AIR_TEST_AXE", "build/axe/axe.min.js"))
    if not path.exists():
        missing("axe-core is not installed; `make test-browser` installs it, with npm")
    return path.read_text(encoding="utf-8")


@pytest.fixture
def varied(served: ServedProject) -> ServedProject:
    """Jobs of all kinds."""
    put(served.client, ended_job("large", 70))
    served.schedule({"name": "nightly", "schedule": {"cron": "0 2 * * *"}, "tasks": [{"command": "true"}]})
    served.submit(
        "ship", [{"id": "deploy", "approve": "Deploy?"}, {"id": "next", "after": ["deploy"], "command": "true"}]
    )
    served.submit("talk", [{"id": "one", "command": f"{COLORS}; exit 3"}], labels={"team": "data"})
    served.submit("busy", [gated("open", "echo here"), {"id": "late", "delay": "3h", "command": "true"}], max_runners=2)
    listed = [{"id": f"x-{n}", "group": "x", "command": f"exit {n}"} for n in range(3)]
    daily = {"name": "daily", "params": {"DATE": "2026-01-31", "MORE": "x" * 200}, "on_failure": "continue"}
    served.client.submit(parse_job({**daily, "tasks": listed}))
    served.ended("talk")
    served.ended("daily-1")
    return served


def wrong(page: Page, axe: str) -> list[Any]:
    """Return what axe-core finds wrong with a page."""
    page.evaluate(axe)
    found: list[Any] = page.evaluate(RUN, LEVELS)
    return found


@pytest.mark.parametrize(
    ("width", "scheme"),
    [
        (1400, "light"),
        (390, "dark"),
        pytest.param(1400, "dark", marks=pytest.mark.nightly),
        pytest.param(390, "light", marks=pytest.mark.nightly),
    ],
)
def test_every_page(varied: ServedProject, look: Callable[..., Page], axe: str, width: int, scheme: str) -> None:
    """Each page, and each dialog, is fine for all that can be checked, and is no wider than its window."""
    page = look(varied.url, refusals=True, viewport={"width": width, "height": 844}, color_scheme=scheme)
    found: dict[str, list[Any]] = {}
    wide = []
    for path in PAGES:
        page.goto(varied.url + path)
        expect(page.locator("#who")).to_be_visible()
        found[path] = wrong(page, axe)
        if page.evaluate("document.documentElement.scrollWidth > innerWidth"):
            wide.append(path)
    page.goto(f"{varied.url}/jobs/ship")
    page.get_by_role("button", name="Approve…").click()
    found["sign in"] = wrong(page, axe)
    page.get_by_label("Token").fill(varied.token("operator"))
    page.get_by_role("dialog").get_by_role("button", name="Sign in").click()
    expect(page.get_by_role("dialog", name="Approve deploy")).to_be_visible()
    found["approve"] = wrong(page, axe)
    page.keyboard.press("Escape")
    expect(page.locator("#said")).to_have_text(re.compile("Signed in"))
    found["said"] = wrong(page, axe)
    page.get_by_role("button", name="Sign out").click()
    page.goto(varied.url)
    assert ({path: what for path, what in found.items() if what}, wide) == ({}, [])
