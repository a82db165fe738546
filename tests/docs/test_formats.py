"""docs/formats.md and docs/tasks.md name each file, key and variable that there is."""

from __future__ import annotations

import json
import re
from importlib import resources

import pytest

from air_executor.model.fields import RUN_ENVIRONMENT, TASK_FIELDS
from air_executor.model.names import Slot
from air_executor.store import codec
from air_executor.store.inbox import OPS
from air_executor.store.layout import Layout
from tests.docs.pages import ROOT, blocks, inline, names, rows

FORMATS = ROOT / "docs/formats.md"
TASKS = ROOT / "docs/tasks.md"


def shown(start: str) -> str:
    """Return the JSON block of formats.md that begins with `start`."""
    return next(b.text for b in blocks("json") if b.page == "formats.md" and b.text.startswith(start))


def test_every_path_is_in_the_tree() -> None:
    """The drawing of the state directory has all that the layout can name."""
    layout = Layout("/r")
    tree = next(block.text for block in blocks("text") if block.text.startswith(".air-executor/"))
    fixed = [value for name, value in vars(layout).items() if name != "root"]
    computed = [layout.state("j"), layout.workspace("j"), layout.runs("j"), layout.superseded("j")]
    computed += [layout.slot_file(Slot("j", 0))]
    for path in [*fixed, *computed]:
        assert re.search(rf"\b{re.escape(path.rsplit('/', 1)[1].lstrip('.'))}\b", tree), path


def test_the_state_file_shown_is_one() -> None:
    """The program reads the example and would write it again letter by letter."""
    text = shown('{\n  "format"')
    assert codec.dump_job(codec.load_job(text.encode(), "formats.md")).decode() == text


def test_every_key_of_the_state_is_documented() -> None:
    """Each key that the program writes for a job and its tasks is in the tables."""
    documented = names(FORMATS, "state.json")
    assert documented >= codec._JOB_KEYS
    assert documented >= codec._TASK_KEYS
    assert documented - codec._JOB_KEYS - codec._TASK_KEYS - TASK_FIELDS == set()
    assert set(codec._ATTEMPT_KEYS) <= set(inline(FORMATS))


def test_the_outcome_shown_has_the_runners_keys() -> None:
    """`exit.json` is shown as the runner writes it."""
    script = (resources.files("air_executor") / "runner/air-runner").read_text(encoding="utf-8")
    written = re.findall(r'\\"(\w+)\\": \$', script)
    assert written
    assert list(json.loads(shown('{"exit_code"'))) == written


def test_every_request_is_documented() -> None:
    """The table has each request that the manager takes."""
    assert names(FORMATS, "Requests") == OPS


@pytest.mark.parametrize("event", sorted(codec._EVENTS))
def test_every_event_is_documented(event: str) -> None:
    """Whoever reads a journal finds what its events are."""
    assert event in inline(FORMATS)


def test_every_variable_of_a_run_is_documented() -> None:
    """The table has each variable that a task gets, and no other; one of them a task's `env` may set."""
    assert names(TASKS, "What a task sees") == RUN_ENVIRONMENT | {"AIR_STATE_DIR"}


def test_every_file_of_a_run_is_documented() -> None:
    """The table has each file that lies in `out/`."""
    files = {"inputs.json", "claim", "output.log", "queue.jsonl", "result.json", "exit.json"}
    assert {row[0].strip("`") for row in rows(FORMATS, "A run's directory")} == files
