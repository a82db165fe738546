"""What the page says to write in place of another tool's words is valid here."""

from __future__ import annotations

import re
from typing import Any

import pytest
from ruamel.yaml import YAML

from air_executor.core.instantiation import read_schedule
from air_executor.core.submission import read_definition
from air_executor.model.job import JOB_FIELDS
from tests.docs.pages import ROOT

PAGE = ROOT / "docs/coming-from.md"
RESULTS = re.compile(r"\{\{ results\.([a-z]+)\.")
CELLS = [
    cell
    for line in PAGE.read_text(encoding="utf-8").splitlines()
    if line.startswith("| ") and not line.endswith("| Air-Executor |") and "| Air-Executor | Pattern |" not in line
    for cell in [re.split(r"(?<!\\) \| ", line.strip("| ").replace(" ||", " | "))[1].removesuffix(" |")]
]
SNIPPETS = [code for cell in CELLS for code in re.findall(r"`([^`]+)`", cell) if not code.startswith("air-executor ")]


def test_each_cell_has_something_to_write() -> None:
    """None is prose alone."""
    assert len(CELLS) > 60
    assert [cell for cell in CELLS if "`" not in cell] == []


@pytest.mark.parametrize("snippet", dict.fromkeys(SNIPPETS))
def test_a_snippet_is_valid(snippet: str) -> None:
    """As fields of a job or of a task; tasks that it names exist."""
    fields = YAML(typ="safe", pure=True).load(snippet)
    assert isinstance(fields, dict)
    own = {"schedule", *JOB_FIELDS} - {"after", "priority", "labels", "description"}
    job: dict[str, Any] = {name: value for name, value in fields.items() if name in own}
    task = {"id": "it", "command": "true"} | {name: value for name, value in fields.items() if name not in own}
    if "{{ item" in snippet:  # it stands beside the list in the table
        task.setdefault("for_each", [{"name": "x"}] if "item." in snippet else ["x"])
    needs = [*task.get("after", ()), *RESULTS.findall(snippet)]
    tasks = [*({"id": name, "command": "true"} for name in needs), task | ({"after": needs} if needs else {})]
    given = {} if "params" not in job else {name: _value(param) for name, param in job["params"].items()}
    params = {"REGION": "eu", "REGIONS": ["eu"]}
    raw = {"name": "n", "params": params, **job, "tasks": tasks}
    assert read_definition(raw, given, 0.0).tasks
    if "schedule" in raw:
        schedule = read_schedule(raw)
        assert schedule is not None
        assert schedule.cron


def _value(param: dict[str, Any]) -> object:
    return param["choices"][0] if "choices" in param else "2026-01-31"
