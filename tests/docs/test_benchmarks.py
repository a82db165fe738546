"""Benchmarks: each row is printed and written as soon as it is measured, and documented."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import pytest

from benchmarks import __main__ as benchmarks
from benchmarks.kernel_meter import KernelMeter, why_not
from benchmarks.table import Line, Row

DOCS = Path(__file__).parents[2] / "docs" / "benchmarks.md"


def test_a_row_that_fails_takes_no_other_with_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """What is measured is printed and on the volume before the next row begins; the exit code tells of a failure."""
    output = tmp_path / "out.json"
    seen: list[object] = []

    def good(*, quick: bool) -> Sequence[Line]:
        assert quick
        return [Line("good", "tasks/s", 12.0, 10)]

    def bad(*, quick: bool) -> Sequence[Line]:
        seen.append((json.loads(output.read_bytes())["lines"][0]["value"], "tasks/s" in capsys.readouterr().out))
        raise RuntimeError("it does not end:\nthe manager's log")

    monkeypatch.setattr(benchmarks, "ROWS", (Row("good", good), Row("bad", bad), Row("last", good)))
    monkeypatch.setattr(sys, "argv", ["benchmarks", str(output), "--quick", "--folder", str(tmp_path)])
    assert benchmarks.main() == 1
    assert seen == [(12.0, True)]
    out, err = capsys.readouterr()
    assert re.search(r"^bad +FAILED +it does not end:$", out, re.MULTILINE), out
    assert "good" in out
    assert "the manager's log" in err
    assert err.endswith("failed: bad\n")
    written = json.loads(output.read_bytes())
    assert (written["failed"], len(written["lines"])) == (["bad"], 2)


def test_the_kernel_tells_how_long_a_process_lived() -> None:
    """A program that it started, and its first child."""
    if (reason := why_not()) is not None:
        pytest.skip(reason)
    with KernelMeter(os.getpid()) as meter:
        before = time.monotonic_ns()
        subprocess.run(["sh", "-c", "sleep 0.1; true"], check=True)
        after = time.monotonic_ns()
    assert not meter.lost
    [runner], [command] = meter.runners, meter.commands
    assert before <= runner.begun <= command.begun < command.ended <= runner.ended <= after
    assert command.ended - command.begun >= 100_000_000


def test_each_row_is_documented() -> None:
    """A row that nobody can look up says nothing."""
    text = DOCS.read_text()
    rows = [*benchmarks.ROWS, *benchmarks.ON_REQUEST]
    assert [row.name for row in rows if f"\n| `{row.name}` |" not in text] == []
