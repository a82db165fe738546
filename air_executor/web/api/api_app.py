"""The API as an application: its routes, its errors, and its document."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.responses import Response

from air_executor.errors import AirExecutorError
from air_executor.model.plain_text import clean
from air_executor.store.audit import AuditLog
from air_executor.web.api import (
    directory_reads,
    event_routes,
    job_changes,
    job_reads,
    schedule_routes,
    workspace_routes,
)
from air_executor.web.api.api_context import ApiContext
from air_executor.web.api.schemas import components
from air_executor.web.api.uploads import Uploads
from air_executor.web.body_limit import BodyLimit
from air_executor.web.file_watch import FileWatch
from air_executor.web.problem_details import problem, problem_of
from air_executor.web.streams import short

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.types import ASGIApp

    from air_executor.settings import Settings
    from air_executor.web.state_cache import StateCache
    from air_executor.web.stream_limit import StreamLimit

VERSION = "1"
PATH = "/api/v1"
_TITLE = "Air-Executor"
_QUIET: dict[str, Any] = {
    "telemetry": {"auto_configure": False, "tracing": False, "metrics": False, "logs": False, "operation_spans": False}
}
"""Newer versions export traces and metrics of their own where variables say so; older ones ignore this."""
_ABOUT = (
    "Jobs, tasks, schedules and costs of one state directory. Files stay the truth: what takes effect is stored as "
    "a request file first, and the answer says whether a manager has applied it. Errors are problem details."
)


def make_api(cache: StateCache, settings: Settings, streams: StreamLimit) -> ASGIApp:
    """Return the API of a state directory; it is to be mounted at `PATH`."""
    app = make_routes()
    app.state.context = ApiContext(
        cache,
        settings,
        AuditLog(cache.client.layout.audit),
        FileWatch(lambda topic: _version(cache, topic)),
        Uploads(settings.upload_limit),
        streams,
    )
    return BodyLimit(app, workspace_routes.is_upload)


def make_routes() -> FastAPI:
    """Return the routes and their document, without a state directory."""
    app = FastAPI(
        title=_TITLE,
        version=VERSION,
        description=_ABOUT,
        docs_url=None,  # it loads scripts from elsewhere
        redoc_url=None,
        openapi_url="/openapi.json",
        redirect_slashes=False,
        separate_input_output_schemas=False,
        **_QUIET,
    )
    for module in (job_reads, job_changes, schedule_routes, directory_reads, event_routes, workspace_routes):
        app.router.routes.extend(module.router.routes)  # an included router is asked again for each request
    app.add_exception_handler(AirExecutorError, _failed)
    app.add_exception_handler(RequestValidationError, _invalid)
    app.add_exception_handler(HTTPException, _refused)
    app.openapi = lambda: document(app)  # type: ignore[method-assign]
    return app


def _version(cache: StateCache, topic: str) -> str:
    """Return the version of all jobs (""), of one job, or of one job and a run's log (`<job>/<task>/<run>`)."""
    job, _, run = topic.partition("/")
    if not job:
        return short(cache.version_of_all())
    version = short(cache.version_of(job))
    if not run:
        return version
    from air_executor.store.run_logs import log_path  # noqa: PLC0415 - for few streams

    task, _, seq = run.partition("/")
    try:
        path = log_path(cache.client.layout, cache.job(job)[0], task, int(seq))
        return f"{version}/{os.lstat(path).st_size}"
    except (AirExecutorError, OSError):
        return version


async def _failed(_: Request, error: Exception) -> Response:
    return problem_of(error) if isinstance(error, AirExecutorError) else problem(500, "error", "internal error")


async def _invalid(_: Request, error: Exception) -> Response:
    found = error.errors() if isinstance(error, RequestValidationError) else []
    lines = [f"{'.'.join(str(part) for part in one['loc'])}: {one['msg']}" for one in found[:20]]
    return problem(422, "bad-input", clean("; ".join(lines)))


async def _refused(_: Request, error: Exception) -> Response:
    if not isinstance(error, HTTPException):
        return problem(500, "error", "internal error")
    words = {404: "not-found", 405: "method-not-allowed"}
    detail = {404: "the API has no such path", 405: "the path takes other methods"}.get(error.status_code)
    return problem(
        error.status_code, words.get(error.status_code, "error"), detail or str(error.detail), dict(error.headers or {})
    )


def document(app: FastAPI) -> dict[str, Any]:
    """Return the OpenAPI document."""
    if app.openapi_schema is None:
        found = FastAPI.openapi(app)
        found["servers"] = [{"url": PATH}]
        found["security"] = [{"token": []}, {}]
        named = found.setdefault("components", {})
        named["schemas"] = components()
        named["securitySchemes"] = {
            "token": {"type": "http", "scheme": "bearer", "description": "As `air-executor token create` prints it."}
        }
        app.openapi_schema = found
    return app.openapi_schema
