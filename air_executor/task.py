"""What a running task may say to Air-Executor: queue more work, leave a result, read its inputs.

Called by users' code inside a task, in whatever Python the task's image has: Python 3.8 syntax, the standard library
alone, and next to nothing at import. It must not know jobs' states or managers; files named in the environment
(`AIR_QUEUE`, `AIR_RESULT`, `AIR_INPUTS`) are all there is. What is queued or left here is booked only if the run
succeeds, and then exactly once.

The manager also puts a copy of this one file on the task's `PYTHONPATH`, as `air_executor.py`, so that
`from air_executor import queue_tasks` works in any image; see the last lines.
"""

from __future__ import annotations

import os

TYPE_CHECKING = False  # the one in `typing` would cost more than all the rest of this file
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from typing import Any

__all__ = ["RESULT_LIMIT", "context", "inputs", "queue_job", "queue_tasks", "set_result"]

RESULT_LIMIT = 16 * 1024
"""Largest result, in bytes of JSON; bigger data belongs in the workspace."""


def queue_tasks(tasks: Iterable[Mapping[str, Any]]) -> None:
    """Queue tasks of this job, in this order: mappings with the fields of a task in a job file.

    Either all of them are written or none; what is wrong with a field's value comes out at booking. `{"job": {...}}`
    in place of a task submits a whole new job.

    Raises:
        RuntimeError: not called inside a task.
        TypeError: one of them is not a mapping, or holds something that JSON cannot express.
        ValueError: one of them holds a number that JSON cannot express, or itself.
        OSError: the queue file cannot be written.
    """
    path = _variable("AIR_QUEUE")
    if hasattr(tasks, "keys"):
        msg = "queue_tasks takes a list of tasks, and was given a single mapping; put it in a list"
        raise TypeError(msg)
    lines = []
    for index, task in enumerate(tasks):
        if not hasattr(task, "keys"):
            msg = f"task {index} must be a mapping such as {{'command': ...}}, not {type(task).__name__}"
            raise TypeError(msg)
        lines.append(_to_json(dict(task), f"task {index}") + b"\n")
    if lines:
        _append(path, b"".join(lines))


def queue_job(job: Mapping[str, Any]) -> None:
    """Submit a whole new job, as a job file describes it, when this run has succeeded.

    Raises:
        RuntimeError: not called inside a task.
        TypeError: `job` is not a mapping, or holds something that JSON cannot express.
        ValueError: it holds a number that JSON cannot express, or itself.
        OSError: the queue file cannot be written.
    """
    path = _variable("AIR_QUEUE")
    if not hasattr(job, "keys"):
        msg = f"a job must be a mapping such as {{'id': ..., 'tasks': [...]}}, not {type(job).__name__}"
        raise TypeError(msg)
    _append(path, _to_json({"job": dict(job)}, "the job") + b"\n")


def set_result(value: Any) -> None:  # noqa: ANN401 - any JSON value is a result
    """Leave `value` as this task's result, in place of what was left before; up to 16 KiB as JSON.

    Raises:
        RuntimeError: not called inside a task.
        TypeError: JSON cannot express the value.
        ValueError: the same for a number or a circle, or the result is too large.
        OSError: the result file cannot be written.
    """
    path = _variable("AIR_RESULT")
    data = _to_json(value, "the result")
    if len(data) > RESULT_LIMIT:
        msg = (
            f"the result has {len(data)} bytes as JSON, at most {RESULT_LIMIT} are kept; "
            "write it to a file in the workspace and leave the file's name as the result"
        )
        raise ValueError(msg)
    aside = f"{path}.{os.getpid()}.tmp"
    try:
        with open(aside, "wb") as file:
            file.write(data)
        os.replace(aside, path)
    except OSError:
        _discard(aside)
        raise


def inputs() -> dict[str, Any]:
    """Return the results of all tasks that succeeded so far in this job, by task id.

    Raises:
        RuntimeError: not called inside a task.
    """
    path = _variable("AIR_INPUTS")
    try:
        with open(path, "rb") as file:
            data = file.read()
    except FileNotFoundError:
        return {}
    import json  # noqa: PLC0415 - a task that reads no inputs should not pay for it

    found: dict[str, Any] = json.loads(data) if data.strip() else {}
    return found


def context() -> dict[str, Any]:
    """Return `job_id`, `task_id`, `run_id`, `attempt` (1, 2, ...) and `workspace` (a path) of the running task.

    Raises:
        RuntimeError: not called inside a task.
    """
    return {
        "job_id": _variable("AIR_JOB_ID"),
        "task_id": _variable("AIR_TASK_ID"),
        "run_id": _variable("AIR_RUN_ID"),
        "attempt": int(_variable("AIR_ATTEMPT")),
        "workspace": _variable("AIR_WORKSPACE"),
    }


def _variable(name: str) -> str:
    value = os.environ.get(name)
    if not value:
        msg = f"{name} is not set: this works only inside a task that Air-Executor runs"
        raise RuntimeError(msg)
    return value


def _to_json(value: Any, what: str) -> bytes:  # noqa: ANN401 - any value may be tried
    import json  # noqa: PLC0415 - importing this module has to stay cheap

    try:
        # ASCII, so that lone surrogates (undecodable file names) pass; NaN is not JSON.
        return json.dumps(value, allow_nan=False, separators=(",", ":")).encode("ascii")
    except (TypeError, ValueError, RecursionError) as error:
        msg = f"{what} cannot be written as JSON: {error}"
        raise (TypeError if isinstance(error, TypeError) else ValueError)(msg) from None


def _append(path: str, data: bytes) -> None:
    # One write to a file opened for appending: lines of tasks' concurrent processes do not mix.
    fd = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | getattr(os, "O_CLOEXEC", 0), 0o666)
    try:
        size = os.fstat(fd).st_size
        written = os.write(fd, data)
        if written != len(data):
            # A full volume took a part. Half a line would fail the run for the wrong reason; but cut only what is ours.
            if os.fstat(fd).st_size == size + written:
                os.ftruncate(fd, size)
            msg = f"{path}: only {written} of {len(data)} bytes could be written"
            raise OSError(msg)
    finally:
        os.close(fd)


def _discard(path: str) -> None:
    try:  # noqa: SIM105
        os.unlink(path)
    except OSError:
        pass  # the error that led here says more


def _step_aside() -> None:
    # `PYTHONPATH` comes before site-packages, so this copy would hide an installed Air-Executor and all its modules.
    import importlib.machinery  # noqa: PLC0415
    import importlib.util  # noqa: PLC0415
    import sys  # noqa: PLC0415

    here = os.path.dirname(os.path.abspath(__file__))
    elsewhere = [path for path in sys.path if os.path.abspath(path or os.curdir) != here]
    # The meta path is asked as `import` would, or an editable installation would not be seen.
    for finder in sys.meta_path:
        search = elsewhere if finder is importlib.machinery.PathFinder else None
        spec = finder.find_spec(__name__, search, None) if hasattr(finder, "find_spec") else None
        if spec is None or spec.loader is None or spec.submodule_search_locations is None:
            continue
        package = importlib.util.module_from_spec(spec)
        copy = sys.modules[__name__]
        sys.modules[__name__] = package  # what `import` hands out is what stands here when this file has run
        try:
            spec.loader.exec_module(package)
        except BaseException:
            sys.modules[__name__] = copy
            raise
        return


if __name__ == "air_executor":
    _step_aside()
