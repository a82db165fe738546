"""`status`: what is shown of jobs, and that nothing in them can steer the terminal."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from air_executor.client import Client
from air_executor.model.state import Queued
from tests.cli.conftest import Outcome
from tests.cli.made_jobs import THEN, create, ended
from tests.records import make_attempt, make_task

Air = Callable[..., Outcome]


def test_the_table_has_every_job_and_what_is_wrong(air: Air, client: Client) -> None:
    """Jobs, unreadable ones, and that nobody manages the open ones."""
    create(client, "good", ended("a"))
    create(client, "open", make_task("a", {"command": "true"}, queued_by=None, status=Queued()), phase="queued")
    create(client, "broken", ended("a"))
    Path(client.layout.state("broken")).write_text("{")
    done = air("status")
    assert done.code == 0
    assert "good" in done.out
    assert "1/1" in done.out
    assert "broken cannot be read" in done.out
    assert "no manager is running" in done.out
    record = json.loads(air("status", "--json").out)
    assert [job["id"] for job in record["jobs"]] == ["good", "open"]
    assert [job["id"] for job in record["unreadable"]] == ["broken"]
    assert record["manager"]["running"] is False


def test_an_unreadable_job_is_named_once(air: Air, client: Client) -> None:
    """By the manager, whose words say what to do, where it has found that too."""
    create(client, "broken", ended("a"))
    Path(client.layout.state("broken")).write_text("{")
    record = {"problems": ["job broken: cannot be read; restart the manager when it can be read"]}
    Path(client.layout.manager).write_text(json.dumps(record))
    assert air("status").out.count("broken") == 1


def test_a_jobs_page_is_the_tree_of_its_tasks(air: Air, client: Client) -> None:
    """Tasks stand under the one that queued them."""
    create(
        client,
        "j",
        ended("root"),
        ended("merge", seq=4),
        ended("child", queued_by="root", seq=2),
        ended("deep", queued_by="child", seq=3),
    )
    lines = air("status", "j").out.splitlines()
    tree = [
        line.split(" succeeded")[0].rstrip() for line in lines if " succeeded " in f"{line} " and "tasks:" not in line
    ][1:]
    assert tree == ["root", "└ child", "  └ deep", "merge"]


def test_the_json_of_a_job_is_its_state_file(air: Air, client: Client) -> None:
    """Nothing more, nothing less."""
    create(client, "j", ended("a"))
    assert json.loads(air("status", "j", "--json").out) == json.loads(Path(client.layout.state("j")).read_text())


def test_many_children_are_cut_and_the_failed_one_is_kept(air: Air, client: Client) -> None:
    """Of a long list those that need attention stay, the rest is counted, and --all shows it."""
    children = [ended(f"c{n}", queued_by="root", seq=n + 2) for n in range(200)]
    children[150] = ended("c150", queued_by="root", phase="failed", message="look at me", seq=152)
    create(client, "j", ended("root"), *children, phase="failed")
    out = air("status", "j").out
    assert "look at me" in out
    assert "… and 180 more: 180 succeeded (--all)" in out
    assert len(out.splitlines()) < 50
    assert len(air("status", "j", "--all").out.splitlines()) > 200


def test_a_chain_as_long_as_tasks_like_is_no_problem(air: Air, client: Client) -> None:
    """Tasks may queue tasks without end; showing them does not recurse."""
    create(client, "j", ended("c0"), *(ended(f"c{n}", queued_by=f"c{n - 1}", seq=n + 1) for n in range(1, 3000)))
    done = air("status", "j")
    assert done.code == 0
    assert "more (--all)" in done.out


@pytest.mark.parametrize("text", ["[bold]x[/red]", "\x1b[2J\x1b]0;t\x07", "\u202eabc", "a\nb", "[/]", ":smile:"])
def test_messages_of_tasks_are_only_text(air: Air, client: Client, text: str) -> None:
    """Markup, escape sequences and the like in a message are shown, not obeyed."""
    create(client, "j", ended("a", phase="failed", message=text), phase="failed")
    for command in ("status", "explain"):
        done = air(command, "j")
        assert done.code == 0, done.err
        assert "\x1b" not in done.out
        assert "\u202e" not in done.out
    assert "\x1b" not in air("status", "j", "--json").out
    if text.isprintable():
        assert text in air("status", "j").out


def test_a_page_tells_of_memory_that_has_grown(air: Air, client: Client) -> None:
    """With how much a task was killed and tried again, in the table and as data."""
    task = ended("a", seq=2)
    grown = [make_attempt(1, 0, THEN, 0.5, 2.0, 0.5, "oom", 137, memory_limit=512 << 20)]
    grown += [make_attempt(2, 0, THEN + 3, 0.5, 2.0, 0.5, "ok", 0, memory_limit=768 << 20)]
    task.attempts, task.runs = grown, 2
    create(client, "j", task)
    assert "killed for memory at 512Mi; tried again with 768Mi" in air("status", "j").out
    record = json.loads(air("status", "j", "--json").out)
    assert [one["memory_limit"] for one in record["tasks"][0]["attempts"]] == [512 << 20, 768 << 20]


def test_what_does_not_exist_is_3(air: Air) -> None:
    """Every command that names a job says so in one line."""
    for command in ("status", "logs", "explain", "wait", "report", "cancel", "run"):
        done = air(command, "nobody")
        assert (done.code, done.out) == (3, ""), command
        assert done.err.startswith("error: ")
        assert done.err.count("\n") == 1
