"""What a job's page shows at one look: its parameters, what it asks, with the buttons to answer, and what failed."""

from __future__ import annotations

import json
from collections.abc import Callable

from playwright.sync_api import Page, expect

from air_executor.store.job_file import load_job
from tests.web.conftest import ServedProject
from tests.web.test_actions import sign_in

EVIL = "<b id=owned>it's</b>"
DAILY = {
    "name": "daily",
    "params": {"DATE": {"type": "date", "default": "2026-01-31"}, "NOTE": EVIL, "MORE": "x" * 500},
    "tasks": [{"id": "check", "command": f"echo '{EVIL.replace(chr(39), '')}'\nexit 3 # {'y' * 400}"}],
}


def test_which_date_a_run_was_for(served: ServedProject, look: Callable[..., Page]) -> None:
    """On its own page, and in the table of the runs of its name, where long ones are cut."""
    for date in ("2026-02-01", "2026-02-02"):
        made = served.client.submit(load_job(json.dumps(DAILY).encode(), "daily.json", {"DATE": date}))
        served.ended(made.id)
    page = look(f"{served.url}/jobs/daily-2")
    shown = page.get_by_role("list", name="Parameters").get_by_role("listitem")
    expect(shown.nth(0)).to_have_text("DATE=2026-02-02")
    expect(shown.nth(1)).to_have_text(f"NOTE={EVIL}")
    assert len(shown.nth(2).inner_text()) < 80
    page.goto(f"{served.url}/names/daily")
    cells = page.locator("td.params")
    assert [text[:15] for text in cells.all_inner_texts()] == ["DATE=2026-02-02", "DATE=2026-02-01"]
    assert all(len(text) <= 60 for text in cells.all_inner_texts())
    assert (cells.nth(0).get_attribute("title") or "").startswith(f"DATE=2026-02-02 NOTE={EVIL} MORE=xxx")
    expect(page.locator("#owned")).to_have_count(0)


def test_the_command_that_failed(served: ServedProject, look: Callable[..., Page]) -> None:
    """On one line beside the reason, cut; markup in it is text."""
    served.ended(served.client.submit(load_job(json.dumps(DAILY).encode(), "daily.json", {})).id)
    page = look(f"{served.url}/jobs/daily-1")
    command = page.locator("#x-check code")
    expect(command).to_contain_text("echo '<b id=owned>its</b>' exit 3 # yyy")
    assert len(command.inner_text()) <= 300
    box = page.locator("#x-check .ran").bounding_box()
    assert box is not None
    assert box["height"] < 30
    expect(page.locator("#owned")).to_have_count(0)


def test_questions_are_answered_where_they_stand(served: ServedProject, look: Callable[..., Page]) -> None:
    """Each has its own buttons, forms and command lines; signing in leads back to the one that was pressed."""
    tasks = [{"id": "eu.west", "approve": "Deploy to eu?"}, {"id": "us", "approve": "Deploy to us?"}]
    served.submit("ship", tasks, max_runners=2, on_failure="continue")
    page = look(f"{served.url}/jobs/ship")
    of_us = page.get_by_role("list", name="Answers for us")
    of_us.get_by_role("button", name="Reject…").click()
    sign = page.get_by_role("dialog", name="Sign in")
    sign.get_by_label("Token").fill(served.token("operator"))
    sign.get_by_role("button", name="Sign in").click()
    dialog = page.get_by_role("dialog", name="Reject us")
    expect(dialog).to_contain_text("Deploy to us?")
    dialog.get_by_label("Reason").fill("not today")
    expect(dialog).to_contain_text("air-executor reject ship us --reason 'not today'")
    dialog.get_by_role("button", name="Reject").click()
    expect(of_us).to_have_count(0)
    page.get_by_role("list", name="Answers for eu.west").get_by_role("button", name="Approve…").click()
    dialog = page.get_by_role("dialog", name="Approve eu.west")
    dialog.get_by_label("Values for its result").fill("replicas=3")
    expect(dialog).to_contain_text("air-executor approve ship eu.west --set replicas=3")
    dialog.get_by_role("button", name="Approve").click()
    state = served.ended("ship")
    assert state.tasks["eu.west"].result == {"replicas": "3"}
    assert (state.tasks["us"].phase, "not today" in (state.tasks["us"].message or "")) == ("failed", True)


def test_who_may_not_answer_is_told(served: ServedProject, look: Callable[..., Page]) -> None:
    """A button whose role is missing is off, on a job's page too; without scripts, commands stand."""
    served.submit("ship", [{"id": "go", "approve": "Go?"}])
    page = look(f"{served.url}/jobs/ship")
    sign_in(page, served.token("submitter"))
    button = page.get_by_role("list", name="Answers for go").get_by_role("button", name="Approve…")
    expect(button).to_have_attribute("aria-disabled", "true")
    expect(button).to_have_attribute("title", "This takes the role operator; your token has the role submitter.")
    plain = look(f"{served.url}/jobs/ship", java_script_enabled=False)
    plain.locator("#asks-go summary").click()
    expect(plain.locator("#commands-of-go").get_by_text("air-executor approve ship go")).to_be_visible()


def test_ids_have_room(served: ServedProject, look: Callable[..., Page]) -> None:
    """A long id stands on one line of a wide window, also beside long reasons; on a phone it may take two."""
    name = "import-customers-of-region-20260201-0"
    served.submit(name, [{"id": "ask", "approve": "word " * 60}])
    served.submit("short", [{"id": "ask", "approve": "word " * 60}])
    page = look(served.url, viewport={"width": 1400, "height": 900})
    expect(page.locator(".jobs tbody td.why").first).to_contain_text("word word")
    heights = [box["height"] for one in page.locator(".jobs tbody th a").all() if (box := one.bounding_box())]
    assert len(heights) == 2
    assert max(heights) == min(heights)
    assert not page.evaluate("document.documentElement.scrollWidth > innerWidth")
