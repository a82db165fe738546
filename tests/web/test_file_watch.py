"""One watch for all listeners: shared polls, newest versions only, and no polls without listeners."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Coroutine
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from starlette.requests import Request
from starlette.responses import Response

from air_executor.client import Client
from air_executor.web import file_watch, stream_limit
from air_executor.web.file_watch import FileWatch
from air_executor.web.state_cache import StateCache
from air_executor.web.stream_limit import StreamLimit
from air_executor.web.streams import Streams
from tests.conftest import wait_for

PATIENCE = 120.0


class _Files:
    """Something to look at, which counts the looks."""

    def __init__(self) -> None:
        self.version = "1"
        self.looks = 0

    def look(self, topic: str) -> str:
        """Return the version of a topic."""
        self.looks += 1
        return f"{topic}{self.version}"


def _run(story: Coroutine[Any, Any, None]) -> None:
    """Run it in a thread of its own: a browser's client may hold this one's event loop."""
    with ThreadPoolExecutor(1) as thread:
        thread.submit(asyncio.run, story).result(4 * PATIENCE)


async def _next(stream: AsyncGenerator[str | None]) -> str | None:
    return await asyncio.wait_for(anext(stream), PATIENCE)


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(file_watch, "POLL_EVERY", 0.01)


def test_listeners_share_looks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two hundred listeners of one topic cost one look a round, and each hears of a new version."""
    monkeypatch.setattr(file_watch, "APART", 0.001)

    async def story() -> None:
        files = _Files()
        made = FileWatch(files.look)
        streams = [made.versions("a", PATIENCE) for _ in range(200)]
        assert {await _next(stream) for stream in streams} == {"a1"}
        begun = files.looks
        rounds = [asyncio.ensure_future(_next(stream)) for stream in streams]
        await asyncio.to_thread(wait_for, lambda: files.looks >= begun + 5, PATIENCE)
        assert not any(one.done() for one in rounds)
        files.version = "2"
        assert {await one for one in rounds} == {"a2"}
        assert files.looks < begun + len(streams)
        for stream in streams:
            await stream.aclose()
        assert made.listening == 0

    _run(story())


def test_nobody_listens_nobody_looks() -> None:
    """When the last listener has gone, looking ends; the next one starts it again."""

    async def story() -> None:
        files = _Files()
        made = FileWatch(files.look)
        first = made.versions("a", PATIENCE)
        assert await _next(first) == "a1"
        (looking,) = asyncio.all_tasks() - {asyncio.current_task()}
        await first.aclose()
        await asyncio.wait_for(looking, PATIENCE)
        looks = files.looks
        await asyncio.sleep(0.1)
        assert files.looks == looks
        files.version = "2"
        second = made.versions("a", PATIENCE)
        assert await _next(second) == "a2"
        files.version = "3"
        assert await _next(second) == "a3"
        await second.aclose()

    _run(story())


def test_silence_is_told() -> None:
    """A stream without news says so after its patience, so that whoever has gone is found out."""

    async def story() -> None:
        made = FileWatch(_Files().look)
        stream = made.versions("a", 0.05)
        assert await _next(stream) == "a1"
        assert await _next(stream) is None
        await stream.aclose()

    _run(story())


def test_who_comes_later_misses_nothing() -> None:
    """Listeners of one topic that came at different times hear of each later version, all of them."""

    async def story() -> None:
        files = _Files()
        made = FileWatch(files.look)
        early = made.versions("a", PATIENCE)
        assert await _next(early) == "a1"
        files.version = "2"
        late = made.versions("a", PATIENCE)
        assert await _next(late) == "a2"
        assert await _next(early) == "a2"
        files.version = "3"
        assert {await _next(early), await _next(late)} == {"a3"}
        await early.aclose()
        await late.aclose()

    _run(story())


def test_too_many_listeners_are_sent_away(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Beyond the limit a stream is refused with when to come again, so that pages cannot keep probes from an answer."""
    monkeypatch.setattr(stream_limit, "connection_limit", lambda: 1)
    streams = Streams(StateCache(Client(tmp_path)), StreamLimit())
    answers: list[Response] = []

    async def story() -> None:
        answers.append(await streams.jobs(Request({"type": "http"})))

    _run(story())
    assert answers[0].status_code == 503
    assert answers[0].headers["retry-after"] == "30"
