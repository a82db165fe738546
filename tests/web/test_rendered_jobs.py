"""A job's page as last rendered: a crowd costs one rendering, and who may change something sees the newest version."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response

from air_executor.client import Client
from air_executor.model.callers import ANONYMOUS, Caller
from air_executor.model.state import JobPhase
from air_executor.web import rendered_jobs as module
from air_executor.web.rendered_jobs import RenderedJobs
from air_executor.web.state_cache import StateCache
from tests.conftest import wait_for
from tests.web.ended_jobs import ended_job, put

OPERATOR = Caller("anna", "operator")


class Shown:
    """Counts renderings, each of which takes some time."""

    def __init__(self, folder: Path) -> None:
        self.client = Client(folder)
        put(self.client, ended_job("one", 3))
        Path(self.client.layout.epoch_tmp(1)).mkdir()
        self.number = 0
        self.pages = RenderedJobs(StateCache(self.client), self.show)

    def show(self, _: Request) -> Response:
        """Render."""
        self.number += 1
        time.sleep(0.001)
        return PlainTextResponse(str(self.number))

    def ask(self, caller: Caller = ANONYMOUS, query: str = "") -> str:
        """Return the page that somebody sees."""
        scope = {
            "type": "http",
            "method": "GET",
            "path": "/jobs/one",
            "query_string": query.encode(),
            "headers": [],
            "path_params": {"job": "one"},
            "state": {"caller": caller},
        }
        return bytes(self.pages.answer(Request(scope)).body).decode()

    def change(self, phase: JobPhase) -> None:
        """Write another state."""
        state = ended_job("one", 3)
        state.phase = phase
        self.client.jobs.checkpoint(state, self.client.layout.epoch_tmp(1))


def test_viewers_share_a_page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One rendering for all of them, for as long as a share of the time allows; with others for other filters."""
    monkeypatch.setattr(module, "MAX_AGE", 1000.0)
    monkeypatch.setattr(module, "REST", 10**6)
    shown = Shown(tmp_path)
    assert {shown.ask() for _ in range(20)} == {"1"}
    assert shown.ask(query="phase=failed") == "2"
    shown.change("failed")
    assert shown.ask(query="phase=failed") == "2", "a page rests"
    assert shown.ask() == "3", "the first does not: rendering it loads modules, too"
    shown.change("cancelled")
    assert shown.ask() == "3"


def test_a_page_rests_for_a_share_of_the_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Then it is rendered again."""
    monkeypatch.setattr(module, "MAX_AGE", 1000.0)
    monkeypatch.setattr(module, "REST", 100)
    shown = Shown(tmp_path)
    assert (shown.ask(query="a"), shown.ask()) == ("1", "2")
    shown.change("failed")
    wait_for(lambda: shown.ask() == "3")


def test_who_may_change_something_sees_the_newest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A page of its own, which is rendered again with each version."""
    monkeypatch.setattr(module, "MAX_AGE", 1000.0)
    monkeypatch.setattr(module, "REST", 10**6)
    shown = Shown(tmp_path)
    assert (shown.ask(OPERATOR), shown.ask(OPERATOR), shown.ask()) == ("1", "1", "2")
    shown.change("failed")
    assert (shown.ask(), shown.ask(OPERATOR)) == ("2", "3")


def test_a_page_grows_old(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It contains durations."""
    monkeypatch.setattr(module, "MAX_AGE", 0.0)
    shown = Shown(tmp_path)
    assert (shown.ask(), shown.ask()) == ("1", "2")
