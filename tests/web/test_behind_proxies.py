"""The page in a real browser behind real proxies: signed in by OpenID Connect, live, and with buttons that act."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from playwright.sync_api import Page, expect

from tests.api.conftest import ServedApi
from tests.proxy_chain import Provider, behind_proxies
from tests.web.conftest import gated


def test_a_page_behind_proxies(tmp_path: Path, look: Callable[..., Page]) -> None:
    """Who signs in sees a job live and cancels another one, without a token in the browser."""
    (tmp_path / "proxies").mkdir()
    (tmp_path / "manager").mkdir()
    served = ServedApi(tmp_path / "manager")
    with behind_proxies(served, tmp_path / "proxies") as chain:
        for name in ("one", "two"):
            job = {"id": name, "tasks": [gated("first")]}
            assert served.ask("POST", "/jobs", job, role="submitter").status == 201
        Provider.person = {"sub": "anna", "email": "anna@example.com", "groups": ["admins"]}
        page = look(f"{chain.people}/jobs/one", ignore_https_errors=True)
        expect(page.locator("#who")).to_contain_text("anna@example.com (admin)")
        expect(page.locator("#t-first")).to_contain_text("running")
        Path(served.client.layout.workspace("one"), "first.gate").touch()
        expect(page.get_by_role("heading", level=1)).to_contain_text("succeeded")
        page.goto(f"{chain.people}/jobs/two")
        page.get_by_role("list", name="Actions").get_by_role("button", name="Cancel").click()
        page.get_by_role("dialog", name="Cancel").get_by_role("button", name="Cancel", exact=True).click()
        expect(page.get_by_role("heading", level=1)).to_contain_text("cancelled")
        (line,) = [line for line in served.audit if line["action"] == "cancel"]
        assert (line["who"], line["job"]) == ("anna@example.com", "two")
        page.goto("about:blank")  # its stream ends before the proxies do
