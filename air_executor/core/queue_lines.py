"""What a running task writes into `$AIR_QUEUE`, and what joins a job later: one task, or a whole job, a line each.

Checked as a job file is, with the job's defaults. Called when an outcome is committed and when tasks are added.
"""

from __future__ import annotations

from collections.abc import Callable
from io import BytesIO

from air_executor.core.job_checks import check_retries
from air_executor.core.submission import reading_job
from air_executor.core.templates import names_to_replace
from air_executor.errors import BadInputError
from air_executor.model import parsing, strict_json
from air_executor.model.defaults import NO_DEFAULTS, Defaults
from air_executor.model.job import Job, Task
from air_executor.model.problems import InvalidError, Path, Problem, lines
from air_executor.model.quote import quoted
from air_executor.model.records import Again, Join, Result, ResultText
from air_executor.model.reports import ProgressReport, UsageReport
from air_executor.model.source import Source
from air_executor.model.steps import Steps

QueueLine = Task | Job | Join | Result | ResultText | Again | ProgressReport | UsageReport
_VALUES: dict[str, type[Again | ProgressReport]] = {"again": Again, "progress": ProgressReport}
_OBJECTS: dict[str, type[ResultText | UsageReport]] = {"result_text": ResultText, "usage": UsageReport}
"""Lines whose key is a field of what they are read as."""
_SINGLE_KEYS = ("job", "result", *_VALUES, *_OBJECTS)
LONGEST_PLACED = 8 * 1024
"""Characters of a line up to which an error names columns: finding them costs time that other jobs need."""


def queues_nothing(queue: bytes) -> bool:
    """Tell whether the lines of a run that was committed have nothing but reports and a result."""
    kept = {"result", "progress", *_OBJECTS}
    return all(not kept.isdisjoint(strict_json.loads(line)) for line in BytesIO(queue) if line.strip())


def parse_queue_line(text: str | bytes, defaults: Defaults = NO_DEFAULTS) -> Steps[QueueLine]:
    """Read one line of `$AIR_QUEUE`, in steps: a task that joins a job with these defaults, a decision or a report.

    These have one key: `{"job": {...}}` submits a job, `{"result": ...}` and `{"result_text": "..."}` set the
    result, `{"again": {...}}` asks for another run, `{"progress": {...}}` and `{"usage": {...}}` tell what
    `run_reports` has read while the task ran. With a job, `join` says whether this job waits for it.

    Raises:
        BadInputError: it is neither; the message is one line, with the task's id and columns.
    """
    raw = strict_json.loads(text, one_line=True)
    if not isinstance(raw, dict):
        msg = f"must be a JSON object, got {quoted(raw)}"
        raise BadInputError(msg)
    key = next((key for key in _SINGLE_KEYS if key in raw), None)
    join = raw.pop("join", False) if key == "job" else False
    if not isinstance(join, bool):
        msg = f"join: must be true or false, got {quoted(join)}"
        raise BadInputError(msg)
    if key is not None and len(raw) > 1:
        msg = f"{key}: must be the only key of the line"
        raise BadInputError(msg)
    try:
        if key == "result":
            return Result(raw[key])
        if key in _VALUES:
            return parsing.read(_VALUES[key], raw[key])
        if key in _OBJECTS:
            return parsing.read(_OBJECTS[key], raw)
        if key == "job":
            _check_names(raw[key])
            job = yield from reading_job(raw[key])
            return Join(job) if join else job
        return _read_task(raw, defaults)
    except InvalidError as error:
        at: list[str | int] = [] if key is None or key in _OBJECTS else [key]
        task = raw.get("id")
        name = f"task {quoted(task)[1:-1]}: " if isinstance(task, str) else ""
        problems = [Problem([*at, *inner], what) for inner, what in error.problems]
        msg = f"{name}{'; '.join(lines(problems, _columns(text)))}"
        raise BadInputError(msg) from None


def _check_names(raw: object) -> None:
    """Refuse what only a job file may have, instead of taking it for plain text."""
    names = sorted(names_to_replace(raw)) if isinstance(raw, dict) else []
    if names:
        what = f"{{{{ {names[0]}.… }}}} is replaced in job files only; write the value itself"
        raise InvalidError([Problem(["tasks"], what)])


def _columns(text: str | bytes) -> Callable[[Path], str] | None:
    if len(text) > LONGEST_PLACED:
        return None
    source = Source(text if isinstance(text, str) else text.decode(), is_json=True)
    return lambda at: source.column([0, *at])


def task_from_request(raw: object, defaults: Defaults = NO_DEFAULTS) -> Task:
    """Check one task that joins a job with these `defaults`.

    Raises:
        BadInputError: it is wrong; the message is one line.
    """
    try:
        return _read_task(raw, defaults)
    except InvalidError as error:
        raise BadInputError("; ".join(lines(error.problems))) from None


def _read_task(raw: object, defaults: Defaults) -> Task:
    task = parsing.read_task(raw, defaults)
    if problems := check_retries(task):
        raise InvalidError(problems)
    return task
