"""docs/formats.md and docs/tasks.md list every file, key and variable."""

from __future__ import annotations

import json
import re
from dataclasses import fields
from importlib import resources
from typing import get_args

import pytest

from air_executor.model.attempt import Attempt
from air_executor.model.events import EVENT_NAMES
from air_executor.model.job import TASK_FIELDS
from air_executor.model.names import RUN_ENVIRONMENT, Slot
from air_executor.model.records import Op
from air_executor.model.state import JobState, TaskState
from air_executor.store import codec
from air_executor.store.layout import Layout
from air_executor.store.run_dirs import PRECREATED
from air_executor.store.run_files import CLAIM, INPUTS, OUTCOMES
from tests.docs.pages import ROOT, blocks, inline, names, rows

FORMATS = ROOT / "docs/formats.md"
TASKS = ROOT / "docs/tasks.md"


def shown(start: str) -> str:
    """Return the JSON block of formats.md that begins with `start`."""
    return next(b.text for b in blocks("json") if b.page == "formats.md" and b.text.startswith(start))


def test_every_path_is_in_the_tree() -> None:
    """The tree of the state directory has every path of the layout."""
    layout = Layout("/r")
    tree = next(block.text for block in blocks("text") if block.text.startswith(".air-executor/"))
    fixed = [value for name, value in vars(layout).items() if name != "root"]
    computed = [layout.state("j"), layout.workspace("j"), layout.runs("j"), layout.superseded("j")]
    computed += [layout.slot_file(Slot("j", 0))]
    for path in [*fixed, *computed]:
        assert re.search(rf"\b{re.escape(path.rsplit('/', 1)[1].lstrip('.'))}\b", tree), path


def test_the_state_file_shown_is_one() -> None:
    """The program reads the example and writes it back unchanged."""
    text = shown('{\n  "format"')
    assert codec.dump_job(codec.load_job(text.encode(), "formats.md")).decode() == text


def test_every_key_of_the_state_is_documented() -> None:
    """The tables have every key that the program writes for a job and its tasks."""
    documented = names(FORMATS, "state.json")
    job = {field.name for field in fields(JobState)} - {"extra"}
    task = {field.name for field in fields(TaskState)} - {"extra"}
    assert documented >= job | (task - set(TASK_FIELDS))
    assert documented - job - task == set()
    assert {field.name for field in fields(Attempt)} <= set(inline(FORMATS))


def test_the_outcome_shown_has_the_runners_keys() -> None:
    """The outcome in the page has the keys that the runner writes."""
    script = (resources.files("air_executor") / "runner/air-runner").read_text(encoding="utf-8")
    written = re.findall(r'\\"(\w+)\\": (?:\$|null)', script)
    assert written
    assert list(json.loads(shown('{"exit_code"'))) == written


def test_every_request_is_documented() -> None:
    """The table has every request that the manager accepts."""
    assert names(FORMATS, "Requests") == set(get_args(Op))


@pytest.mark.parametrize("event", EVENT_NAMES)
def test_every_event_is_documented(event: str) -> None:
    """The page has every event of the journal."""
    assert event in inline(FORMATS)


def test_every_variable_of_a_run_is_documented() -> None:
    """The table has every variable of a task, and no other."""
    assert names(TASKS, "What a task sees") == RUN_ENVIRONMENT | {"AIR_STATE_DIR"}


def test_every_file_of_a_run_is_documented() -> None:
    """The table has every file of a run's directory."""
    files = {"script", INPUTS, OUTCOMES, CLAIM, *PRECREATED, "log-times", "service-<name>.log"}
    assert {row[0].strip("`") for row in rows(FORMATS, "A run's directory")} == files
