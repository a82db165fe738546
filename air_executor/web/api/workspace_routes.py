"""The workspaces of jobs: files in and out, for those who may change the job. No link is followed."""

# No `from __future__ import annotations`: FastAPI reads the annotations as they stand.

import io
from typing import Annotated

from fastapi import APIRouter, Query, Request
from starlette.concurrency import run_in_threadpool
from starlette.responses import Response

from air_executor.errors import AirExecutorError
from air_executor.model.callers import SUBMITTER
from air_executor.web.api.api_context import Change, Context, answer, needs
from air_executor.web.api.job_reads import RANGED, ranged
from air_executor.web.api.path_types import JobId
from air_executor.web.api.schemas import CHANGING, answers, problems
from air_executor.web.problem_details import API_HEADERS, UnsupportedError

router = APIRouter(tags=["workspaces"])

BYTES = "application/octet-stream"
Submits = Annotated[Change, needs(SUBMITTER)]
FilePath = Annotated[str, Query(max_length=4096, description="Path within the workspace: relative, without `..`.")]


@router.get(
    "/jobs/{job}/workspace",
    responses=answers("FileList", "Its files.") | CHANGING,
    summary="List the files of a workspace",
)
def files(change: Submits, context: Context, job: JobId, path: FilePath = "") -> Response:
    """List the regular files at or below a path, at most 10,000; links are left out."""
    state = context.job(job)[0]
    change.on(state.id)
    found = [
        {"path": one.path, "size": one.size, "executable": one.executable}
        for one in context.client.workspaces.files(state.id, path)
        if one.path.isprintable()  # another name cannot be JSON
    ]
    return answer({"files": found})


@router.get(
    "/jobs/{job}/workspace/file",
    response_class=Response,
    responses={
        200: {"description": "The file.", "content": {BYTES: {}}},
        206: {"description": "The part that `Range` asks for.", "content": {BYTES: {}}},
    }
    | problems(416)
    | CHANGING,
    summary="Read a file of a workspace",
)
def read(request: Request, change: Submits, context: Context, job: JobId, path: FilePath) -> Response:
    """Read a file as it is; `Range: bytes=…` asks for a part."""
    state = context.job(job)[0]
    change.on(state.id)
    return ranged(context.client.workspaces.open(state.id, path), request.headers.get(RANGED, ""), BYTES)


@router.put(
    "/jobs/{job}/workspace/file",
    status_code=204,
    openapi_extra={
        "requestBody": {
            "required": True,
            "description": "The content, at most 16 MiB.",
            "content": {BYTES: {"schema": {"type": "string", "format": "binary"}}},
        }
    },
    responses=CHANGING,
    summary="Write a file of a workspace",
)
async def write(  # noqa: PLR0917 - a route has its parameters as arguments
    request: Request,
    change: Submits,
    context: Context,
    job: JobId,
    path: FilePath,
    executable: Annotated[bool, Query(description="Whether it may be executed.")] = False,  # noqa: FBT002 - a query
) -> Response:
    """Write a file whole, in place of another one; folders are made as needed."""
    body = io.BytesIO(await request.body())
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    await run_in_threadpool(_write, change, context, job, path, body, kind, executable)
    return Response(None, 204, API_HEADERS)


def _write(  # noqa: PLR0917 - as called
    change: Change,
    context: Context,
    job: str,
    path: str,
    body: io.BytesIO,
    kind: str,
    executable: bool,  # noqa: FBT001 - as called
) -> None:
    state = context.job(job)[0]
    change.on(state.id)
    if kind != BYTES:  # forms of other sites cannot send it
        msg = f"Content-Type must be {BYTES}"
        raise UnsupportedError(msg)
    line = change.note("workspace push", state.id)
    try:
        context.client.workspaces.write(state.id, path, body, executable=executable)
    except AirExecutorError as error:
        change.refused(line, error)
        raise
