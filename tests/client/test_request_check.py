"""Requests where no manager is running: what the next one would refuse is refused at once, and nothing else."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from air_executor.client import Client
from air_executor.core.submission import parse_job
from air_executor.errors import BadInputError, NotFoundError
from air_executor.model.job import Task
from tests.cli.made_jobs import create, ended

VERBS = ("cancel", "retry", "rerun", "approve", "reject")


@pytest.fixture
def client(tmp_path: Path) -> Client:
    """A state directory that no manager has."""
    return Client(tmp_path / ".air-executor")


def tasks(*raw: dict[str, Any]) -> list[Task]:
    """Return tasks as a file has them."""
    return parse_job({"id": "x", "tasks": [{"command": "true", **one} for one in raw]}).tasks


def waiting(client: Client) -> list[str]:
    """Return what waits for a manager."""
    return client.requests()


@pytest.mark.parametrize("verb", VERBS)
def test_a_task_that_does_not_exist(client: Client, verb: Any) -> None:  # noqa: ANN401 - one of the verbs
    """The nearest one is named, and nothing waits for a manager."""
    client.submit(parse_job({"id": "j", "tasks": [{"id": "build", "command": "true"}]}))
    with pytest.raises(NotFoundError, match=f"^{verb} j bild: job j has no task bild; did you mean build?"):
        client.ask(verb, "j", "bild")
    assert waiting(client) == []
    assert client.ask("cancel", "j", "build").applied is False
    assert waiting(client) == ["cancel j build"]


def test_what_the_state_does_not_permit(client: Client) -> None:
    """In the words of a manager."""
    create(client, "done", ended("a"))
    for verb, task, why in (
        ("cancel", None, "job done has already ended: it is succeeded"),
        ("pause", None, "job done has already ended: it is succeeded"),
        ("cancel", "a", "task a of job done has already ended"),
        ("retry", "a", "task a of job done is succeeded; retry takes failed, cancelled and skipped ones"),
        ("retry", None, "job done has no failed, cancelled or skipped task to retry; to repeat tasks: `"),
    ):
        with pytest.raises(BadInputError, match=why):
            client.ask(verb, "done", task)  # type: ignore[arg-type]
    with pytest.raises(BadInputError, match="after: b is not a task of job done"):
        client.add("done", tasks({"id": "b"}, {"id": "c", "after": ["b"]})[1:])
    with pytest.raises(BadInputError, match="task id a is taken in job done"):
        client.add("done", tasks({"id": "a"}))
    assert waiting(client) == []


def test_tasks_that_wait_to_be_added_count(client: Client) -> None:
    """With the ids that they will get; while requests wait, phases may change."""
    create(client, "done", ended("a"))
    client.add("done", tasks({"id": "b"}, {}))
    client.add("done", tasks({"id": "c", "after": ["b"]}, {"id": "b"})[:1])
    client.ask("cancel", "done", "_2")
    client.ask("cancel", "done")
    client.ask("retry", "done", "a")
    assert len(waiting(client)) == 5
    with pytest.raises(NotFoundError, match="no task bb"):
        client.ask("cancel", "done", "bb")
    with pytest.raises(BadInputError, match="task id c is taken"):
        client.add("done", tasks({"id": "c"}))


def test_after_a_crash_the_journal_may_know_more(client: Client) -> None:
    """So the next manager decides."""
    create(client, "j", ended("a"))
    Path(client.layout.journal, "1-1.jsonl").touch()
    client.ask("cancel", "j", "nosuch")
    assert waiting(client) == ["cancel j nosuch"]
