"""Streams of server-sent events. Each can be resumed with `Last-Event-ID`: what happened meanwhile comes first.

An id says up to where a client knows the files, so nothing is kept for clients that are away. A slow client skips
states, never the newest one.
"""

# No `from __future__ import annotations`: FastAPI reads the annotations as they stand.

import codecs
import json
from collections.abc import AsyncIterator
from contextlib import aclosing
from typing import Annotated

from fastapi import APIRouter, Header
from starlette.concurrency import run_in_threadpool
from starlette.responses import Response, StreamingResponse

from air_executor.core.task_lookup import task_of
from air_executor.errors import AirExecutorError, BadInputError
from air_executor.model.state import JobState
from air_executor.store.job_summary import JobSummary, summary_of
from air_executor.store.json_output import job_line
from air_executor.web.api.api_context import ApiContext, Context
from air_executor.web.api.job_reads import opened_log
from air_executor.web.api.path_types import JobId, RunNumber, TaskId
from air_executor.web.api.schemas import READING
from air_executor.web.problem_details import API_HEADERS, TooOftenError

router = APIRouter(tags=["events"])

KEEP_ALIVE = 15.0
"""Seconds without news after which a stream sends a comment, which also detects closed connections."""
CHUNK = 64 * 1024
MOST_AT_ONCE = 500
"""Jobs of which a stream tells before it looks again."""

LastEventId = Annotated[
    str | None, Header(max_length=100, description="Id of the last event that the client has received.")
]
_STREAM = {200: {"description": "A stream of events.", "content": {"text/event-stream": {}}}} | READING


def _stream(context: ApiContext, events: AsyncIterator[str]) -> Response:
    if context.streams.full:
        msg = "too many streams are open; try again later"
        raise TooOftenError(msg)
    return context.streams.stream(events, API_HEADERS)


def _event(kind: str, place: str, data: object) -> str:
    return f"event: {kind}\nid: {place}\ndata: {json.dumps(data)}\n\n"


def _number(text: str | None, what: str) -> int:
    if text is None:
        return 0
    if not (text.isascii() and text.isdecimal() and len(text) < 20):  # noqa: PLR2004
        msg = f"Last-Event-ID: must be the id of {what}, got {text!r}"
        raise BadInputError(msg)
    return int(text)


@router.get("/events", response_class=StreamingResponse, responses=_STREAM, summary="Follow all jobs")
async def events(context: Context, last_event_id: LastEventId = None) -> Response:
    """Follow all jobs: an event `job` for each that is new or has changed, first for all that there are.

    Resumed, only for those that may have changed since; one that changed at that moment may come twice.
    """
    return _stream(context, _jobs(context, _number(last_event_id, "an event of this stream")))


async def _jobs(context: ApiContext, since: int) -> AsyncIterator[str]:
    sent: dict[str, int] = {}
    async with aclosing(context.watch.versions("", KEEP_ALIVE)) as versions:
        async for version in versions:
            if version is None:
                yield ":\n\n"
                continue
            more = True
            while more:
                changed = await run_in_threadpool(_changed, context, since, sent)
                more = len(changed) > MOST_AT_ONCE
                for at, job in changed[:MOST_AT_ONCE]:
                    since = max(since, at)
                    sent[job.id] = at
                    yield _event("job", str(at), job_line(job))
                # What changed before the newest time needs no memory: only equal times can come again.
                sent = {name: at for name, at in sent.items() if at >= since}


def _changed(context: ApiContext, since: int, sent: dict[str, int]) -> list[tuple[int, JobSummary]]:
    """Return the jobs whose files changed at or after a time, with that time, the earliest first."""
    found = []
    for job in context.cache.jobs()[0]:
        if isinstance(job, JobSummary):
            at = context.client.changed_at(job.id)[0]
            if at >= since and sent.get(job.id) != at:
                found.append((at, job))
    return sorted(found, key=lambda pair: (pair[0], pair[1].id))


@router.get("/jobs/{job}/events", response_class=StreamingResponse, responses=_STREAM, summary="Follow a job")
async def job_events(context: Context, job: JobId, last_event_id: LastEventId = None) -> Response:
    """Follow a job: an event `job` for each new state; the stream ends with the job."""
    state = (await run_in_threadpool(context.job, job))[0]
    return _stream(context, _one_job(context, state.id, last_event_id))


async def _one_job(context: ApiContext, job: str, known: str | None) -> AsyncIterator[str]:
    async with aclosing(context.watch.versions(job, KEEP_ALIVE)) as versions:
        async for version in versions:
            if version is None:
                yield ":\n\n"
                continue
            try:
                state, exact = await run_in_threadpool(_stamped, context, job)
            except AirExecutorError:
                return  # it was deleted
            if exact != known:
                known = exact
                yield _event("job", exact, job_line(summary_of(state)))
            if state.ended:
                return


def _stamped(context: ApiContext, job: str) -> tuple[JobState, str]:
    state = context.job(job)[0]
    return state, f"{state.epoch}.{state.version}"


@router.get(
    "/jobs/{job}/tasks/{task}/attempts/{run}/log/events",
    response_class=StreamingResponse,
    responses=_STREAM,
    summary="Follow the log of a run",
)
async def log_events(
    context: Context, job: JobId, task: TaskId, run: RunNumber, last_event_id: LastEventId = None
) -> Response:
    """Follow the output of a run: events `log` with `text`, and `end` when the run has ended. Ids are bytes."""
    begin = _number(last_event_id, "an event of this log")
    state = (await run_in_threadpool(context.job, job))[0]
    name = task_of(state, task).id
    (await run_in_threadpool(opened_log, context, state.id, name, run)).close()
    return _stream(context, _log(context, state.id, name, run, begin))


async def _log(context: ApiContext, job: str, task: str, run: int, begin: int) -> AsyncIterator[str]:
    async with aclosing(context.watch.versions(f"{job}/{task}/{run}", KEEP_ALIVE)) as versions:
        async for version in versions:
            if version is None:
                yield ":\n\n"
                continue
            more = True
            while more:
                try:
                    text, end, ended = await run_in_threadpool(_part, context, job, task, run, begin)
                except AirExecutorError:
                    return  # it was deleted
                more = end > begin
                if more:
                    begin = end
                    yield _event("log", str(end), {"text": text, "end": end})
                elif ended:
                    yield _event("end", str(end), {"end": end})
                    return


def _part(context: ApiContext, job: str, task: str, run: int, begin: int) -> tuple[str, int, bool]:
    """Return the next text of a log, where it ends, and whether the run had ended before it was read."""
    state = context.job(job)[0]
    found = task_of(state, task)
    # A state is a little older than the files of its newest run: one that it does not know yet has not ended.
    later = [one.seq for one in found.attempts] + ([] if found.run is None else [found.run.seq - 1])
    ended = (state.ended and state.seq >= run) or max(later, default=0) >= run
    with opened_log(context, job, task, run) as file:
        size = file.seek(0, 2)
        begin = begin if begin <= size else 0  # its task has cut it short
        file.seek(begin)
        data = file.read(CHUNK)
    decoder = codecs.getincrementaldecoder("utf-8")("replace")
    text = decoder.decode(data, final=ended and len(data) < CHUNK)
    return text, begin + len(data) - len(decoder.getstate()[0]), ended
