"""What a run leaves for the manager, parsed: how it ended, and its result. A task may have written anything there.

Importing this does not import pydantic, so that commands that only show a state can do without.
"""

from __future__ import annotations

import json
from typing import Any, NamedTuple

from air_executor.errors import BadInputError, CorruptFileError
from air_executor.model.records import OutcomeFile
from air_executor.store.run_files import MAX_QUEUE, MAX_RESULT, QUEUE, RESULT

MAX_NESTING = 100
"""How deep lists and objects of a result may lie in each other: readers of the state recurse on top of this."""
_TOO_DEEP = f"nested deeper than {MAX_NESTING} levels"
_PACKED = b' {"result'
"""How the line of a packed result begins."""
MAX_CPU = 1e9
"""CPU seconds of one run: more is no measurement, and could not be added up."""


class ExitRecord(NamedTuple):
    """A complete outcome."""

    exit_code: int
    timed_out: bool
    stopped: bool
    """Something other than its timeout told it to stop (TERM, INT or HUP)."""
    cpu: float | None
    """CPU time in seconds; None where it was not measured."""
    memory: int | None
    """Peak memory in bytes; None where it was not measured."""
    oom_kills: int
    message: str | None
    """Why the runner did not start the command; None if it did."""
    ended: float
    """When the run ended, in Unix time: the file's modification time, by the volume's clock."""
    started: float | None = None
    """When it began, by the same clock, where its runner has written that down."""


def parse_outcome(data: bytes, ended: float) -> ExitRecord | None:
    """Return the outcome that a runner's file holds; None while it is not complete.

    The first line is the record; a task may have written more behind it.
    """
    line, newline, _ = data.partition(b"\n")
    if not newline:
        return None
    from air_executor.model import parsing  # noqa: PLC0415 - see the module

    found = parsing.read_json(OutcomeFile, line)
    if found is None:
        return None
    return ExitRecord(
        exit_code=found.exit_code,
        timed_out=found.timed_out,
        stopped=found.stopped,
        cpu=_cpu(found.user, found.system),
        memory=found.memory_peak,
        oom_kills=found.oom_kills or 0,
        message=found.message,
        ended=ended,
        started=found.started,
    )


def _cpu(*parts: str | None) -> float | None:
    """Add up times as the shell's `times` prints them (`1m2.345s`), in seconds."""
    total = 0.0
    for part in parts:
        minutes, mark, seconds = (part or "").rstrip("s").partition("m")
        if not mark:
            return None
        try:
            total += 60 * float(minutes) + float(seconds)
        except ValueError:
            return None
    return round(total, 6) if 0 <= total <= MAX_CPU else None


def _no_constant(name: str) -> None:
    msg = f"{name} is not JSON"
    raise ValueError(msg)


def parse_result(data: bytes) -> Any:  # noqa: ANN401 - any JSON value
    """Return the value of a result file; None if it is empty.

    Raises:
        CorruptFileError: it is too large, or no JSON that the state can hold.
    """
    if len(data) > MAX_RESULT:
        msg = f"{RESULT}: {len(data)} bytes, more than the {MAX_RESULT} that are allowed"
        raise CorruptFileError(msg)
    if not data.strip():
        return None
    try:
        value = json.loads(data, parse_constant=_no_constant)
        json.dumps(value, allow_nan=False)  # 1e999 is read as infinite, and could not be written
        deep = _deeper(value, MAX_NESTING)
    except RecursionError:
        deep = True
    except ValueError as error:
        why = "it has a number that is too long" if "set_int_max_str_digits" in str(error) else error
        msg = f"{RESULT}: not JSON ({why})"
        raise CorruptFileError(msg) from error
    if deep:
        msg = f"{RESULT}: {_TOO_DEEP}"
        raise CorruptFileError(msg)
    return value


def check_result(value: object) -> None:
    """Make sure that a value, as JSON is read, can be a result.

    Raises:
        BadInputError: it is nested too deep, or too large.
    """
    if _deeper(value, MAX_NESTING):
        msg = f"result: {_TOO_DEEP}"
        raise BadInputError(msg)
    size = len(json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode(errors="surrogatepass"))
    if size > MAX_RESULT:
        msg = f"result: has {size} bytes, more than {MAX_RESULT}"
        raise BadInputError(msg)


def result_line(data: bytes) -> bytes:
    """Return the line of `$AIR_QUEUE` that says the same as a result file; nothing if that says nothing.

    A result that is refused, or is too large as a line (written out, `1e15` is `1000000000000000.0`), stays a text. The
    line begins with a blank, so that one of which only a part was written differs from an incomplete line of a task.
    """
    try:
        value = parse_result(data)
        if value is None:
            return b""
        check_result(value)
        line = {"result": value}
    except (CorruptFileError, BadInputError):
        line = {"result_text": data.decode(errors="surrogateescape")}
    return b" " + json.dumps(line).encode() + b"\n"


def checked_queue(data: bytes) -> bytes:
    """Return the content of a queue file, which may be larger than a task's own only by the result packed into it.

    Raises:
        CorruptFileError: the task's own lines are too large.
    """
    if len(data) > MAX_QUEUE:
        own = data.rfind(b"\n", 0, -1) + 1
        packed = data.startswith(_PACKED, own)
        size = own if packed else len(data)
        if size > MAX_QUEUE + packed:  # a line end was put behind an incomplete line
            msg = f"{QUEUE}: {size} bytes, more than the {MAX_QUEUE} that are allowed"
            raise CorruptFileError(msg)
    return data


def parse_result_text(text: str) -> Any:  # noqa: ANN401 - any JSON value
    """Return the value of the result file that had this text; None if it was empty.

    Raises:
        CorruptFileError: it is too large, or no JSON that the state can hold.
    """
    try:
        data = text.encode(errors="surrogateescape")
    except UnicodeEncodeError as error:
        msg = f"{RESULT}: not UTF-8 ({error.reason})"
        raise CorruptFileError(msg) from error
    return parse_result(data)


def _deeper(value: object, than: int) -> bool:
    """Tell whether lists and objects lie in each other more than `than` deep."""
    if not isinstance(value, list | dict):
        return False
    inner = value.values() if isinstance(value, dict) else value
    return than == 0 or any(_deeper(item, than - 1) for item in inner)
