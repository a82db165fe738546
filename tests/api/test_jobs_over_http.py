"""Jobs over HTTP, against a real manager: submitted, read, followed and changed."""

from __future__ import annotations

import http.client
import json
from pathlib import Path

import pytest

from tests.api.conftest import API, PATIENCE, ServedApi
from tests.conftest import wait_for

GATE = 'while [ ! -e "$AIR_WORKSPACE/gate" ]; do sleep 0.02; done'


def events(served: ServedApi, path: str, count: int, **headers: str) -> list[dict[str, str]]:
    """Return the first events of a stream, fewer if it ends before."""
    connection = http.client.HTTPConnection("127.0.0.1", served.port, timeout=PATIENCE)
    found: list[dict[str, str]] = []
    try:
        connection.request(
            "GET", API + path, headers={name.replace("_", "-"): value for name, value in headers.items()}
        )
        answer = connection.getresponse()
        assert answer.status == 200, answer.read()
        event: dict[str, str] = {}
        while len(found) < count and (line := answer.readline().decode()):
            if line == "\n":
                found += [event] if event else []
                event = {}
            elif not line.startswith(":"):
                name, _, value = line.rstrip("\n").partition(": ")
                event[name] = value
        return found
    finally:
        connection.close()


def test_a_submitted_job_is_stored_run_and_shown(served: ServedApi) -> None:
    """The first thing that anybody does: submit, get, list, and read the output."""
    answer = served.submit("first", "echo out")
    assert answer.status == 201, answer.body
    assert answer.headers["location"] == f"{API}/jobs/first"
    assert served.client.status("first").uid == answer.data["uid"]
    job = served.ended("first")
    assert (job["phase"], job["owner"], job["tasks"][0]["phase"]) == ("succeeded", "submitter", "succeeded")
    assert "first" in [one["id"] for one in served.get("/jobs").data["jobs"]]
    (attempt,) = served.get("/jobs/first/tasks/only/attempts").data["attempts"]
    log = served.get(f"/jobs/first/tasks/only/attempts/{attempt['seq']}/log")
    assert (log.body, log.headers["content-type"]) == (b"out\n", "text/plain; charset=utf-8")
    assert "succeeded" in served.get("/jobs/first/explain").data["explanation"]
    assert "only" in served.get("/jobs/first/tasks/only/explain").data["explanation"]


def test_yaml_with_parameters_becomes_a_run_of_its_name(served: ServedApi) -> None:
    """A job file is taken as it is, by its content type, and so is `--param`."""
    body = b"name: daily\nparams: {day: {type: date}}\ntasks:\n  - command: [echo, '{{ params.day }}']\n"
    answer = served.ask(
        "POST", "/jobs?param=day=2026-01-31", role="submitter", body=body, Content_Type="application/yaml"
    )
    assert (answer.status, answer.data.get("id")) == (201, "daily-1"), answer.body
    served.ended("daily-1")
    (run,) = served.get("/names/daily/runs").data["runs"]
    assert run["params"] == {"day": "2026-01-31"}
    assert served.get("/jobs/daily").data["id"] == "daily-1", "a name is its newest run"
    assert served.get("/names").data["names"] == ["daily"]


def test_results_and_outcomes(served: ServedApi) -> None:
    """The same that a run gets to read."""
    tasks = [
        {"id": "one", "command": "echo '{\"n\": 1}' >$AIR_RESULT"},
        {"id": "bad", "command": "exit 3"},
        {"id": "reader", "command": "cp $AIR_INPUTS $AIR_WORKSPACE/i; cp $AIR_OUTCOMES $AIR_WORKSPACE/o"},
    ]
    body = {"id": "resulted", "tasks": tasks, "on_failure": "continue"}
    assert served.ask("POST", "/jobs", body, role="submitter").status == 201
    served.ended("resulted")
    folder = Path(served.client.layout.workspace("resulted"))
    found = served.get("/jobs/resulted/inputs")
    assert found.data == json.loads((folder / "i").read_text()) == {"one": {"n": 1}}
    ended = served.get("/jobs/resulted/outcomes").data
    assert ended.pop("reader")["phase"] == "succeeded"
    assert ended == json.loads((folder / "o").read_text())
    assert ended["bad"] == {"phase": "failed", "reason": "error", "exit_code": 3, "result": None}
    assert served.get("/jobs/resulted/inputs", If_None_Match=found.headers["etag"]).status == 304


@pytest.mark.parametrize("fields", [{"id": "once"}, {"name": "once-more"}])
def test_a_key_submits_once(served: ServedApi, fields: dict[str, str]) -> None:
    """A repeated request answers with the first job; without the key it is another request."""
    body = {**fields, "tasks": [{"command": "true"}]}
    first, again, other = (
        served.ask("POST", "/jobs", body, role="submitter", Idempotency_Key=key) for key in ("k", "k", "another")
    )
    assert (first.status, again.status) == (201, 200)
    assert first.data["uid"] == again.data["uid"]
    assert other.status == (409 if "id" in fields else 201)
    with_key_of_other = served.ask("POST", "/jobs", body, role="other", Idempotency_Key="k")
    assert with_key_of_other.status == (409 if "id" in fields else 201), "a key is the caller's own"


def test_a_wrong_job_is_refused_with_the_words_of_the_command_line(served: ServedApi) -> None:
    """Each problem with its field and its line."""
    answer = served.ask("POST", "/jobs", {"id": "bad", "tasks": [{"command": "x", "retrys": 1}]}, role="submitter")
    assert (answer.status, answer.headers["content-type"]) == (422, "application/problem+json")
    assert answer.data["type"] == "urn:air-executor:problem:bad-input"
    assert "tasks[0].retrys: is not a field; did you mean retries?" in answer.data["detail"]
    assert served.get("/jobs/bad").status == 404


def test_verbs_take_effect_and_say_so(served: ServedApi) -> None:
    """Pause, resume, cancel a task, add, retry, rerun: each by a request that the manager has applied."""
    served.submit("steered", GATE)
    served.client.layout.workspace("steered")
    for verb, phase in (("pause", "paused"), ("resume", "running")):
        answer = served.ask("POST", f"/jobs/steered/{verb}", role="submitter")
        assert (answer.status, answer.data["applied"]) == (200, True), answer.body
        wait_for(lambda phase=phase: served.client.status("steered").phase == phase, PATIENCE, phase)  # type: ignore[misc]
    added = served.ask("POST", "/jobs/steered/tasks", {"tasks": [{"id": "more", "command": "true"}]}, role="submitter")
    assert added.status == 200, added.body
    cancelled = served.ask("POST", "/jobs/steered/cancel", {"task": "only"}, role="submitter")
    assert cancelled.status == 200, cancelled.body
    assert served.ended("steered")["phase"] in ("failed", "cancelled")
    missing = served.ask("POST", "/jobs/steered/cancel", {"task": "onli"}, role="submitter")
    assert (missing.status, missing.data["detail"]) == (404, "job steered has no task onli; did you mean only?")
    late = served.ask("POST", "/jobs/steered/cancel", role="submitter")
    assert late.status == 409, "it has ended"
    assert "steered" in late.data["detail"]
    rerun = served.ask("POST", "/jobs/steered/rerun", {"task": "more"}, role="submitter")
    assert rerun.status == 200, rerun.body


def test_a_used_up_budget_is_raised(served: ServedApi) -> None:
    """A job that was paused for its budget goes on with a larger one, and with none that is too small."""
    first = {"id": "spends", "command": "air-usage usd=3"}
    job = {"id": "bounded", "budget": {"usd": 2}, "tasks": [first, {"id": "rest", "command": "true"}]}
    assert served.ask("POST", "/jobs", job, role="submitter").status == 201
    wait_for(lambda: served.client.status("bounded").phase == "paused", PATIENCE, "the budget to be used up")
    for body in ({}, {"budget": {"usd": 2.5}}):
        refused = served.ask("POST", "/jobs/bounded/resume", body, role="submitter")
        assert (refused.status, "budget" in refused.data["detail"]) == (409, True), refused.body
    assert served.ask("POST", "/jobs/bounded/resume", {"budget": {"usd": -1}}, role="submitter").status == 422
    raised = served.ask("POST", "/jobs/bounded/resume", {"budget": {"usd": 10}}, role="submitter")
    assert raised.status == 200, raised.body
    assert served.ended("bounded")["phase"] == "succeeded"


def test_people_answer_what_a_task_asks(served: ServedApi) -> None:
    """An operator approves; the audit log and the state say who."""
    body = {"id": "asks", "tasks": [{"id": "go", "approve": "Deploy?"}, {"id": "no", "approve": "Really?"}]}
    assert served.ask("POST", "/jobs", {**body, "max_runners": 2}, role="submitter").status == 201
    wait_for(lambda: served.client.status("asks").phase != "pending", PATIENCE, "the job to be seen")
    which = served.ask("POST", "/jobs/asks/approve", role="operator")
    assert which.status == 422, "two tasks ask"
    approved = served.ask("POST", "/jobs/asks/approve", {"task": "go", "values": {"v": "1"}}, role="operator")
    assert approved.status == 200, approved.body
    wait_for(lambda: served.client.status("asks").tasks["go"].phase == "succeeded", PATIENCE, "the next checkpoint")
    rejected = served.ask("POST", "/jobs/asks/reject", {"reason": "too late"}, role="operator")
    assert rejected.status == 200, rejected.body
    tasks = {one["id"]: one for one in served.ended("asks")["tasks"]}
    assert (tasks["go"]["phase"], tasks["no"]["reason"]) == ("succeeded", "declined")
    assert "too late" in tasks["no"]["message"]


def test_lists_have_pages_and_filters(served: ServedApi) -> None:
    """Pages join without gaps; each filter takes what `status` takes."""
    for number in range(5):
        served.submit(f"page-{number}", labels={"team": "blue" if number % 2 else "red"}, pool="pages")
    found: list[str] = []
    cursor = ""
    while True:
        page = served.get(f"/jobs?pool=pages&limit=2{cursor}").data
        found += [one["id"] for one in page["jobs"]]
        if page["next"] is None:
            break
        cursor = f"&cursor={page['next']}"
    assert found == [f"page-{number}" for number in (4, 3, 2, 1, 0)]
    blue = served.get("/jobs?label=team%3Dblue&pool=pages").data["jobs"]
    assert sorted(one["id"] for one in blue) == ["page-1", "page-3"]
    assert served.get("/jobs?owner=other&pool=pages").data["jobs"] == []
    assert served.get("/jobs?cursor=!!").status == 422
    assert served.get("/jobs?phase=odd").status == 422


def test_an_unchanged_job_costs_nothing_to_ask_for(served: ServedApi) -> None:
    """A client that has the newest version gets 304, until there is another."""
    served.submit("tagged")
    served.ended("tagged")
    first = served.get("/jobs/tagged")
    same = served.get("/jobs/tagged", If_None_Match=first.headers["etag"])
    assert (same.status, same.body, same.headers["etag"]) == (304, b"", first.headers["etag"])
    served.ask("POST", "/jobs/tagged/rerun", role="submitter")

    def changed() -> bool:
        return served.get("/jobs/tagged", If_None_Match=first.headers["etag"]).status == 200

    wait_for(changed, PATIENCE, "another version")


@pytest.mark.parametrize(
    ("asked", "status", "part"),
    [
        ("bytes=0-2", 206, b"012"),
        ("bytes=-2", 206, b"9\n"),
        ("bytes=4-", 206, b"456789\n"),
        ("bytes=2-1000", 206, b"23456789\n"),
        ("bytes=11-", 416, None),
        ("bytes=5-4", 416, None),
        ("bytes=-", 200, b"0123456789\n"),
        ("lines=1-2", 200, b"0123456789\n"),
    ],
)
def test_parts_of_a_log(served: ServedApi, asked: str, status: int, part: bytes | None) -> None:
    """Ranges are exact; what is none is left out of account, as RFC 9110 says."""
    if served.get("/jobs/logged").status == 404:
        served.submit("logged", "echo 0123456789")
        served.ended("logged")
    answer = served.get("/jobs/logged/tasks/only/attempts/1/log", Range=asked)
    assert answer.status == status
    assert part is None or answer.body == part


def test_what_a_service_printed_is_read_by_its_name(served: ServedApi) -> None:
    """As any log; without one, or with a name that no service has, there is none."""
    served.submit("beside", "true")
    served.ended("beside")
    Path(served.client.layout.run("beside", 1, "only"), "service-db.log").write_bytes(b"ready\n")
    path = "/jobs/beside/tasks/only/attempts/1/log"
    assert served.get(f"{path}?service=db").body == b"ready\n"
    assert served.get(f"{path}?service=web").status == 404
    assert served.get(f"{path}?service=../db").status == 422


def test_a_log_is_followed_and_resumed(served: ServedApi) -> None:
    """The stream ends with the run; from an event on, it gives what comes after, also in the midst of a character."""
    served.submit("spoken", f"printf 'first \\303'; {GATE}; printf '\\244\\nlast\\n'")
    wait_for(lambda: served.get("/jobs/spoken/tasks/only/attempts/1/log").body == b"first \xc3", PATIENCE, "output")
    path = "/jobs/spoken/tasks/only/attempts/1/log/events"
    (first,) = events(served, path, 1)
    assert json.loads(first["data"])["text"] == "first "
    open(f"{served.client.layout.workspace('spoken')}/gate", "x").close()
    served.ended("spoken")
    rest = events(served, path, 10, Last_Event_ID=first["id"])
    assert "".join(json.loads(one["data"]).get("text", "") for one in rest) == "ä\nlast\n"
    assert rest[-1]["event"] == "end"
    assert events(served, path, 10, Last_Event_ID=rest[-1]["id"]) == rest[-1:]


def test_events_of_jobs_are_resumed(served: ServedApi) -> None:
    """A client that was away is told of what changed meanwhile, and of nothing that it knows."""
    served.submit("early")
    served.ended("early")
    everything = events(served, "/events", len(served.get("/jobs?limit=500").data["jobs"]))
    assert [int(one["id"]) for one in everything] == sorted(int(one["id"]) for one in everything)
    known = everything[-1]
    served.submit("later")
    served.ended("later")
    same, news = events(served, "/events", 2, Last_Event_ID=known["id"])
    assert same == known, "what happened at that very moment may come twice"
    assert (json.loads(news["data"])["id"], json.loads(news["data"])["phase"]) == ("later", "succeeded")
    (last,) = events(served, "/jobs/later/events", 1)
    assert json.loads(last["data"])["phase"] == "succeeded"
    assert events(served, "/jobs/later/events", 1, Last_Event_ID=last["id"]) == []
    assert served.get("/events", Last_Event_ID="x").status == 422


def test_a_schedule_runs_now(served: ServedApi) -> None:
    """With values of its parameters, as a run of the submitter; what is wrong with them is named."""
    job = {
        "name": "ondemand",
        "schedule": {"cron": "0 2 * * *"},
        "params": {"REGION": {"choices": ["eu", "us"], "default": "us"}},
        "tasks": [{"id": "only", "command": 'echo "$REGION"'}],
    }
    served.ask("POST", "/schedules", job, role="operator")
    made = served.ask("POST", "/schedules/ondemand/run", {"params": {"REGION": "eu"}}, role="submitter")
    assert (made.status, made.data["id"]) == (201, "ondemand-1")
    assert made.headers["location"] == "/api/v1/jobs/ondemand-1"
    found = served.ended("ondemand-1")
    assert (found["phase"], found["owner"], found["spec"]["params"]) == ("succeeded", "submitter", {"REGION": "eu"})
    wrong = served.ask("POST", "/schedules/ondemand/run", {"params": {"REGION": "asia"}}, role="submitter")
    assert (wrong.status, "params.REGION: must be one of eu, us" in wrong.data["detail"]) == (422, True)
    assert served.ask("POST", "/schedules/ondemand/run", {"nonsense": 1}, role="submitter").status == 422
    assert [one["action"] for one in served.audit if one["job"] == "ondemand"][-1] == "submit"
    assert served.ask("DELETE", "/schedules/ondemand", role="operator").status == 204


def test_schedules_are_kept_and_filled(served: ServedApi) -> None:
    """What `schedule` and `backfill` do, for operators."""
    job = {"name": "hourly", "schedule": {"cron": "0 * * * *"}, "tasks": [{"command": "true"}]}
    assert served.ask("POST", "/schedules", job, role="submitter").status == 403
    applied = served.ask("POST", "/schedules", job, role="operator")
    assert (applied.status, applied.data["paused"]) == (200, False), applied.body
    assert served.ask("POST", "/schedules", job, role="operator").status == 200, "as it was"
    assert served.ask("POST", "/schedules/hourly/pause", role="operator").data["paused"] is True
    assert [one["name"] for one in served.get("/schedules").data["schedules"]] == ["hourly"]
    assert len(served.get("/schedules/hourly/next?limit=3").data["next"]) == 3
    order = {"since": "2026-01-01T00:00:00Z", "until": "2026-01-01T02:00:00Z"}
    dry = served.ask("POST", "/schedules/hourly/backfill", {**order, "dry_run": True}, role="operator")
    real = served.ask("POST", "/schedules/hourly/backfill", order, role="operator")
    assert len(dry.data["created"]) == 2
    assert dry.data["created"] == real.data["created"]
    cancelled = served.ask("DELETE", "/schedules/hourly/backfill", role="operator")
    assert (cancelled.status, set(cancelled.data["cancelled"]) <= set(real.data["created"])) == (200, True)
    assert served.ask("DELETE", "/schedules/hourly", role="operator").status == 204
    assert served.get("/schedules/hourly").status == 404
    wrong = served.ask("POST", "/schedules", {"id": "x", "tasks": [{"command": "true"}]}, role="operator")
    assert wrong.status == 422


def test_the_directory_as_a_whole(served: ServedApi) -> None:
    """Manager, pools, report and caller."""
    served.submit("counted")
    served.ended("counted")
    assert served.get("/manager").data["running"] is True
    assert isinstance(served.get("/pools").data["pools"], list)
    report = served.get("/report?job=counted&by=day")
    assert report.data["total"]["runs"] >= 1
    assert served.get("/report?by=moon").status == 422
    assert served.get("/caller", role="operator").data == {"name": "operator", "role": "operator"}
