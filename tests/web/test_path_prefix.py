"""A page below a path of a reverse proxy, which passes the path on or cuts it off."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from air_executor.client.server_client import ServerClient
from tests.api.conftest import ServedApi
from tests.web.conftest import gated


@pytest.fixture
def below(tmp_path: Path) -> Iterator[ServedApi]:
    """A manager whose page is at `/air/`."""
    made = ServedApi(tmp_path)
    try:
        made.start(AIR_PUBLIC_URL="http://127.0.0.1/air/")
        yield made
    finally:
        made.stop()


def test_paths_with_and_without_the_prefix(below: ServedApi) -> None:
    """Links have it; both find the page, the API and the probes; errors are those of the API."""
    with closing(ServerClient(f"http://127.0.0.1:{below.port}/air", below.tokens["submitter"])) as client:
        assert client.caller() == ("submitter", "submitter")
    sent = below.ask("POST", "/jobs", {"id": "one", "tasks": [{"command": "true"}]}, role="submitter")
    assert sent.headers["location"] == "/air/api/v1/jobs/one"
    for prefix in ("", "/air"):
        page = below.ask("GET", "/jobs/one", prefix=prefix).body.decode()
        assert 'href="/air/static/' in page
        assert 'data-events="/air/jobs/one/events"' in page
        assert below.ask("GET", "/static/page.js", prefix=prefix).status == 200
        assert below.ask("GET", "/readyz", prefix=prefix).status == 200
        assert below.ask("GET", "/api/v1/jobs/one", prefix=prefix).data["id"] == "one"
        assert below.ask("POST", "/api/v1/jobs/one/cancel", {}, prefix=prefix).status == 401
        missing = below.ask("GET", "/api/v1/a%0ab", prefix=prefix)
        assert (missing.status, missing.headers["content-type"]) == (404, "application/problem+json")
    assert below.ask("GET", "/airy/jobs/one", prefix="").status == 404


def test_a_page_below_a_path(below: ServedApi, look: Callable[..., Page]) -> None:
    """It is live, and its buttons act."""
    assert below.ask("POST", "/jobs", {"id": "one", "tasks": [gated("first")]}, role="submitter").status == 201
    page = look(f"http://127.0.0.1:{below.port}/air/")
    page.get_by_role("link", name="one").click()
    expect(page.locator("#t-first")).to_contain_text("running")
    page.get_by_role("button", name="Sign in").click()
    dialog = page.get_by_role("dialog", name="Sign in")
    dialog.get_by_label("Token").fill(below.tokens["operator"])
    dialog.get_by_role("button", name="Sign in").click()
    page.get_by_role("list", name="Actions").get_by_role("button", name="Cancel").click()
    page.get_by_role("dialog", name="Cancel").get_by_role("button", name="Cancel", exact=True).click()
    expect(page.get_by_role("heading", level=1)).to_contain_text("cancelled")
