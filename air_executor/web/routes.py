"""The routes of the web page. Read-only: everything comes from files, so it works with any manager.

`asgi` serves them together with metrics and probes. Each address returns a whole page without any script; the script
only requests the same address again when the stream at `…/events` announces a new version.
"""

from __future__ import annotations

import functools
import math
import mimetypes
import os
import time
from collections import Counter
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from air_executor.core.explanation import explain_job, explain_task
from air_executor.errors import AirExecutorError, BadInputError, NotFoundError
from air_executor.model.names import check_id
from air_executor.model.state import JobState
from air_executor.store.job_summary import JobSummary
from air_executor.store.presence import read_presence
from air_executor.store.run_logs import open_log
from air_executor.web import log_text, timeline, views
from air_executor.web.render import FOLDER, HEADERS, CleanText, Templates
from air_executor.web.state_cache import StateCache, UnreadableJob
from air_executor.web.streams import Streams, short

if TYPE_CHECKING:
    from starlette.requests import Request

    from air_executor.client import Client
    from air_executor.settings import Settings

JOBS_PER_PAGE = 100
MAX_SEARCH_TEXT = 100


def page_routes(client: Client, settings: Settings | None = None) -> list[BaseRoute]:
    """Return the routes for one state directory. `settings` provide the limits that explanations name."""
    pages = _PageRoutes(client, settings)
    streams = Streams(pages.cache)
    task = "/jobs/{job}/tasks/{task}"
    return [
        Route("/", _with_errors(pages, pages.jobs)),
        Route("/events", streams.jobs),
        Route("/static/{name}", _static),
        Route("/jobs/{job}", _with_errors(pages, pages.job)),
        Route("/jobs/{job}/events", streams.job),
        Route(task, _with_errors(pages, pages.task)),
        Route(f"{task}/events", streams.task),
        Route(f"{task}/log", streams.log),
    ]


def _with_errors(pages: _PageRoutes, show: Callable[[Request], Response]) -> Callable[[Request], Response]:
    """Return a handler that answers errors with a page of their own."""

    @functools.wraps(show)
    def answer(request: Request) -> Response:
        try:
            return show(request)
        except (NotFoundError, BadInputError) as error:
            return pages.error(request, 404, "Not found", str(error))
        except AirExecutorError as error:
            return pages.error(request, 503, "Cannot be read", str(error))

    return answer


def _static(request: Request) -> Response:
    name = request.path_params["name"]
    if name not in os.listdir(os.path.join(FOLDER, "static")):
        return Response(status_code=404, headers=HEADERS)
    with open(os.path.join(FOLDER, "static", name), "rb") as file:
        kind = mimetypes.guess_type(name)[0]
        return Response(file.read(), headers={**HEADERS, "Cache-Control": "no-cache"}, media_type=kind)


class _PageRoutes:
    """The pages of one state directory."""

    def __init__(self, client: Client, settings: Settings | None) -> None:
        self.cache = StateCache(client)
        self._client = client
        self._settings = settings
        self._templates = Templates()

    def _common(self, request: Request, version: str, events: str) -> dict[str, Any]:
        base = request.scope.get("root_path", "")
        return {
            "base": base,
            "root": self._client.layout.root,
            "now": time.time(),
            "version": short(version),
            "events": f"{base}{events}",
            "manager": read_presence(self._client.layout),
        }

    def error(self, request: Request, status: int, title: str, message: str) -> Response:
        """Return a page about an error."""
        values = self._common(request, "", "") | {"title": title, "message": message}
        return self._templates.page("error.html", values, status)

    def jobs(self, request: Request) -> Response:
        """Show all jobs."""
        found, version = self.cache.jobs()
        phase, text = _search(request, "phase"), _search(request, "q")
        named = [job for job in found if isinstance(job, JobSummary) and text in job.id]
        counts = Counter(job.phase for job in named)
        shown = [job for job in named if not phase or job.phase == phase]
        shown.sort(key=lambda job: (job.ended, -job.submitted_at, job.id))
        pages = max(1, math.ceil(len(shown) / JOBS_PER_PAGE))
        page = min(pages, _number(request, "page", 1))
        begin = (page - 1) * JOBS_PER_PAGE
        values = {
            "any": bool(found),
            "jobs": [(job, views.shares_of(Counter(job.counts))) for job in shown[begin : begin + JOBS_PER_PAGE]],
            "begin": begin,
            "priced": any(job.costs for job in shown),
            "matching": len(shown),
            "counts": counts,
            "phases": views.JOB_PHASES,
            "phase": phase,
            "text": text,
            "page": page,
            "pages": pages,
            "unreadable": [job for job in found if isinstance(job, UnreadableJob)],
            "open": sum(isinstance(job, JobSummary) and not job.ended for job in found),
        }
        return self._templates.page("jobs.html", self._common(request, version, "/events") | values)

    def job(self, request: Request) -> Response:
        """Show one job: its tasks in time, and its cost."""
        job, version = self._job(request)
        common = self._common(request, version, f"/jobs/{job.id}/events")
        now = common["now"]
        phase, text = _search(request, "phase"), _search(request, "q")
        tree = timeline.filtered(timeline.tree(job), phase, text)
        per_page = views.CHUNK * views.CHUNKS_PER_PAGE
        pages = max(1, math.ceil(len(tree) / per_page))
        page = min(pages, _number(request, "page", 1))
        first = (page - 1) * views.CHUNKS_PER_PAGE
        asked = request.query_params.get("chunks")
        wanted = set(range(first, first + views.CHUNKS_PER_PAGE)) if asked is None else _numbers(asked)
        within = timeline.window(job, now)
        counts = Counter(task.phase for task in job.tasks.values())
        values = {
            "job": job,
            "shares": views.shares_of(counts),
            "counts": counts,
            "phases": views.TASK_PHASES,
            "within": within,
            "chunks": views.chunks(tree, wanted, within, now),
            "matching": len(tree),
            "phase": phase,
            "text": text,
            "page": page,
            "pages": pages,
            "per_page": per_page,
            "explanation": self._explain(job, None, now),
            "cost": self.cache.cost(job, version),
        }
        return self._templates.page("job.html", common | values)

    def task(self, request: Request) -> Response:
        """Show one task: its runs, its result, and the log of a run."""
        job, version = self._job(request)
        name = request.path_params["task"]
        task = job.tasks.get(name)
        if task is None:
            msg = f"job {job.id} has no task {name}"
            raise NotFoundError(msg)
        runs = views.runs_of(task)
        asked = _number(request, "run", 0)
        run = next((run for run in runs if run.seq == asked), None if asked else next(iter(runs), None))
        if asked and run is None:
            msg = f"task {task.id} of job {job.id} has no run {asked}"
            raise NotFoundError(msg)
        before = _number(request, "before", 0) or None
        part = None
        if run is not None and (file := open_log(self._client.layout, job, task.id, run.seq)) is not None:
            with file:
                part = log_text.last_part(file, before)
        common = self._common(request, version, f"/jobs/{job.id}/tasks/{task.id}/events")
        values = {
            "job": job,
            "task": task,
            "outcome": views.outcome_of(task, common["now"]),
            "runs": runs,
            "run": run,
            "asked": asked,
            "before": before,
            "part": part,
            "log": None if part is None else CleanText(part.text),
            "rest": None if part is None else CleanText(part.rest),
            "explanation": self._explain(job, task.id, common["now"]),
        }
        return self._templates.page("task.html", common | values)

    def _job(self, request: Request) -> tuple[JobState, str]:
        return self.cache.job(check_id(request.path_params["job"], "job"))

    def _explain(self, job: JobState, task: str | None, now: float) -> str:
        jobs = [] if job.ended else [one.facts for one in self.cache.jobs()[0]]
        context = self._client.explain_context(job, jobs, now, self._settings)
        return explain_job(job, context) if task is None else explain_task(job, job.tasks[task], context)


def _search(request: Request, name: str) -> str:
    return request.query_params.get(name, "")[:MAX_SEARCH_TEXT]


def _number(request: Request, name: str, default: int) -> int:
    text = request.query_params.get(name, "")
    return max(default, int(text)) if text.isascii() and text.isdecimal() and len(text) < 16 else default  # noqa: PLR2004


def _numbers(text: str) -> set[int]:
    return {int(part) for part in text[:1000].split(",") if part.isascii() and part.isdecimal()}
