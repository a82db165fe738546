"""Who changes schedules over HTTP reads the effect at once, however long looking at all files takes."""

from __future__ import annotations

import asyncio
import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from starlette.applications import Starlette
from starlette.routing import Mount

from air_executor.client import Client
from air_executor.model.callers import Caller
from air_executor.settings import load
from air_executor.web import schedule_list, state_cache
from air_executor.web.api.api_app import PATH, make_api
from air_executor.web.routes import page_routes
from air_executor.web.state_cache import StateCache
from air_executor.web.stream_limit import StreamLimit

NIGHTLY = {"name": "nightly", "schedule": {"cron": "0 3 * * *"}, "tasks": [{"command": "true"}]}


class SlowPlace:
    """Page and API of a state directory where all that was read is kept for as long as it may be."""

    def __init__(self, folder: Path) -> None:
        client = Client(folder)
        client.jobs.prepare()
        Path(client.layout.epoch_tmp(1)).mkdir()
        settings = load({"state_dir": str(folder)}, {}, str(folder))
        cache, streams = StateCache(client), StreamLimit()
        pages = page_routes(cache, settings, streams)
        self.app = Starlette(routes=[Mount(PATH, make_api(cache, settings, streams)), *pages])

    def ask(self, method: str, path: str, data: object = None) -> tuple[int, str]:
        """Return status and body of an answer to an operator."""
        story = self._ask(method, path, b"" if data is None else json.dumps(data).encode())
        with ThreadPoolExecutor(1) as thread:  # a browser's client may hold the event loop of this one
            return thread.submit(asyncio.run, story).result(60)

    async def _ask(self, method: str, path: str, body: bytes) -> tuple[int, str]:
        path, _, query = path.partition("?")
        sent: list[Any] = []
        scope = {
            "type": "http",
            "method": method,
            "path": path,
            "raw_path": path.encode(),
            "query_string": query.encode(),
            "headers": [(b"content-type", b"application/json"), (b"host", b"localhost")],
            "state": {"caller": Caller("anna", "operator"), "origin": "127.0.0.1"},
        }

        async def receive() -> dict[str, object]:
            return {"type": "http.request", "body": body, "more_body": False}

        async def send(message: Any) -> None:  # noqa: ANN401 - of any kind
            sent.append(message)

        await self.app(scope, receive, send)
        return sent[0]["status"], b"".join(one.get("body", b"") for one in sent[1:]).decode()

    def names(self) -> set[str]:
        """Return the ids of all jobs, as the API lists them."""
        return {job["id"] for job in json.loads(self.ask("GET", f"{PATH}/jobs")[1])["jobs"]}


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> SlowPlace:
    """A place with one schedule, all of which has been read."""
    monkeypatch.setattr(schedule_list, "REST", 10**9)
    monkeypatch.setattr(state_cache, "REST", 10**9)
    made = SlowPlace(tmp_path)
    for _ in range(2):  # the first time needs no rest
        assert "nightly" not in made.ask("GET", "/")[1]
    assert made.ask("POST", f"{PATH}/schedules", NIGHTLY)[0] == 200
    return made


def test_an_applied_schedule_is_on_the_page(place: SlowPlace) -> None:
    """And gone from there once it is deleted, and paused in between."""
    assert "nightly" in place.ask("GET", "/")[1]
    assert "nightly" in place.ask("GET", "/schedules")[1]
    assert place.ask("POST", f"{PATH}/schedules/nightly/pause", {})[0] == 200
    assert "nightly" not in place.ask("GET", "/schedules")[1], "a paused one has no next time"
    assert place.ask("POST", f"{PATH}/schedules/nightly/resume", {})[0] == 200
    assert "nightly" in place.ask("GET", "/schedules")[1]
    assert place.ask("DELETE", f"{PATH}/schedules/nightly")[0] == 204
    assert "nightly" not in place.ask("GET", "/")[1]


def test_the_runs_of_a_backfill_are_listed(place: SlowPlace) -> None:
    """And the next run of a schedule, too."""
    assert place.names() == set()
    status, body = place.ask(
        "POST", f"{PATH}/schedules/nightly/backfill", {"since": "2026-01-01", "until": "2026-01-02"}
    )
    assert (status, len(json.loads(body)["created"])) == (200, 2)
    assert place.names() == set(json.loads(body)["created"])
    assert place.ask("POST", f"{PATH}/schedules/nightly/run", {})[0] == 201
    assert "nightly-1" in place.names()
