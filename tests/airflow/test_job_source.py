"""What an operator is given, and how it says that this cannot be."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from air_executor.airflow.job_source import JobSource
from air_executor.errors import BadInputError

JOB = {"tasks": [{"command": "true"}]}


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({}, "give one of job, job_file and command"),
        ({"job": JOB, "command": "true"}, "give one of job, job_file and command"),
        (
            {"job": "{'tasks': []}"},
            "job: must be a mapping of a job file's fields, or a template in a DAG with render_",
        ),
        ({"job": [JOB]}, "job: must be a mapping"),
        ({"job_file": 5}, "job_file: must be a path, got 5"),
        ({"command": 5}, "command: must be a text or a list of texts, got 5"),
        ({"command": "true", "task_options": "{}"}, "task_options: must be a mapping"),
        ({"command": "true", "task_options": {"command": "false"}}, "task_options: cannot have command"),
        ({"command": "true", "task_options": {"id": "other"}}, "task_options: cannot have id"),
        ({"command": "true", "task_options": {"nonsense": 1}}, "nonsense"),
        ({"job": JOB, "task_options": {"image": "x"}}, "task_options go with command"),
    ],
    ids=str,
)
def test_what_cannot_be(given: dict[str, Any], words: str) -> None:
    """One line says where and what."""
    with pytest.raises(BadInputError) as refused:
        JobSource(**given).read("task t", None)
    assert words in str(refused.value)
    assert str(refused.value).startswith("task t: ")


def test_queue(tmp_path: Path) -> None:
    """A queue of the job's own wins; one that cannot be is refused, whoever names it."""
    own = {**JOB, "queue": "own"}
    assert JobSource(job=JOB).read("task t", "other").queue == "other"
    assert JobSource(job=own).read("task t", "other").queue == "own"
    file = tmp_path / "job.json"
    file.write_text('{"id": "j", "tasks": [{"command": "true"}]}')
    assert JobSource(job_file=str(file)).read("task t", "other").queue == "other"
    with pytest.raises(BadInputError, match="job_queue"):
        JobSource(job=JOB).read("task t", "a b/..")
