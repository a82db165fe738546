"""The job that an operator was given, and the messages about one that is wrong."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from air_executor.airflow.job_source import JobSource
from air_executor.errors import BadInputError, NotFoundError
from air_executor.model.job import Job

JOB = {"tasks": [{"command": "true"}]}


def read(pool: str | None = None, **fields: Any) -> Job:
    """Return the job, with a template rendered to upper case."""
    return JobSource(**fields).read("task t", pool, str.upper)


@pytest.mark.parametrize(
    ("fields", "words"),
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
        ({"command": "true", "task_options": {"retries": "many"}}, "retries"),
        ({"job": JOB, "task_options": {"image": "x"}}, "task_options go with command"),
        ({"command": "true", "job_params": {"A": "x"}}, "job_params go with job and job_file"),
        (
            {"job": JOB, "job_params": "{}"},
            "job_params: must be a mapping of parameters and their values, or a template",
        ),
        ({"job": JOB, "job_params": {"DAI": "x"}}, "params.DAI: is not a parameter"),
    ],
    ids=str,
)
def test_wrong_source(fields: dict[str, Any], words: str) -> None:
    """One line says where and what."""
    with pytest.raises(BadInputError) as refused:
        read(**fields)
    assert words in str(refused.value)
    assert str(refused.value).startswith("task t: ")


def test_pool(tmp_path: Path) -> None:
    """A pool that the job names takes precedence; an invalid one is refused."""
    own = {**JOB, "pool": "own"}
    assert read("other", job=JOB).pool == "other"
    assert read("other", job=own).pool == "own"
    file = tmp_path / "job.json"
    file.write_text('{"id": "j", "tasks": [{"command": "true"}]}')
    assert read("other", job_file=str(file)).pool == "other"
    with pytest.raises(BadInputError, match="job_pool"):
        read("a b/..", job=JOB)


def test_job_file(tmp_path: Path) -> None:
    """A job file needs no id; what is wrong in it is named with its path."""
    file = tmp_path / "job.yaml"
    file.write_text("tasks:\n  - command: echo {{ not a template }}\n")
    assert read(job_file=str(file)).tasks[0].command == "echo {{ not a template }}"
    file.write_text("tasks:\n  - comand: 'true'\n")
    with pytest.raises(BadInputError, match=r"(?s)job\.yaml: .*comand"):
        read(job_file=str(file))
    with pytest.raises(NotFoundError, match="no such file"):
        read(job_file=str(tmp_path / "none.yaml"))


def test_parameters(tmp_path: Path) -> None:
    """A definition runs with the values that Airflow gives; its name gives way to the task instance's id."""
    file = tmp_path / "job.yaml"
    file.write_text(
        "name: nightly\nschedule: {every: 1h}\nparams: {DATE: {type: date}, REGIONS: [eu], N: 1}\ntasks:\n"
        "  - {id: load, for_each: '{{ params.REGIONS }}', command: [load, '{{ item }}', '{{ params.DATE }}']}\n"
        "  - {id: sum, after: [load-eu], command: ['{{ results.load-eu.rows }}']}\n"
    )
    job = read(job_file=str(file), job_params={"DATE": "2026-01-31", "REGIONS": ["eu", "us"], "N": "2"})
    assert (job.id, job.name, job.params["N"]) == ("airflow", None, 2)
    assert [task.command for task in job.tasks[:2]] == [["load", "eu", "2026-01-31"], ["load", "us", "2026-01-31"]]
    with pytest.raises(BadInputError, match=r"job\.yaml: params\.DATE: is missing"):
        read(job_file=str(file))


@pytest.mark.parametrize("name", ["job.yaml.j2", "job.json.j2"])
def test_job_file_template(tmp_path: Path, name: str) -> None:
    """A job file that ends with .j2 is rendered; the ending before tells its format."""
    file = tmp_path / name
    file.write_text('{"tasks": [{"command": "true"}]}')
    source = JobSource(job_file=str(file))
    job = source.read("task t", None, lambda text: text.replace("true", "echo rendered"))
    assert job.tasks[0].command == "echo rendered"
    file.write_bytes(b"\xff")
    with pytest.raises(BadInputError, match="is not UTF-8 text"):
        source.read("task t", None, str)


def test_numbers() -> None:
    """A rendered number is a number in a field that takes numbers only; anywhere else it stays a text."""
    task = {"command": ["echo", "1"], "retries": " 2 ", "retry_backoff": "1.5", "timeout": "90", "env": {"ZIP": "0123"}}
    job = read(job={"max_runners": "3", "priority": "-1", "labels": {"zip": "007"}, "tasks": [task]})
    assert (job.max_runners, job.priority, job.labels["zip"]) == (3, -1, "007")
    (found,) = job.tasks
    assert (found.command, found.retries, found.retry_backoff) == (["echo", "1"], 2, 1.5)
    assert (found.timeout, found.env["ZIP"]) == (90, "0123")
    assert read(command="true", task_options={"retries": "4"}).tasks[0].retries == 4
