"""Logs in a real browser: followed while a task prints, bounded however much it prints."""

from __future__ import annotations

from collections.abc import Callable

from playwright.sync_api import Page, expect

from tests.conftest import wait_for
from tests.web.conftest import PATIENCE, ServedProject, gated


def test_log_is_followed(served: ServedProject, look: Callable[..., Page]) -> None:
    """Lines appear as they are printed, the last one in sight; who scrolls up stays there until following again."""
    first = "for i in $(seq 200); do echo early $i; done; printf half"
    after = "echo ' and whole'; for i in $(seq 200); do echo late $i; done"
    served.submit("talk", [gated("speaker", first, after)])
    page = look(f"{served.url}/jobs/talk/tasks/speaker")
    log = page.get_by_role("log")
    expect(log).to_contain_text("early 200\nhalf")
    _wait_at_end(page)
    page.evaluate("window.mark = 1")
    log.evaluate("log => { log.scrollTop = 0; }")
    expect(page.get_by_label("Follow")).not_to_be_checked()
    served.open_gate("speaker.gate", "talk")
    expect(log).to_contain_text("half and whole\nlate 1\n")
    expect(log).to_contain_text("late 200\n")
    assert log.evaluate("log => log.scrollTop") == 0
    page.get_by_label("Follow").check()
    _wait_at_end(page)
    expect(page.get_by_role("heading", level=1)).to_contain_text("succeeded")
    assert log.inner_text().count("half") == 1
    assert page.evaluate("window.mark") == 1


def test_a_flood_stays_small(served: ServedProject, look: Callable[..., Page]) -> None:
    """Of many megabytes the end is shown, what was left out is said, and the way back leads to the lines before."""
    flood = "yes 'a line of some length that comes again and again' | head -c 12000000; echo; echo finis"
    served.submit("flood", [gated("loud", f"echo begin; {flood}")])
    page = look(f"{served.url}/jobs/flood/tasks/loud")
    log = page.get_by_role("log")
    expect(log).to_contain_text("finis")
    assert log.evaluate("log => log.textContent.length") < 2 << 20
    served.open_gate("loud.gate", "flood")
    served.ended("flood")
    page.reload()
    expect(log).to_contain_text("finis")
    assert log.evaluate("log => log.textContent.length") <= 64 * 1024
    expect(page.get_by_text("earlier bytes are left out")).to_be_visible()
    page.get_by_role("link", name="Earlier").click()
    expect(log).to_contain_text("a line of some length")
    expect(log).not_to_contain_text("finis")
    page.get_by_role("link", name="Newest").click()
    expect(log).to_contain_text("finis")


def test_a_retry_takes_the_log_along(served: ServedProject, look: Callable[..., Page]) -> None:
    """Whoever looks at a task's newest run sees the next one's log when it begins."""
    command = (
        'echo "attempt $AIR_ATTEMPT"; while [ ! -e "$AIR_WORKSPACE/gate$AIR_ATTEMPT" ]; do sleep 0.02; done; exit 1'
    )
    served.submit("twice", [{"id": "t", "command": command, "retries": 1, "grace": 1}])
    page = look(f"{served.url}/jobs/twice/tasks/t")
    expect(page.get_by_role("log")).to_contain_text("attempt 1")
    served.open_gate("gate1", "twice")
    expect(page.get_by_role("heading", name="Log of attempt 2 of 2")).to_be_visible()
    expect(page.get_by_role("log")).to_contain_text("attempt 2")
    served.open_gate("gate2", "twice")
    expect(page.get_by_role("heading", level=1)).to_contain_text("failed")


def test_the_tools_of_a_log(served: ServedProject, look: Callable[..., Page]) -> None:
    """Colors are shown, markup is text, lines have numbers that are addresses, and what is searched for is found."""
    command = (
        r"printf '\033[31mred\033[0m <b id=owned>\n'; for i in $(seq 2 400); do echo line $i; done; echo needle 400"
    )
    served.submit("talk", [{"id": "one", "command": command}])
    served.ended("talk")
    page = look(f"{served.url}/jobs/talk/tasks/one")
    log = page.get_by_role("log")
    expect(log.locator(".f1")).to_have_text("red")
    expect(page.locator("#owned")).to_have_count(0)
    expect(page.get_by_label("Follow")).to_have_count(0)
    page.get_by_label("Find in log").fill("LINE 40")
    expect(page.locator("#hits")).to_have_text("1 of 2 lines")
    expect(log.get_by_text("line 40", exact=True)).to_be_in_viewport()
    page.get_by_label("Find in log").press("Enter")
    expect(page.locator("#hits")).to_have_text("2 of 2 lines")
    page.get_by_label("Times (UTC)").check()
    times = log.locator("[data-n='7']").get_attribute("data-t") or ""
    assert len(times.split(":")) == 3
    page.get_by_label("Wrap").uncheck()
    assert log.evaluate("log => getComputedStyle(log).whiteSpace") == "pre"
    page.goto(f"{served.url}/jobs/talk/tasks/one#L12")
    expect(log.get_by_text("line 12", exact=True)).to_be_in_viewport()
    page = look(f"{served.url}/jobs/talk/tasks/one", java_script_enabled=False)
    expect(page.get_by_role("log").locator(".f1")).to_have_text("red")


def _wait_at_end(page: Page) -> None:
    at_end = "log => log.scrollHeight - log.scrollTop - log.clientHeight < 24"
    wait_for(lambda: page.get_by_role("log").evaluate(at_end), PATIENCE, "the last line to be in sight")
