"""The workspaces of jobs: files in and out, for those who may change the job. No link is followed."""

# No `from __future__ import annotations`: FastAPI reads the annotations as they stand.

from typing import Annotated

from fastapi import APIRouter, Query, Request
from starlette.concurrency import run_in_threadpool
from starlette.responses import Response
from starlette.types import Scope

from air_executor.errors import AirExecutorError
from air_executor.model.callers import SUBMITTER, AuditLine
from air_executor.web.api.api_context import Change, Context, answer, needs
from air_executor.web.api.job_reads import RANGED, ranged
from air_executor.web.api.path_types import JobId
from air_executor.web.api.schemas import CHANGING, answers, problems
from air_executor.web.problem_details import API_HEADERS, UnsupportedError

router = APIRouter(tags=["workspaces"])

BYTES = "application/octet-stream"
Submits = Annotated[Change, needs(SUBMITTER)]
FilePath = Annotated[str, Query(max_length=4096, description="Path within the workspace: relative, without `..`.")]


def is_upload(scope: Scope) -> bool:
    """Tell whether a request writes a file, whose body is read as it comes."""
    return scope["method"] == "PUT" and bool(scope["path"].endswith("/workspace/file"))


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
            "description": "The content, at most `AIR_UPLOAD_LIMIT` bytes.",
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
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    found, line = await run_in_threadpool(_begin, change, context, job, kind)
    try:
        target = await run_in_threadpool(context.client.workspaces.replacing, found, path, executable=executable)
        await context.uploads.receive(request, target)
    except AirExecutorError as error:
        await run_in_threadpool(change.refused, line, error)
        raise
    return Response(None, 204, API_HEADERS)


def _begin(change: Change, context: Context, job: str, kind: str) -> tuple[str, AuditLine]:
    """Check what can be checked before the file comes, and note it in the audit log; return the id of the job, too."""
    state = context.job(job)[0]
    change.on(state.id)
    if kind != BYTES:  # forms of other sites cannot send it
        msg = f"Content-Type must be {BYTES}"
        raise UnsupportedError(msg)
    return state.id, change.note("workspace push", state.id)
