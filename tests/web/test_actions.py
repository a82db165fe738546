"""What the buttons of the page do, with each role, in a real browser against a real manager."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import pytest
from playwright.sync_api import Locator, Page, expect

from air_executor.core.submission import parse_job
from air_executor.model.callers import ROLES
from air_executor.store.tokens import Tokens
from tests.conftest import wait_for
from tests.web.conftest import PATIENCE, ServedProject, gated

NIGHTLY = {
    "name": "nightly",
    "schedule": {"cron": "0 2 * * *"},
    "params": {
        "REGION": {"choices": ["eu", "us"], "default": "eu", "description": "Where it runs."},
        "COUNT": {"type": "integer", "min": 1, "max": 9, "default": 1},
        "NOTE": "it's quiet",
        "elements": "a name that forms have, too",
    },
    "tasks": [{"id": "only", "command": 'echo "$REGION $COUNT $NOTE"'}],
}


@pytest.fixture
def tokens(served: ServedProject) -> Mapping[str, str]:
    """A token for each role, by role."""
    return {role: served.token(role) for role in ROLES}


def button(page: Page, name: str) -> Locator:
    """Return a button of the page's bar of actions."""
    return page.get_by_role("list", name="Actions").get_by_role("button", name=name)


def sign_in(page: Page, token: str) -> None:
    """Sign in with a token, as people do."""
    page.get_by_role("button", name="Sign in").click()
    dialog = page.get_by_role("dialog", name="Sign in")
    dialog.get_by_label("Token").fill(token)
    dialog.get_by_role("button", name="Sign in").click()
    expect(dialog).to_be_hidden()


def said(page: Page) -> Locator:
    """Return where the page says what came of an action."""
    return page.locator("#said")


def test_pause_resume_cancel_rerun_retry(
    served: ServedProject, look: Callable[..., Page], tokens: Mapping[str, str]
) -> None:
    """A job is paused, resumed, cancelled once that is confirmed, and run again; each as the command line does it."""
    served.submit("work", [gated("first"), {"id": "next", "after": ["first"], "command": "true"}])
    page = look(f"{served.url}/jobs/work")
    expect(page.locator("#t-first")).to_contain_text("running")
    sign_in(page, tokens["operator"])
    expect(page.locator("#who")).to_contain_text("operator (operator)")
    button(page, "Pause").click()
    expect(said(page)).to_contain_text("Pause: applied.")
    button(page, "Resume").click()
    expect(said(page)).to_contain_text("Resume: applied.")
    button(page, "Cancel…").click()
    dialog = page.get_by_role("dialog", name="Cancel")
    expect(dialog).to_contain_text("1 running task is stopped; 1 queued task never runs.")
    expect(dialog).to_contain_text("air-executor cancel work")
    dialog.get_by_role("button", name="Back").click()
    expect(dialog).to_be_hidden()
    assert not served.client.status("work").ended
    button(page, "Cancel…").click()
    dialog.get_by_role("button", name="Cancel", exact=True).click()
    assert served.ended("work").phase == "cancelled"
    expect(page.get_by_role("heading", level=1)).to_contain_text("cancelled")
    served.open_gate("first.gate", "work")
    button(page, "Retry failed").click()
    expect(page.get_by_role("heading", level=1)).to_contain_text("succeeded")
    button(page, "Run again…").click()
    page.get_by_role("dialog", name="Run again").get_by_role("button", name="Run again").click()
    expect(said(page)).to_contain_text("Run again: applied.")
    wait_for(lambda: served.client.status("work").tasks["first"].runs == 3, PATIENCE, "its third run")


def test_questions_are_answered(served: ServedProject, look: Callable[..., Page], tokens: Mapping[str, str]) -> None:
    """A task that asks is approved with values, which the command shows as well, or rejected with a reason."""
    ask = "Deploy <b>build</b> 7?"
    tasks = [{"id": "deploy", "approve": ask}, {"id": "drop", "approve": ask}]
    served.submit("ship", tasks, max_runners=2, on_failure="continue")
    page = look(f"{served.url}/jobs/ship/tasks/deploy", refusals=True)
    button(page, "Approve…").click()
    sign = page.get_by_role("dialog", name="Sign in")
    expect(sign).to_contain_text("a token with the role operator")
    sign.get_by_label("Token").fill("nonsense\u00e9")
    sign.get_by_role("button", name="Sign in").click()
    expect(sign).to_contain_text("does not know this token")
    sign.get_by_label("Token").fill(tokens["operator"])
    sign.get_by_role("button", name="Sign in").click()
    dialog = page.get_by_role("dialog", name="Approve")
    expect(dialog).to_contain_text(ask)
    dialog.get_by_label("Values for its result").fill("replicas=3\nnonsense")
    dialog.get_by_role("button", name="Approve").click()
    expect(dialog).to_contain_text("must be NAME=VALUE, got nonsense")
    dialog.get_by_label("Values for its result").fill("replicas=3\nnote=it's fine\n")
    expect(dialog).to_contain_text("""air-executor approve ship deploy --set replicas=3 --set 'note=it'"'"'s fine'""")
    dialog.get_by_role("button", name="Approve").click()
    expect(said(page)).to_contain_text("Approve: applied.")
    page.goto(f"{served.url}/jobs/ship/tasks/drop")
    button(page, "Reject…").click()
    dialog = page.get_by_role("dialog", name="Reject")
    dialog.get_by_label("Reason").fill("<script>not</script> today")
    dialog.get_by_role("button", name="Reject").click()
    state = served.ended("ship")
    assert state.tasks["deploy"].result == {"replicas": "3", "note": "it's fine"}
    assert "<script>not</script> today" in (state.tasks["drop"].message or "")
    expect(page.get_by_role("main")).to_contain_text("<script>not</script> today")


def test_a_run_with_parameters(served: ServedProject, look: Callable[..., Page], tokens: Mapping[str, str]) -> None:
    """The form has a field for each parameter; what is wrong is said beside it, and the run is one click away."""
    served.schedule(NIGHTLY)
    page = look(f"{served.url}/names/nightly")
    sign_in(page, tokens["submitter"])
    button(page, "Run now…").click()
    dialog = page.get_by_role("dialog", name="Run now")
    expect(dialog).to_contain_text("Where it runs. Default: eu")
    dialog.get_by_label("COUNT").fill("30")
    dialog.get_by_role("button", name="Run now").click()
    assert page.evaluate("document.activeElement.dataset.name") == "COUNT", "it is too much"
    dialog.get_by_label("COUNT").fill("3")
    dialog.get_by_label("REGION").select_option("us")
    dialog.get_by_label("NOTE").fill("$(rm -rf /)")
    expect(dialog).to_contain_text("schedule run nightly -p REGION=us -p COUNT=3 -p 'NOTE=$(rm -rf /)'")
    dialog.get_by_role("button", name="Run now").click()
    expect(said(page)).to_contain_text("nightly-1 is submitted.")
    state = served.ended("nightly-1")
    assert state.owner == "submitter"
    assert state.spec.params | {"elements": ""} == {"REGION": "us", "COUNT": 3, "NOTE": "$(rm -rf /)", "elements": ""}
    said(page).get_by_role("link", name="Open nightly-1").click()
    expect(page.get_by_role("heading", level=1)).to_contain_text("nightly-1")


def test_a_run_on_demand(served: ServedProject, look: Callable[..., Page], tokens: Mapping[str, str]) -> None:
    """A definition without a schedule has a form, too; what has no default must be given."""
    served.schedule({"name": "deploy", "params": {"WHERE": {}}, "tasks": [{"command": "true"}]})
    page = look(f"{served.url}/names/deploy")
    expect(page.get_by_role("main")).to_contain_text("on demand")
    sign_in(page, tokens["submitter"])
    button(page, "Run now…").click()
    dialog = page.get_by_role("dialog", name="Run now")
    dialog.get_by_role("button", name="Run now").click()
    assert page.evaluate("document.activeElement.dataset.name") == "WHERE", "it is required"
    dialog.get_by_label("WHERE").fill("eu")
    dialog.get_by_role("button", name="Run now").click()
    expect(said(page)).to_contain_text("deploy-1 is submitted.")
    assert served.ended("deploy-1").spec.params["WHERE"] == "eu"


def test_what_a_role_may_not(served: ServedProject, look: Callable[..., Page], tokens: Mapping[str, str]) -> None:
    """A button that takes another role says so, and nothing is sent; with the role it works."""
    served.schedule(NIGHTLY)
    served.submit("theirs", [gated("first")])
    page = look(f"{served.url}/jobs/theirs")
    sent: list[str] = []
    page.on("request", lambda request: sent.append(request.url) if request.method != "GET" else None)
    for role, path, name, why in (
        ("viewer", "/jobs/theirs", "Pause", "This takes the role submitter; your token has the role viewer."),
        ("viewer", "/jobs/theirs", "Cancel…", "This takes the role submitter; your token has the role viewer."),
        ("submitter", "/jobs/theirs", "Cancel…", "The job was not submitted over HTTP; a submitter changes only jobs"),
        ("viewer", "/names/nightly", "Run now…", "This takes the role submitter"),
        ("submitter", "/names/nightly", "Pause schedule", "This takes the role operator"),
    ):
        page.goto(served.url + path)
        sign_in(page, tokens[role])
        expect(button(page, name)).to_have_attribute("aria-disabled", "true")
        button(page, name).click(force=True)
        expect(said(page)).to_contain_text(why)
        expect(page.locator("dialog[open]")).to_have_count(0)
        page.get_by_role("button", name="Sign out").click()
    assert sent == []
    sign_in(page, tokens["operator"])
    button(page, "Pause schedule").click()
    expect(said(page)).to_contain_text("Pause schedule: applied.")
    expect(page.get_by_role("main")).to_contain_text("paused")
    button(page, "Resume schedule").click()
    expect(page.get_by_role("main")).to_contain_text("next at")


def test_a_refusal_is_said_in_the_managers_words(
    served: ServedProject, look: Callable[..., Page], tokens: Mapping[str, str]
) -> None:
    """What does not fit any more is refused by the manager, and its words are shown; so are those about a token."""
    served.submit("quick", [gated("first")])
    page = look(f"{served.url}/jobs/quick", refusals=True)
    sign_in(page, tokens["operator"])
    button(page, "Cancel…").click()
    served.open_gate("first.gate", "quick")
    served.ended("quick")
    expect(page.get_by_role("heading", level=1)).to_contain_text("succeeded")
    dialog = page.get_by_role("dialog", name="Cancel")
    dialog.get_by_role("button", name="Cancel", exact=True).click()
    expect(dialog).to_contain_text("no longer possible")
    dialog.get_by_role("button", name="Back").click()
    found = page.evaluate("call('POST', '/jobs/quick/cancel', {}, session.token)")
    assert "has already ended" in page.evaluate("(found) => outcome('Cancel', found)", found)
    Tokens(served.client.layout.tokens).revoke("operator")
    button(page, "Run again…").click()
    page.get_by_role("dialog", name="Run again").get_by_role("button", name="Run again").click()
    expect(page.get_by_role("dialog", name="Run again")).to_contain_text("Run again: send a token")
    expect(page.get_by_role("button", name="Sign in")).to_have_count(1)


def test_the_token_stays_in_its_window(
    served: ServedProject, look: Callable[..., Page], tokens: Mapping[str, str]
) -> None:
    """It is no cookie, stands in no address and no markup, and holds for the pages of this window until signed out."""
    served.submit("work", [gated("first")])
    page = look(f"{served.url}/jobs/work")
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    sign_in(page, tokens["operator"])
    page.goto(f"{served.url}/jobs/work/tasks/first")
    expect(page.locator("#who")).to_contain_text("operator (operator)")
    assert page.context.cookies() == []
    assert page.evaluate("document.cookie + JSON.stringify(localStorage)") == "{}"
    assert tokens["operator"] not in page.content()
    assert not any(tokens["operator"] in url for url in asked)
    other = page.context.new_page()
    other.goto(served.url)
    assert other.evaluate("sessionStorage.length") == 0
    page.get_by_role("button", name="Sign out").click()
    assert page.evaluate("sessionStorage.length") == 0


def test_a_password_is_a_token(served: ServedProject, look: Callable[..., Page], tokens: Mapping[str, str]) -> None:
    """Where the browser has asked for it, nothing more is needed: it sends it with the changes, too."""
    served.terminate()
    served.start(AIR_TOKEN="look-only")  # noqa: S106 - of this test
    served.submit("work", [gated("first")])
    page = look(f"{served.url}/jobs/work", http_credentials={"username": "me", "password": tokens["operator"]})
    expect(page.locator("#who")).to_contain_text("operator (operator)")
    button(page, "Pause").click()
    expect(said(page)).to_contain_text("Pause: applied.")
    page = look(f"{served.url}/jobs/work", http_credentials={"username": "me", "password": "look-only"})
    expect(page.locator("#who")).to_contain_text("AIR_TOKEN (viewer)")
    expect(button(page, "Resume")).to_have_attribute("aria-disabled", "true")
    sign_in(page, tokens["operator"])
    button(page, "Resume").click()
    expect(said(page)).to_contain_text("Resume: applied.")


def test_without_scripts_the_commands_are_there(served: ServedProject, look: Callable[..., Page]) -> None:
    """Nobody is shown a button that does nothing: in its place stands the command that does the same."""
    served.submit("work", [gated("first")])
    page = look(f"{served.url}/jobs/work", java_script_enabled=False)
    expect(page.get_by_role("list", name="Actions")).to_be_hidden()
    expect(page.get_by_role("button", name="Sign in")).to_be_hidden()
    page.locator("summary", has_text="Command line").click()
    expect(page.locator("#commands").get_by_text("air-executor cancel work")).to_be_visible()
    expect(page.locator("dialog[open]")).to_have_count(0)


PLACES = {
    "/": {"sample"},
    "/jobs/theirs": {"pause", "cancel", "retry", "approve", "reject"},
    "/jobs/mine": {"pause", "cancel"},
    "/jobs/still": {"resume", "cancel"},
    "/jobs/over": {"rerun", "retry"},
    "/jobs/theirs/tasks/first": {"cancel"},
    "/jobs/theirs/tasks/asks": {"approve", "reject", "cancel"},
    "/jobs/over/tasks/bad": {"retry", "rerun"},
    "/names/nightly": {"run", "pause"},
    "/names/weekly": {"run", "resume"},
}
"""Pages, and the buttons that they have."""
_BUTTONS = """() => [...document.querySelectorAll("[data-act]")].map((one) => ({
  key: one.dataset.act, path: one.dataset.path, body: JSON.parse(one.dataset.body),
  off: one.getAttribute("aria-disabled") === "true", command: one.dataset.command,
}))"""


def test_every_button_with_every_role(
    served: ServedProject, look: Callable[..., Page], tokens: Mapping[str, str]
) -> None:
    """A button is off exactly where the API refuses what it sends, for that role and that owner of a job."""
    page = look(served.url, refusals=True)
    found = {("/", one["key"]): one for one in page.evaluate(_BUTTONS)}
    served.schedule(NIGHTLY)
    served.schedule({**NIGHTLY, "name": "weekly"})
    served.client.schedules.pause(["weekly"], paused=True)
    asks = {"id": "asks", "approve": "Sure?"}
    served.submit(
        "theirs", [{"id": "bad", "command": "exit 1"}, gated("first"), asks], max_runners=3, on_failure="continue"
    )
    served.client.submit(parse_job({"id": "mine", "tasks": [gated("first")]}), owner="submitter")
    served.client.submit(parse_job({"id": "over", "tasks": [{"id": "bad", "command": "exit 1"}]}), owner="submitter")
    served.submit("still", [{"id": "later", "command": "true", "delay": 3600}])
    served.client.ask("pause", "still")
    served.ended("over")
    wait_for(lambda: served.client.status("theirs").tasks["bad"].phase == "failed", PATIENCE, "the failure")
    wait_for(lambda: served.client.status("mine").phase == "running", PATIENCE, "the other job")
    seen: dict[str, set[str]] = {"/": {key for _, key in found}}
    for place in [one for one in PLACES if one != "/"]:
        page.goto(served.url + place)
        seen[place] = {one["key"] for one in page.evaluate(_BUTTONS)}
        for role in ROLES:
            page.evaluate("(found) => setSession(found)", {"token": tokens[role], "name": role, "role": role})
            for one in page.evaluate(_BUTTONS):
                data = one["body"] if one["off"] else {"no such field": 1}  # where it may be done, it is not
                if one["key"] in {"approve", "reject"} and not one["off"]:
                    data = {"task": "asks", "no such field": 1}
                sent = page.evaluate(
                    "([path, data, token]) => call('POST', path, data, token)", [one["path"], data, tokens[role]]
                )
                assert sent["status"] == (403 if one["off"] else 422), (place, role, one, sent)
                assert one["command"].startswith("air-executor ")
    assert seen == PLACES
    assert [served.client.status(name).phase for name in ("theirs", "mine", "still")] == [
        "running",
        "running",
        "paused",
    ]
