"""Job files and command lines → checked jobs and tasks.

Called by the command line, the client and Airflow's operators. Knows how a file can be wrong before it is a job (not
text, too large, not there); what a job may hold is for `core.submission`.
"""

from __future__ import annotations

import os
import re
import stat
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import islice
from typing import Any

from air_executor.core import submission
from air_executor.errors import BadInputError, NotFoundError
from air_executor.model import parsing, strict_json
from air_executor.model.job import JOB_FIELDS, Job, Task
from air_executor.model.problems import InvalidError, Path, Problem, bad_input, did_you_mean, lines, nearest
from air_executor.model.quote import quoted
from air_executor.model.source import Source

MAX_BYTES = 64 << 20
"""Largest job file."""

FILES_LOOKED_AT = 1000
"""Files of a folder among which the one is looked for that somebody may have meant."""
JOB_FILE = "a job file is a mapping with id and tasks"
_JSON, _YAML = ".json", (".yaml", ".yml")
_AS_JSON = re.compile(r'\s*\{\s*["}]')
"""How the text of a JSON object begins; a mapping of YAML in braces mostly has no quotes around its keys."""


def read_job(path: str | os.PathLike[str], params: Mapping[str, object] | None = None, **fields: object) -> Job:
    """Return the job that a YAML or JSON file describes; see `load_jobs`.

    Raises:
        NotFoundError: there is no such file.
        BadInputError: it cannot be read, or is not one job.
    """
    name = os.fspath(path)
    return load_job(read_bytes(name), name, params, **fields)


def read_bytes(name: str) -> bytes:
    """Return the content of a job file, as far as one may be long.

    Raises:
        NotFoundError: there is no such file.
        BadInputError: it cannot be read.
    """
    try:
        with open(name, "rb") as file:
            return file.read(MAX_BYTES + 1)
    except FileNotFoundError:
        msg = f"{name}: there is no such file{_nearest_file(name)}"
        raise NotFoundError(msg) from None
    except (OSError, ValueError) as error:
        msg = f"{quoted(name)}: cannot be read: {getattr(error, 'strerror', None) or error}"
        raise BadInputError(msg) from error


def _nearest_file(name: str) -> str:
    folder, base = os.path.split(name)
    try:
        others = [entry.name for entry in islice(os.scandir(folder or "."), FILES_LOOKED_AT)]
    except (OSError, ValueError):
        return ""
    stem, suffix = os.path.splitext(base)
    if suffix not in (_JSON, *_YAML):
        return did_you_mean(name, [os.path.join(folder, one) for one in others]) if base else ""
    # Without the suffixes, which alone would make all job files alike.
    stems = {one.removesuffix(end): one for one in others for end in (_JSON, *_YAML) if one.endswith(end)}
    guess = nearest(stem, stems)
    return f"; did you mean {os.path.join(folder, stems[guess])}?" if guess else ""


def read_regular(name: str, limit: int) -> bytes:
    """Return the content of a regular file, which may be a link to one; nothing else is opened for longer.

    Raises:
        NotFoundError: there is no such file.
        BadInputError: it cannot be read, is not regular, or has more than `limit` bytes.
    """

    def opened(path: str, flags: int) -> int:
        return os.open(path, flags | os.O_NONBLOCK)  # a fifo would wait for a writer

    try:
        with open(name, "rb", opener=opened) as file:
            if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                msg = f"{name}: cannot be read: is not a regular file"
                raise BadInputError(msg)
            data = file.read(limit + 1)
    except OSError as error:
        if isinstance(error, FileNotFoundError):
            msg = f"{name}: there is no such file"
            raise NotFoundError(msg) from None
        msg = f"{name}: cannot be read: {error.strerror or error}"
        raise BadInputError(msg) from error
    if len(data) > limit:
        msg = f"{name}: has more than {limit >> 10} KiB; apply it with `air-executor schedule apply`"
        raise BadInputError(msg)
    return data


def load_job(data: bytes, name: str, params: Mapping[str, object] | None = None, /, **fields: object) -> Job:
    """Return the only job that the content of a file describes; see `load_jobs`.

    Raises:
        BadInputError: it is not one job; each problem with its field and its line.
    """
    jobs = load_jobs(data, name, params, **fields)
    if len(jobs) > 1:
        raise BadInputError(_one_expected(name, len(jobs)))
    return jobs[0]


def load_jobs(data: bytes, name: str, params: Mapping[str, object] | None = None, /, **fields: object) -> list[Job]:
    """Return the jobs that the documents of a file describe.

    Args:
        data: content of the file.
        name: tells the format by its ending, and is for messages. Without a known ending, what begins with `{` is JSON.
        params: values of parameters; each job takes those that it declares.
        fields: stand in place of those of each job; labels are added to its own.

    Raises:
        BadInputError: one of them is not a job, or two have one id or name; each problem with its field and its line.
    """
    mappings, source = _load_mappings(data, name)
    if len(mappings) > 1 and ("id" in fields or "name" in fields):
        msg = f"{name}: has {len(mappings)} jobs, which cannot all have one id or name"
        raise BadInputError(msg)
    given = _shared_out(params or {}, mappings)
    jobs: dict[str, Job] = {}
    found: list[str] = []
    for number, raw in mappings.items():
        problems: Sequence[Problem] = ()
        try:
            job = submission.read_definition(_with_fields(raw, fields), given[number], time.time())
        except InvalidError as error:
            problems = error.problems
        else:
            key = job.key
            if jobs.setdefault(key, job) is not job:
                what = "id" if job.id is not None else "name"
                problems = [Problem([what], f"{key} is the {what} of another job of this file, too")]
        found += _lines(problems, source, number)
    if found:
        raise bad_input(found, name)
    return list(jobs.values())


def _shared_out(
    params: Mapping[str, object], mappings: Mapping[int, Mapping[str, Any]]
) -> dict[int, dict[str, object]]:
    """Return the values for each job; the first also gets those that none declares, and refuses them."""
    declared = {n: set(raw["params"]) if isinstance(raw.get("params"), dict) else set() for n, raw in mappings.items()}
    unknown = params.keys() - set().union(*declared.values())
    first = next(iter(mappings))
    declared[first] |= unknown
    return {
        number: {name: value for name, value in params.items() if name in names} for number, names in declared.items()
    }


def _with_fields(raw: dict[str, Any], fields: Mapping[str, Any]) -> dict[str, Any]:
    for names in (("id", "name"), ("pool", "queue")):  # either in place of either
        if any(one in fields for one in names):
            raw = {key: value for key, value in raw.items() if key not in names}
    labels = raw.get("labels")
    if "labels" in fields and isinstance(labels, dict):
        fields = {**fields, "labels": {**labels, **fields["labels"]}}
    return {**raw, **fields}


def load_tasks(data: bytes, name: str) -> list[Task]:
    """Return the tasks that a file describes: a line of JSON for each, as in `$AIR_QUEUE`, or YAML.

    A document of YAML is a task, a list of tasks, or a mapping whose only field is `tasks`; `name` as for `load_jobs`.

    Raises:
        BadInputError: one of them is not a task; each problem with its line.
    """
    text = _text_of(data, name)
    if not name.lower().endswith(_YAML) and _AS_JSON.match(text):
        return [
            _task_of_line(line, f"{name}:{number}") for number, line in enumerate(text.split("\n"), 1) if line.strip()
        ]
    source = Source(text, is_json=False)
    tasks, found = [], []
    for number, raw in _documents(source, name).items():
        for at, task in _raw_tasks(raw):
            try:
                tasks.append(parsing.read_task(task))
            except InvalidError as error:
                found += _lines([Problem([*at, *inner], what) for inner, what in error.problems], source, number)
    if found:
        raise bad_input(found, name)
    if not tasks:
        msg = f"{name}: has no tasks"
        raise BadInputError(msg)
    return tasks


def _task_of_line(line: str, where: str) -> Task:
    try:
        return parsing.read_task(strict_json.loads(line, one_line=True))
    except BadInputError as error:
        msg = f"{where}: {error}; each line must be one task as JSON"
        raise BadInputError(msg) from None
    except InvalidError as error:
        raise bad_input(lines(error.problems), where) from None


def _raw_tasks(raw: object) -> Iterator[tuple[list[str | int], object]]:
    """Yield each task of a document with where it is."""
    at: list[str | int] = []
    if isinstance(raw, dict) and [key for key in raw if not str(key).startswith(parsing.OWN_KEYS)] == ["tasks"]:
        at, raw = ["tasks"], raw["tasks"]
    if isinstance(raw, list):
        yield from (([*at, place], one) for place, one in enumerate(raw))
    else:
        yield at, raw


def _lines(problems: Sequence[Problem], source: Source, document: int) -> list[str]:
    return lines(problems, lambda at: source.place([document, *at]))


def load_mapping(data: bytes, name: str, wanted: str = JOB_FILE) -> dict[str, Any]:
    """Return the fields that the content of a file has; `name` as for `load_jobs`, `wanted` is for messages.

    Raises:
        BadInputError: it is no mapping, or several.
    """
    return load_placed(data, name, wanted)[0]


def load_placed(data: bytes, name: str, wanted: str = JOB_FILE) -> tuple[dict[str, Any], Callable[[Path], str]]:
    """Return the fields that the content of a file has, and where each stands, as `Source.place` says it.

    As `load_mapping`, also in what it raises.
    """
    mappings, source = _load_mappings(data, name, wanted)
    if len(mappings) > 1:
        raise BadInputError(_one_expected(name, len(mappings)))
    ((number, raw),) = mappings.items()
    return raw, lambda at: source.place([number, *at])


def _one_expected(name: str, count: int) -> str:
    return f"{name}: has {count} jobs (documents between ---), but only one can be taken here"


def _load_mappings(data: bytes, name: str, wanted: str = JOB_FILE) -> tuple[dict[int, dict[str, Any]], Source]:
    text = _text_of(data, name)
    ending = os.path.splitext(name)[1].lower()
    source = Source(text, is_json=ending == _JSON or (ending not in _YAML and _AS_JSON.match(text) is not None))
    mappings = {}
    for number, raw in _documents(source, name).items():
        if not isinstance(raw, dict):
            msg = f"{name}: holds {quoted(raw)}; {wanted}"
            raise BadInputError(msg)
        raw.pop("$schema", None)  # for editors
        mappings[number] = raw
    if not mappings:
        msg = f"{name}: is empty; {wanted}"
        raise BadInputError(msg)
    return mappings, source


def _documents(source: Source, name: str) -> dict[int, object]:
    """Return the documents of a file that are not empty, by number."""
    try:
        found = {number: raw for number, raw in enumerate(source.load()) if raw is not None}
    except BadInputError as error:
        msg = f"{name}: {error}"
        raise BadInputError(msg) from None
    return found


def _text_of(data: bytes, name: str) -> str:
    if len(data) > MAX_BYTES:
        msg = f"{name}: is larger than {MAX_BYTES >> 20} MiB; let a task queue the others instead"
        raise BadInputError(msg)
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        msg = f"{name}: is not UTF-8 text (byte {error.start} is 0x{data[error.start]:02x}); save it as UTF-8"
        raise BadInputError(msg) from None


def from_command(job: str | None, argv: Sequence[str], **options: Any) -> Job:  # noqa: ANN401 - JSON, a type or a record
    """Return a job of one task that executes `argv` as it is.

    `options` are fields of the job or of the task; where both have one of that name, it is the job's. Without an id
    they have the job's `name`.

    Raises:
        BadInputError: a field is wrong; it is named without a path, as on the command line.
    """
    own = {name: value for name, value in options.items() if name in JOB_FIELDS}
    task = {name: value for name, value in options.items() if name not in JOB_FIELDS}
    named = {} if job is None else {"id": job}
    try:
        return submission.read_job({**named, **own, "tasks": [{"command": list(argv), **task}]})
    except InvalidError as error:
        bare = [Problem(p.at[2:] if list(p.at[:2]) == ["tasks", 0] else p.at, p.what) for p in error.problems]
        raise bad_input(lines(bare)) from None
