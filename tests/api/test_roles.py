"""Who may do what over HTTP, and what the audit log says of it: against a real manager, with each role."""

from __future__ import annotations

import base64
import json
import os
import time
from pathlib import Path
from typing import Any

import pytest

from air_executor.model.callers import ROLES, AuditLine
from air_executor.store import audit
from air_executor.store.audit import AuditLog
from air_executor.store.presence import read_record
from air_executor.store.tokens import Tokens
from air_executor.web.api.api_app import make_routes
from tests.api.conftest import API, ServedApi

EVERYONE: tuple[str | None, ...] = (None, *ROLES)
JOB = {"tasks": [{"command": "true"}]}
CHANGES: list[tuple[str, str, Any, str]] = [
    ("POST", "/jobs", {"id": "made", **JOB}, "submitter"),
    ("POST", "/submissions", {"jobs": [{"id": "made-too", **JOB}]}, "submitter"),
    ("POST", "/jobs/theirs/cancel", None, "operator"),
    ("POST", "/jobs/theirs/pause", None, "operator"),
    ("POST", "/jobs/theirs/resume", None, "operator"),
    ("POST", "/jobs/theirs/retry", None, "operator"),
    ("POST", "/jobs/theirs/rerun", None, "operator"),
    ("POST", "/jobs/theirs/tasks", {"command": "true"}, "operator"),
    ("POST", "/jobs/theirs/approve", None, "operator"),
    ("POST", "/jobs/theirs/reject", None, "operator"),
    ("POST", "/jobs/theirs/confirm-gone", None, "admin"),
    ("PUT", "/jobs/theirs/workspace/file?path=x", None, "operator"),
    ("POST", "/schedules", {"name": "s", "schedule": {"every": "1h"}, **JOB}, "operator"),
    ("POST", "/schedules/none/pause", None, "operator"),
    ("POST", "/schedules/none/resume", None, "operator"),
    ("POST", "/schedules/none/run", None, "submitter"),
    ("DELETE", "/schedules/none", None, "operator"),
    ("POST", "/schedules/none/backfill", {"since": "2026-01-01", "until": "2026-01-01"}, "operator"),
    ("DELETE", "/schedules/none/backfill", None, "operator"),
]


def test_each_change_is_tested_with_each_role() -> None:
    """No route that changes something is missing above."""
    routes = {
        (method.upper(), path)
        for path, methods in make_routes().openapi()["paths"].items()
        for method in methods
        if method != "get"
    }
    known = {(m, p.partition("?")[0].replace("theirs", "{job}").replace("none", "{name}")) for m, p, _, _ in CHANGES}
    assert routes == known


@pytest.mark.parametrize(("method", "path", "body", "least"), CHANGES, ids=[f"{m} {p}" for m, p, _, _ in CHANGES])
def test_a_change_takes_its_role(served: ServedApi, method: str, path: str, body: Any, least: str) -> None:  # noqa: ANN401 - JSON data
    """A caller without the role is refused before anything else is looked at; one with it is not for that."""
    if served.get("/jobs/theirs").status == 404:
        served.submit("theirs", role="other")
    for role in EVERYONE:
        answer = served.ask(method, path, body, role=role)
        if role is None:
            assert (answer.status, answer.headers["www-authenticate"]) == (401, "Bearer")
            assert "token create" in answer.data["detail"]
        elif ROLES.index(role) < ROLES.index(least):
            assert answer.status == 403, (role, answer.body)
        else:
            assert answer.status in (200, 201, 202, 204, 404, 409, 415, 422), (role, answer.body)


def test_a_submitter_changes_only_its_own(served: ServedApi) -> None:
    """Neither those of another token nor those of nobody; what its job's tasks submit is its own."""
    line = json.dumps({"job": {"id": "child", "tasks": [{"command": "true"}]}})
    served.submit("mine", f"printf '%s\\n' '{line}' >>\"$AIR_QUEUE\"")
    served.submit("yours", role="other")
    served.client.submit(_job("nobodys"))
    for job in ("mine", "child", "yours", "nobodys"):
        served.ended(job)
    assert served.get("/jobs/child").data["owner"] == "submitter"
    found = {
        job: served.ask("POST", f"/jobs/{job}/rerun", role="submitter").status
        for job in ("mine", "child", "yours", "nobodys")
    }
    assert found == {"mine": 200, "child": 200, "yours": 403, "nobodys": 403}
    assert served.ask("POST", "/jobs/yours/rerun", role="operator").status == 200


def _job(name: str) -> Any:  # noqa: ANN401 - as `submit` takes it
    from air_executor.core.submission import parse_job  # noqa: PLC0415

    return parse_job({"id": name, **JOB})


def test_a_run_that_replaces_anothers_is_refused(served: ServedApi) -> None:
    """`concurrency: replace` cancels earlier runs, so a submitter must own those."""
    body = {"name": "replaced", "concurrency": "replace", "tasks": [{"command": "sleep 60", "grace": 0}]}
    assert served.ask("POST", "/jobs", body, role="other").status == 201
    assert served.ask("POST", "/jobs", body, role="submitter").status == 403
    assert served.ask("POST", "/jobs", body, role="other").status == 201
    served.ask("POST", "/jobs/replaced-2/cancel", role="other")


def test_tokens_come_and_go_without_a_restart(served: ServedApi) -> None:
    """A new one is valid at once, a revoked or expired one is not."""
    tokens = Tokens(served.client.layout.tokens)
    for name, expires in (("short", time.time() - 1), ("long", time.time() + 3600)):
        served.tokens[name] = tokens.create(name, "operator", now=time.time(), expires_at=expires)
    assert [served.get("/caller", role=name).status for name in ("short", "long")] == [401, 200]
    tokens.revoke("long")
    assert served.get("/caller", role="long").status == 401
    assert served.get("/caller", role="viewer").status == 200


def test_tokens_may_come_from_a_secret(fresh: ServedApi) -> None:
    """A Secret is mounted as links to a folder that is exchanged as a whole."""
    for number in (1, 2):
        folder = fresh.root / f"..{number}"
        folder.mkdir()
        made = Tokens(f"{folder}/tokens.json").create("mounted", "admin", now=time.time(), expires_at=None)
        fresh.tokens[f"mounted-{number}"] = made
    os.symlink("..1", fresh.root / "..data")
    os.symlink("..data/tokens.json", fresh.root / "tokens.json")
    fresh.start(AIR_TOKENS_FILE=f"{fresh.root}/tokens.json")
    assert fresh.get("/caller", role="mounted-1").data["role"] == "admin"
    os.symlink("..2", fresh.root / "..new")
    os.replace(fresh.root / "..new", fresh.root / "..data")
    assert [fresh.get("/caller", role=f"mounted-{number}").status for number in (1, 2)] == [401, 200]


def test_the_first_start_creates_a_token(fresh: ServedApi) -> None:
    """Once: of an admin, for its owner's eyes, in no log; a later start keeps it, and brings no revoked one back."""
    known = Tokens(fresh.client.layout.tokens)
    fresh.start()
    os.remove(known.path)
    fresh.restart(AIR_FIRST_TOKEN="true", AIR_PUBLIC_URL="https://air.example.com")  # noqa: S106 - a switch
    path = Path(fresh.client.layout.first_token)
    assert path.stat().st_mode & 0o777 == 0o600
    fresh.tokens["first"] = token = path.read_text().strip()
    assert fresh.get("/caller", role="first").data == {"name": "first", "role": "admin"}
    assert token not in Path(known.path).read_text()
    assert read_record(fresh.client.layout)["page"] == "https://air.example.com/"
    fresh.restart(AIR_FIRST_TOKEN="true")  # noqa: S106 - as above
    assert fresh.get("/caller", role="first").status == 200
    known.revoke("first")
    fresh.restart(AIR_FIRST_TOKEN="true")  # noqa: S106 - as above
    assert fresh.get("/caller", role="first").status == 401
    assert token not in fresh.log
    assert "air-executor token show" in fresh.log
    assert path.read_text().strip() == token, "nothing was created again"


def test_a_first_token_that_a_crash_cut_off(fresh: ServedApi) -> None:
    """The token was kept and its hash was not: the next start makes the same token valid."""
    known = Tokens(f"{fresh.root}/other.json")
    assert known.create_first(f"{fresh.root}/shown", now=1.0)
    os.remove(known.path)
    assert known.create_first(f"{fresh.root}/shown", now=2.0)
    assert known.caller(Path(fresh.root, "shown").read_text().strip(), 3.0) is not None
    assert not known.create_first(f"{fresh.root}/shown", now=4.0)


def test_air_token_is_one_of_a_viewer(fresh: ServedApi) -> None:
    """Whoever could look with it before can look, and no more; with it nobody is let in without a token."""
    fresh.start(AIR_TOKEN="look-only")  # noqa: S106 - of this test
    fresh.tokens["look"] = "look-only"
    assert fresh.get("/jobs").status == 401
    assert fresh.get("/caller", role="look").data == {"name": "AIR_TOKEN", "role": "viewer"}
    assert fresh.submit("x", role="look").status == 403
    assert fresh.submit("x").status == 201
    basic = base64.b64encode(f"me:{fresh.tokens['viewer']}".encode()).decode()
    assert fresh.ask("GET", "/", prefix="", Authorization=f"Basic {basic}").status == 200, "the page takes them, too"


def test_what_cannot_be_read_lets_nobody_in(fresh: ServedApi) -> None:
    """A damaged file of tokens is an error, not an open door, and the pages go on for those who need none."""
    fresh.start()
    Path(fresh.client.layout.tokens).write_text('{"format": 1, "tokens": [{}]}')
    assert fresh.get("/caller", role="admin").status == 503
    assert fresh.get("/caller").status == 200
    assert "tokens.json" in fresh.log


def test_the_audit_log_has_every_change(served: ServedApi) -> None:
    """Who, what, when and from where; refused ones with the reason; no token anywhere."""
    served.submit("audited")
    served.ended("audited")
    served.ask("POST", "/jobs/audited/cancel", role="operator")
    lines = [one for one in served.audit if one["job"] == "audited"]
    assert [(one["who"], one["role"], one["action"], one["origin"]) for one in lines] == [
        ("submitter", "submitter", "submit", "127.0.0.1"),
        ("operator", "operator", "cancel", "127.0.0.1"),
        ("operator", "operator", "cancel", "127.0.0.1"),
    ]
    assert "already ended" in lines[2]["refused"]
    assert lines[1]["request"] == lines[2]["request"]
    assert served.get("/audit", role="operator").status == 403
    assert served.get("/audit?limit=1", role="admin").data["lines"] == served.audit[-1:]
    kept = [path for path in served.root.rglob("*") if path.is_file() and not path.is_symlink()]
    for token in served.tokens.values():
        assert not [path for path in kept if token.encode() in path.read_bytes()]


def test_without_an_audit_log_nothing_changes(fresh: ServedApi) -> None:
    """What cannot be noted is refused."""
    fresh.start()
    os.mkdir(fresh.client.layout.audit)
    assert fresh.submit("unseen").status == 503
    assert fresh.get("/jobs/unseen").status == 404


def test_the_audit_log_is_rotated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each file has a limited size, and only so many are kept."""
    monkeypatch.setattr(audit, "MAX_FILE", 1000)
    monkeypatch.setattr(audit, "KEPT", 2)
    log = AuditLog(f"{tmp_path}/audit.jsonl")
    for number in range(40):
        log.append(
            AuditLine(at=number, request=f"{number}", who="w", role="admin", origin="-", action="cancel", job="j")
        )
    assert sorted(path.name for path in tmp_path.iterdir()) == ["audit.jsonl", "audit.jsonl.1", "audit.jsonl.2"]
    assert all(path.stat().st_size <= 1000 for path in tmp_path.iterdir())
    assert json.loads(log.newest(1)[0])["request"] == "39"


def test_the_document_is_for_viewers(served: ServedApi) -> None:
    """A client can ask for what the API is."""
    assert served.get("/openapi.json").data["servers"] == [{"url": API}]
