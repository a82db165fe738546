"""The job files in the pages are valid, and the reference of jobs is complete, with the right defaults."""

from __future__ import annotations

import re
from dataclasses import fields
from typing import get_type_hints

import pytest
from ruamel.yaml import YAML

from air_executor.core.outcome import outcome_text
from air_executor.model import state as s
from air_executor.model.definition import Declared, Param
from air_executor.model.job import Job, Resources, Task
from air_executor.model.mount import Mount
from air_executor.model.service import TaskService
from air_executor.model.times import DURATION_RULE, parse_duration
from air_executor.model.types import About
from air_executor.store.job_file import load_job, read_job
from tests.docs.pages import ROOT, Block, blocks, inline, names, rows
from tests.records import make_done, queue_line

JOBS = ROOT / "docs/jobs.md"


def defaults(record: object, *without: str) -> dict[str, object]:
    """Return each field of a record with its default, but for those named."""
    found = {field.name: getattr(record, field.name) for field in fields(record)}  # type: ignore[arg-type]
    return {name: value for name, value in found.items() if name not in without}


TASK_DEFAULTS = defaults(Task(command="x"), "id", "unresolved", "joins")  # nobody writes the latter two
JOB_DEFAULTS = {**defaults(Job(id="x", tasks=[]), "id", "tasks"), "defaults": None}
JOB_FIELDS, TASK_FIELDS = "Fields of a job", "Fields of a task"


@pytest.mark.parametrize("block", [block for block in blocks("yaml") if "\ntasks:" in block.text])
def test_job_files_are_accepted(block: Block) -> None:
    """A job file copied from a page is valid."""
    assert load_job(block.text.encode(), "block.yaml").tasks


@pytest.mark.parametrize("block", [block for block in blocks("json") if block.text.startswith(('{"command', '{"id'))])
def test_queue_lines_are_accepted(block: Block) -> None:
    """Each `$AIR_QUEUE` line in a page is valid."""
    for line in block.text.splitlines():
        assert isinstance(queue_line(line), Task | Job), line


def test_the_agent_in_the_readme_is_the_example() -> None:
    """The readme shows the current job and code of examples/agent.yaml."""
    shown = next(block.text for block in blocks("yaml") if block.text.startswith("id: agent"))
    assert load_job(shown.encode(), "agent.yaml") == read_job(ROOT / "examples/agent.yaml")
    code = next(block.text for block in blocks("python") if "decide(" in block.text)
    assert code in (ROOT / "examples/agent.py").read_text(encoding="utf-8")


def test_every_field_is_documented() -> None:
    """The tables name each field of jobs and tasks, and no other."""
    assert {row[0].strip("`") for row in rows(JOBS, JOB_FIELDS)} == {"id", "tasks", "schedule", *JOB_DEFAULTS}
    assert {row[0].strip("`") for row in rows(JOBS, TASK_FIELDS)} == {"id", *TASK_DEFAULTS}
    named = set(inline(JOBS))
    assert {field.name for record in (Mount, Resources, TaskService) for field in fields(record)} <= named


@pytest.mark.parametrize(
    ("heading", "defaults"),
    [(JOB_FIELDS, JOB_DEFAULTS), (TASK_FIELDS, {**TASK_DEFAULTS, "command": "required"})],
)
def test_defaults_are_those_of_the_code(heading: str, defaults: dict[str, object]) -> None:
    """Each documented default is that of the code."""
    shown = {row[0].strip("`"): row[1].strip("`") for row in rows(JOBS, heading)}
    assert {name: meaning(shown[name]) for name in defaults} == {
        name: default or None for name, default in defaults.items()
    }


@pytest.mark.parametrize(
    ("heading", "records"), [(JOB_FIELDS, (Job, Declared)), (TASK_FIELDS, (Task,)), ("Parameters", (Param,))]
)
def test_descriptions_are_those_of_the_code(heading: str, records: tuple[type, ...]) -> None:
    """Each description begins with that of the declaration, which editors and the JSON Schema show, too."""
    declared = {
        name: one.text
        for record in records
        for name, kind in get_type_hints(record, include_extras=True).items()
        for one in getattr(kind, "__metadata__", ())
        if isinstance(one, About)
    }
    described = {row[0].strip("`"): re.sub(r"\[([^]]*)\]\([^)]*\)", r"\1", row[2]) for row in rows(JOBS, heading)}
    assert {name: text[: len(declared[name])] for name, text in described.items()} == {
        name: declared[name] for name in described
    }


def meaning(cell: str) -> object:
    """Return the default in a cell: durations in seconds, None for none."""
    if cell in {"none", "0"}:
        return None
    value = YAML(typ="safe", pure=True).load(cell)
    return parse_duration(value) if re.fullmatch("[0-9]+s", str(value)) else value


def test_every_phase_is_documented() -> None:
    """The table has each phase, and no other."""
    assert names(JOBS, "Phases") == {s.PENDING, s.QUEUED, s.RUNNING, s.PAUSED, *s.ENDED_PHASES, s.SKIPPED}


def test_every_reason_is_documented() -> None:
    """The table has each reason, and no other."""
    reasons = {s.OK, s.ERROR, s.CANCELLED, s.REJECTED, s.BUDGET, s.UPSTREAM, *s.USERS_FAULT, *s.PLATFORMS_FAULT}
    reasons |= {s.SKIP_ON, s.ONLY_IF, s.AGAIN, s.DECLINED}
    assert {row[0].strip("`") for row in rows(JOBS, "Reasons")} == reasons
    assert all(outcome_text(make_done(s.FAILED, reason, 0.0)) for reason in reasons)


def test_the_durations_shown_are_durations() -> None:
    """Each duration in the page is accepted, and the error message for a wrong one shows the same forms."""
    shown = {"90": 90, "0.5": 0.5, "90s": 90, "10m": 600, "1h30m": 5400, "2d": 172_800, "500ms": 0.5}
    assert shown.keys() <= set(inline(JOBS))
    assert {text: parse_duration(text) for text in shown} == shown
    assert all(text in DURATION_RULE for text in shown)
