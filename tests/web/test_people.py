"""The page for people: with a keyboard, a screen reader, a phone, at night, without scripts."""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest
from playwright.sync_api import Locator, Page, expect

from tests.web.conftest import ServedProject, gated
from tests.web.ended_jobs import ended_job, put

# Every piece of text in sight that stands out from what is behind it less than WCAG asks for, as it computes that.
PALE = """() => {
  const parts = (colour) => (colour.match(/[0-9.]+/g) || [0, 0, 0, 0]).map(Number);
  const light = (colour) => {
    const [r, g, b] = parts(colour).map((v) => (v /= 255) <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const behind = (element) => {
    for (let one = element; one; one = one.parentElement) {
      const colour = getComputedStyle(one).backgroundColor;
      if (parts(colour).length < 4 || parts(colour)[3] > 0) return colour;
    }
    return "rgb(255, 255, 255)";
  };
  const pale = [];
  const texts = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  for (let text = texts.nextNode(); text; text = texts.nextNode()) {
    const element = text.parentElement;
    if (!text.data.trim() || !element.checkVisibility() || element.closest("script, .vh, svg")) continue;
    const [a, b] = [light(getComputedStyle(element).color), light(behind(element))].sort((x, y) => y - x);
    if ((a + 0.05) / (b + 0.05) < 4.5) pale.push(`${text.data.trim()} ${((a + 0.05) / (b + 0.05)).toFixed(2)}`);
  }
  return pale;
}"""

# Of everything that can be reached with the Tab key: what has no name that could be read out.
NAMELESS = """() => [...document.querySelectorAll("a, button, input:not([type=hidden]), [tabindex='0']")]
  .filter((one) => one.checkVisibility())
  .filter((one) => !(one.textContent.trim() || one.getAttribute("aria-label") || one.labels?.[0]?.textContent.trim()
    || document.getElementById(one.getAttribute("aria-labelledby"))?.textContent.trim()))
  .map((one) => one.outerHTML)"""


@pytest.fixture
def busy(served: ServedProject) -> ServedProject:
    """A served with a job that failed and one that runs."""
    served.submit(
        "mixed",
        [
            {"id": "good", "command": "echo fine"},
            {"id": "bad", "command": "echo no >&2; exit 4"},
            {"id": "never", "command": "true"},
        ],
        labels={"team": "data"},
    )
    served.ended("mixed")
    served.submit("under-way", [gated("open", "echo here"), {"id": "next", "after": ["open"], "command": "true"}])
    return served


ADDRESSES = ("/", "/jobs/mixed", "/jobs/mixed/tasks/bad", "/jobs/under-way", "/jobs/under-way/tasks/open", "/jobs/none")


def test_structure(busy: ServedProject, look: Callable[..., Page]) -> None:
    """Each page has landmarks, one first heading, a title of its own, tables with headers, names for all that acts."""
    page = look(busy.url)
    titles = set()
    for address in ADDRESSES[:-1]:
        page.goto(busy.url + address)
        for landmark in ("banner", "main", "contentinfo"):
            expect(page.get_by_role(landmark)).to_have_count(1)
        expect(page.get_by_role("heading", level=1)).to_have_count(1)
        assert page.evaluate(NAMELESS) == [], address
        for table in page.get_by_role("table").all():
            assert table.get_by_role("columnheader").count() >= 5, address
            assert table.get_by_role("rowheader").count() >= 1, address
        assert page.evaluate("document.documentElement.lang") == "en"
        titles.add(page.title())
    assert len(titles) == len(ADDRESSES) - 1


def test_keyboard(busy: ServedProject, look: Callable[..., Page]) -> None:
    """From the list to a task's log and back by keys alone; the first Tab offers to skip what is above."""
    page = look(busy.url)
    page.keyboard.press("Tab")
    expect(page.get_by_role("link", name="Skip to content")).to_be_focused()
    page.keyboard.press("Enter")
    expect(page.get_by_role("main")).to_be_focused()
    _tab_to(page, page.get_by_role("link", name="mixed"))
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", level=1)).to_contain_text("mixed")
    _tab_to(page, page.locator("#failures").get_by_role("link", name="bad"))
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", level=1)).to_contain_text("bad")
    _tab_to(page, page.get_by_role("log"))
    page.go_back()
    expect(page.get_by_role("heading", level=1)).to_contain_text("mixed")


def test_news_take_no_focus(busy: ServedProject, look: Callable[..., Page]) -> None:
    """What is focused, typed and selected stays when the page changes beneath it."""
    page = look(f"{busy.url}/jobs/under-way")
    link = page.get_by_role("link", name="next", exact=True)
    link.focus()
    page.evaluate("getSelection().selectAllChildren(document.querySelector('#cost-h'))")
    busy.open_gate("open.gate", "under-way")
    expect(page.get_by_role("heading", level=1)).to_have_text(re.compile("succeeded"))
    expect(link).to_be_focused()
    assert page.evaluate("getSelection().toString()") == "Cost"


def test_finding_and_filtering(busy: ServedProject, look: Callable[..., Page]) -> None:
    """`/` leads to the field, what is typed narrows the list at once, phases are links, and an address keeps both."""
    page = look(busy.url)
    page.keyboard.press("/")
    expect(page.get_by_role("searchbox")).to_be_focused()
    page.keyboard.type("mix")
    expect(page.locator("table.jobs tbody tr")).to_have_count(1)
    expect(page.get_by_role("searchbox")).to_be_focused()
    page.goto(f"{busy.url}/jobs/mixed")
    page.get_by_role("link", name="failed 1").click()
    expect(page.locator("table.grid tbody tr")).to_have_count(1)
    expect(page.get_by_role("link", name="failed 1")).to_have_attribute("aria-current", "true")
    page.reload()
    expect(page.locator("#t-bad")).to_be_visible()
    page.goto(f"{busy.url}/jobs/mixed?q=nothing-like-it")
    expect(page.get_by_text("No task matches.")).to_be_visible()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_legible_by_day_and_night(busy: ServedProject, look: Callable[..., Page], scheme: str) -> None:
    """All text stands out from what is behind it at least 4.5 to 1, and night is dark."""
    page = look(busy.url, color_scheme=scheme)
    for address in ADDRESSES[:-1]:
        page.goto(busy.url + address)
        assert page.evaluate(PALE) == [], address
    behind = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert behind == ("rgb(255, 255, 255)" if scheme == "light" else "rgb(13, 17, 23)")


@pytest.mark.parametrize("width", [360, 640, 900, 1900])
def test_no_page_is_wider_than_its_window(busy: ServedProject, look: Callable[..., Page], width: int) -> None:
    """From a phone to a wide screen nothing scrolls sideways, not even with the longest names."""
    long = "a-name-that-is-as-long-as-ids-may-be-abc"
    busy.submit(long, [{"id": long[:-1], "command": "x" * 300}], labels={"l" * 60: "v" * 256})
    busy.ended(long)
    page = look(busy.url, viewport={"width": width, "height": 800})
    for address in (*ADDRESSES[:-1], f"/jobs/{long}", f"/jobs/{long}/tasks/{long[:-1]}"):
        page.goto(busy.url + address)
        assert page.evaluate("document.documentElement.scrollWidth") <= width, address


def test_a_phone_shows_the_outcome_of_each_run(busy: ServedProject, look: Callable[..., Page]) -> None:
    """Without scrolling sideways; and a short list of tasks is not followed by nothing."""
    page = look(f"{busy.url}/jobs/mixed/tasks/bad", viewport={"width": 390, "height": 300})
    cell = page.locator("table.runs tbody tr").first.locator("td").last
    box = cell.bounding_box()
    assert box is not None
    assert box["x"] + box["width"] <= 390
    page.goto(f"{busy.url}/jobs/mixed")
    last = page.locator("table.grid tbody tr").last
    below = last.evaluate(
        "one => document.querySelector('footer').getBoundingClientRect().top - one.getBoundingClientRect().bottom"
    )
    assert 0 <= below < 100


def test_without_scripts(busy: ServedProject, look: Callable[..., Page]) -> None:
    """Without JavaScript all is there: rows, finding by a button, pages of a long list, logs."""
    put(busy.client, ended_job("long", 1200))
    page = look(f"{busy.url}/jobs/long?all", java_script_enabled=False)
    expect(page.locator("table.grid tbody tr")).to_have_count(500)
    page.get_by_role("link", name="Next").click()
    page.get_by_role("link", name="Next").click()
    expect(page.locator("#t-t1200")).to_be_visible()
    expect(page.locator("table.grid tbody tr")).to_have_count(200)
    page.get_by_role("searchbox").fill("t77")
    page.get_by_role("button", name="Find").click()
    expect(page.locator("table.grid tbody tr")).to_have_count(11)
    page.goto(f"{busy.url}/jobs/mixed/tasks/bad")
    expect(page.get_by_role("log")).to_have_text("no\n")


def _tab_to(page: Page, target: Locator) -> None:
    for _ in range(40):
        page.keyboard.press("Tab")
        if target.evaluate("one => one === document.activeElement"):
            return
    pytest.fail(f"no number of tabs leads to {target}")
