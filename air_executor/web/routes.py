"""The routes of the web page. They only read, and from files, so they work with any manager; its buttons call the API.

`asgi` serves them together with metrics and probes. Each address returns a whole page without any script; the script
only requests the same address again when the stream at `…/events` announces a new version.
"""

from __future__ import annotations

import functools
import math
import mimetypes
import os
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from air_executor.core.budget import budget_lines, reported_so_far
from air_executor.core.cost_query import KEYS, PERIODS, parse_keys
from air_executor.core.explanation import ExplainContext, explain_job, explain_task
from air_executor.core.questions import asking_now
from air_executor.core.short_reason import ShortReasons
from air_executor.core.task_graph import task_graph
from air_executor.core.value_text import value_text
from air_executor.errors import AirExecutorError, BadInputError, NotFoundError
from air_executor.model.callers import ANONYMOUS, Caller
from air_executor.model.names import check_id, parse_run_id
from air_executor.model.state import FAILED, RUNNING, JobState, TaskState
from air_executor.model.times import to_text
from air_executor.store import log_times
from air_executor.store.job_summary import JobSummary
from air_executor.store.presence import read_presence
from air_executor.store.run_logs import log_path, open_log
from air_executor.web import log_text, name_history, timeline, views
from air_executor.web.actions import SAMPLE, answers, job_actions, schedule_actions, task_actions
from air_executor.web.calendar import SCHEDULES, Calendar
from air_executor.web.cost_page import SPANS, cost_page, first_moment
from air_executor.web.graph_layout import placed
from air_executor.web.job_reasons import JobReasons
from air_executor.web.log_colors import segments
from air_executor.web.render import FOLDER, HEADERS, CleanText, Templates
from air_executor.web.rendered_jobs import RenderedJobs
from air_executor.web.runner_chart import runner_chart
from air_executor.web.state_cache import StateCache, UnreadableJob
from air_executor.web.streams import Streams, short

if TYPE_CHECKING:
    from starlette.requests import Request

    from air_executor.settings import Settings
    from air_executor.web.stream_limit import StreamLimit

JOBS_PER_PAGE = 100
MAX_SEARCH_TEXT = 100
NAMES_SHOWN = 20
QUESTIONS_SHOWN = 5
CHILDREN_SHOWN = PARAMS_SHOWN = 20
LAST_LINES = 6
"""Lines of the log of a failed task on the page of its job."""


def page_routes(cache: StateCache, settings: Settings | None, streams: StreamLimit) -> list[BaseRoute]:
    """Return the routes for one state directory. `settings` provide the limits that explanations name."""
    pages = _PageRoutes(cache, settings)
    live = Streams(cache, streams)
    task = "/jobs/{job}/tasks/{task}"
    return [
        Route("/", _with_errors(pages, pages.jobs)),
        Route("/events", live.jobs),
        Route("/static/{name}", _static),
        Route("/costs", _with_errors(pages, pages.costs)),
        Route("/schedules", _with_errors(pages, pages.schedules)),
        Route("/names/{name}", _with_errors(pages, pages.history)),
        Route("/jobs/{job}", RenderedJobs(cache, _with_errors(pages, pages.job)).page),
        Route("/jobs/{job}/events", live.job),
        Route(task, _with_errors(pages, pages.task)),
        Route(f"{task}/events", live.task),
        Route(f"{task}/log", live.log),
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

    def __init__(self, cache: StateCache, settings: Settings | None) -> None:
        self.cache = cache
        self._client = client = cache.client
        self._settings = settings
        self._templates = Templates()
        self._reasons = JobReasons(client, settings)
        self._calendar = Calendar()
        self._reporting = threading.Lock()
        """Held by the one report that is made at a time: it reads all jobs."""

    def _common(self, request: Request, version: str, events: str) -> dict[str, Any]:
        base = request.scope.get("root_path", "")
        return {
            "base": base,
            "root": self._client.layout.root,
            "now": time.time(),
            "version": short(version),
            "events": f"{base}{events}",
            "manager": read_presence(self._client.layout),
            "caller": _signed_in(request),
            "running": None,
        }

    def error(self, request: Request, status: int, title: str, message: str) -> Response:
        """Return a page about an error."""
        values = self._common(request, "", "") | {"title": title, "message": message}
        return self._templates.page("error.html", values, status)

    def jobs(self, request: Request) -> Response:
        """Show all jobs: what runs, then what failed lately, then the rest, each the newest first."""
        found, version = self.cache.jobs()
        common = self._common(request, version, "/events")
        phase, text = _search(request, "phase"), _search(request, "q")
        known = [job for job in found if isinstance(job, JobSummary)]
        wanted = text.lower()
        named = [job for job in known if not wanted or job.has(wanted)]
        counts = Counter(job.phase for job in named)
        shown = [job for job in named if not phase or job.phase == phase]
        shown.sort(key=lambda job: views.place_of(job, common["now"]))
        pages = max(1, math.ceil(len(shown) / JOBS_PER_PAGE))
        page = min(pages, _number(request, "page", 1))
        begin = (page - 1) * JOBS_PER_PAGE
        listed = shown[begin : begin + JOBS_PER_PAGE]
        reasons = self._reasons.of(listed, (job.facts for job in found), common["manager"], common["now"])
        names = name_history.names(known, self.cache.schedules.entries(common["now"]))
        sparks = [(one, name_history.bars(one.runs, common["now"])[0]) for one in names[:NAMES_SHOWN]]
        values = {
            "any": bool(found),
            "jobs": [(job, views.shares_of(Counter(job.counts)), reasons[job.id]) for job in listed],
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
            "open": any(not job.ended for job in known),
            "running": _running(known),
            "names": sparks,
            "all_names": len(names),
            "planned": any(one.schedule is not None for one in names),
            "actions": () if found else (SAMPLE,),
        }
        return self._templates.page("jobs.html", common | values)

    def history(self, request: Request) -> Response:
        """Show the runs of one name: their durations, and when the next one comes."""
        name = check_id(request.path_params["name"], "name")
        found, version = self.cache.jobs()
        common = self._common(request, version, "/events")
        runs = name_history.runs_of((job for job in found if isinstance(job, JobSummary)), name)
        schedule = self.cache.schedules.named(name, common["now"])
        if not runs and schedule is None:
            msg = f"there are no runs of {name}, and no schedule of this name"
            raise NotFoundError(msg)
        drawn, longest = name_history.bars(runs, common["now"])
        values = {
            "name": name,
            "running": _running(job for job in found if isinstance(job, JobSummary)),
            "runs": runs[: name_history.RUNS_SHOWN],
            "has_params": any(job.params for job in runs[: name_history.RUNS_SHOWN]),
            "bars": drawn,
            "longest": longest,
            "schedule": schedule,
            "actions": () if schedule is None else schedule_actions(schedule),
        }
        return self._templates.page("history.html", common | values)

    def schedules(self, request: Request) -> Response:
        """Show what the schedules start in the next days."""
        found, version = self.cache.jobs()
        common = self._common(request, version, "/events")
        listed = self.cache.schedules.entries(common["now"])
        planned = sum(one.next_at != one.never for one in listed)
        values = {
            "days": self._calendar.days(listed, common["now"]),
            "planned": planned,
            "shown": min(planned, SCHEDULES),
            "running": _running(job for job in found if isinstance(job, JobSummary)),
        }
        return self._templates.page("schedules.html", common | values)

    def costs(self, request: Request) -> Response:
        """Show what all jobs cost: by day, and by another key."""
        common = self._common(request, "", "")
        days, by = _number(request, "days", 0), _search(request, "by") or "pool"
        days = days if days in SPANS else SPANS[1]
        if len(parse_keys(by)) > 1 or by in PERIODS:
            msg = f"by: must be {', '.join(key for key in KEYS if key not in PERIODS)} or label=NAME, got {by!r}"
            raise BadInputError(msg)
        since = first_moment(days, common["now"])
        limits = () if self._settings is None else self._settings.cost.limits
        with self._reporting:
            report, unreadable = self._client.report(
                [], common["now"], by=f"day,{by}", since=since, pool_size=None, budgets=limits
            )
        labels = [f"label={name}" for name in (() if self._settings is None else self._settings.cost.labels)]
        values = {
            "page": cost_page(report, common["now"]),
            "unit": report.currency or "",
            "days": days,
            "spans": SPANS,
            "by": by,
            "keys": dict.fromkeys([*(key for key in KEYS if key not in PERIODS), *labels, by]),
            "since": to_text(since)[:10],
            "unreadable": len(unreadable),
        }
        return self._templates.page("costs.html", common | values)

    def job(self, request: Request) -> Response:
        """Show one job: its tasks in time, and its cost."""
        job, version = self._job(request)
        common = self._common(request, version, f"/jobs/{job.id}/events")
        now = common["now"]
        phase, text = _search(request, "phase"), _search(request, "q")
        every = "all" in request.query_params
        tree = timeline.tree(job, phase, text, fold=not every)
        per_page = views.CHUNK * views.CHUNKS_PER_PAGE
        pages = max(1, math.ceil(len(tree) / per_page))
        page = min(pages, _number(request, "page", 1))
        first = (page - 1) * views.CHUNKS_PER_PAGE
        asked = request.query_params.get("chunks")
        wanted = set(range(first, first + views.CHUNKS_PER_PAGE)) if asked is None else _numbers(asked)
        within = timeline.window(job, now)
        context = self._context(job, now)
        why = ShortReasons(job, context)
        counts = Counter(task.phase for task in job.tasks.values())
        failures, asking = views.failures_of(job), asking_now(job)
        cost = self.cache.cost(job, version)
        values = {
            "job": job,
            "shares": views.shares_of(counts),
            "counts": counts,
            "phases": views.TASK_PHASES,
            "within": within,
            "chunks": views.chunks(tree, wanted, within, why),
            "matching": len(tree),
            "has_many": any(not isinstance(row.entry, TaskState) for row in tree),
            "phase": phase,
            "text": text,
            "page": page,
            "pages": pages,
            "per_page": per_page,
            "explanation": explain_job(job, context),
            "cost": cost,
            "chart": runner_chart(job, cost.always_on, now),
            "budget": budget_lines(job, now),
            "reported": reported_so_far(job),
            "actions": job_actions(job),
            "params": [(name, value_text(value)) for name, value in list(job.spec.params.items())[:PARAMS_SHOWN]],
            "failures": [(task, views.outcome_of(task, why), self._last_lines(job, task)) for task in failures],
            "failed": counts[FAILED],
            "questions": [(task, answers(job, task)) for task in asking[:QUESTIONS_SHOWN]],
            "asking": len(asking),
            "every": every,
            **self._related(job),
            "graph": placed(task_graph(job)),
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
        shown = None if run is None else self._log(job, task.id, run.seq, before, _number(request, "log", 0))
        common = self._common(request, version, f"/jobs/{job.id}/tasks/{task.id}/events")
        context = self._context(job, common["now"])
        values = {
            "job": job,
            "task": task,
            "outcome": views.outcome_of(task, ShortReasons(job, context)),
            "actions": task_actions(job, task),
            "runs": runs,
            "images": list(dict.fromkeys(one.image for one in task.attempts if one.image)),
            "run": run,
            "asked": asked,
            "before": before,
            "part": None if shown is None else shown.part,
            "lines": () if shown is None else shown.rows,
            "rest": () if shown is None else segments(shown.part.last.colored),
            "next_line": None if shown is None else shown.next_line,
            "explanation": explain_task(job, task, context),
        }
        return self._templates.page("task.html", common | values)

    def _log(self, job: JobState, task: str, seq: int, before: int | None, known: int) -> views.ShownLog | None:
        """Return the log of a run; nothing of it where the page has it already: `known` is the run it shows."""
        file = open_log(self._client.layout, job, task, seq)
        if file is None:
            return None
        with file:
            if known == seq:
                return views.ShownLog.empty()
            part = log_text.last_part(file, before)
            times = log_times.read(log_path(self._client.layout, job, task, seq), file)
            return views.ShownLog.of(part, log_text.line_number(file, part.begin), times.at)

    def _last_lines(self, job: JobState, task: TaskState) -> CleanText:
        runs = views.runs_of(task)
        file = open_log(self._client.layout, job, task.id, runs[0].seq) if runs else None
        if file is None:
            return CleanText()
        with file:
            return CleanText("\n".join(log_text.last_lines(file, LAST_LINES)))

    def _related(self, job: JobState) -> dict[str, Any]:
        """Return the job whose run submitted this one, and those that its runs have submitted."""
        known = [one for one in self.cache.jobs()[0] if isinstance(one, JobSummary)]
        mine = parse_run_id(job.submitted_by or "")
        children = [one.id for one in known if one.submitted_by and one.submitted_by.startswith(f"{job.uid}-")]
        return {
            "parent": None if mine is None else next((one.id for one in known if one.uid == mine[0]), None),
            "children": children[:CHILDREN_SHOWN],
            "all_children": len(children),
        }

    def _job(self, request: Request) -> tuple[JobState, str]:
        return self.cache.job(check_id(request.path_params["job"], "job"))

    def _context(self, job: JobState, now: float) -> ExplainContext:
        jobs = [] if job.ended else [one.facts for one in self.cache.jobs()[0]]
        return self._client.explain_context(job, jobs, now, self._settings)


def _running(jobs: Iterable[JobSummary]) -> int:
    """Return how many tasks of these jobs run now."""
    return sum(job.counts[RUNNING] for job in jobs)


def _signed_in(request: Request) -> Caller | None:
    """Return who sent a token, as a browser does with a password; None: nobody did."""
    found: Caller = request.scope["state"]["caller"]
    return None if found is ANONYMOUS else found


def _search(request: Request, name: str) -> str:
    return request.query_params.get(name, "")[:MAX_SEARCH_TEXT]


def _number(request: Request, name: str, default: int) -> int:
    text = request.query_params.get(name, "")
    return max(default, int(text)) if text.isascii() and text.isdecimal() and len(text) < 16 else default  # noqa: PLR2004


def _numbers(text: str) -> set[int]:
    return {int(part) for part in text[:1000].split(",") if part.isascii() and part.isdecimal()}
