"""A job with a name runs many times: numbers, values in tasks, the newest run, what concurrent runs may do."""

from __future__ import annotations

import json
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from air_executor.client import Client
from air_executor.errors import AlreadyExistsError
from air_executor.manager import request_handler
from air_executor.model.job import Job, Task
from tests.cli.conftest import Outcome

Air = Callable[..., Outcome]

NIGHTLY = """\
name: nightly
params:
  REGION: {choices: [eu, us], default: eu}
  LIMIT: {type: integer, default: 5}
tasks:
  - {id: load, command: 'echo "load $REGION $LIMIT"; echo ''{"command": "echo then $REGION"}'' >> "$AIR_QUEUE"'}
"""


@pytest.fixture
def nightly(project: Path) -> str:
    """The path of a definition."""
    (project / "nightly.yaml").write_text(NIGHTLY)
    return "nightly.yaml"


def test_the_history_says_why_a_run_failed(air: Air, project: Path) -> None:
    """As `status` does."""
    (project / "bad.yaml").write_text("name: bad\ntasks: [{id: load, command: exit 3}]\n")
    assert air("run", "bad.yaml").code == 3
    assert air("history", "bad").out.splitlines()[1].endswith("task load: exit code 3")
    assert "no runs of bda in " in (said := air("history", "bda").err)
    assert "did you mean bad?" in said
    assert air("submit", "once", "--", "true").code == 0
    assert "once is a job with an id, so it runs once; `air-executor status once`" in air("history", "once").err


def test_a_name_also_finds_the_requests_of_its_run(air: Air, nightly: str) -> None:
    """They wait for the newest run."""
    assert air("run", nightly).code == 0
    assert "it applies when one starts" in air("rerun", "nightly", "load").err
    assert "1 pending request: rerun nightly-1 load" in air("status", "nightly").out


def named(name: str = "n", **fields: object) -> Job:
    """Return a job that runs many times."""
    return Job(name=name, tasks=[Task(command="true")], **fields)  # type: ignore[arg-type]


def test_a_file_runs_again_and_again(air: Air, nightly: str) -> None:
    """Each run is a job of its own, with its values in every task, also in those that are queued later."""
    assert air("run", nightly).code == 0
    assert air("run", nightly, "-p", "REGION=us").code == 0
    assert air("logs", "nightly-1").out == "load | load eu 5\n_1-1 | then eu\n"
    assert air("logs", "nightly").out == "load | load us 5\n_1-1 | then us\n"
    shown = json.loads(air("history", "nightly", "--json").out)
    assert [(run["id"], run["params"]["REGION"], run["phase"]) for run in shown["runs"]] == [
        ("nightly-2", "us", "succeeded"),
        ("nightly-1", "eu", "succeeded"),
    ]
    table = air("history", "nightly").out
    assert table.index("nightly-2") < table.index("nightly-1")
    assert "REGION=us LIMIT=5" in table
    assert "params: REGION=us LIMIT=5" in air("status", "nightly").out


def test_values_from_a_file_and_the_command_line(air: Air, client: Client, project: Path, nightly: str) -> None:
    """The command line wins."""
    (project / "values.yaml").write_text("REGION: us\nLIMIT: 7\n")
    assert air("submit", nightly, "--params-file", "values.yaml", "-p", "LIMIT=8").code == 0
    assert client.status("nightly").spec.params == {"REGION": "us", "LIMIT": 8}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("nightly.yaml", "-p", "REGION"), "--param: must be NAME=VALUE, got 'REGION'"),
        (("nightly.yaml", "-p", "REGIO=eu"), "params.REGIO: is not a parameter; did you mean REGION?"),
        (("nightly.yaml", "-p", "REGION=fr"), 'params.REGION: must be one of eu, us, got "fr" (line 3, column 3)'),
        (("nightly.yaml", "--id", "a", "--name", "b"), "--id and --name: give one of them"),
        (("x", "-p", "A=1", "--", "true"), "--param, --params-file: valid only with a job file"),
        (("x", "--id", "y", "--", "true"), "--id: valid only with a job file"),
        (("nightly.yaml", "--name", "x" * 80), "name: must be"),
    ],
)
def test_what_is_wrong_is_refused(
    air: Air, client: Client, nightly: str, arguments: tuple[str, ...], message: str
) -> None:
    """One clear message, exit code 2, and nothing submitted."""
    assert nightly
    done = air("submit", *arguments)
    assert done.code == 2
    assert message in done.err
    assert client.jobs.ids() == []


def test_a_wrong_file_of_parameters_is_refused(air: Air, project: Path, nightly: str) -> None:
    """The message does not speak of job files."""
    (project / "list.json").write_text("[1]")
    done = air("submit", nightly, "--params-file", "list.json")
    assert (done.code, done.err) == (
        2,
        "error: list.json: holds [1]; a file of parameters is a mapping of names to values\n",
    )


def test_id_and_name_on_the_command_line(air: Air, nightly: str) -> None:
    """They stand in place of what the file says; a command can have a name, too."""
    assert air("submit", nightly, "--id", "once").out == "once\n"
    assert air("submit", nightly, "--id", "once").code == 4
    assert air("submit", nightly, "--name", "weekly").out == "weekly-1\n"
    assert "load eu 5\n" in air("run", nightly, "--name", "weekly").out
    assert air("run", nightly, "--id", "again", "--quiet").code == 0
    assert air("submit", "--name", "build", "--", "true").out == "build-1\n"
    assert "an id or a `--name`, not both" in air("submit", "x", "--name", "build", "--", "true").err


def test_an_id_or_a_name_is_needed(air: Air, project: Path) -> None:
    """Not both, and not neither."""
    (project / "a.yaml").write_text("tasks: [{command: x}]\n")
    assert "id: is missing; give a name instead if the job runs many times" in air("submit", "a.yaml").err
    (project / "a.yaml").write_text("id: a\nname: b\ntasks: [{command: x}]\n")
    assert "name: cannot be used together with id" in air("submit", "a.yaml").err


def test_a_name_that_is_an_id(client: Client) -> None:
    """The id would hide the runs, so the name is refused."""
    client.submit(Job(id="n", tasks=[Task(command="true")]))
    with pytest.raises(AlreadyExistsError, match="name n: there is a job with this id"):
        client.submit(named())


def test_an_id_that_is_a_name(client: Client) -> None:
    """The id would hide the runs, so it is refused; also by a schedule, whose runs come later."""
    client.submit(named())
    for name in ("m" * 64, "m-1", "m"):  # no run of these
        client.submit(Job(id=name, tasks=[Task(command="true")]))
    with pytest.raises(AlreadyExistsError, match="id n: there is a definition of this name with runs, as n-1; choose"):
        client.submit(Job(id="n", tasks=[Task(command="true")]))
    for name in ("late", "m"):
        text = f"name: {name}\nschedule: {{every: 1h}}\ntasks: [{{command: x}}]\n"
        if name == "m":
            with pytest.raises(AlreadyExistsError, match="name m: there is a job with this id"):
                client.schedules.apply([("m.yaml", text.encode())])
        else:
            client.schedules.apply([("late.yaml", text.encode())])
    with pytest.raises(AlreadyExistsError, match="id late: there is a definition of this name with a schedule"):
        client.submit(Job(id="late", tasks=[Task(command="true")]))


def test_an_archived_job_hides_no_run(client: Client) -> None:
    """Its id may have become a name since: of what is archived and the runs, the newest is meant."""
    old = client.submit(Job(id="n", tasks=[Task(command="true")]))
    client.jobs.archive(old)
    run = client.submit(named())
    assert client.status("n").uid == run.uid
    waits = client.submit(Job(id="w", tasks=[Task(command="true")], after=["n"]))
    assert waits.after_uids == {"n-1": run.uid}
    client.jobs.archive(run)
    assert client.status("n").uid == run.uid


def test_numbers_go_on_above_every_run(client: Client) -> None:
    """Archived runs and unrelated jobs with such an id count; the newest run of the name is found behind one."""
    first = client.submit(named())
    client.jobs.archive(first)
    assert client.status("n").uid == first.uid
    client.submit(Job(id="n-7", tasks=[Task(command="true")]))
    assert client.submit(named()).id == "n-8"
    client.submit(Job(id="n-9", tasks=[Task(command="true")]))
    assert client.status("n").id == "n-8"
    assert [run.id for run in client.named_runs.newest_first("n")] == ["n-8", "n-1"]
    assert list(client.named_runs.newest_first("n-1")) == []


def test_many_submitters_at_once(client: Client) -> None:
    """Each gets a number of its own."""
    with ThreadPoolExecutor(8) as pool:
        ids = list(pool.map(lambda _: Client(client.layout.root).submit(named()).id, range(24)))
    assert sorted(ids) == sorted(f"n-{number}" for number in range(1, 25))


def test_after_a_name_is_its_newest_run(client: Client) -> None:
    """Fixed when the job is submitted."""
    client.submit(named())
    second = client.submit(named())
    later = client.submit(Job(id="later", after=["n"], tasks=[Task(command="true")]))
    client.submit(named())
    assert later.spec.after == ["n-2"]
    assert later.after_uids == {"n-2": second.uid}


def test_forbid_refuses_a_second_run(air: Air, client: Client) -> None:
    """While the first is unfinished; exit code 4."""
    client.submit(named(concurrency="forbid"))
    with pytest.raises(AlreadyExistsError, match=r"n-1 is queued, and `concurrency: forbid` allows one run of n"):
        client.submit(named(concurrency="forbid"))
    assert air("run", "n").code == 0
    assert client.submit(named(concurrency="forbid")).id == "n-2"


@pytest.mark.parametrize(("command", "phase"), [("true", "succeeded"), ("false", "failed")])
def test_queue_waits_for_the_end_of_earlier_runs(air: Air, client: Client, command: str, phase: str) -> None:
    """However they end; until then `explain` says what it waits for."""
    for _ in range(2):
        client.submit(Job(name="n", concurrency="queue", tasks=[Task(command=command)]))
    assert air("explain", "n-2").out == "job n-2 is waiting for job n-1 (queued)\n"
    air("run", "n-1")
    assert client.status("n-1").phase == phase
    air("run", "n-2")
    first, second = client.status("n-1"), client.status("n-2")
    assert second.phase == phase
    assert first.finished_at is not None
    assert second.started_at is not None
    assert second.started_at >= first.finished_at


def test_replace_cancels_earlier_runs(air: Air, client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    """The new one starts when they have ended."""
    monkeypatch.setattr(request_handler, "SLICE", 60.0)  # a busy machine would leave the request for the next cycle
    client.submit(named())
    client.submit(named(concurrency="replace"))
    assert air("run", "n-1").code == 1
    assert client.status("n-1").phase == "cancelled"
    assert air("run", "n").code == 0
    assert client.status("n").id == "n-2"


def test_verbs_take_a_name(air: Air, client: Client) -> None:
    """They mean its newest run."""
    client.submit(named())
    client.submit(named())
    assert air("cancel", "n").code == 0
    assert air("history", "nosuch").code == 3
    assert air("cancel", "nosuch").code == 3
    requests = [client.inbox.read(name) for name in client.inbox.pending()]
    assert [request.job for request in requests if request is not None and request.op == "cancel"] == ["n-2"]
