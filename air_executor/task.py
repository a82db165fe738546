"""The in-task API: queue tasks and jobs, set a result, read inputs and outcomes, run again later.

Users' code imports it inside a task, with the Python of the task's image. So it keeps to Python 3.8 syntax and the
standard library, and imports almost nothing at load time. It must not know job states or managers: its only interface
is the files named by `AIR_QUEUE`, `AIR_RESULT`, `AIR_INPUTS` and `AIR_OUTCOMES`. The manager commits queued tasks and
the result only if the run succeeds, and exactly once.

The manager also puts a copy of this file on the task's `PYTHONPATH`, as `air_executor.py`, so that
`from air_executor import queue_tasks` works in any image. `_step_aside` handles an installed package.
"""

from __future__ import annotations

import os

TYPE_CHECKING = False  # importing `typing` would cost more than the rest of this file
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from typing import Any

__all__ = [
    "RESULT_LIMIT",
    "context",
    "inputs",
    "outcomes",
    "progress",
    "queue_job",
    "queue_tasks",
    "run_again",
    "set_result",
    "usage",
]

RESULT_LIMIT = 16 * 1024
"""Maximum size of a result, in bytes of JSON. Write larger data to the workspace."""


def queue_tasks(tasks: Iterable[Mapping[str, Any]]) -> None:
    """Queue tasks of this job, in order. Each is a mapping with the task fields of a job file.

    Writes all tasks or none. The manager validates field values when it commits the run. An element `{"job": {...}}`
    submits a new job.

    Raises:
        RuntimeError: called outside of a task.
        TypeError: an element is not a mapping, or contains a type that JSON cannot express.
        ValueError: an element contains a number that JSON cannot express, or itself.
        OSError: the queue file cannot be written.
    """
    path = _variable("AIR_QUEUE")
    if hasattr(tasks, "keys"):
        msg = "queue_tasks takes a list of tasks, got a single mapping; put it in a list"
        raise TypeError(msg)
    lines = []
    for index, task in enumerate(tasks):
        if not hasattr(task, "keys"):
            msg = f"task {index} must be a mapping such as {{'command': ...}}, got {type(task).__name__}"
            raise TypeError(msg)
        lines.append(_to_json(dict(task), f"task {index}") + b"\n")
    if lines:
        _append(path, b"".join(lines))


def queue_job(job: Mapping[str, Any], *, join: bool = False) -> None:
    """Submit a new job, a mapping as in a job file, once this run has succeeded.

    `join`: what comes after this task waits for the end of that job, too, and has its results among its inputs.

    Raises:
        RuntimeError: called outside of a task.
        TypeError: `job` is not a mapping, or contains a type that JSON cannot express.
        ValueError: it contains a number that JSON cannot express, or itself.
        OSError: the queue file cannot be written.
    """
    path = _variable("AIR_QUEUE")
    if not hasattr(job, "keys"):
        msg = f"a job must be a mapping such as {{'id': ..., 'tasks': [...]}}, got {type(job).__name__}"
        raise TypeError(msg)
    line = {"job": dict(job), "join": True} if join else {"job": dict(job)}
    _append(path, _to_json(line, "the job") + b"\n")


def run_again(delay: float | str | None = None) -> None:
    """Ask for another run of this task once this one has succeeded: after seconds or text like `10m`.

    Without a delay, after the task's `again_delay`. No retry is charged.

    Raises:
        RuntimeError: called outside of a task.
        OSError: the queue file cannot be written.
    """
    path = _variable("AIR_QUEUE")
    _append(path, _to_json({"again": {} if delay is None else {"delay": delay}}, "the delay") + b"\n")


def progress(done: float, of: float | None = None, note: str | None = None) -> None:
    """Report how far this task is: 3 of 10, and what it is at. Shown while it runs; the newest report counts.

    Raises:
        RuntimeError: called outside of a task.
        TypeError: an argument is of a type that JSON cannot express.
        ValueError: it is a number that JSON cannot express.
        OSError: the queue file cannot be written.
    """
    path = _variable("AIR_QUEUE")
    report = {"done": done, "of": of, "note": note}
    found = {name: value for name, value in report.items() if value is not None}
    _append(path, _to_json({"progress": found}, "the progress") + b"\n")


def usage(amounts: Mapping[str, float] | None = None, **more: float) -> None:
    """Report what this task has used since it last did, by name: `usage(usd=0.35, tokens=1200)`.

    It counts at once, and also if the run fails.

    Raises:
        RuntimeError: called outside of a task.
        TypeError: an amount is of a type that JSON cannot express.
        ValueError: it is a number that JSON cannot express.
        OSError: the queue file cannot be written.
    """
    path = _variable("AIR_QUEUE")
    _append(path, _to_json({"usage": {**dict(amounts or {}), **more}}, "the usage") + b"\n")


def set_result(value: Any) -> None:  # noqa: ANN401 - any JSON value is a result
    """Set this task's result, replacing an earlier one. At most 16 KiB as JSON.

    Raises:
        RuntimeError: called outside of a task.
        TypeError: the value contains a type that JSON cannot express.
        ValueError: it contains a number that JSON cannot express, or itself, or is too large.
        OSError: the result file cannot be written.
    """
    path = _variable("AIR_RESULT")
    data = _to_json(value, "the result")
    if len(data) > RESULT_LIMIT:
        msg = (
            f"the result has {len(data)} bytes as JSON, the maximum is {RESULT_LIMIT}; "
            "write it to a file in the workspace and set its name, or queue a task for each of its items"
        )
        raise ValueError(msg)
    staged = f"{path}.{os.getpid()}.tmp"
    try:
        with open(staged, "wb") as file:
            file.write(data)
        os.replace(staged, path)
    except OSError:
        _discard(staged)
        raise


def inputs() -> dict[str, Any]:
    """Return the results of the job's tasks that succeeded before this run started, by task id.

    Raises:
        RuntimeError: called outside of a task.
    """
    return _read_object("AIR_INPUTS")


def outcomes() -> dict[str, dict[str, Any]]:
    """Return how the job's tasks ended that had ended before this run started, by task id, failed ones included.

    Each has `phase`, `reason`, `exit_code` and `result`; the last two are None where there is none.

    Raises:
        RuntimeError: called outside of a task.
    """
    return _read_object("AIR_OUTCOMES")


def _read_object(variable: str) -> dict[str, Any]:
    path = _variable(variable)
    try:
        with open(path, "rb") as file:
            data = file.read()
    except FileNotFoundError:
        return {}
    import json  # noqa: PLC0415 - only tasks that read inputs pay for it

    found: dict[str, Any] = json.loads(data) if data.strip() else {}
    return found


def context() -> dict[str, Any]:
    """Return `job_id`, `task_id`, `run_id`, `attempt` (1, 2, ...) and `workspace` (a path) of the running task.

    Raises:
        RuntimeError: called outside of a task.
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
        msg = f"{name} is not set; call this inside a task of Air-Executor"
        raise RuntimeError(msg)
    return value


def _to_json(value: Any, what: str) -> bytes:  # noqa: ANN401 - any value is accepted
    import json  # noqa: PLC0415 - keep the import of this module cheap

    try:
        # ASCII keeps lone surrogates (undecodable file names). NaN is not JSON.
        return json.dumps(value, allow_nan=False, separators=(",", ":")).encode("ascii")
    except (TypeError, ValueError, RecursionError) as error:
        msg = f"{what} cannot be written as JSON: {error}"
        raise (TypeError if isinstance(error, TypeError) else ValueError)(msg) from None


def _append(path: str, data: bytes) -> None:
    # One append-mode write: lines of concurrent processes of a task do not interleave.
    fd = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | getattr(os, "O_CLOEXEC", 0), 0o666)
    try:
        size = os.fstat(fd).st_size
        written = os.write(fd, data)
        if written != len(data):
            # Full volume. Remove the partial line, which would fail the run, unless another process has appended.
            if os.fstat(fd).st_size == size + written:
                os.ftruncate(fd, size)
            msg = f"{path}: wrote only {written} of {len(data)} bytes"
            raise OSError(msg)
    finally:
        os.close(fd)


def _discard(path: str) -> None:
    try:  # noqa: SIM105
        os.unlink(path)
    except OSError:
        pass  # the original error is more useful


def _step_aside() -> None:
    # `PYTHONPATH` precedes site-packages, so this copy would shadow an installed Air-Executor and all its modules.
    import importlib.machinery  # noqa: PLC0415
    import importlib.util  # noqa: PLC0415
    import sys  # noqa: PLC0415

    here = os.path.dirname(os.path.abspath(__file__))
    elsewhere = [path for path in sys.path if os.path.abspath(path or os.curdir) != here]
    # Search the meta path as `import` does; otherwise an editable installation is not found.
    for finder in sys.meta_path:
        search = elsewhere if finder is importlib.machinery.PathFinder else None
        spec = finder.find_spec(__name__, search, None) if hasattr(finder, "find_spec") else None
        if spec is None or spec.loader is None or spec.submodule_search_locations is None:
            continue
        package = importlib.util.module_from_spec(spec)
        copy = sys.modules[__name__]
        sys.modules[__name__] = package  # `import` returns what this holds after the file has run
        try:
            spec.loader.exec_module(package)
        except BaseException:
            sys.modules[__name__] = copy
            raise
        return


def _run_package() -> None:
    import runpy  # noqa: PLC0415
    import sys  # noqa: PLC0415

    here = os.path.dirname(os.path.abspath(__file__))
    sys.path[:] = [path for path in sys.path if os.path.abspath(path or os.curdir) != here]
    runpy.run_module("air_executor", run_name="__main__", alter_sys=True)


if __name__ == "air_executor":
    _step_aside()
elif __name__ == "__main__":  # `python -m air_executor` means the installed package, which this copy hides
    _run_package()
