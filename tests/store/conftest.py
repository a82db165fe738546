"""What tests of the store share."""

from __future__ import annotations

from pathlib import Path

import pytest

from air_executor.core.submission import initial_state, parse_job
from air_executor.model.state import JobState
from air_executor.store.jobs import Jobs
from air_executor.store.layout import Layout


def state(name: str = "j", uid: str = "00000001", tasks: int = 2) -> JobState:
    """Return a job that nobody has touched."""
    raw = {"id": name, "tasks": [{"id": f"x{number}", "command": "true"} for number in range(tasks)]}
    return initial_state(parse_job(raw), uid=uid, now=1_769_860_800.0)


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    """An empty state directory."""
    found = Layout(tmp_path / "state")
    Jobs(found).prepare()
    return found
