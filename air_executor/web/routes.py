"""The web page: which address shows what. Read-only; everything comes from files, so it works beside any manager.

Put together by `app` with what else a manager serves. Each address gives a whole page without any script; the script
only asks for the same address again when the address `…/events` says that something is new.
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

from air_executor.core.explanation import ExplainContext, explain_job, explain_task
from air_executor.errors import AirExecutorError, BadInputError, NotFoundError
from air_executor.model.names import check_id
from air_executor.model.state import RUNNING, JobState
from air_executor.store.presence import read_presence
from air_executor.store.run_logs import open_log
from air_executor.web import log_text, timeline, views
from air_executor.web.render import FOLDER, HEADERS, Lines, Pages
from air_executor.web.state_cache import JobSummary, StateCache, Unreadable
from air_executor.web.streams import Streams, short

if TYPE_CHECKING:
    from starlette.requests import Request

    from air_executor.client import Client
    from air_executor.settings import Settings

JOBS_AT_ONCE = 100
LONGEST_SEARCH = 100


def page_routes(client: Client, settings: Settings | None = None) -> list[BaseRoute]:
    """Return the page of one state directory. `settings` are for their limits, which explanations name."""
    site = _Routes(client, settings)
    streams = Streams(site.shelf)
    task = "/jobs/{job}/tasks/{task}"
    return [
        Route("/", _told(site, site.jobs)),
        Route("/events", streams.jobs),
        Route("/static/{name}", _static),
        Route("/jobs/{job}", _told(site, site.job)),
        Route("/jobs/{job}/events", streams.job),
        Route(task, _told(site, site.task)),
        Route(f"{task}/events", streams.task),
        Route(f"{task}/log", streams.log),
    ]


def _told(site: _Routes, show: Callable[[Request], Response]) -> Callable[[Request], Response]:
    """Return a handler that answers with a page also where there is nothing to show."""

    @functools.wraps(show)
    def answer(request: Request) -> Response:
        try:
            return show(request)
        except (NotFoundError, BadInputError) as error:
            return site.trouble(request, 404, "Not found", str(error))
        except AirExecutorError as error:
            return site.trouble(request, 503, "Cannot be read", str(error))

    return answer


def _static(request: Request) -> Response:
    name = request.path_params["name"]
    if name not in os.listdir(os.path.join(FOLDER, "static")):
        return Response(status_code=404, headers=HEADERS)
    with open(os.path.join(FOLDER, "static", name), "rb") as file:
        kind = mimetypes.guess_type(name)[0]
        return Response(file.read(), headers={**HEADERS, "Cache-Control": "no-cache"}, media_type=kind)


class _Routes:
    """Shows one state directory."""

    def __init__(self, client: Client, settings: Settings | None) -> None:
        self.shelf = StateCache(client)
        self._client = client
        self._settings = settings
        self._pages = Pages()

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

    def trouble(self, request: Request, status: int, title: str, message: str) -> Response:
        """Return a page that says what is wrong."""
        values = self._common(request, "", "") | {"title": title, "message": message}
        return self._pages.page("trouble.html", values, status)

    def jobs(self, request: Request) -> Response:
        """Show all jobs."""
        found, version = self.shelf.lines()
        phase, text = _asked(request, "phase"), _asked(request, "q")
        lines = [line for line in found if isinstance(line, JobSummary) and text in line.id]
        counts = Counter(line.phase for line in lines)
        shown = [line for line in lines if not phase or line.phase == phase]
        shown.sort(key=lambda line: (line.ended, -line.submitted_at, line.id))
        pages = max(1, math.ceil(len(shown) / JOBS_AT_ONCE))
        page = min(pages, _number(request, "page", 1))
        begin = (page - 1) * JOBS_AT_ONCE
        values = {
            "any": bool(found),
            "lines": [(line, views.shares_of(Counter(line.counts))) for line in shown[begin : begin + JOBS_AT_ONCE]],
            "begin": begin,
            "priced": any(line.costs for line in shown),
            "matching": len(shown),
            "counts": counts,
            "phase": phase,
            "text": text,
            "page": page,
            "pages": pages,
            "unreadable": [line for line in found if isinstance(line, Unreadable)],
            "open": sum(isinstance(line, JobSummary) and not line.ended for line in found),
        }
        return self._pages.page("jobs.html", self._common(request, version, "/events") | values)

    def job(self, request: Request) -> Response:
        """Show one job: its tasks in time, and its bill."""
        job, version = self._job(request)
        common = self._common(request, version, f"/jobs/{job.id}/events")
        now = common["now"]
        phase, text = _asked(request, "phase"), _asked(request, "q")
        placed = timeline.chosen(timeline.tree(job), phase, text)
        per_page = views.CHUNK * views.CHUNKS_AT_ONCE
        pages = max(1, math.ceil(len(placed) / per_page))
        page = min(pages, _number(request, "page", 1))
        first = (page - 1) * views.CHUNKS_AT_ONCE
        asked = request.query_params.get("chunks")
        wanted = set(range(first, first + views.CHUNKS_AT_ONCE)) if asked is None else _numbers(asked)
        within = timeline.window(job, now)
        values = {
            "job": job,
            "shares": views.shares(job),
            "phases": views.PHASES,
            "within": within,
            "chunks": views.chunks(placed, wanted, within, now),
            "matching": len(placed),
            "phase": phase,
            "text": text,
            "page": page,
            "pages": pages,
            "per_page": per_page,
            "explanation": self._explain(job, None, now),
            "cost": self.shelf.cost(job, version),
            "passed_over": common["manager"].passes_over(job.id, job.submitted_by),
        }
        return self._pages.page("job.html", common | values)

    def task(self, request: Request) -> Response:
        """Show one task: its runs, its result, and what a run of it printed."""
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
            msg = f"task {task.id} of job {job.id} has no run {asked} that is known"
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
            "log": None if part is None else Lines(part.text),
            "rest": None if part is None else Lines(part.rest),
            "explanation": self._explain(job, task.id, common["now"]),
        }
        return self._pages.page("task.html", common | values)

    def _job(self, request: Request) -> tuple[JobState, str]:
        return self.shelf.job(check_id(request.path_params["job"], "job"))

    def _explain(self, job: JobState, task: str | None, now: float) -> str:
        around = ExplainContext(now) if job.ended else self._around(job, now)
        with self.shelf.lock:  # it works out anew which tasks wait for which, on the tasks themselves
            return explain_job(job, around) if task is None else explain_task(job, job.tasks[task], around)

    def _around(self, job: JobState, now: float) -> ExplainContext:
        lines = [line for line in self.shelf.lines()[0] if isinstance(line, JobSummary)]
        phases = {line.uid: line.phase for line in lines}
        running: Counter[str] = Counter()
        for line in lines:
            running[line.queue] += line.counts.get(RUNNING, 0)
        manager, settings = read_presence(self._client.layout), self._settings
        return ExplainContext(
            now,
            manager=manager.running,
            backend=manager.backend,
            host=manager.record.get("host"),
            backend_problem=manager.backend_problem,
            waiting=manager.waiting.get(job.id),
            runners=self._client.runners(job),
            passed_over_for=(manager.only or ()) if manager.passes_over(job.id, job.submitted_by) else (),
            jobs={name: phases[uid] for name, uid in job.after_uids.items() if uid in phases},
            running=sum(running.values()),
            max_runners=None if settings is None else settings.max_runners,
            running_in_queue=running[job.queue],
            queue_limit=None if settings is None else settings.pools.get(job.queue),
        )


def _asked(request: Request, name: str) -> str:
    return request.query_params.get(name, "")[:LONGEST_SEARCH]


def _number(request: Request, name: str, default: int) -> int:
    text = request.query_params.get(name, "")
    return max(default, int(text)) if text.isascii() and text.isdecimal() and len(text) < 16 else default  # noqa: PLR2004


def _numbers(text: str) -> set[int]:
    return {int(part) for part in text[:1000].split(",") if part.isascii() and part.isdecimal()}
