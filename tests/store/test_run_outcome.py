"""What a run leaves, parsed: each part of an outcome on its own, and results as the state can hold them."""

from __future__ import annotations

import pytest

from air_executor.errors import CorruptFileError
from air_executor.store.run_outcome import MAX_CPU, MAX_NESTING, ExitRecord, parse_outcome, parse_result


def outcome(text: str) -> ExitRecord:
    """Return a complete outcome."""
    found = parse_outcome(f"{text}\n".encode(), 5.0)
    assert found is not None
    return found


def test_all_of_it() -> None:
    """What the runner wrote in the first line, whatever a task has written behind that."""
    text = (
        '{"exit_code": 137, "timed_out": true, "stopped": true, "user": "1m2.5s", "system": "0m0.25s", '
        '"memory_peak": 4096, "oom_kills": 2, "message": "killed", "started": 4.5}'
    )
    whole = ExitRecord(
        137, timed_out=True, stopped=True, cpu=62.75, memory=4096, oom_kills=2, message="killed", ended=5.0, started=4.5
    )
    assert outcome(text) == whole
    assert outcome(f'{text}\n{{"exit_code": 0}}') == whole


def test_what_the_runner_does_not_know_is_unknown() -> None:
    """Nothing is made up."""
    assert outcome('{"exit_code": 0}') == ExitRecord(
        0, timed_out=False, stopped=False, cpu=None, memory=None, oom_kills=0, message=None, ended=5.0, started=None
    )


def test_half_an_outcome_is_none() -> None:
    """Its line end says that it is complete."""
    assert parse_outcome(b'{"exit_code": 0}', 5.0) is None
    assert parse_outcome(b'{"exit_code"\n', 5.0) is None


@pytest.mark.parametrize(
    ("user", "system", "seconds"),
    [
        ("0m0s", "0m0s", 0.0),
        ("0m0.1s", "2m0.000s", 120.1),
        ("0m0.1234564s", "0m0s", 0.123456),
        (f"0m{MAX_CPU}s", "0m0s", MAX_CPU),
        (f"0m{MAX_CPU}s", "0m1s", None),
        ("0m-1s", "0m0s", None),
        ("0m1s", None, None),
        (None, "0m1s", None),
        ("1s", "0m1s", None),
        ("0mXs", "0m1s", None),
        ("1m2m3s", "0m1s", None),
    ],
)
def test_cpu_seconds(user: str | None, system: str | None, seconds: float | None) -> None:
    """Of command and system, as shells print them: both, or it is unknown."""
    texts = ["null" if one is None else f'"{one}"' for one in (user, system)]
    assert outcome(f'{{"exit_code": 0, "user": {texts[0]}, "system": {texts[1]}}}').cpu == seconds


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("{", "not JSON (Expecting"),
        ("NaN", "not JSON (NaN is not JSON)"),
        ("[-Infinity]", "not JSON (-Infinity is not JSON)"),
        ("1e999", "not JSON (Out of range"),
        ("1" * 5000, "not JSON (it has a number that is too long)"),
        ("[" * (MAX_NESTING + 1) + "]" * (MAX_NESTING + 1), f"nested deeper than {MAX_NESTING} levels"),
        ("[" * 16_000, f"nested deeper than {MAX_NESTING} levels"),
    ],
)
def test_a_result_that_no_state_can_hold(text: str, why: str) -> None:
    """It is refused in words."""
    with pytest.raises(CorruptFileError) as refused:
        parse_result(text.encode())
    assert str(refused.value).startswith(f"result.json: {why}")


def test_results() -> None:
    """Any JSON, as deep as can be; an empty file is none."""
    assert parse_result(b" \n") is None
    assert parse_result(b'{"a": [1, "x", null]}') == {"a": [1, "x", None]}
    deep = "[" * MAX_NESTING + "]" * MAX_NESTING
    assert str(parse_result(deep.encode())) == deep
