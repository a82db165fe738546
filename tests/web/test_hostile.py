"""What tasks name, print, return and leave behind is shown as text and does nothing else."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

from playwright.sync_api import Page, expect

from tests.web.conftest import ServedProject

EVIL = (
    "</pre></script><script>document.title='owned'</script><img src=x onerror=\"document.title='owned'\"><b id=owned>"
)
STEERING = "\x1b]0;owned\x07\x1b[31mred\x1b[0m \u202egnp.exe \x00 end"


def test_everything_stays_text(served: ServedProject, look: Callable[..., Page]) -> None:
    """Markup in labels, commands, messages, results and output is on every page as the characters that it is."""
    script = f'printf \'%s\\n\' {_quoted(EVIL)}; printf \'{{"x": "<b id=owned>"}}\' >"$AIR_RESULT"'
    served.submit(
        "evil",
        [
            {"id": "prints", "command": script},
            {"id": "missing", "command": [EVIL], "after": ["prints"], "description": f"{EVIL}\ntwo lines"},
        ],
        labels={"note": EVIL},
        description=EVIL,
        on_failure="continue",
    )
    served.ended("evil")
    page = look(served.url)
    for path, shown in (
        ("/jobs/evil", EVIL[:40]),
        ("/jobs/evil/tasks/prints", EVIL),
        ("/jobs/evil/tasks/missing", EVIL[:40]),
        ("/?q=" + "%3Cb%20id%3Downed%3E", ""),
    ):
        page.goto(served.url + path)
        expect(page.get_by_role("main")).to_contain_text(shown)
        expect(page.locator("#owned")).to_have_count(0)
        assert "owned" not in page.title()
    assert page.locator("#q").input_value() == "<b id=owned>"


def test_output_steers_nothing(served: ServedProject, look: Callable[..., Page]) -> None:
    """Colours and titles that a task prints are gone, control characters and turned writing are visible."""
    Path(served.root, "said").write_text(f"{STEERING}\n10%\r50%\rdone\n")
    served.submit("talks", [{"id": "one", "command": f"cat {served.root}/said"}])
    served.ended("talks")
    page = look(f"{served.url}/jobs/talks/tasks/one")
    expect(page.get_by_role("log")).to_have_text("red \\u202egnp.exe \\x00 end\ndone\n", use_inner_text=True)


def test_policy_and_headers(served: ServedProject) -> None:
    """Each answer forbids scripts but the page's own, frames, guessing of types, and storing."""
    served.submit("one", [{"id": "only", "command": "echo out"}])
    served.ended("one")
    paths = [
        "/",
        "/jobs/one",
        "/jobs/one/tasks/only",
        "/jobs/one/tasks/only/log?run=1",
        "/jobs/none",
        "/static/page.js",
    ]
    for path in paths:
        headers = {name.lower(): value for name, value in served.get(path).headers.items()}
        policy = headers["content-security-policy"]
        assert policy.startswith("default-src 'none'; script-src 'self';"), path
        assert "unsafe" not in policy
        assert "frame-ancestors 'none'" in policy
        assert headers["x-content-type-options"] == "nosniff", path
    log = served.get("/jobs/one/tasks/only/log?run=1")
    assert log.text == "out\n"
    assert log.headers["content-disposition"].startswith("attachment")
    assert log.headers["content-type"].startswith("text/plain")


def test_no_way_out_of_the_state_directory(served: ServedProject) -> None:
    """Paths that climb, ids that are none, and logs that are links, folders or pipes show nothing."""
    Path(served.root, "secret").write_text("kept from you")
    command = 'cd "$(dirname "$AIR_QUEUE")" && rm output.log && '
    served.submit("link", [{"id": "t", "command": f"{command} ln -s {served.root}/secret output.log"}])
    served.submit("pipe", [{"id": "t", "command": f"{command} mkfifo output.log"}])
    served.submit("folder", [{"id": "t", "command": f"{command} mkdir output.log"}])
    for name in ("link", "pipe", "folder"):
        served.ended(name)
        page = served.get(f"/jobs/{name}/tasks/t")
        assert page.status == 200
        assert "This run has no log here." in page.text
        assert "kept from you" not in page.text
        assert served.get(f"/jobs/{name}/tasks/t/log?run=1").status == 404
    for path in (
        "/jobs/..",
        "/jobs/%2e%2e",
        "/jobs/..%2f..%2fsecret",
        "/static/..%2froutes.py",
        "/static/%2e%2e/routes.py",
        "/static/nothing",
        "/jobs/link/tasks/..",
        "/jobs/link/tasks/t/log?run=..",
        "/jobs/link/tasks/t?run=7",
        f"/jobs/{'x' * 300}",
        "/jobs/link%00",
        "/jobs/link%00/events",
        "/jobs/link/tasks/t%00",
        "/names/link%00",
    ):
        answer = served.get(path)
        assert answer.status == 404, path
        assert "kept from you" not in answer.text
        assert str(os.path.dirname(__file__)) not in answer.text


def test_an_unreadable_job_hides_no_other(served: ServedProject, look: Callable[..., Page]) -> None:
    """A job whose state is no JSON is told of in the list, has a page that says so, and the others are shown."""
    served.submit("fine", [{"command": "true"}])
    served.ended("fine")
    folder = Path(served.client.layout.job("torn"))
    folder.mkdir()
    (folder / "state.json").write_text("{<b id=owned>")
    page = look(served.url)
    expect(page.get_by_text("torn cannot be read")).to_be_visible()
    expect(page.get_by_role("row", name="fine")).to_contain_text("succeeded")
    assert served.get("/jobs/torn").status == 503


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "'\\''") + "'"
