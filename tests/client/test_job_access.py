"""What both clients promise: the one of the files, and the one of the server. Each test runs with both."""

from __future__ import annotations

import json
import time
from collections.abc import Callable

import pytest

from air_executor.client.job_access import JobAccess
from air_executor.client.server_client import ServerClient
from air_executor.core.cost_tables import as_record
from air_executor.core.explanation import explain_job
from air_executor.core.submission import parse_job
from air_executor.errors import AirExecutorError, AlreadyExistsError, BadInputError, NotFoundError
from air_executor.model.job import Job
from air_executor.store.json_output import job_line, job_record
from tests.api.conftest import ServedApi
from tests.client.conftest import PATIENCE

GATE = 'while [ ! -e "$AIR_WORKSPACE/gate" ]; do sleep 0.02; done'


def job(name: str, command: str = "true", **fields: object) -> Job:
    """Return a job of one task."""
    return parse_job({"id": name, "tasks": [{"id": "only", "command": command, "grace": 1}], **fields})


def name_for(access: JobAccess, stem: str) -> str:
    """Return an id that no other test has."""
    return f"{stem}-{'s' if access.place.startswith('http') else 'f'}"


def test_a_job_is_submitted_waited_for_and_read(access: JobAccess) -> None:
    """Its state is the same for both, and so is its output."""
    name = name_for(access, "whole")
    (made,) = access.submit_all([job(name, "echo first; echo last", labels={"team": "x"})])
    state = access.wait(name, PATIENCE, uid=made.uid)
    assert (state.id, state.uid, state.phase, state.spec.labels) == (name, made.uid, "succeeded", {"team": "x"})
    assert name in access.ids()
    (summary,) = [one for one in access.summaries() if not isinstance(one, tuple) and one.id == name]
    assert (summary.labels, summary.total, summary.ended, summary.runner_seconds > 0) == ({"team": "x"}, 1, True, True)
    log = access.logs.open(state, "only", 1)
    assert log is not None
    with log:
        assert (log.seek(0, 2), log.seek(6), log.read(3), log.read()) == (11, 6, b"las", b"t\n")
        assert log.read(5) == b""
        times = access.logs.times(state, "only", 1, log)
    assert state.started_at is not None
    assert abs(times.at(0) - state.started_at) < PATIENCE
    assert access.logs.open(state, "only", 7) is None
    assert not access.logs.is_removed(state, "only", 1)


def test_both_see_the_same(served: ServedApi, remote: ServerClient) -> None:
    """States, summaries, reports, histories and schedules are equal, whoever reads them."""
    served.client.submit(parse_job({"name": "same", "tasks": [{"command": "true", "env": {"A": "1"}}], "priority": 3}))
    served.client.wait("same", PATIENCE)
    served.client.schedules.apply(
        [("s.yaml", b"name: seen\nschedule: {cron: 0 2 1 1 *}\ntasks: [{command: 'true'}]\n")]
    )
    assert job_record(remote.status("same")) == job_record(served.client.status("same"))
    ours, theirs = (
        {one.id: job_line(one) for one in client.summaries() if not isinstance(one, tuple)}
        for client in (served.client, remote)
    )
    assert ours == theirs
    assert [(a.id, dict(p)) for a, p in remote.history("same", 5)] == [("same-1", {})]
    now = time.time()
    for by in ("job", "day", "label=team"):
        (here, _), (there, _) = (
            client.report([], now, by=by, since=None, pool_size=2) for client in (served.client, remote)
        )
        mine, its = as_record(here, []), as_record(there, [])
        assert mine["groups"] == its["groups"]
        assert mine["total"] == its["total"]
        assert mine["pool"]["busy_seconds"] == its["pool"]["busy_seconds"]
    cut = now - 86_400, now + 86_400, [("pool", "default")]
    assert remote.charges([], *cut) == served.client.charges([], *cut)
    assert remote.charges(["same-1"], None, None).csv.count("\n") > 1
    assert remote.schedules.all() == served.client.schedules.all()
    assert remote.presence().record["pid"] == served.client.presence().record["pid"]
    assert remote.presence().running is True


def test_a_definition_has_its_values_already(access: JobAccess) -> None:
    """What a job file makes of its templates arrives as it is, and is not rendered again."""
    name = name_for(access, "rendered")
    made = parse_job(
        {"name": name, "params": {"DAY": "{{ x }}"}, "tasks": [{"id": "only", "command": ["echo", "{{ params.DAY }}"]}]}
    )
    (submitted,) = access.submit_all([made])
    state = access.wait(submitted.id, PATIENCE)
    assert (submitted.id, state.spec.params) == (f"{name}-1", {"DAY": "{{ x }}"})
    assert state.tasks["only"].command == ["echo", "{{ params.DAY }}"]


def test_jobs_that_wait_for_each_other_are_submitted_together(access: JobAccess) -> None:
    """All of them or, where one is refused, none."""
    first, second, third = (name_for(access, one) for one in ("up", "down", "none"))
    made = access.submit_all([job(second, after=[first]), job(first)])
    assert [one.id for one in made] == [second, first]
    assert access.wait(second, PATIENCE).phase == "succeeded"
    with pytest.raises(AlreadyExistsError, match=first):
        access.submit_all([job(third), job(first)])
    with pytest.raises(BadInputError, match="does not exist"):
        access.submit_all([job(third, after=["nobody"])])
    with pytest.raises(NotFoundError):
        access.status(third)


def test_requests_take_effect(access: JobAccess) -> None:
    """Pause, resume, add, cancel, retry, rerun; and what does not fit is refused with the same words."""
    name = name_for(access, "steered")
    access.submit_all([job(name, GATE)])
    for op, phase in (("pause", "paused"), ("resume", "running")):
        answer = access.ask(op, name)  # type: ignore[arg-type]
        assert (answer.applied, answer.job) == (True, name)
        until = time.monotonic() + PATIENCE
        while access.status(name).phase != phase:
            assert time.monotonic() < until
            time.sleep(0.05)
    assert access.add(name, parse_job({"id": "x", "tasks": [{"id": "more", "command": "true"}]}).tasks).applied
    assert access.ask("cancel", name).applied
    state = access.wait(name, PATIENCE)
    assert state.phase == "cancelled"
    with pytest.raises(BadInputError, match=f"cancel {name}: job {name} has already ended"):
        access.ask("cancel", name)
    assert access.ask("rerun", name, "more", downstream=False, fields={"env": {"A": "1"}}).applied
    assert access.wait(name, PATIENCE).ended
    with pytest.raises(NotFoundError, match=f"job {name} has no task mor; did you mean more"):
        access.ask("retry", name, "mor")


def test_a_group_runs_again(access: JobAccess) -> None:
    """A request may name it where it takes a task."""
    name = name_for(access, "grouped")
    tasks = [{"id": one, "command": "true", "group": "all"} for one in ("a", "b")]
    access.submit_all([parse_job({"id": name, "tasks": tasks})])
    access.wait(name, PATIENCE)
    assert access.ask("rerun", name, "all").applied
    assert [task.runs for task in access.wait(name, PATIENCE).tasks.values()] == [2, 2]


def test_a_question_is_answered(access: JobAccess) -> None:
    """The values of an approval are inputs; a rejection has its reason."""
    name = name_for(access, "asks")
    tasks = [{"id": "ask", "approve": "go?"}, {"id": "no", "approve": "and this?"}]
    access.submit_all([parse_job({"id": name, "on_failure": "continue", "tasks": tasks})])
    assert access.ask("approve", name, "ask", by="me", values={"where": "here"}).applied
    assert access.ask("reject", name, "no", by="me", message="too late").applied
    state = access.wait(name, PATIENCE)
    assert (state.tasks["ask"].phase, state.tasks["no"].reason) == ("succeeded", "declined")
    assert "too late" in json.dumps(job_record(state))


@pytest.mark.parametrize("op", ["status", "wait", "cancel", "history", "next", "pause", "delete", "report", "charges"])
def test_what_is_not_there_is_not_found(access: JobAccess, op: str) -> None:
    """With the exit code of the command line."""
    calls: dict[str, Callable[[], object]] = {
        "status": lambda: access.status("nobody"),
        "wait": lambda: access.wait("nobody"),
        "cancel": lambda: access.ask("cancel", "nobody"),
        "history": lambda: access.history("nobody", 1),
        "next": lambda: access.schedules.next_times("nobody", 1),
        "pause": lambda: access.schedules.pause(["nobody"], paused=True),
        "delete": lambda: access.schedules.delete(["nobody"]),
        "charges": lambda: access.charges(["nobody"], None, None),
        "report": lambda: access.report(["nobody"], 0.0, by="job", since=None, pool_size=None),
    }
    with pytest.raises(NotFoundError, match="nobody"):
        calls[op]()


@pytest.mark.parametrize("bad", ["../x", "-rf", "", "x" * 65, "a/b", "a\nb", "a?b=c", "%2e%2e"])
def test_no_name_leads_elsewhere(access: JobAccess, bad: str) -> None:
    """Neither on the volume nor on the server."""
    with pytest.raises(AirExecutorError):
        access.status(bad)
    with pytest.raises(AirExecutorError):
        access.ask("cancel", bad)
    with pytest.raises(AirExecutorError):
        access.schedules.delete([bad])


def test_schedules_are_applied_paused_and_deleted(access: JobAccess) -> None:
    """An unchanged one is told from a new one, and of several files none is applied if one is wrong."""
    name = name_for(access, "timed")
    file = f"name: {name}\nschedule: {{cron: 0 2 * * 1}}\ntasks: [{{command: 'true'}}]\n".encode()
    (applied,) = access.schedules.apply([("timed.yaml", file)])
    assert (applied.changed, applied.record["name"], applied.record["paused"]) == (True, name, False)
    assert [one.changed for one in access.schedules.apply([("timed.yaml", file)])] == [False]
    assert len(access.schedules.next_times(name, 3)) == 3
    assert access.schedules.next_times(name, 1) == [applied.record["next_at"]]
    assert access.schedules.pause([name], paused=True)[0]["paused"]
    found = access.schedules.backfill(
        name, "2026-01-05", "2026-01-12", max_active=1, newest_first=False, retry=False, dry_run=True
    )
    assert (len(found.created), found.left_out) == (2, [])
    with pytest.raises(BadInputError, match=r"wrong\.yaml.*name: is missing"):
        access.schedules.apply([("new.yaml", file.replace(name.encode(), b"never")), ("wrong.yaml", b"id: x\n")])
    assert "never" not in [one["name"] for one in access.schedules.all()[0]]
    assert [one["name"] for one in access.schedules.delete([name])] == [name]
    with pytest.raises(NotFoundError):
        access.schedules.next_times(name, 1)


def test_a_waiting_job_is_explained_by_what_is_around_it(access: JobAccess) -> None:
    """By the job that it waits for, and by the runners of the manager."""
    up, down = (name_for(access, one) for one in ("blocks", "blocked"))
    access.submit_all([job(up, GATE), job(down, after=[up])])
    until = time.monotonic() + PATIENCE
    while access.status(up).phase != "running":
        assert time.monotonic() < until
        time.sleep(0.05)
    state = access.status(down)
    assert up in explain_job(state, access.explain_context(state, access.job_facts(), time.time(), None))
    running = access.status(up)
    context = access.explain_context(running, access.job_facts(), time.time(), None)
    assert (context.manager, context.max_runners, context.running >= 1) == (True, 4, True)
    access.ask("cancel", up)
    assert access.wait(down, PATIENCE).phase == "failed"
