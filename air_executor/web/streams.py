"""Live updates: streams of server-sent events, and the download of logs.

An event carries the current version of a page, and the script then requests that page; a task's stream also carries the
output of its run. A slow client skips versions; nothing is queued for it.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import AsyncIterator
from contextlib import aclosing
from typing import TYPE_CHECKING, BinaryIO

from starlette.concurrency import run_in_threadpool
from starlette.responses import PlainTextResponse, Response, StreamingResponse

from air_executor.errors import AirExecutorError
from air_executor.model.names import check_id
from air_executor.model.state import JobState
from air_executor.store.run_logs import open_log
from air_executor.web.file_watch import FileWatch
from air_executor.web.log_colors import segments
from air_executor.web.log_text import MAX_PART, LogPart, next_part
from air_executor.web.render import HEADERS

if TYPE_CHECKING:
    from starlette.requests import Request

    from air_executor.web.state_cache import StateCache
    from air_executor.web.stream_limit import StreamLimit

KEEP_ALIVE = 15.0
"""Seconds without news after which a stream sends a comment, which also detects closed connections."""


def short(version: str) -> str:
    """Return a version in the form that pages and events use."""
    return hashlib.sha256(version.encode()).hexdigest()[:16]


class Streams:
    """The streams of one state directory."""

    def __init__(self, cache: StateCache, limit: StreamLimit) -> None:
        self._cache = cache
        self._limit = limit
        self._watch = FileWatch(self._version)

    def _version(self, topic: str) -> str:
        """Return the version of all jobs (""), of one job, or of one job and a run's log (`<job>/<task>/<seq>`)."""
        job, _, run = topic.partition("/")
        if not job:
            return short(self._cache.version_of_all())
        version = short(self._cache.version_of(job))
        if not run:
            return version
        task, _, seq = run.partition("/")
        try:
            file = self._open(job, task, int(seq))
        except AirExecutorError:
            return version
        if file is None:
            return version
        with file:
            return f"{version}/{os.fstat(file.fileno()).st_size}"

    def _open(self, job: str, task: str, seq: int) -> BinaryIO | None:
        return open_log(self._cache.client.layout, self._state(job), task, seq)

    def _state(self, job: str) -> JobState:
        return self._cache.job(job)[0]

    async def jobs(self, _: Request) -> Response:
        """Stream new versions of the list of jobs."""
        return self._stream(self._pages(""))

    async def job(self, request: Request) -> Response:
        """Stream new versions of one job."""
        try:
            return self._stream(self._pages(check_id(request.path_params["job"])))
        except AirExecutorError:
            return _not_found()

    async def task(self, request: Request) -> Response:
        """Stream new versions of a task's job, and the output of its run `run` from byte `from` on."""
        try:
            job, task = (check_id(request.path_params[name]) for name in ("job", "task"))
        except AirExecutorError:
            return _not_found()
        asked = [request.query_params.get(name, "") for name in ("run", "from")]
        if not all(text.isascii() and text.isdecimal() and len(text) < 16 for text in asked):  # noqa: PLR2004
            return self._stream(self._pages(job))
        return self._stream(self._output(job, task, int(asked[0]), int(asked[1])))

    def _stream(self, events: AsyncIterator[str]) -> Response:
        if self._limit.full:
            return PlainTextResponse("too many pages are open\n", 503, {**HEADERS, "Retry-After": "30"})
        return self._limit.stream(events, HEADERS)

    async def _pages(self, topic: str) -> AsyncIterator[str]:
        async with aclosing(self._watch.versions(topic, KEEP_ALIVE)) as versions:
            async for version in versions:
                yield ":\n\n" if version is None else f"data: {version}\n\n"

    async def _output(self, job: str, task: str, seq: int, begin: int) -> AsyncIterator[str]:
        sent, rest = "", ""
        async with aclosing(self._watch.versions(f"{job}/{task}/{seq}", KEEP_ALIVE)) as versions:
            async for both in versions:
                if both is None:
                    yield ":\n\n"
                    continue
                version = both.partition("/")[0]
                if version != sent:
                    sent = version
                    yield f"data: {version}\n\n"
                part = await run_in_threadpool(self._next, job, task, seq, begin)
                if part is not None and (part.end, part.last.colored) != (begin, rest):
                    begin, rest = part.end, part.last.colored
                    news = {
                        "lines": [segments(line.colored) for line in part.lines],
                        "rest": segments(part.last.colored),
                        "skipped": part.skipped,
                        "end": part.end,
                    }
                    yield f"event: log\ndata: {json.dumps(news)}\n\n"

    def _next(self, job: str, task: str, seq: int, begin: int) -> LogPart | None:
        try:
            file = self._open(job, task, seq)
        except AirExecutorError:
            return None
        if file is None:
            return None
        with file:
            return next_part(file, begin)

    def log(self, request: Request) -> Response:
        """Return the whole log of a run unchanged, as a file to download."""
        try:
            job, task = (check_id(request.path_params[name]) for name in ("job", "task"))
            state = self._state(job)
            seq = int(request.query_params.get("run", "0"))
        except (AirExecutorError, ValueError):
            return _not_found()
        known = state.tasks.get(task)
        file = None if known is None else open_log(self._cache.client.layout, state, task, seq)
        if file is None:
            return _not_found()
        name = {"Content-Disposition": f'attachment; filename="{job}-{task}-{seq}.log"'}
        return StreamingResponse(_whole(file), 200, {**HEADERS, **name}, media_type="text/plain; charset=utf-8")


async def _whole(file: BinaryIO) -> AsyncIterator[bytes]:
    """Yield a log up to its present end."""
    with file:
        left = os.fstat(file.fileno()).st_size
        while left > 0 and (part := await run_in_threadpool(file.read, min(left, MAX_PART))):
            left -= len(part)
            yield part


def _not_found() -> Response:
    return PlainTextResponse("not found\n", 404, HEADERS)
